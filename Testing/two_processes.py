"""One of two processes of a test: python -m torch.distributed.run ... two_processes.py CONFIG FOLDER."""

import json
import math
import sys
from pathlib import Path

from nephi.training.config import make_config
from nephi.training.parallel import Group
from nephi.training.sources import make_source
from nephi.training.trainer import new_state, train

config, folder = make_config(json.loads(sys.argv[1])), Path(sys.argv[2])
group = Group.join("cpu")
state = new_state(config, group.device)
losses = [math.fsum(terms.values()) for terms in train(state, config, make_source(config, Path(), True), group)]
(folder / f"{group.rank}.json").write_text(json.dumps(losses), encoding="utf-8")
group.leave()
