"""Peak memory of one training step on one pair: NePhi's predictor against a network that predicts every voxel.

python training_memory.py [--sides 96 128 160] [--repeats 3] [--json FILE.json] [--picture FILE.svg]
python training_memory.py --measure nephi|voxel --sides 96 [--device cuda]

NePhi takes the trainer's own steps with the shipped configuration ``universal``, its size set to the side and its batch
to 1. The voxel network is a plain U-Net with the widths of icon_registration's tallUNet2, trained like GradientICON: a
displacement at every voxel, both directions. Each is measured in a process of its own, on the CPU, as the peak of the
resident memory over the first steps above what it was before them; of several such processes the median counts. Images
are random: memory depends on sizes alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import torch
import torch.nn.functional as F
from chart import MARGINS, Chart, svg_file
from nephi.report.axes import Axes
from nephi.report.memory import peak_memory_gb
from nephi.training.config import read_config
from nephi.training.examples import Example
from nephi.training.parallel import Group
from nephi.training.trainer import new_state, train
from torch import Tensor, nn

STEPS = 2  # of the configuration's seed, the first meets the pair as it is and the second carried by a pass
DOWN, UP = (16, 32, 64, 256, 512), (16, 32, 64, 128, 256)
CONSISTENCY, STRIDE, DELTA = 1.5, 2, 0.002  # the published weight; at every second voxel along each axis; half sides
TRUTH = 2000  # known points of a made-up pair
HERE = Path(__file__).resolve().parent
NAMES = {"nephi": "NePhi", "voxel": "voxel network (U-Net)"}


def main() -> None:
    """Measure every side, print a table, write the figures and the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[96, 128, 160], help="multiples of 32 from 64")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each figure")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "training-memory.json")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "images" / "training-memory.svg")
    parser.add_argument("--measure", choices=sorted(NAMES), help="measure only this here, at the first side")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of --measure")
    args = parser.parse_args()
    wrong = [side for side in args.sides if side % 32 or side < 64]
    if wrong:
        parser.error(f"the side {wrong[0]} is not a multiple of 32 of at least 64, which both networks need")
    if args.measure:
        print(json.dumps(measure(args.measure, args.sides[0], torch.device(args.device))))
        return
    print("| side | NePhi, GB | voxel network, GB | ratio |\n|---|---|---|---|")
    rows = []
    for side in args.sides:
        rows.append(row := {"side": side, **{method: repeated(method, side, args.repeats) for method in NAMES}})
        nephi, voxel = (row[method]["step_gb"] for method in NAMES)
        print(f"| {side} | {nephi:.2f} | {voxel:.2f} | {ratio(row):.1f} |", flush=True)
    figures = {"torch": torch.__version__, "steps": STEPS, "rows": rows}
    for path, content in ((args.json, json.dumps(figures, indent=1)), (args.picture, picture(rows))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n", encoding="utf-8")


def repeated(method: str, side: int, count: int) -> dict:
    """Several measurements and their median."""
    runs = [in_a_process(method, side) for _ in range(count)]
    return {"step_gb": statistics.median(run["step_gb"] for run in runs), "runs": runs}


def in_a_process(method: str, side: int) -> dict[str, float]:
    """What :func:`measure` finds in a fresh process, so that no memory is left from anything before."""
    command = [sys.executable, __file__, "--measure", method, "--sides", str(side)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure(method: str, side: int, device: torch.device) -> dict[str, float]:
    """The peak memory before the first steps and what these add, in GB (1e9 bytes): of this process, or on a GPU; and
    the seconds that they take."""
    torch.manual_seed(0)
    take_steps = {"nephi": nephi_steps, "voxel": voxel_steps}[method](side, device)
    forget_peak(device)
    before, started = peak_gb(device), time.perf_counter()
    take_steps()
    after = peak_gb(device)  # which waits for the device
    return {"before_gb": before, "step_gb": after - before, "seconds": time.perf_counter() - started}


def ratio(row: dict) -> float:
    """How many times NePhi's memory the voxel network needs."""
    return row["voxel"]["step_gb"] / row["nephi"]["step_gb"]


def peak_gb(device: torch.device) -> float:
    """The peak memory so far, of this process or on a GPU."""
    if device.type == "cpu":
        return peak_memory_gb()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 1e9


def forget_peak(device: torch.device) -> None:
    """Let the peak start again from now where the system can; elsewhere the peak so far is what counts before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    file = Path("/proc/self/clear_refs")
    if file.exists():
        file.write_text("5")


def nephi_steps(side: int, device: torch.device) -> Callable[[], None]:
    """The trainer's steps on random pairs, ready to be taken."""
    config, group = read_config("universal"), Group(0, 1, device)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, size=side),
                                 training=dataclasses.replace(config.training, batch=1, steps=STEPS))
    source, state = RandomPairs(side), new_state(config, group.device)

    def steps() -> None:
        for _ in train(state, config, source, group):
            pass

    return steps


class RandomPairs:
    """One pair of noise, with what a made-up one has: another contrast to compare, and known points."""

    def __init__(self, side: int) -> None:
        cube, masks = (side,) * 3, torch.ones((2, side, side, side), dtype=torch.bool)
        truth = torch.rand(TRUTH, 3) * 2 - 1
        self._pair = Example(torch.rand(2, *cube), torch.rand(2, *cube), masks, masks, 100.0, "noise", (truth, truth))

    def draw(self, generator: torch.Generator) -> Example:
        """Always the same pair."""
        return self._pair


def voxel_steps(side: int, device: torch.device) -> Callable[[], None]:
    """As many steps of the voxel network on random images, ready to be taken."""
    network, fixed, moving = VoxelNetwork().to(device), *torch.rand(2, 1, 1, side, side, side, device=device)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-5)
    identity = F.affine_grid(torch.eye(3, 4)[None], [1, 1, side, side, side], align_corners=False).to(device)

    def steps() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            voxel_loss(network, fixed, moving, identity).backward()
            optimizer.step()

    return steps


class VoxelNetwork(nn.Module):
    """A displacement at every voxel from two images: five halvings, five doublings, a skip connection at each."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (2, *DOWN[:-1])
        below = (*(down + up for down, up in zip(DOWN, UP[1:])), DOWN[-1])
        self.down = nn.ModuleList(nn.Conv3d(before, after, 3, 2, 1) for before, after in zip(inputs, DOWN))
        self.up = nn.ModuleList(nn.ConvTranspose3d(before, after, 4, 2, 1) for before, after in zip(below, UP))
        self.norms = nn.ModuleList(nn.BatchNorm3d(width) for width in UP)
        self.last = nn.Conv3d(2 + UP[0], 3, 3, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(1, 1, n, n, n) images to (1, 3, n, n, n) displacements in half sides."""
        values, skips = torch.cat([first, second], 1), []
        for layer in self.down:
            skips.append(values)
            values = F.leaky_relu(layer(values))
        for layer, norm, skip in reversed(list(zip(self.up, self.norms, skips))):
            values = torch.cat([norm(F.leaky_relu(layer(values))), skip], 1)
        return self.last(values) / 10


def voxel_loss(network: nn.Module, fixed: Tensor, moving: Tensor, identity: Tensor) -> Tensor:
    """Correlation both ways and gradient inverse consistency by finite differences.

    Args:
        identity: (1, n, n, n, 3) the voxels' places in [-1, 1]^3.
    """
    there, back = network(fixed, moving), network(moving, fixed)
    loss = (1 - correlation(read(moving, mapped(there, identity)), fixed)
            + 1 - correlation(read(fixed, mapped(back, identity)), moving))
    points = identity + torch.randn_like(identity) * 2 / identity.shape[1]
    points = points[:, ::STRIDE, ::STRIDE, ::STRIDE]

    def error(start: Tensor) -> Tensor:
        return start - mapped(there, mapped(back, start))

    here = error(points)
    for step in DELTA * torch.eye(3, device=identity.device):
        loss = loss + CONSISTENCY * ((here - error(points + step)) / DELTA).pow(2).mean()
    return loss


def read(image: Tensor, points: Tensor) -> Tensor:
    """An image (1, C, n, n, n) at points (1, k, j, i, 3)."""
    return F.grid_sample(image, points, align_corners=False, padding_mode="border")


def mapped(displacement: Tensor, points: Tensor) -> Tensor:
    """Where a displacement takes points (1, k, j, i, 3)."""
    return points + read(displacement, points).movedim(1, -1)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """The normalised cross correlation of two images."""
    first, second = first - first.mean(), second - second.mean()
    return (first * second).mean() / (first.pow(2).mean() * second.pow(2).mean() + 1e-12).sqrt()


def picture(rows: Sequence[dict]) -> str:
    """Both curves over the side as SVG, with the ratio at each side."""
    ratios = {row["side"]: ratio(row) for row in rows}
    most = 1.12 * max(row[method]["step_gb"] for row in rows for method in NAMES)
    axes = Axes((min(ratios) - 8, max(ratios) + 8), (0, most), 0, 620, 330, MARGINS)
    chart = Chart(axes, "Peak memory of a training step on one pair, GB", "voxels, and the ratio of the two", [*ratios],
                  lambda side: f"{side}³: {ratios[side]:.1f} ×")
    return svg_file(chart.draw({name: [(row["side"], row[method]["step_gb"]) for row in rows]
                                for method, name in NAMES.items()}), 620, 330)


if __name__ == "__main__":
    main()
