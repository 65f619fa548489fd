"""A training in one frozen value, read from a TOML file; every mistake is told by the name of its field."""

from __future__ import annotations

import dataclasses
import sys
import typing
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any, Union

from ..device import DEVICES
from ..errors import InputError
from ..limits import option
from ..maps.neural import Architecture
from ..options import Options
from ..predict.encoder import NORMS, EncoderSizes
from ..predict.predictor import Design
from ..resources import resources_folder

KINDS = ("images", "shapes", "blobs", "labels", "lungs")
LOSS_OPTIONS = ("similarity", "global_ncc", "patch", "points", "node_cells", "flat_variance", "regularity",
                "regularity_points", "inverse_consistency", "smoothness", "fold_margin", "fold_weight", "prior",
                "landmark_weight")


class _Checked:
    """A table whose values are checked against the limits of their fields."""

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), item.metadata)


@dataclass(frozen=True)
class Model(_Checked):
    """[model]: the sizes of the encoder and of the fields."""

    dim: int = option(3, "2 or 3", choices=(2, 3))
    size: int = option(128, "voxels along each side of the encoder's cube", low=8, high=512)
    widths: tuple[int, ...] = option((8, 16, 32, 64, 128, 256), "channels of the encoder's blocks", low=1, high=4096)
    local_block: int = option(3, "block whose grid carries the local code", low=1, high=8)
    channels: int = option(16, "of the local code", low=1, high=256)
    shared: int = option(8, "of the global code", low=0, high=256)
    depth: int = option(0, "residual blocks of the encoder on the local code's grid", low=0, high=32)
    norm: str = option("batch", "of the encoder's features; 'group' for batches of few and unlike pairs", choices=NORMS)
    cues: bool = option(False, "whether every block also reads the images and the force between them")
    frequencies: int = option(32, "Fourier features of a point", low=1, high=1024)
    frequency_scale: float = option(1.0, "their standard deviation", low=0.0, high=100.0)
    hidden: int = option(64, "width of the fields' layers", low=4, high=1024)
    omega: float = option(30.0, "frequency factor of the sinusoidal layers", low=0.1, high=1000.0)
    readout: float = option(0.3, "initial scale of the displacement's linear term in the code", low=0.0, high=10.0)
    passes: int = option(1, "how often the predictor is applied to a pair", low=1, high=8)

    @property
    def design(self) -> Design:
        """The predictor's sizes.

        Raises:
            InputError: sizes that do not go together.
        """
        try:
            sizes = EncoderSizes(self.dim, self.size, self.widths, self.local_block, self.channels, self.shared,
                                 self.depth, self.norm, self.cues)
        except ValueError as error:
            raise InputError(f"[model]: {error} Change size, widths or local_block.") from error
        return Design(sizes, Architecture(self.dim, self.frequencies, self.hidden, self.channels, self.shared,
                                          self.omega, self.frequency_scale, self.readout), self.passes)


@dataclass(frozen=True)
class Data(_Checked):
    """[[data]]: one source of pairs; where there are several, each is drawn from by its weight."""

    kind: str = option("images", "where pairs come from", choices=KINDS)
    weight: float = option(1.0, "how often it is drawn from, against the other sources", low=0.0, high=1e6)
    images: str = option("", "images: the folder")
    labels: str = option("", "images: the folder of their labels, same names; labels: the folder")
    pairs: str = option("", "images: a CSV file with the columns fixed and moving, names in the folder")
    first: int = option(0, "the first file used, sorted by name", low=0, high=10**9)
    last: int = option(10**9, "the file after the last one used", low=1, high=10**9)
    alone: float = option(0.0, "images: share of pairs of an image and itself, deformed by a known map", low=0.0,
                          high=1.0)
    flips: str = option("", "axes of the frame along which both images may be mirrored, such as 'xy'")
    turn: float = option(5.0, "standard deviation of random rotations, degrees", low=0.0, high=180.0)
    shift: float = option(0.02, "of random shifts, half sides of the cube", low=0.0, high=1.0)
    stretch: float = option(0.05, "of random scalings", low=0.0, high=0.5)
    contrast: float = option(0.2, "of the logarithm of a random gamma", low=0.0, high=2.0)
    noise: float = option(0.02, "largest standard deviation of added noise", low=0.0, high=1.0)
    bias: float = option(0.0, "largest strength of a smooth bias field", low=0.0, high=2.0)
    deform: float = option(0.1, "largest random deformation, half sides of the cube", low=0.0, high=0.5)
    coarse: float = option(2.0, "largest random loss of resolution, voxels of the cube", low=0.0, high=16.0)
    stripped: float = option(0.5, "labels: share of pairs with nothing but the brain", low=0.0, high=1.0)
    others: float = option(0.5, "labels: share of pairs of two different heads", low=0.0, high=1.0)
    same_contrast: float = option(0.5, "blobs, labels: share of pairs of one contrast", low=0.0, high=1.0)
    truth_points: int = option(2000, "points at which a known deformation is compared", low=0, high=10**6)


@dataclass(frozen=True)
class Training(_Checked):
    """[training]: how long and how fast."""

    steps: int = option(10000, "in all", low=1, high=10**8)
    batch: int = option(4, "pairs in a step of one process", low=1, high=4096)
    learning_rate: float = option(1e-3, "of the encoder, at the end of the warm-up", low=0.0, high=1.0)
    field_learning_rate: float = option(3e-4, "of the fields; large ones make them fold suddenly", low=0.0, high=1.0)
    warm_up: int = option(100, "steps until the full learning rate", low=1, high=10**6)
    clip: float = option(1.0, "largest norm of the gradient", low=1e-6, high=1e9)
    average: float = option(0.998, "decay of the average of the weights that is validated and saved; 0 for none",
                            low=0.0, high=0.99999)
    checkpoint_every: int = option(200, "steps between checkpoints", low=1, high=10**8)
    validate_every: int = option(500, "steps between validations", low=1, high=10**8)
    log_every: int = option(10, "steps between entries of the log", low=1, high=10**8)
    workers: int = option(0, "threads that prepare pairs ahead", low=0, high=256)
    mixed_precision: bool = option(True, "half precision in the encoder on a GPU")
    device: str = option("auto", "where to compute", choices=DEVICES)
    seed: int = option(0, "of every random draw", low=0, high=2**31 - 1)
    start: str = option("", "weights to start from, for cubes of any size: shipped ones by their name, or a file; "
                            "none for random ones")


@dataclass(frozen=True)
class Validation(_Checked):
    """[validation]: pairs that are never trained on; the best weights are those with the best mean of them."""

    images: str = option("", "the folder; none for made-up pairs from the data's own sources")
    labels: str = option("", "the folder of labels, same names")
    pairs: str = option("", "a CSV file with the columns fixed and moving; none for neighbours by name")
    first: int = option(0, "the first file used, sorted by name", low=0, high=10**9)
    last: int = option(10**9, "the file after the last one used", low=1, high=10**9)
    count: int = option(16, "most pairs", low=1, high=10**6)
    affine: str = option("none", "linear alignment before the prediction", choices=("none", "translation", "rigid",
                                                                                   "similarity", "affine"))


@dataclass(frozen=True)
class Config:
    """A whole training.

    Attributes:
        name: of the weights that come out.
        loss: the options of the loss, those of instance optimisation.
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


def read_config(path: Union[str, PathLike]) -> Config:
    """Read a TOML file, or a shipped one by its name.

    Raises:
        InputError: no such file, not TOML, an unknown or missing field, a value that cannot be.
    """
    path = find(path)
    try:
        values = _toml().loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the configuration {path}: {error.strerror or error}.") from error
    except ValueError as error:  # also what is not TOML
        raise InputError(f"The configuration {path} is not TOML ({error}); correct it.") from error
    try:
        return make_config({"name": path.stem, **values})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def find(name: Union[str, PathLike]) -> Path:
    """The file of a shipped configuration's name, or the path itself."""
    shipped = resources_folder() / "Training" / f"{name}.toml"
    return shipped if shipped.is_file() else Path(name)


def make_config(values: dict[str, Any]) -> Config:
    """A configuration from plain values, as a TOML file holds them.

    Raises:
        InputError: an unknown or missing field, a value that cannot be.
    """
    known = [item.name for item in fields(Config)]
    for name in values:
        if name not in known:
            raise InputError(f"Unknown table or field {name!r}; there are {', '.join(known)}.")
    data = values.get("data")
    if not isinstance(data, list) or not data or not all(isinstance(table, dict) for table in data):
        raise InputError("There is no [[data]] table; add at least one, with its kind.")
    loss = _table(values, "loss")
    for name in loss:
        if name not in LOSS_OPTIONS:
            raise InputError(f"Unknown field loss.{name}; there are {', '.join(LOSS_OPTIONS)}.")
    return Config(str(values.get("name", "weights")), _read(Model, _table(values, "model"), "model"),
                  tuple(_read(Data, table, f"data[{i}]") for i, table in enumerate(data)),
                  Options().changed(**loss), _read(Training, _table(values, "training"), "training"),
                  _read(Validation, _table(values, "validation"), "validation"))


def _table(values: dict, name: str) -> dict:
    table = values.get(name, {})
    if not isinstance(table, dict):
        raise InputError(f"{name} is {table!r}; it must be a table, [{name}].")
    return table


def _read(kind: type, table: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(kind)
    for name in table:
        if name not in hints:
            raise InputError(f"Unknown field {where}.{name}; there are {', '.join(hints)}.")
    values = {name: _converted(f"{where}.{name}", value, hints[name]) for name, value in table.items()}
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"[{where}] {error}") from error


def _converted(name: str, value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_converted(name, item, typing.get_args(kind)[0]) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(kind) is None and type(value) is kind:
        return value
    wanted = "a list" if typing.get_origin(kind) is tuple else {"int": "a whole number", "float": "a number",
                                                                "str": "a text", "bool": "true or false"}[kind.__name__]
    raise InputError(f"The field {name} is {value!r}; it must be {wanted}.")


def _check(name: str, value: Any, limits: typing.Mapping[str, Any]) -> None:
    if "choices" in limits and value not in limits["choices"]:
        raise InputError(f"The field {name} is {value!r}; choose one of {', '.join(map(str, limits['choices']))}.")
    for number in value if isinstance(value, tuple) else (value,):
        if "low" in limits and not limits["low"] <= number <= limits["high"]:
            raise InputError(f"The field {name} is {number}; it must be from {limits['low']} to {limits['high']}.")
    if isinstance(value, tuple) and not value:
        raise InputError(f"The field {name} is empty; give at least one value.")


def _toml() -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
        return tomllib
    try:
        import tomli
    except ImportError as error:
        raise InputError("Reading a configuration needs the package tomli with this Python; "
                         "pip install tomli.") from error
    return tomli
