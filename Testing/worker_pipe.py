"""The worker over plain pipes: the transport of tests that need no Qt."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Optional

import NePhiRegistrationLib.worker as worker
import numpy as np
from nephi.images.phantom import lung_phantom
from NePhiRegistrationLib.worker.client import Client, Request

PROGRAM = Path(worker.__file__).with_name("__main__.py")
PATIENCE = 60.0  # s; a busy machine is no failure


class Pipe:
    """A worker and the client that talks to it; what it reports is kept in ``logs``."""

    def __init__(self, prefix: tuple[str, ...] = (), environment: Optional[dict[str, str]] = None) -> None:
        self.client = Client(self._write)
        self.logs: list[tuple[str, str]] = []
        self.client.log.connect(lambda level, line: self.logs.append((level, line)))
        self._prefix, self._environment = prefix, environment
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*self._prefix, sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(self._environment or {})})
        self.client.opened()

    def _write(self, data) -> None:
        view = memoryview(data).cast("B")
        while len(view):
            view = view[self.process.stdin.write(view[:1 << 16]):]

    def pump(self, until: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Give the client what arrives until a condition holds; whether it does."""
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not until() and time.monotonic() < end:
                if selector.select(0.05):
                    data = os.read(self.process.stdout.fileno(), 1 << 16)
                    if not data:
                        self.client.died(f"The worker has ended with code {self.process.wait()}.")
                        break
                    self.client.feed(data)
        return until()

    def ready(self) -> Pipe:
        assert self.pump(lambda: self.client.hello is not None)
        return self

    def finish(self, request: Request, seconds: float = PATIENCE) -> Request:
        assert self.pump(lambda: request.done, seconds), f"no outcome of {request.kind}"
        return request

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


class Watched:
    """A request's progress and previews as they came."""

    def __init__(self) -> None:
        self.progress: list[dict] = []
        self.previews: list = []
        self.outcomes: list[str] = []

    @classmethod
    def of(cls, request: Request) -> Watched:
        """What comes of a request from now on."""
        watched = cls()
        request.progress.connect(watched.progress.append)
        request.preview.connect(watched.previews.append)
        request.ended.connect(lambda request: watched.outcomes.append(request.state))
        return watched

    def phases(self) -> list[str]:
        return list(dict.fromkeys(fields["phase"] for fields in self.progress))


PHANTOM = lung_phantom(32)
QUICK = {"iterations": [3], "resolution": [20], "points": 20000, "device": "cpu"}
BARE = {**QUICK, "affine": "none", "search": "never"}  # where that it registers is enough
ENDLESS = {"iterations": [100000], "resolution": [24], "convergence": 0, "device": "cpu"}
AT_ONCE = {**ENDLESS, "affine": "none", "search": "never"}  # without what comes before the first level


def pair(options: Optional[dict] = None, **changes) -> tuple[dict, dict]:
    """Fields and arrays that register the phantom."""
    fields = {"fixed": PHANTOM.fixed.grid.to_dict(), "moving": PHANTOM.moving.grid.to_dict(), "preset": "lung-ct",
              "names": {"fixed": "in", "moving": "out"}, "options": QUICK if options is None else options, **changes}
    return fields, {"fixed": PHANTOM.fixed.values.numpy(), "moving": PHANTOM.moving.values.numpy(),
                    "fixed_mask": PHANTOM.fixed_mask.numpy().astype(np.uint8),
                    "moving_mask": PHANTOM.moving_mask.numpy().astype(np.uint8),
                    "landmarks_fixed": PHANTOM.landmarks_fixed.numpy(),
                    "landmarks_moving": PHANTOM.landmarks_moving.numpy()}
