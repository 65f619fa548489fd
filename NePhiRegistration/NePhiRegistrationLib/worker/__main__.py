"""The worker process, started by path with the application's Python; requests on standard input, replies on output."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def _reserve_standard_output() -> int:
    """Descriptor of the real standard output; whatever else is printed, by Python or by a library, goes to stderr."""
    wire = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return wire


if __name__ == "__main__":
    # This folder, put first by the interpreter, has modules with common names: what others import must not find them.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from NePhiRegistrationLib.worker.server import serve

    serve(os.dup(0), _reserve_standard_output())
