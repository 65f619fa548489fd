"""The failures a user can cause or meet, each one a clear sentence: what, which value, what to do."""

from __future__ import annotations

from collections.abc import Sequence


class NePhiError(Exception):
    """Any failure whose message is meant for the person who started the registration."""


class InputError(NePhiError, ValueError):
    """A file, image, option or point list that cannot be used as given."""


class Faults(InputError):
    """Several faults at once, each of them a clause; one that stands alone reads like any other error.

    Args:
        what: the beginning of the sentence, such as "The table a.csv cannot be used".
        advice: what to do about all of them, if there is anything.
    """

    def __init__(self, what: str, faults: Sequence[str], advice: str = "") -> None:
        self.head = f"{what}: {faults[0]}" if len(faults) == 1 else f"{what}, for {len(faults)} reasons"
        self.head += f"; {advice}." if advice else "." if len(faults) == 1 else ":"
        self.faults = tuple(faults) if len(faults) > 1 else ()
        super().__init__("\n".join([self.head, *self.faults]))


class DeviceMemoryError(NePhiError, RuntimeError):
    """The device has too little memory, even with the fewest points at a time, or the computer for a whole grid."""


def reason(error: BaseException) -> str:
    """The one line of a SimpleITK error that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[-1] if lines else type(error).__name__
    return line.replace("sitk::ERROR:", "").replace("ITK ERROR:", "").strip(" .")
