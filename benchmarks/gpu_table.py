"""Time and memory of registrations and of training steps on a device, small to large, as far as the time allows.

python gpu_table.py [--device cuda] [--seconds 300] [--output DIR] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import torch
from nephi.align.registration import run
from nephi.images.image import Image
from nephi.images.phantom import lung_phantom
from nephi.maps.transform import Transform
from nephi.options import Options
from nephi.report import peak_memory_gb
from pairs import Case, brain, lung
from torch import Tensor

SIDES = (96, 128, 192, 256, 320)
TRAINED = (96, 128, 192)


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=300, help="begin nothing that would end later")
    parser.add_argument("--data", type=Path, help="folder of the real lung and brain pairs, if they are there")
    parser.add_argument("--output", type=Path, default=Path("gpu-results"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    name = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    lines = [f"torch {torch.__version__}, {name}", "",
             "| what | seconds | peak memory, GB | error before, mm | after |", "|---|---|---|---|---|"]
    rows = []
    for row in _rows(args.device, time.monotonic() + args.seconds, args.data):
        rows.append(row)
        lines.append("| " + " | ".join(f"{value:.3g}" if isinstance(value, float) else str(value)
                                       for value in row.values()) + " |")
        print(lines[-1], flush=True)
        (args.output / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (args.output / "table.json").write_text(json.dumps({"device": name, "rows": rows}, indent=1), encoding="utf-8")


def _rows(device: str, end: float, data: Optional[Path]) -> Iterator[dict]:
    """The real pairs, training steps of NePhi and a voxel network, and phantoms of growing size; a row is not begun if
    it would take longer than what is left, judged by the one before."""
    for name, maker in (("lung", lung), ("brain", brain)):
        if data is not None and (data / name).is_dir() and time.monotonic() + 60 < end:
            yield _real(maker(data), device)
    for side in TRAINED:
        for network in ("nephi", "voxel"):
            if time.monotonic() + 45 > end:
                break
            yield _trained(network, side, device)
    seconds, before = 1.0, SIDES[0]
    for side in SIDES:
        if time.monotonic() + seconds * (side / before) ** 3 > end:
            return
        started = time.monotonic()
        yield _registered(side, device)
        seconds, before = time.monotonic() - started, side


def _trained(network: str, side: int, device: str) -> dict:
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("training_memory.py")), "--measure", network,
                           "--sides", str(side), "--device", device], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return {"what": f"two training steps, {network}, {side}^3", "seconds": found["seconds"],
            "memory": found["step_gb"], "before": "-", "after": "-"}


def _real(case: Case, device: str) -> dict:
    pair = case.read()
    seconds, memory, transform = _timed(pair.fixed, pair.moving, case.preset, device, pair.fixed_mask, pair.moving_mask)
    errors: list = ["-", "-"]
    if pair.landmarks is not None:
        start, end = pair.landmarks
        errors = [float((points - end).norm(dim=1).mean()) for points in (start, transform.forward.map(start))]
    return {"what": f"{case.pair}, {case.preset}", "seconds": seconds, "memory": memory, "before": errors[0],
            "after": errors[1]}


def _timed(fixed: Image, moving: Image, preset: str, device: str, *masks: Optional[Tensor]
           ) -> tuple[float, float, Transform]:
    """Seconds of a registration, its peak memory on the device (GB), and its result."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    transform = run(fixed, moving, Options.from_preset(preset, device=device), fixed_mask=masks[0],
                    moving_mask=masks[1])
    seconds = time.perf_counter() - started
    return seconds, torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else peak_memory_gb(), transform


def _registered(side: int, device: str) -> dict:
    phantom = lung_phantom(side)
    seconds, memory, transform = _timed(phantom.fixed, phantom.moving, "lung-ct", device, phantom.fixed_mask,
                                        phantom.moving_mask)
    start, end = phantom.landmarks_fixed, phantom.landmarks_moving
    errors = [float((points - end).norm(dim=1).mean()) for points in (start, transform.forward.map(start))]
    return {"what": f"lung phantom, {side}^3, lung-ct", "seconds": seconds, "memory": memory, "before": errors[0],
            "after": errors[1]}


if __name__ == "__main__":
    main()
