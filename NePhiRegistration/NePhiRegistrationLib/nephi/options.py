"""Every option of a registration in one frozen value, and the presets that fill it."""

from __future__ import annotations

import json
import math
import typing
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .device import DEVICES
from .errors import InputError
from .limits import check, converted, option
from .resources import resources_folder

AFFINE_KINDS = ("none", "translation", "rigid", "similarity", "affine")
SIMILARITY_NAMES = ("ncc", "lncc", "mind", "nmi")


@dataclass(frozen=True)
class Options:
    """What can be chosen about a registration. Tuples hold one value per level, coarse to fine.

    Raises:
        InputError: a value out of its limits, or levels that do not match.
    """

    affine: str = option("affine", "linear pre-alignment", choices=AFFINE_KINDS)
    weights: str = option("none", "trained weights that predict the deformation after it: 'auto' for those shipped for "
                          "such images, their name, a file, or 'none'")
    refinement: int = option(0, "iterations that go on from the prediction itself, its codes and fields, before the "
                             "levels", low=0, high=100000)
    after_prediction: tuple[float, ...] = option(
        (0.4,), "share of a level's iterations that is done after a prediction, per level, counted from the finest; "
                "the first counts for all that are coarser", low=0.0, high=1.0)
    similarity: str = option("lncc", "how images are compared", choices=SIMILARITY_NAMES)
    global_ncc: float = option(1.0, "weight of the normalised cross-correlation of all points, added to the similarity",
                               low=0.0, high=100.0)
    resolution: tuple[float, ...] = option(
        (25.0, 43.0, 75.0), "samples along the side of a cube with the mask's volume, per level", low=4.0, high=1000.0)
    iterations: tuple[int, ...] = option((60, 60, 40), "most iterations per level, or one number for all; 0 skips a "
                                    "level", low=0, high=100000)
    patch: int = option(4, "samples along the side of a patch", low=2, high=16)
    points: int = option(400000, "most sample points in an iteration; patches are left out at random to keep to it",
                         low=100, high=10**8)
    node_cells: int = option(1, "intervals between field evaluations along a patch's side", low=1, high=8)
    mask_margin: float = option(5.0, "how far beyond the masks images are compared, mm", low=0.0, high=1000.0)
    flat_variance: float = option(1e-2, "local contrast (variance of intensities in [0, 1]) below which a patch counts "
                                  "as flat", low=1e-8, high=1.0)

    frequencies: int = option(32, "Fourier features of a point", low=1, high=1024)
    frequency_scale: float = option(1.0, "their standard deviation, periods per half side of the image",
                                    low=0.0, high=100.0)
    hidden: int = option(64, "width of the fields' layers", low=4, high=1024)
    omega: float = option(30.0, "frequency factor of the sinusoidal layers", low=0.1, high=1000.0)
    channels: int = option(16, "channels of the local latent code", low=1, high=256)
    shared_channels: int = option(8, "length of the global latent code", low=0, high=256)
    code_scale: float = option(0.01, "standard deviation of the initial codes", low=0.0, high=10.0)
    readout: float = option(0.3, "initial scale of the displacement's linear term in the code", low=0.0, high=10.0)
    latent_ratio: float = option(6.0, "latent grid spacing in sample spacings", low=1.0, high=100.0)

    learning_rate: float = option(1e-3, "of the fields' weights", low=1e-7, high=1.0)
    code_learning_rate: float = option(1e-2, "of the latent codes", low=1e-7, high=10.0)
    regularity: float = option(1.0, "weight of the gradient inverse consistency", low=0.0, high=1e6)
    regularity_points: int = option(1000, "points of the regularity terms in an iteration", low=1, high=10**6)
    inverse_consistency: float = option(0.1, "weight of the squared inverse-consistency error in mm^2",
                                        low=0.0, high=1e6)
    smoothness: float = option(1.0, "weight of the squared displacement gradient", low=0.0, high=1e6)
    fold_margin: float = option(0.1, "Jacobian determinants below this are pushed up", low=0.0, high=1.0)
    fold_weight: float = option(10.0, "weight of that push", low=0.0, high=1e6)
    prior: float = option(1e-4, "weight of the codes' norms", low=0.0, high=1e6)
    landmark_weight: float = option(1.0, "weight of the squared landmark distance in cm^2, when pairs are given",
                                    low=0.0, high=1e6)
    convergence: float = option(2e-3, "a level ends early when its loss falls by less than this share; 0 never",
                                low=0.0, high=1.0)

    device: str = option("auto", "where to compute", choices=DEVICES)
    seed: int = option(0, "of every random draw", low=0, high=2**31 - 1)

    def __post_init__(self) -> None:
        for item in fields(self):
            check(item.name, getattr(self, item.name), item.metadata)
        if len(self.iterations) != len(self.resolution):
            raise InputError(f"There are {len(self.iterations)} iterations for {len(self.resolution)} levels of "
                             "resolution; give one number of iterations per level.")

    @classmethod
    def from_preset(cls, name: str = "generic", **changes: Any) -> Options:
        """The options of a preset, with changes.

        Raises:
            InputError: an unknown preset or option, or a value that cannot be.
        """
        return cls().changed(**{**_preset(name)["options"], **changes})

    def changed(self, **changes: Any) -> Options:
        """These options with some replaced; JSON lists become tuples and whole floats integers.

        A single number of iterations is that of every level.

        Raises:
            InputError: an unknown option or a value that cannot be.
        """
        types = typing.get_type_hints(type(self))
        for name in changes:
            if name not in types:
                raise InputError(f"Unknown option {name!r}; the options are {', '.join(types)}.")
        values = {name: converted(name, value, types[name]) for name, value in changes.items()}
        if len(values.get("iterations", ())) == 1:
            values["iterations"] *= len(values.get("resolution", self.resolution))
        return replace(self, **values)

    @property
    def predicted(self) -> Options:
        """The same with the iterations that are done after a prediction."""
        shares = self.after_prediction[-len(self.iterations):]
        shares = (shares[0],) * (len(self.iterations) - len(shares)) + shares
        return replace(self, iterations=tuple(math.ceil(n * share) for n, share in zip(self.iterations, shares)))

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)


def preset_names() -> list[str]:
    """The presets there are."""
    return sorted(path.stem for path in (resources_folder() / "Presets").glob("*.json"))


def preset_description(name: str) -> str:
    """What a preset is for, one sentence."""
    return _preset(name)["description"]


def _preset(name: str) -> dict:
    if name not in preset_names():
        raise InputError(f"Unknown preset {name!r}; choose one of {', '.join(preset_names())}.")
    return json.loads((resources_folder() / "Presets" / f"{name}.json").read_text(encoding="utf-8"))
