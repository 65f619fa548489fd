"""What all tests share: the real images, where they exist, and a bounded number of threads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    """Small tensors gain nothing from many threads, and a machine with many cores would lose time on them."""
    torch.set_num_threads(min(4, torch.get_num_threads()))


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
