"""PyTorch: whether it is there, and the offer to have it installed through the PyTorch extension. Never unasked."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import re
import subprocess
from typing import Any, Callable, Optional

import slicer
from slicer.i18n import tr as _

logger = logging.getLogger(__name__)

OLDEST = (2, 2)
OLDEST_FOR_NUMPY_2 = (2, 3)
EXTENSION = "PyTorch"


def has_torch() -> bool:
    """Whether PyTorch is installed; it is not imported."""
    importlib.invalidate_caches()
    return importlib.util.find_spec("torch") is not None


def version_problem() -> Optional[str]:
    """Why the PyTorch that is installed cannot be used, one sentence, or None; it is not imported."""
    found, numpy = _version("torch"), _version("numpy")
    if found is not None and found < OLDEST:
        return _("PyTorch {version} is too old; install version {needed} or newer with the button above.").format(
            version=_dotted(found), needed=_dotted(OLDEST))
    if found is not None and numpy is not None and found < OLDEST_FOR_NUMPY_2 and numpy >= (2, 0):
        return _("PyTorch {version} cannot work with NumPy {numpy}; install PyTorch {needed} or newer with the button "
                 "above, or NumPy 1.").format(version=_dotted(found), numpy=_dotted(numpy),
                                              needed=_dotted(OLDEST_FOR_NUMPY_2))
    return None


def _version(package: str) -> Optional[tuple[int, ...]]:
    """Major and minor version of an installed package, or None where nobody knows."""
    try:
        found = re.match(r"(\d+)\.(\d+)", importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return None
    return None if found is None else tuple(int(part) for part in found.groups())


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def has_extension() -> bool:
    """Whether the PyTorch extension is there."""
    return hasattr(slicer.modules, "pytorchutils")


class TorchOffer:
    """A line with a button, shown while PyTorch is missing.

    Args:
        ui: the widgets of the .ui file.
        changed: called when PyTorch may have come.
        say: takes a sentence for the user.
        elsewhere: whether another computer computes, so that none is needed here.
    """

    def __init__(self, ui: Any, changed: Callable[[], None], say: Callable[[str], None],
                 elsewhere: Callable[[], bool]) -> None:
        self._ui, self._changed, self._say, self._elsewhere = ui, changed, say, elsewhere
        self._present = False
        ui.torchButton.connect("clicked()", self.onInstall)
        self.update()

    def obstacle(self) -> Optional[str]:
        """What is missing, one sentence, or None."""
        if self._present or self._elsewhere():
            return None
        return version_problem() or _("PyTorch is not installed; install it with the button above.")

    def update(self) -> None:
        """Look again, and show the offer or not."""
        self._present = self._present or (has_torch() and version_problem() is None)
        self._ui.torchFrame.visible = self.obstacle() is not None
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
        installed = utilities.PyTorchUtilsLogic().installTorch(True, None, f">={self._needed()}")
        self._say(_("PyTorch is installed.") if installed is not None else _("PyTorch was not installed."))

    @staticmethod
    def _needed() -> str:
        numpy = _version("numpy")
        return _dotted(OLDEST if numpy is None or numpy < (2, 0) else OLDEST_FOR_NUMPY_2)

    def _install_extension(self) -> None:
        manager = slicer.app.extensionsManagerModel() if hasattr(slicer.app, "extensionsManagerModel") else None
        if manager is None:
            self._say(_("Install the extension {name} with Slicer's Extensions Manager, restart Slicer, and open "
                        "this module again.").format(name=EXTENSION))
            return
        done = manager.installExtensionFromServer(EXTENSION, False)  # it asks; a restart would lose the scene
        self._say(_("Restart Slicer, then install PyTorch here.") if done else
                  _("The extension {name} was not installed; use Slicer's Extensions Manager.").format(name=EXTENSION))
