"""What a cohort is made of: rows, as a person gives them, and jobs, as they travel to a worker."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

LONGEST_ID = 150
"""Bytes in UTF-8: names of files have 255 at most, and the temporary ones are longer than an id."""
_ID = re.compile(r"\w[\w .,+=@()-]*")
_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[\d¹²³]) *(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One pair as it was given.

    Attributes:
        id: its name, unique in the cohort.
        cells: column -> text, with ``fixed`` and ``moving``; empty cells are left out, and paths are absolute.
        line: where it stands in the table; 0 for a row that was not read from one.
        folder: of its results, relative to that of the cohort.
        stems: role -> what stands before the ending of its file, where it is not the role's usual name.
    """

    id: str
    cells: Mapping[str, str]
    line: int = 0
    folder: str = ""
    stems: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where to look for it, in a message."""
        return f"row {self.line}{f' ({self.id})' if self.id else ''}" if self.line else self.id


@dataclass(frozen=True)
class Job:
    """One pair as it travels to a worker: paths, options and numbers.

    Attributes:
        id: of its row.
        folder: where the results go, absolute.
        arguments: of ``nephi register``, by name.
        files: role -> absolute path of each input.
        settings: everything but the inputs that decides the result, as JSON.
        peak: bytes of memory that it may need.
        threads: for one pair.
        record: the name of the file in the folder that marks it as finished.
    """

    id: str
    folder: str
    arguments: Mapping[str, Any]
    files: Mapping[str, str]
    settings: str
    peak: float
    threads: int = 1
    record: str = "pair.json"


def folder_of(id: str) -> str:
    """Where the results of a pair lie: in one of 256 folders, so that none has too many entries, the same one
    whatever else is in the table."""
    return f"pairs/{hashlib.sha256(id.encode()).hexdigest()[:2]}/{id}"


def as_folder(id: str) -> str:
    """The same for ids whose folders are one somewhere: neither case tells names apart there, nor how accents are
    written."""
    return unicodedata.normalize("NFC", id.casefold())


def wrong_id(id: str) -> Optional[str]:
    """What is wrong with an id that cannot be the name of a folder everywhere; None if nothing is."""
    if len(id.encode()) > LONGEST_ID:
        return f"the id has {len(id.encode())} bytes in UTF-8; give one of at most {LONGEST_ID}"
    letters = "".join(letter for letter in id if not unicodedata.category(letter).startswith("M"))  # without accents
    if not _ID.fullmatch(letters) or id[-1] in ". " or _RESERVED.fullmatch(id):
        return (f"the id {id!r} cannot be the name of a folder; use letters, digits, spaces, - and _, and begin with a "
                "letter or a digit")
    return None
