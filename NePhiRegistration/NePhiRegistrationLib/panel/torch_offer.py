"""PyTorch: whether it is there, and the offer to have it installed through the PyTorch extension. Never unasked."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import subprocess
from typing import Any, Callable, Optional

import slicer
from slicer.i18n import tr as _

logger = logging.getLogger(__name__)

REQUIREMENT = ">=2.2"
EXTENSION = "PyTorch"


def has_torch() -> bool:
    """Whether PyTorch is installed; it is not imported."""
    importlib.invalidate_caches()
    return importlib.util.find_spec("torch") is not None


def has_extension() -> bool:
    """Whether the PyTorch extension is there."""
    return hasattr(slicer.modules, "pytorchutils")


class TorchOffer:
    """A line with a button, shown while PyTorch is missing.

    Args:
        ui: the widgets of the .ui file.
        changed: called when PyTorch may have come.
        say: takes a sentence for the user.
    """

    def __init__(self, ui: Any, changed: Callable[[], None], say: Callable[[str], None]) -> None:
        self._ui, self._changed, self._say = ui, changed, say
        self._present = has_torch()
        ui.torchButton.connect("clicked()", self.onInstall)
        self.update()

    def obstacle(self) -> Optional[str]:
        """What is missing, one sentence, or None."""
        if self._present:
            return None
        return _("PyTorch is not installed; install it with the button above.")

    def update(self) -> None:
        """Look again, and show the offer or not."""
        self._present = self._present or has_torch()
        self._ui.torchFrame.visible = not self._present
        if has_extension():
            self._ui.torchLabel.text = _("Registration needs PyTorch, a download of about 0.2 to 3 GB.")
            self._ui.torchButton.text = _("Install PyTorch…")
        else:
            self._ui.torchLabel.text = _("Registration needs PyTorch, which the extension {name} installs; it is "
                                         "missing.").format(name=EXTENSION)
            self._ui.torchButton.text = _("Install the extension…")

    def onInstall(self) -> None:
        """The user agreed; Slicer or the PyTorch extension asks once more before it downloads."""
        try:
            if has_extension():
                self._install_torch()
            else:
                self._install_extension()
        except (RuntimeError, OSError, ValueError, ImportError, subprocess.SubprocessError) as error:
            logger.exception("PyTorch could not be installed.")
            self._say(_("PyTorch could not be installed: {error}").format(error=error))
        self.update()
        self._changed()

    def _install_torch(self) -> None:
        utilities = importlib.import_module("PyTorchUtils")
        self._say(_("Installing PyTorch; Slicer does not respond until it is done."))
        installed = utilities.PyTorchUtilsLogic().installTorch(True, None, REQUIREMENT)
        self._say(_("PyTorch is installed.") if installed is not None else _("PyTorch was not installed."))

    def _install_extension(self) -> None:
        manager = slicer.app.extensionsManagerModel() if hasattr(slicer.app, "extensionsManagerModel") else None
        if manager is None:
            self._say(_("Install the extension {name} with Slicer's Extensions Manager, restart Slicer, and open "
                        "this module again.").format(name=EXTENSION))
            return
        done = manager.installExtensionFromServer(EXTENSION, False)  # it asks; a restart would lose the scene
        self._say(_("Restart Slicer, then install PyTorch here.") if done else
                  _("The extension {name} was not installed; use Slicer's Extensions Manager.").format(name=EXTENSION))
