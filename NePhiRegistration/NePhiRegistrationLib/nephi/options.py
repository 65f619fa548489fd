"""The options of a registration in one frozen value, and the presets that fill it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from .device import DEVICES
from .errors import InputError
from .limits import Checked, option
from .resources import resources_folder
from .storage import LARGEST_TEXT, read_bytes

AFFINE_KINDS = ("none", "translation", "rigid", "similarity", "affine")
RESOLVED = ("auto", "shapes")  # similarities that stand for others, once the images are known
SIMILARITY_NAMES = ("ncc", "lncc", "mind", "nmi")
BETWEEN_CONTRASTS = {"similarity": "mind", "global_ncc": 0.0, "smoothness": 10.0, "latent_ratio": 6.0}
"""What the similarity shapes stands for."""
PLANE_LEVELS = {"resolution": (25.0, 50.0, 100.0, 200.0, 400.0), "iterations": (15, 15, 15, 15, 20), "smoothness": 30.0}
"""What differs in 2D, where few directions make a shape, where the levels are those of the preset."""


@dataclass(frozen=True)
class Options(Checked):
    """The options of a registration. Tuples hold one value per level, coarse to fine.

    No option is in a unit of length: lengths are in samples of the finest level, or in voxels, so that the same voxels
    give the same map whatever their size.

    Raises:
        InputError: a value outside its limits, or numbers of levels that do not match.
    """

    REPLACED: ClassVar[Mapping[str, str]] = {
        "mask_margin": "was in mm; use margin, in samples of the finest level",
        "inverse_consistency": "was the weight of an error in mm^2; use round_trip, the weight of an error in samples "
                               "of the finest level",
        "regularity_points": "is gone; the regularity terms look at the points of the similarity",
        "landmark_weight": "was the weight of a distance in cm^2; use landmark_pull, the weight of a distance in "
                           "samples of the finest level",
    }

    affine: str = option("affine", "linear alignment before the deformable registration", choices=AFFINE_KINDS)
    weights: str = option("none", "trained weights that predict an initial deformation: 'auto' for shipped weights "
                          "that suit the images, the name of shipped weights, a file, or 'none'")
    refinement: int = option(0, "iterations that refine the codes and networks of the prediction before the levels "
                             "start", low=0, high=100000)
    search: str = option("auto", "'auto' starts from displacements found by comparing cells with those around them, in "
                         "the place of the coarsest levels; 'never' starts from the linear alignment",
                         choices=("auto", "never"))
    after_prediction: tuple[float, ...] = option(
        (0.4,), "fraction of each level's iterations to run after a prediction, one value per level, the last for the "
                "finest; the first also applies to all coarser levels", low=0.0, high=1.0)
    similarity: str = option("lncc", "image similarity measure; 'auto' is lncc for images of one contrast and shapes "
                             "for others; 'shapes' is mind with what it needs: no global_ncc, a smoothness of 10 and a "
                             "latent_ratio of 6 or more, and in 2D a smoothness of 100 and other levels; choose mind "
                             "to set them yourself", choices=(*RESOLVED, *SIMILARITY_NAMES))
    global_ncc: float = option(1.0, "weight of the global normalised cross-correlation, added to the similarity",
                               low=0.0, high=100.0)
    resolution: tuple[float, ...] = option(
        (25.0, 43.0, 75.0), "samples along each side of a cube with the volume of the mask, per level",
        low=4.0, high=1000.0)
    iterations: tuple[int, ...] = option(
        (60, 60, 40), "maximum iterations per level, or one number for all levels; 0 skips a level", low=0, high=100000)
    patch: int = option(4, "samples along each side of a patch", low=2, high=16)
    points: int = option(400000, "maximum sample points per iteration; surplus patches are dropped at random",
                         low=100, high=10**8)
    node_cells: int = option(1, "number of intervals between network evaluations along each side of a patch", low=1,
                             high=8)
    margin: float = option(4.0, "distance beyond the masks within which images are compared, in samples of the finest "
                           "level", low=0.0, high=1000.0)
    flat_variance: float = option(1e-2, "intensity variance below which a patch counts as flat, for intensities scaled "
                                  "to [0, 1]", low=1e-8, high=1.0)

    frequencies: int = option(32, "number of Fourier features of the coordinates", low=1, high=1024)
    frequency_scale: float = option(
        1.0, "standard deviation of the Fourier frequencies, in periods per half side of the image",
        low=0.0, high=100.0)
    hidden: int = option(64, "width of the hidden layers of the networks", low=4, high=1024)
    omega: float = option(30.0, "frequency factor of the sinusoidal layers", low=0.1, high=1000.0)
    channels: int = option(16, "channels of the local latent code", low=1, high=256)
    shared_channels: int = option(8, "channels of the global latent code", low=0, high=256)
    code_scale: float = option(0.01, "standard deviation of the initial latent codes", low=0.0, high=10.0)
    readout: float = option(0.3, "initial scale of the displacement's linear dependence on the latent code",
                            low=0.0, high=10.0)
    latent_ratio: float = option(6.0, "spacing of the latent grid, in sample spacings", low=1.0, high=100.0)

    learning_rate: float = option(1e-3, "learning rate of the network weights", low=1e-7, high=1.0)
    code_learning_rate: float = option(1e-2, "learning rate of the latent codes", low=1e-7, high=10.0)
    regularity: float = option(1.0, "weight of the gradient inverse-consistency penalty", low=0.0, high=1e6)
    round_trip: float = option(0.5, "weight of the squared inverse-consistency error, in samples of the finest level",
                               low=0.0, high=1e6)
    smoothness: float = option(1.0, "weight of the squared displacement gradient", low=0.0, high=1e6)
    fold_margin: float = option(0.25, "Jacobian determinant below which the fold penalty sets in", low=0.0, high=1.0)
    fold_weight: float = option(10.0, "weight of the fold penalty", low=0.0, high=1e6)
    prior: float = option(1e-4, "weight of the norm of the latent codes", low=0.0, high=1e6)
    landmark_pull: float = option(0.02, "weight of the squared landmark distance, in samples of the finest level, if "
                                  "landmarks guide the registration", low=0.0, high=1e6)
    convergence: float = option(2e-3, "relative decrease of the loss below which a level ends early; 0 disables this",
                                low=0.0, high=1.0)

    step_back: str = option("auto", "'auto' leaves out a deformation that does not make the images agree better at "
                            "distinctive points, and the linear alignment where that does not either; 'never' keeps "
                            "both", choices=("auto", "never"))
    tolerance: float = option(0.1, "error of exported transforms that 999 of 1000 points keep, in voxels; their nodes "
                              "are as far apart as it allows", low=1e-3, high=10.0)
    device: str = option("auto", "device to compute on", choices=DEVICES)
    seed: int = option(0, "seed of all random numbers", low=0, high=2**31 - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.iterations) != len(self.resolution):
            raise InputError(f"There are {len(self.iterations)} iterations for {len(self.resolution)} levels of "
                             "resolution; give one number of iterations per level.")

    @classmethod
    def from_preset(cls, name: str = "generic", **changes: Any) -> Options:
        """The options of a preset, with changes.

        Raises:
            InputError: an unknown preset or option, or an invalid value.
        """
        return cls().changed(**{**_preset(name), **changes})

    def changed(self, /, **changes: Any) -> Options:
        """As :meth:`Checked.changed`; a single number of iterations applies to every level."""
        values = self.converted(changes)
        if len(values.get("iterations", ())) == 1:
            values["iterations"] *= len(values.get("resolution", self.resolution))
        return replace(self, **values)

    def for_images(self, differ: bool, dim: int) -> Options:
        """These options with what the similarities auto and shapes stand for, never less smooth; levels of one's own
        stay.

        Args:
            differ: whether the images show different contrasts.
            dim: of the images.
        """
        if self.similarity not in RESOLVED:
            return self
        if self.similarity == "auto" and not differ:
            return replace(self, similarity="lncc")
        levels, values = _preset("generic"), dict(BETWEEN_CONTRASTS)
        if dim == 2 and all(list(getattr(self, name)) == levels[name] for name in ("resolution", "iterations")):
            values.update(PLANE_LEVELS)
        values.update({name: max(values[name], getattr(self, name)) for name in ("smoothness", "latent_ratio")})
        return replace(self, **values)

    @property
    def predicted(self) -> Options:
        """These options with the iterations that remain after a prediction."""
        shares = self.after_prediction[-len(self.iterations):]
        shares = (shares[0],) * (len(self.iterations) - len(shares)) + shares
        return replace(self, iterations=tuple(math.ceil(n * share) for n, share in zip(self.iterations, shares)))


def preset_names() -> list[str]:
    """The names of all presets."""
    return sorted(path.stem for path in (resources_folder() / "Presets").glob("*.json"))


def _preset(name: str) -> dict[str, Any]:
    """The options in a preset's file."""
    if name not in preset_names():
        raise InputError(f"Unknown preset {name!r}; choose one of {', '.join(preset_names())}, or put one of your own "
                         f"as NAME.json into {resources_folder() / 'Presets'} and choose it by its name.")
    path = resources_folder() / "Presets" / f"{name}.json"
    try:
        found = json.loads(read_bytes(path, LARGEST_TEXT).decode("utf-8-sig"))["options"]
        Options().changed(**found)
    except InputError as error:
        raise InputError(f"The preset {path} cannot be used: {error}") from error
    except OSError as error:
        raise InputError(f"The preset {path} cannot be read ({error.strerror or error}); remove it.") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"The preset {path} is not a file of JSON with 'options' ({error}); correct or remove it."
                         ) from error
    return found
