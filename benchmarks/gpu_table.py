"""Time and memory of registrations and of a training step on a device, small to large, as far as the time allows.

python gpu_table.py [--device cuda] [--seconds 300] [--output DIR]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from nephi.align.registration import register
from nephi.images.phantom import lung_phantom
from nephi.options import Options
from nephi.report import peak_memory_gb

SIDES = (96, 128, 192, 256, 320)
TRAINED = (96, 128)


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=300, help="begin nothing that would end later")
    parser.add_argument("--output", type=Path, default=Path("gpu-results"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    name = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    lines = [f"torch {torch.__version__}, {name}", "",
             "| what | seconds | peak memory, GB | error before, mm | after |", "|---|---|---|---|---|"]
    rows = []
    for row in _rows(args.device, time.monotonic() + args.seconds):
        rows.append(row)
        lines.append("| " + " | ".join(f"{value:.3g}" if isinstance(value, float) else str(value)
                                       for value in row.values()) + " |")
        print(lines[-1], flush=True)
        (args.output / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (args.output / "table.json").write_text(json.dumps({"device": name, "rows": rows}, indent=1), encoding="utf-8")


def _rows(device: str, end: float) -> Iterator[dict]:
    """One registration of a phantom for each side, and training steps of NePhi and a voxel network on the CPU; a row is
    not begun if it would take longer than what is left, judged by the one before."""
    seconds, before = 1.0, SIDES[0]
    for side in SIDES:
        if time.monotonic() + seconds * (side / before) ** 3 > end:
            return
        started = time.monotonic()
        yield _registered(side, device)
        seconds, before = time.monotonic() - started, side
    for side in TRAINED:
        for network in ("nephi", "voxel"):
            if time.monotonic() + 60 > end:
                return
            started = time.monotonic()
            done = subprocess.run([sys.executable, str(Path(__file__).with_name("training_memory.py")), "--measure",
                                   network, "--sides", str(side)], capture_output=True, text=True, check=True)
            yield {"what": f"two training steps, {network}, {side}^3, on the CPU", "seconds":
                   time.monotonic() - started, "memory": json.loads(done.stdout)["step_gb"], "before": "-",
                   "after": "-"}


def _registered(side: int, device: str) -> dict:
    phantom = lung_phantom(side)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    *_, last = register(phantom.fixed, phantom.moving, Options.from_preset("lung-ct", device=device),
                        phantom.fixed_mask, phantom.moving_mask)
    seconds = time.perf_counter() - started
    memory = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else peak_memory_gb()
    start, end = phantom.landmarks_fixed, phantom.landmarks_moving
    errors = [float((points - end).norm(dim=1).mean()) for points in (start, last.transform.forward.map(start))]
    return {"what": f"lung phantom, {side}^3, lung-ct", "seconds": seconds, "memory": memory, "before": errors[0],
            "after": errors[1]}


if __name__ == "__main__":
    main()
