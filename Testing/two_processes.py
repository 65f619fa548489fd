"""One of two processes of a test: python -m torch.distributed.run ... two_processes.py CONFIGS FOLDER."""

import json
import math
import sys
from pathlib import Path

from nephi.training.config import make_config
from nephi.training.parallel import Group
from nephi.training.sources import make_source
from nephi.training.trainer import new_state, train

folder, group, losses = Path(sys.argv[2]), Group.join("cpu"), []
for values in json.loads(sys.argv[1]):
    config = make_config(values)
    steps = train(new_state(config, group.device), config, make_source(config, Path(), True), group)
    losses.append([math.fsum(terms.values()) for terms in steps])
(folder / f"{group.rank}.json").write_text(json.dumps(losses), encoding="utf-8")
group.leave()
