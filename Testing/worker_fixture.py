"""The fixture ``worker``: a process that is ended after the test, whose slots raised nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pythonqt
from NePhiRegistrationLib.worker.worker_process import WorkerProcess


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    """Not yet started."""
    pythonqt.slot_errors.clear()
    made = WorkerProcess()
    yield made
    made.stop()
    assert not pythonqt.slot_errors
