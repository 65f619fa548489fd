"""The peak memory of this process."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path


def peak_memory_gb() -> float:
    """The peak resident memory of this process in GB (1e9 bytes); NaN where the system does not report it."""
    try:
        if sys.platform == "win32":
            return _windows_peak() / 1e9
        return _posix_peak() / 1e9
    except (OSError, ImportError, ValueError, AttributeError):
        return float("nan")


def forget_peak() -> None:
    """From here on the peak is counted anew, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _posix_peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage on Linux: there a process starts with the peak of the one that launched it.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _windows_peak() -> int:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = [("cb", wintypes.DWORD), ("PageFaultCount", wintypes.DWORD),
                    *[(name, ctypes.c_size_t) for name in (
                        "PeakWorkingSetSize", "WorkingSetSize", "QuotaPeakPagedPoolUsage", "QuotaPagedPoolUsage",
                        "QuotaPeakNonPagedPoolUsage", "QuotaNonPagedPoolUsage", "PagefileUsage", "PeakPagefileUsage")]]

    counters = Counters(cb=ctypes.sizeof(Counters))
    kernel, psapi = ctypes.WinDLL("kernel32"), ctypes.WinDLL("psapi")
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    psapi.GetProcessMemoryInfo.argtypes = [wintypes.HANDLE, ctypes.POINTER(Counters), wintypes.DWORD]
    if not psapi.GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb):
        raise OSError("GetProcessMemoryInfo failed")
    return counters.PeakWorkingSetSize
