"""Doubtful places are found where a map was made wrong, with the reason and the millimetres."""

from __future__ import annotations

import numpy as np
import torch
from nephi.geometry import Grid
from nephi.judge.doubts import DISAGREE, FOLD, INCONSISTENT, MOST, OUTSIDE, doubtful_places
from nephi.maps.affine_map import AffineMap
from nephi.maps.displacement_map import DisplacementMap
from nephi.maps.map import MapPair

GRID = Grid((30, 32, 34), (2.0, 2.0, 2.0), (-30.0, -32.0, -34.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
CENTER = (slice(14, 20), slice(13, 19), slice(12, 18))  # (k, j, i)


def moved(where: tuple[slice, ...], by: float) -> DisplacementMap:
    """A map that moves a box along x and leaves the rest."""
    values = torch.zeros(*GRID.shape, 3)
    values[(*where, 0)] = by
    return DisplacementMap(values, GRID, GRID)


def test_an_identity_is_nowhere_doubtful():
    still = AffineMap(np.eye(4), GRID)
    assert doubtful_places(MapPair(still, still), np.eye(4), None, GRID) == []


def test_an_inverse_that_does_not_lead_back_is_found_where_that_is():
    maps = MapPair(AffineMap(np.eye(4), GRID), moved(CENTER, 5.0))
    places = doubtful_places(maps, np.eye(4), None, GRID)
    assert places[0]["reason"] == INCONSISTENT and 4.5 < places[0]["mm"] < 5.01
    assert np.abs(np.array(places[0]["at"])).max() < 10
    far = torch.zeros(GRID.shape, dtype=torch.bool)
    far[:5] = True
    assert doubtful_places(maps, np.eye(4), far, GRID) == []


def test_folds_come_first_and_near_places_are_one():
    maps = MapPair(moved(CENTER, 12.0), AffineMap(np.eye(4), GRID))
    places = doubtful_places(maps, np.eye(4), None, GRID)
    assert places[0]["reason"] == FOLD and len(places) <= MOST
    at = torch.tensor([place["at"] for place in places])
    assert float((torch.cdist(at, at) + 1e6 * torch.eye(len(at))).min()) > 16


def test_what_leads_outside_and_what_the_images_show_elsewhere_are_told_with_their_distance():
    shift = np.eye(4)
    shift[0, 3] = 20
    maps = MapPair(AffineMap(shift, GRID), AffineMap(np.linalg.inv(shift), GRID))
    residual = {"at": [[-20.0, 0.0, 0.0], [-10.0, 20.0, 0.0]], "distances": [None, 0.5], "reach": 30.0, "voxel": 4.0}
    places = doubtful_places(maps, shift, None, GRID, residual)
    assert places[0] == {"at": [-20.0, 0.0, 0.0], "mm": 30.0, "reason": DISAGREE}
    assert {place["reason"] for place in places[1:]} == {OUTSIDE} and 18 < places[1]["mm"] <= 21
