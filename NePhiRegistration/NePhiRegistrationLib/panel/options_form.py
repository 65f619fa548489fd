"""Advanced: every option of the engine as a line of a form, made from Resources/options.json."""

from __future__ import annotations

import json
from typing import Any, Callable

import ctk
import qt
from slicer.i18n import tr as _

from . import preset_files
from .preset_files import Option

COMPUTING = ("device", "seed", "resolution", "iterations", "refinement", "after_prediction", "points", "patch",
             "node_cells", "convergence", "learning_rate", "code_learning_rate", "tolerance")
COMPARING = ("affine", "weights", "similarity", "global_ncc", "margin", "flat_variance", "landmark_pull")
SMOOTHNESS = ("regularity", "round_trip", "smoothness", "fold_margin", "fold_weight",
              "prior")


class OptionsForm:
    """Shows the preset's values; what the user changes is kept as JSON in the parameter node.

    Args:
        ui: the widgets of the .ui file.
        parameters: gives the parameter node, or None while there is none.
    """

    def __init__(self, ui: Any, parameters: Callable[[], Any]) -> None:
        self._ui, self._parameters = ui, parameters
        self._editors: dict[str, Any] = {}
        self._options = {option.name: option for option in preset_files.options()}
        for title, members in self._groups():
            self._add_group(title, members)
        ui.resetOptionsButton.connect("clicked()", self.onReset)

    @property
    def changes(self) -> dict[str, Any]:
        """What differs from the preset."""
        parameters = self._parameters()
        return read_changes(parameters.options) if parameters is not None else {}

    def update(self) -> None:
        """Show the values of the parameter node."""
        parameters = self._parameters()
        if parameters is None:
            return
        changes, values = self.changes, preset_files.values(parameters.preset)
        for name, editor in self._editors.items():
            option = self._options[name]
            text = option.shown(changes.get(name, values[name]))
            if option.choices:
                self._quietly(editor, lambda e=editor, t=text: e.setCurrentIndex(e.findText(t)))
            elif editor.text != text:
                self._quietly(editor, lambda e=editor, t=text: e.setText(t))
            editor.toolTip = self._tip(option, values[name])
        self._ui.resetOptionsButton.enabled = bool(changes)
        self._ui.optionsLabel.text = _("Changed: {names}.").format(names=", ".join(sorted(changes))) if changes else ""

    def onReset(self) -> None:
        """Forget all changes."""
        self._parameters().options = ""
        self.update()

    def onEdited(self, name: str) -> None:
        """The user gave an option a value."""
        option, editor = self._options[name], self._editors[name]
        parameters = self._parameters()
        if parameters is None:
            return
        text = editor.currentText if option.choices else editor.text
        changes = self.changes
        if text == option.shown(changes.get(name, preset_files.values(parameters.preset)[name])):
            return
        try:
            value = option.parsed(text)
        except ValueError as error:
            self.update()
            self._ui.optionsLabel.text = str(error)
            return
        changes.pop(name, None)
        if value != preset_files.values(parameters.preset)[name]:
            changes[name] = value
        parameters.options = json.dumps(changes, sort_keys=True) if changes else ""
        self.update()

    def _groups(self) -> list[tuple[str, list[Option]]]:
        placed = {*COMPUTING, *COMPARING, *SMOOTHNESS}
        rest = tuple(name for name in self._options if name not in placed)
        titles = ((_("Device, levels and iterations"), COMPUTING), (_("Image similarity"), COMPARING),
                  (_("Smoothness"), SMOOTHNESS), (_("Networks"), rest))
        return [(title, [self._options[name] for name in members if name in self._options])
                for title, members in titles]

    def _add_group(self, title: str, members: list[Option]) -> None:
        box = ctk.ctkCollapsibleGroupBox()
        box.title = title
        layout = qt.QFormLayout(box)
        for option in members:
            editor = self._editor(option)
            layout.addRow(option.name.replace("_", " ") + ":", editor)
            self._editors[option.name] = editor
        box.collapsed = True
        self._ui.optionsFrame.layout().addWidget(box)

    def _editor(self, option: Option) -> Any:
        if option.choices:
            editor = qt.QComboBox()
            for choice in option.choices:
                editor.addItem(choice)
            editor.connect("currentIndexChanged(int)", lambda _index, name=option.name: self.onEdited(name))
        else:
            editor = qt.QLineEdit()
            editor.connect("editingFinished()", lambda name=option.name: self.onEdited(name))
        editor.objectName = f"option_{option.name}"
        return editor

    @staticmethod
    def _tip(option: Option, value: Any) -> str:
        parts = [option.help[:1].upper() + option.help[1:] + "."]
        if option.low is not None:
            parts.append(_("From {low:g} to {high:g}.").format(low=option.low, high=option.high))
        if option.levels:
            parts.append(_("One value per level, coarse to fine."))
        return " ".join([*parts, _("Preset value: {value}.").format(value=option.shown(value))])

    @staticmethod
    def _quietly(editor: Any, change: Callable[[], Any]) -> None:
        before = editor.blockSignals(True)
        change()
        editor.blockSignals(before)


def read_changes(text: str) -> dict[str, Any]:
    """The changes that the parameter node keeps; unknown names, of another version, are left out."""
    known = {option.name for option in preset_files.options()}
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return {name: value for name, value in found.items() if name in known} if isinstance(found, dict) else {}
