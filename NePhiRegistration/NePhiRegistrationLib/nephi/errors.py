"""The failures a user can cause or meet, each one a clear sentence: what, which value, what to do."""

from __future__ import annotations


class NePhiError(Exception):
    """Any failure whose message is meant for the person who started the registration."""


class InputError(NePhiError, ValueError):
    """A file, image, option or point list that cannot be used as given."""


class DeviceMemoryError(NePhiError, RuntimeError):
    """The device has too little memory, even with the fewest points at a time, or the computer for a whole grid."""


def reason(error: BaseException) -> str:
    """The one line of a SimpleITK error that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[-1] if lines else type(error).__name__
    return line.replace("sitk::ERROR:", "").replace("ITK ERROR:", "").strip(" .")
