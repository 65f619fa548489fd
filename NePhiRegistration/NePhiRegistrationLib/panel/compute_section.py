"""Compute on: this computer, or another one by a command that starts the worker there."""

from __future__ import annotations

from typing import Any, Callable

from slicer.i18n import tr as _

from ..session import compute_place

HERE, ELSEWHERE = range(2)


class ComputeSection:
    """The choice of the place, and the line for the command.

    Args:
        ui: the widgets of the .ui file.
        logic: the module's logic.
        changed: called when another place computes from now on.
        say: takes a sentence for the user.
    """

    def __init__(self, ui: Any, logic: Any, changed: Callable[[], None], say: Callable[[str], None]) -> None:
        self._ui, self._logic, self._changed, self._say = ui, logic, changed, say
        ui.computeComboBox.addItem(_("This computer"))
        ui.computeComboBox.addItem(_("Another computer"))
        ui.computeComboBox.connect("activated(int)", self.onPlace)
        ui.commandLineEdit.connect("editingFinished()", self.onCommand)
        self.update()

    @property
    def elsewhere(self) -> bool:
        """Whether another computer is chosen, so that this one needs no PyTorch."""
        return bool(self._logic.computeOn())

    def update(self) -> None:
        """Show where the logic computes."""
        command = self._logic.computeOn()
        self._ui.computeComboBox.setCurrentIndex(ELSEWHERE if command else HERE)
        self._ui.commandLineEdit.text = command or compute_place.last_command()
        self._ui.commandLineEdit.enabled = bool(command)

    def onPlace(self, index: int) -> None:
        """The user chose a place; another computer needs a command."""
        self._ui.commandLineEdit.enabled = index == ELSEWHERE
        self._use(self._ui.commandLineEdit.text if index == ELSEWHERE else "")

    def onCommand(self) -> None:
        """The user entered a command."""
        if self._ui.computeComboBox.currentIndex == ELSEWHERE:
            self._use(self._ui.commandLineEdit.text)

    def _use(self, command: str) -> None:
        if command.strip() == self._logic.computeOn():
            return
        try:
            self._logic.setComputeOn(command)
        except (ValueError, RuntimeError) as error:
            self._say(str(error))
            return
        compute_place.remember(self._logic.computeOn())
        self._changed()
