"""What is known of a round that is done: its figures, and from what it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

from .. import __version__
from ..errors import InputError
from ..storage import LARGEST_TEXT, atomic_path, read_bytes

RECORD = "round.json"


@dataclass(frozen=True)
class RoundRecord:
    """A round.

    Attributes:
        key: of all that decides its result.
        kind: "start", "linear" or "nephi".
        moved_mm: how far the mean shape lay from the template before it; None at the start.
        change_percent: how much the mean image changed, root of the mean square in percent of its range; None at the
            start.
        similarity: mean correlation of the images with their mean.
        spread_percent: root of the mean variance of the images, in percent of their range.
        dice: mean over images and labels with the majority's; None without labels.
        low, high: what 0 and 1 of the images' common range are in the template.
    """

    key: str
    kind: str
    moved_mm: Optional[float]
    change_percent: Optional[float]
    similarity: float
    spread_percent: float
    dice: Optional[float]
    low: float
    high: float

    def write(self, folder: Path) -> None:
        """Mark a round as done.

        Raises:
            InputError: the folder cannot be written or is full.
        """
        with atomic_path(folder / RECORD) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def key_of(before: str, settings: Mapping) -> str:
    """Of a round: it differs where anything does that decides its result.

    Args:
        before: the key of the round before.
    """
    return hashlib.sha256(json.dumps([before, __version__, settings], sort_keys=True).encode()).hexdigest()


def read_round(folder: Path, key: str) -> Optional[RoundRecord]:
    """The record of a round if it was made from just this, and None otherwise."""
    try:
        found = RoundRecord(**json.loads(read_bytes(folder / RECORD, LARGEST_TEXT)))
    except (OSError, ValueError, TypeError, InputError):
        return None  # it is not there, or is not what this program writes
    return found if found.key == key else None
