"""NePhi beside ANTs SyN and elastix on one machine, as one table: python benchmarks/run.py, or make bench.

Every method registers every pair in a fresh process with the same number of threads, one after another. How each number
is measured is in docs/performance.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

import judge
import pairs
import table
import torch
from nephi import __version__
from nephi.cli.option_flags import add_options, given_options
from nephi.errors import InputError
from nephi.options import Options, preset_names

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DATA = HERE.parents[1] / "shared" / "data"
PAIRS = ("phantom", "shapes", "lung", "brain")
OWN = ("fixed", "moving", "fixed_mask", "moving_mask", "landmarks", "fixed_labels", "moving_labels")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure, print the table, keep it with all runs in ``results``; 1 when NePhi itself failed on a pair."""
    args = _parser().parse_args(arguments)
    methods = ["nephi"] if args.skip_peers else list(table.COLUMNS)
    with tempfile.TemporaryDirectory(prefix="nephi-bench-") as scratch:
        folder = Path(args.keep or scratch).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            runs = list(_all_runs(args, methods, folder))
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    rows = table.rows(runs)
    text = _page(args, rows, runs, methods)
    print(text)
    _keep(text, {"machine": _machine(), "threads": args.threads, "repeat": args.repeat,
                 "options": given_options(args), "runs": runs, "table": rows})
    return int(any("failed" in run for run in runs if run["method"] == "nephi"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--only", nargs="+", choices=PAIRS, help="these pairs; by default all that there is data for")
    parser.add_argument("--skip-peers", action="store_true", help="NePhi alone")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="runs of each method with seeds 0 to N-1; "
                        "the table shows medians with the range (default: 1)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of every method (default: 2)")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help=f"folder of lung/ and brain/ "
                        f"(default: {os.path.relpath(DATA, HERE.parent)} beside the repository)")
    parser.add_argument("--phantom-size", type=int, default=96, metavar="N", help="voxels along its side (default: 96)")
    parser.add_argument("--peers-python", default=sys.executable, metavar="PATH", help="the Python that has antspyx "
                        "and itk-elastix, where they are not in this one")
    parser.add_argument("--keep", metavar="DIR", help="leave every method's outputs here")
    own = parser.add_argument_group("a pair of your own, instead of those above")
    for name in OWN:
        own.add_argument("--" + name.replace("_", "-"), metavar="FILE")
    own.add_argument("--preset", choices=preset_names(), default="generic")
    add_options(parser)
    return parser


def _cases(args: argparse.Namespace, folder: Path) -> Iterator[pairs.Case]:
    """The requested pairs; by default all whose data are there, with a note on each that is skipped."""
    own = {name: os.path.abspath(value) for name in OWN if (value := getattr(args, name))}
    if own and not args.only:
        if "fixed" not in own or "moving" not in own:
            raise InputError("A pair of your own needs both images; give --fixed and --moving.")
        yield pairs.Case("own", args.preset, **own)
        return
    for name in args.only or PAIRS:
        if name == "phantom":
            yield pairs.phantom(folder, args.phantom_size)
        elif name == "shapes":
            yield from pairs.shapes(folder)
        elif args.only or (args.data / name).is_dir():
            yield {"lung": pairs.lung, "brain": pairs.brain}[name](args.data.absolute())
        else:
            _say(f"{name}: left out, {args.data / name} is not there")


def _all_runs(args: argparse.Namespace, methods: Sequence[str], folder: Path) -> Iterator[dict]:
    chosen = given_options(args)
    cases = list(_cases(args, folder))
    for case in cases:
        Options.from_preset(case.preset, **chosen)  # refuses what cannot be before minutes are spent
    for number, case in enumerate(cases):
        pair = case.read()
        points = pair.landmarks[0].tolist() if pair.landmarks is not None else None
        del pair
        for seed in range(args.repeat):
            options = {"device": "cpu", **chosen, "seed": chosen.get("seed", 0) + seed}
            for method in methods:
                place = folder / f"{number}_{method}_{seed}"
                place.mkdir(exist_ok=True)
                case.save(place / "case.json", seed=seed, threads=args.threads, points=points, options=options)
                run = {"pair": case.pair, "case": number, "method": method, "seed": seed,
                       "busy_cores_before": busy_cores(), **_one_run(args, method, case, place)}
                _say(f"{number}_{method}_{seed}: {case.pair}, {table.COLUMNS[method]}: "
                     + (f"{run['seconds']:.1f} s" if "seconds" in run else f"failed: {run['failed']}"))
                yield run


def _one_run(args: argparse.Namespace, method: str, case: pairs.Case, place: Path) -> dict:
    """Register in a fresh process, then measure; {"failed": why} when there is nothing to measure."""
    case_file = str(place / "case.json")
    command = ([sys.executable, str(HERE / "engine.py"), case_file, str(place)] if method == "nephi" else
               [args.peers_python, str(HERE / "peers.py"), method, case_file, str(place)])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                             "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), str(args.threads))
    done = subprocess.run(command, env={**os.environ, **threads}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False)
    (place / "log.txt").write_text(done.stdout, encoding="utf-8")
    if done.returncode != 0:
        return {"failed": _reason(done.stdout) or f"exit code {done.returncode}"}
    if method == "nephi":
        return json.loads((place / "result.json").read_text(encoding="utf-8"))
    return judge.measure(case, place)


def _reason(output: str) -> str:
    """The line of a failed process that says why: ITK's description where there is one, else the last."""
    lines = output.strip().splitlines() or [""]
    return next((line for line in reversed(lines) if line.startswith("Description: ")), lines[-1])


def busy_cores(seconds: float = 0.5) -> Optional[float]:
    """How many cores everything on this machine keeps busy now; None where the system does not tell."""
    try:
        before = _ticks()
        time.sleep(seconds)
        return round((_ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds, 2)
    except (OSError, AttributeError, ValueError):
        return None


def _ticks() -> int:
    """Clock ticks that all cores have worked since the start: user, nice, system, irq, softirq."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return sum(numbers[:3]) + sum(numbers[5:7])


def _page(args: argparse.Namespace, rows: list[dict], runs: list[dict], methods: Sequence[str]) -> str:
    """The table with what must be known to read it."""
    machine = _machine()
    notes = [f"{machine['processor']}, {machine['cores']} cores, {args.threads} threads for each method, "
             f"{machine['system']}; nephi {machine['nephi']} ({machine['revision']}), torch {machine['torch']}"]
    for method in methods:
        own = [run for run in runs if run["method"] == method]
        notes += sorted({f"{table.COLUMNS[method]} {run['version']}" for run in own if "version" in run})
        notes += sorted({f"{run['pair']}, {table.COLUMNS[method]}: failed, {run['failed']}"
                         for run in own if "failed" in run})
    if given_options(args):
        notes.append(f"engine options: {given_options(args)}")
    if args.repeat > 1 or "2D shapes" in {run["pair"] for run in runs}:
        notes.append(f"{args.repeat} run(s) of each method and case; of several: median [range], of folds and of the "
                     "2D Dice the worst [range]")
    busy = [run["busy_cores_before"] for run in runs if run["busy_cores_before"] is not None]
    if busy and max(busy) > 0.2:
        notes.append(f"something else kept up to {max(busy):.1f} cores busy between the runs: do not trust the times")
    return table.markdown(rows, methods) + "\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def _machine() -> dict:
    return {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform(),
            "python": platform.python_version(), "torch": torch.__version__, "nephi": __version__,
            "revision": _revision()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _revision() -> str:
    """The commit, with a plus when files differ from it."""
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(HERE), *words], capture_output=True, text=True, check=False).stdout

    try:
        commit = git("rev-parse", "--short", "HEAD").strip()
        return f"{commit}+" if git("status", "--porcelain", "--untracked-files=no").strip() else commit or "unknown"
    except OSError:
        return "unknown"


def _keep(text: str, document: dict) -> None:
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    stem.with_suffix(".md").write_text(text, encoding="utf-8")
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    _say(f"kept as {stem}.md and .json")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
