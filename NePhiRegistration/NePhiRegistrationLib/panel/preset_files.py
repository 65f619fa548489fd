"""Presets and the description of the options, read from Resources without the engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Optional

from slicer.i18n import tr as _

from . import words

RESOURCES = Path(__file__).resolve().parents[2] / "Resources"
DEFAULT = "generic"


@dataclass(frozen=True)
class Option:
    """One option of the engine.

    Attributes:
        kind: "int", "float" or "str".
        levels: whether there is one value per level.
        low, high: inclusive limits of a number, or None.
        choices: of a text, or None.
    """

    name: str
    kind: str
    levels: bool
    default: Any
    help: str
    low: Optional[float] = None
    high: Optional[float] = None
    choices: Optional[list[str]] = None

    def parsed(self, text: str) -> Any:
        """The value that a text says.

        Raises:
            ValueError: it says none, one sentence.
        """
        if self.kind == "str":
            return text.strip()
        values = [self._number(part) for part in text.replace(";", ",").split(",") if part.strip()]
        if not values or (not self.levels and len(values) > 1):
            raise ValueError(_("{name} is {text!r}; give {what}.").format(
                name=self.name, text=text, what=_("numbers separated by commas") if self.levels else _("one number")))
        return values if self.levels else values[0]

    def shown(self, value: Any) -> str:
        """A value as text."""
        return ", ".join(self.shown(item) for item in value) if isinstance(value, (list, tuple)) else (
            f"{value:g}" if isinstance(value, float) else str(value))

    def _number(self, text: str) -> Any:
        try:
            value = float(text)
            if self.kind == "int" and value % 1:
                raise ValueError
        except ValueError:
            raise ValueError(_("{name} is {text!r}, which is not a {kind}.").format(
                name=self.name, text=text.strip(),
                kind=_("whole number") if self.kind == "int" else _("number"))) from None
        if self.low is not None and not self.low <= value <= self.high:
            raise ValueError(_("{name} is {value}; it must be from {low:g} to {high:g}.").format(
                name=self.name, value=text.strip(), low=self.low, high=self.high))
        return int(value) if self.kind == "int" else value


@cache
def options() -> tuple[Option, ...]:
    """Every option of the engine, in its order."""
    help_texts = words.option_help()
    found = json.loads((RESOURCES / "options.json").read_text(encoding="utf-8"))
    return tuple(Option(**{**item, "help": help_texts[item["name"]]}) for item in found)


@cache
def names() -> tuple[str, ...]:
    """The presets there are."""
    return tuple(sorted(path.stem for path in (RESOURCES / "Presets").glob("*.json")))


def preset(name: str) -> dict:
    """A preset: its description and its option values; the default's where there is none of that name."""
    return _read(name if name in names() else DEFAULT)


@cache
def _read(name: str) -> dict:
    found = json.loads((RESOURCES / "Presets" / f"{name}.json").read_text(encoding="utf-8"))
    return {**found, "description": words.preset_descriptions()[name]}


def title(name: str) -> str:
    """A preset's name for people."""
    known = {"generic": _("Generic"), "lung-ct": _("Lung CT"), "brain-mri": _("Brain MRI")}
    return known.get(name, name)


def values(name: str) -> dict[str, Any]:
    """All option values of a preset."""
    return {**{option.name: option.default for option in options()}, **preset(name)["options"]}


def fill(combo: Any) -> None:
    """Put the presets into a QComboBox; each item's data is its name."""
    for name in sorted(names(), key=lambda item: (item != DEFAULT, title(item))):
        combo.addItem(title(name), name)
        combo.setItemData(combo.count - 1, preset(name)["description"], 3)  # 3: Qt::ToolTipRole
