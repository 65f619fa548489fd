"""The configuration of a training as one frozen value, read from TOML; errors name the table and the option."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError
from ..limits import Checked, option, option_of
from ..maps.field import Architecture
from ..options import AFFINE_KINDS, Options
from ..predict.encoder import NORMS, EncoderSizes
from ..predict.predictor import MOST_PASSES, Design
from ..resources import resources_folder
from ..storage import LARGEST_TEXT, PathLike, read_bytes

KINDS = ("images", "shapes", "blobs", "labels", "lungs")
LOSS_OPTIONS = ("similarity", "global_ncc", "patch", "points", "node_cells", "flat_variance", "regularity",
                "round_trip", "smoothness", "fold_margin", "fold_weight", "prior",
                "landmark_pull")
_Table = TypeVar("_Table", bound=Checked)


@dataclass(frozen=True)
class Model(Checked):
    """[model]: the sizes of the encoder and of the fields."""

    dim: int = option(3, "dimension of the images", choices=(2, 3))
    size: int = option(128, "voxels along each side of the encoder's input cube", low=8, high=512)
    widths: tuple[int, ...] = option((8, 16, 32, 64, 128, 256), "channels of the encoder's blocks", low=1, high=4096)
    local_block: int = option(3, "block whose grid carries the local latent code", low=1, high=8)
    channels: int = option_of(Options, "channels")
    shared: int = option_of(Options, "shared_channels")
    depth: int = option(0, "residual blocks of the encoder on the grid of the local code", low=0, high=32)
    norm: str = option("batch", "normalisation of the encoder's features; 'group' suits small batches of dissimilar "
                       "pairs", choices=NORMS)
    cues: bool = option(False, "whether every block also reads the images and the force between them")
    frequencies: int = option_of(Options, "frequencies")
    frequency_scale: float = option_of(Options, "frequency_scale")
    hidden: int = option_of(Options, "hidden")
    omega: float = option_of(Options, "omega")
    readout: float = option_of(Options, "readout")
    passes: int = option(1, "number of times the predictor is applied to a pair", low=1, high=MOST_PASSES)

    @property
    def design(self) -> Design:
        """The predictor's sizes.

        Raises:
            InputError: sizes that do not fit each other.
        """
        sizes, architecture = ({item.name: getattr(self, item.name) for item in fields(kind)}
                               for kind in (EncoderSizes, Architecture))
        try:
            return Design(EncoderSizes(**sizes), Architecture(**architecture), self.passes)
        except ValueError as error:
            raise InputError(f"[model]: {error} Change size, widths or local_block.") from error


@dataclass(frozen=True)
class Data(Checked):
    """[[data]]: one source of pairs; several are drawn from by their weights."""

    kind: str = option("images", "source of the pairs", choices=KINDS)
    weight: float = option(1.0, "how often this source is drawn from, relative to the others", low=0.0, high=1e6)
    images: str = option("", "images: folder of the images")
    labels: str = option("", "images: folder of their label maps, with the same file names; labels: folder of label "
                         "maps")
    pairs: str = option("", "images: CSV file with the columns fixed and moving, file names in the folder")
    first: int = option(0, "index of the first file used, in order of name", low=0, high=10**9)
    last: int = option(10**9, "index after that of the last file used", low=1, high=10**9)
    alone: float = option(0.0, "images: fraction of pairs made of an image and a copy deformed by a known map",
                          low=0.0, high=1.0)
    flips: str = option("", "axes of the frame along which both images may be mirrored, such as 'xy'")
    turn: float = option(5.0, "standard deviation of random rotations, degrees", low=0.0, high=180.0)
    shift: float = option(0.02, "standard deviation of random shifts, half sides of the cube", low=0.0, high=1.0)
    stretch: float = option(0.05, "standard deviation of random scalings", low=0.0, high=0.5)
    contrast: float = option(0.2, "standard deviation of the logarithm of a random gamma", low=0.0, high=2.0)
    noise: float = option(0.02, "largest standard deviation of added noise", low=0.0, high=1.0)
    bias: float = option(0.0, "largest strength of a smooth bias field", low=0.0, high=2.0)
    deform: float = option(0.1, "largest random deformation, half sides of the cube", low=0.0, high=0.5)
    coarse: float = option(2.0, "largest random loss of resolution, voxels of the cube", low=0.0, high=16.0)
    stripped: float = option(0.5, "labels: fraction of pairs that show only the brain", low=0.0, high=1.0)
    others: float = option(0.5, "labels: fraction of pairs that show two different heads", low=0.0, high=1.0)
    same_contrast: float = option(0.5, "blobs, labels: fraction of pairs with one contrast in both images",
                                  low=0.0, high=1.0)
    truth_points: int = option(2000, "number of points at which a known deformation is compared", low=0, high=10**6)


@dataclass(frozen=True)
class Training(Checked):
    """[training]: duration, speed and bookkeeping."""

    steps: int = option(10000, "number of training steps", low=1, high=10**8)
    batch: int = option(4, "pairs per step and process", low=1, high=4096)
    learning_rate: float = option(1e-3, "learning rate of the encoder after the warm-up", low=0.0, high=1.0)
    field_learning_rate: float = option(3e-4, "learning rate of the fields; large values make them fold suddenly",
                                        low=0.0, high=1.0)
    warm_up: int = option(100, "steps until the full learning rate", low=1, high=10**6)
    clip: float = option(1.0, "largest norm of the gradient", low=1e-6, high=1e9)
    average: float = option(0.998, "decay of the moving average of the weights, which is validated and saved; 0 "
                            "disables averaging", low=0.0, high=0.99999)
    checkpoint_every: int = option(200, "steps between checkpoints", low=1, high=10**8)
    validate_every: int = option(500, "steps between validations", low=1, high=10**8)
    log_every: int = option(10, "steps between entries of the log", low=1, high=10**8)
    workers: int = option(0, "threads that prepare pairs in advance", low=0, high=256)
    mixed_precision: bool = option(True, "whether the encoder uses half precision on a GPU")
    device: str = option_of(Options, "device")
    seed: int = option_of(Options, "seed")
    start: str = option("", "weights to start from, trained on cubes of any size: the name of shipped weights or a "
                            "file; empty for random weights")


@dataclass(frozen=True)
class Validation(Checked):
    """[validation]: pairs not used for training; the weights with the best mean score on them are the best."""

    images: str = option("", "folder of the images; empty for pairs generated by the sources in [[data]]")
    labels: str = option("", "folder of their label maps, with the same file names")
    pairs: str = option("", "CSV file with the columns fixed and moving; empty to pair neighbours in order of name")
    first: int = option_of(Data, "first")
    last: int = option_of(Data, "last")
    count: int = option(16, "maximum number of pairs", low=1, high=10**6)
    affine: str = option("none", "linear alignment before the prediction", choices=AFFINE_KINDS)


@dataclass(frozen=True)
class Config:
    """The configuration of a training.

    Attributes:
        name: of the trained weights.
        loss: options of the loss, shared with instance optimisation.
    """

    name: str
    model: Model
    data: tuple[Data, ...]
    loss: Options
    training: Training
    validation: Validation = field(default_factory=Validation)

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        loss = {name: getattr(self.loss, name) for name in LOSS_OPTIONS}
        return {**dataclasses.asdict(self), "loss": loss}


def read_config(path: PathLike) -> Config:
    """Read a TOML file, or a shipped one by its name.

    Raises:
        InputError: no such file, not TOML, an unknown or missing option, or an invalid value.
    """
    path = find(path)
    try:
        values = _toml().loads(read_bytes(path, LARGEST_TEXT).decode("utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the configuration {path}: {error.strerror or error}.") from error
    except ValueError as error:  # bad TOML or bad UTF-8
        raise InputError(f"The configuration {path} is not valid TOML ({error}); correct it.") from error
    try:
        return make_config({"name": path.stem, **values})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def find(name: PathLike) -> Path:
    """The file of a shipped configuration's name, or the path itself."""
    shipped = resources_folder() / "Training" / f"{name}.toml"
    return shipped if shipped.is_file() else Path(name)


def make_config(values: dict[str, Any]) -> Config:
    """A configuration from plain values, as a TOML file holds them.

    Raises:
        InputError: an unknown or missing option, or an invalid value.
    """
    known = [item.name for item in fields(Config)]
    for name in values:
        if name not in known:
            raise InputError(f"Unknown table or option {name!r}; the choices are {', '.join(known)}.")
    data = values.get("data")
    if not isinstance(data, list) or not data:
        raise InputError("There is no [[data]] table; add at least one, with its kind.")
    loss = _read(Options(), "loss", values.get("loss", {}))
    for name in values.get("loss", {}):
        if name not in LOSS_OPTIONS:
            raise InputError(f"[loss] Unknown option {name!r}; the options are {', '.join(LOSS_OPTIONS)}.")
    return Config(str(values.get("name", "weights")), _read(Model(), "model", values.get("model", {})),
                  tuple(_read(Data(), f"data[{i}]", table) for i, table in enumerate(data)), loss,
                  _read(Training(), "training", values.get("training", {})),
                  _read(Validation(), "validation", values.get("validation", {})))


def _read(default: _Table, name: str, table: Any) -> _Table:
    """The default with the values of a table."""
    if not isinstance(table, dict):
        raise InputError(f"{name} is {table!r}; it must be a table, [{name}].")
    try:
        return default.changed(**table)
    except InputError as error:
        raise InputError(f"[{name}] {error}") from error


def _toml() -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
        return tomllib
    try:
        import tomli
    except ImportError as error:
        raise InputError("Reading a configuration with this version of Python needs the package tomli; "
                         "run pip install tomli.") from error
    return tomli
