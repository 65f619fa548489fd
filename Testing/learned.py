"""A training small enough for tests: shapes in the plane, a tiny predictor."""

from __future__ import annotations

import copy

from nephi.training.config import make_config

TINY = {
    "model": {"dim": 2, "size": 32, "widths": [8, 16, 16], "local_block": 2, "channels": 4, "shared": 2,
              "frequencies": 4, "hidden": 8},
    "data": [{"kind": "shapes"}],
    "loss": {"similarity": "ncc", "global_ncc": 0.0, "patch": 3, "smoothness": 0.01},
    "training": {"steps": 4, "batch": 2, "learning_rate": 3e-3, "warm_up": 5, "device": "cpu", "log_every": 1,
                 "checkpoint_every": 2, "validate_every": 4},
    "validation": {"count": 2},
}


def tiny_config(**changes):
    """TINY with changes: table={"field": value}."""
    values = copy.deepcopy(TINY)
    for table, fields in changes.items():
        if isinstance(fields, dict):
            values[table] = {**values[table], **fields}
        else:
            values[table] = fields
    return make_config(values)
