"""What all tests share: the real images, where they exist, and a bounded number of threads."""

from __future__ import annotations

import os
import signal
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch: several processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

CORES = torch.get_num_threads()
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The stop-watch is for a quiet machine."""
    parser.addoption("--stopwatch", action="store_true", help="hold tests to the times that they state")


def pytest_configure() -> None:
    """A shell's job in the background ignores Ctrl-C, and so would the programs that tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Small tensors gain nothing from threads, and on a busy machine lose a lot; real images want them."""
    torch.set_num_threads(CORES if item.get_closest_marker("data") else 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``data`` are skipped, with a sentence, where the real images are not."""
    if not DATA.is_dir():
        absent = pytest.mark.skip(reason=f"The real images are not on this machine; they belong in {DATA}.")
        for item in items:
            if item.get_closest_marker("data"):
                item.add_marker(absent)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the real images; for tests marked ``data``."""
    return DATA


@pytest.fixture
def stopwatch(request: pytest.FixtureRequest) -> bool:
    """Whether a test is held to the times that it states."""
    return request.config.getoption("--stopwatch")
