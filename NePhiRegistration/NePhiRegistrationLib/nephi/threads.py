"""Threads that do not stall each other: to be imported before torch, which reads the environment once.

On Linux torch's threads spin while they wait for each other. Two programs on one machine then hold up each other's
threads, and registrations take up to 30 times as long (docs/performance.md). A short spin keeps nearly all of the speed
on an idle machine. What the user has set stays.
"""

from __future__ import annotations

import os
import sys

SPINS = 2000
"""Turns of the loop in which a thread of GNU's OpenMP waits before it sleeps; its own default is 300,000."""

if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
