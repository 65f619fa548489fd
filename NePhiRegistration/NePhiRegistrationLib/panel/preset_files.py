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
LARGEST = 1 << 20  # bytes of a preset's file


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

    def check(self, value: Any) -> None:
        """Refuse a value, as JSON holds it, that the engine would refuse.

        Raises:
            ValueError: it does, one sentence.
        """
        kind = str if self.kind == "str" else (int, float)
        parts = value if self.levels and isinstance(value, list) else [value]
        if any(isinstance(part, bool) or not isinstance(part, kind) for part in parts):
            raise ValueError(_("{name} is {value!r}; give {what}.").format(
                name=self.name, value=value, what=_("a text") if self.kind == "str" else
                _("numbers") if self.levels else _("one number")))
        if self.choices and value not in self.choices:
            raise ValueError(_("{name} is {value!r}; choose one of {choices}.").format(
                name=self.name, value=value, choices=", ".join(self.choices)))
        self.parsed(self.shown(value))

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


def names() -> tuple[str, ...]:
    """The presets there are."""
    return tuple(_presets()[0])


def problems() -> tuple[str, ...]:
    """What is wrong with files that would be presets, one sentence each."""
    return _presets()[1]


def preset(name: str) -> dict:
    """A preset: its description and its option values; the default's where there is none of that name."""
    found = _presets()[0]
    return found.get(name) or found.get(DEFAULT) or {"description": "", "options": {}}


@cache
def _presets() -> tuple[dict[str, dict], tuple[str, ...]]:
    """Name -> preset, those of the user's own files among them; and what is wrong with the others."""
    found, wrong = {}, []
    for path in sorted((RESOURCES / "Presets").glob("*.json")):
        try:
            found[path.stem] = _read(path)
        except (OSError, ValueError, RecursionError) as error:
            wrong.append(_("The preset {path} is left out: {reason}").format(path=path, reason=_reason(error)))
    return found, tuple(wrong)


def _read(path: Path) -> dict:
    """A preset from its file.

    Raises:
        OSError, ValueError, RecursionError: it cannot be one.
    """
    if path.is_file() and path.stat().st_size > LARGEST:
        raise ValueError(_("it is too large."))
    found = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(found, dict) or not isinstance(found.get("options"), dict):
        raise ValueError(_("it has no options."))
    known = {option.name: option for option in options()}
    for name, value in found["options"].items():
        if name not in known:
            raise ValueError(_("there is no option {name}.").format(name=name))
        known[name].check(value)
    description = words.preset_descriptions().get(path.stem, found.get("description", ""))
    return {"description": str(description), "options": found["options"]}


def _reason(error: Exception) -> str:
    """A sentence for the user."""
    if isinstance(error, UnicodeDecodeError):
        return _("it is not text in UTF-8.")
    if isinstance(error, (json.JSONDecodeError, RecursionError)):
        return _("it is not valid JSON ({error}).").format(error=error)
    return _("it cannot be read ({error}).").format(error=error.strerror) if isinstance(error, OSError) else str(error)


def title(name: str) -> str:
    """A preset's name for people."""
    known = {"generic": _("Generic"), "lung-ct": _("Lung CT"), "brain-mri": _("Brain MRI"),
             "multimodal": _("Different contrasts")}
    return known.get(name, name)


def values(name: str) -> dict[str, Any]:
    """All option values of a preset."""
    return {**{option.name: option.default for option in options()}, **preset(name)["options"]}


def fill(combo: Any) -> None:
    """Put the presets into a QComboBox; each item's data is its name."""
    for name in sorted(names(), key=lambda item: (item != DEFAULT, title(item))):
        combo.addItem(title(name), name)
        combo.setItemData(combo.count - 1, preset(name)["description"], 3)  # 3: Qt::ToolTipRole
