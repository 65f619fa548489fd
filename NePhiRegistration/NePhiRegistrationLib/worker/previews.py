"""The map so far on a coarse grid, at least once a second and for less than a tenth of the time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from ..nephi.align.registration import Progress
from ..nephi.geometry import Grid
from ..nephi.maps.determinant import difference_determinant, log_determinant
from ..nephi.maps.resampled import EVERY, through_splines
from ..nephi.maps.transform import Transform

INTERVAL = 0.95  # s between previews: a little below the second that is promised
SHARE = 0.05  # of the time; steps are not as long as one would like, and previews come sooner than they must
MARGIN = 0.05  # of the image's longest side, beyond it
EVALUATIONS = (1000, 8_000)  # points of the map in a preview
OVERHEAD = 3  # what a point costs beside the fields, as a number of stages
FIRST_GUESS = 2.5e-6  # s for a point and a stage

Send = Callable[[str, dict, dict], None]


class Previews:
    """Decides when a preview is due and how fine it can be.

    Args:
        send: takes kind, fields and arrays.
        grid: of the fixed image.
    """

    def __init__(self, send: Send, grid: Grid) -> None:
        self._send, self._fixed = send, grid
        self._rate = FIRST_GUESS
        self._phase, self._seen, self._due = "", 0.0, 0.0
        self._stages = -1
        self._grid = grid

    def show(self, state: Progress) -> None:
        """Send a preview if it is time for one, or the phase has changed."""
        now = time.perf_counter()
        ended = state.phase != self._phase or state.step == state.steps
        step, self._seen = now - self._seen, now
        if now + step < self._due and not ended:  # the next chance would not be too late
            return
        self._phase = state.phase
        stages = len(state.transform.stages)
        if stages != self._stages:  # one grid a level: a viewer only has to change its values
            self._stages, self._grid = stages, self._grid_for(stages)
        displacement, logarithm, points = preview(state.transform, self._grid)
        self._send("preview", {"geometry": self._grid.to_dict(), "level": state.phase, "step": state.step},
                   {"displacement": displacement, "log_jacobian": logarithm})
        self._seen = time.perf_counter()
        cost = self._seen - now
        self._rate = cost / (points * (stages + OVERHEAD))
        if cost > 2 * SHARE * INTERVAL:
            self._stages = -1  # a coarser one next time
        self._due = now + INTERVAL

    def _grid_for(self, stages: int) -> Grid:
        pad = MARGIN * float(self._fixed.extent.max())
        evaluations = SHARE * INTERVAL / (self._rate * (stages + OVERHEAD))
        evaluations = min(max(evaluations, EVALUATIONS[0]), EVALUATIONS[1])
        volume = math.prod(self._fixed.extent + 2 * pad)
        return self._fixed.with_spacing((volume / evaluations) ** (1 / self._fixed.dim) / EVERY).padded(pad)


@torch.no_grad()
def preview(transform: Transform, grid: Grid) -> tuple[np.ndarray, np.ndarray, int]:
    """The forward map on a grid, read from every second node, and the logarithm of its volume change by differences.

    Returns:
        Displacement (*shape, d) and log-Jacobian (*shape), float32; and how many points were evaluated.
    """
    splines = through_splines(transform.forward, grid)
    displacement = splines.displacement_on(grid)
    logarithm = log_determinant(difference_determinant(displacement, grid))
    return displacement.numpy(), logarithm.numpy(), splines.parts[0].lattice.count
