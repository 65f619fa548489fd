"""The worker process, started by path with the application's Python; requests on standard input, replies on output."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, Optional

LIBRARY = Path(__file__).resolve().parents[1]


class _OurEngine:
    """Finds the engine beside the worker, whatever else is installed, and nothing else of that folder: it has names as
    common as ``session`` and ``panel``, which others may import from elsewhere."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        return PathFinder.find_spec(name, [str(LIBRARY)]) if name == "nephi" else None


if __name__ == "__main__":
    # This folder, put first by the interpreter, has modules with common names: what others import must not find them.
    sys.path[0] = str(LIBRARY.parent)
    sys.meta_path.insert(0, _OurEngine)
    from NePhiRegistrationLib.worker.server import serve

    serve()
