"""Where to compute, as the application's settings have it; it is the user's, not the scene's."""

from __future__ import annotations

from typing import Any

import slicer

COMMAND, LAST = "NePhiRegistration/ComputeOn", "NePhiRegistration/LastCommand"


def remembered() -> str:
    """The command that starts the worker; empty for this computer."""
    return _read(COMMAND)


def last_command() -> str:
    """The command that was used last, for who goes back and forth."""
    return _read(LAST)


def remember(command: str) -> None:
    """Keep it for the next start of the application."""
    settings = slicer.app.userSettings()
    settings.setValue(COMMAND, command)
    if command:
        settings.setValue(LAST, command)


def environment() -> Any:
    """The QProcessEnvironment in which the application was started; None where there is none. In the application's own
    one, a program of the system finds the libraries of Slicer in place of its own."""
    application = _application()
    return None if application is None else application.startupEnvironment()


def _read(key: str) -> str:
    application = _application()
    return "" if application is None else str(application.userSettings().value(key, "") or "")


def _application() -> Any:
    """None on slicer-core, which is a library."""
    return getattr(slicer, "app", None)
