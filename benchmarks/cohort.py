"""`nephi batch` measured: against a loop of `nephi register`, with a worker killed, and with a thousand rows.

    python benchmarks/cohort.py loop --out DIR       the same pairs by a loop of commands and by two warm workers
    python benchmarks/cohort.py kill --out DIR       a scheduler and two workers, one killed in the middle
    python benchmarks/cohort.py rows --out DIR       tiny pairs: memory of the scheduler, entries of folders
    python benchmarks/cohort.py tasks                tasks that do nothing: what the scheduler itself can hand out

The pairs of the first two are neighbours among the last 39 hippocampi of shared/data. Compare times of one run only.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import SimpleITK as sitk
from run import DATA

NEPHI = (sys.executable, "-m", "nephi")
QUICK = ("--iterations", "1,0,0", "--resolution", "4,8,16", "--hidden", "4", "--frequencies", "1", "--search", "never",
         "--affine", "none", "--step-back", "never", "--outputs", "transform")
ROLES = ("fixed", "moving", "fixed_labels", "moving_labels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("loop", "kill", "rows", "tasks"))
    parser.add_argument("--out", type=Path, default=Path("cohort-benchmark"))
    parser.add_argument("--data", type=Path, default=DATA / "hippocampus")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--rows", type=int, default=1000)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = {"loop": loop, "kill": kill, "rows": rows, "tasks": tasks}[args.what](args)
    print(json.dumps(found, indent=1))


def loop(args: argparse.Namespace) -> dict:
    """Times of both ways, one thread a pair, and the numbers in which they differ."""
    table = hippocampi(args.data, args.out, args.pairs)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
    batch = timed([[*NEPHI, "batch", str(args.out / "pairs.csv"), "-o", str(args.out / "batch"), "--workers", "2",
                    "--threads", "1", "--quiet"]], dict(os.environ))
    single = timed([[*NEPHI, "register", row["fixed"], row["moving"], "--fixed-labels", row["fixed_labels"],
                     "--moving-labels", row["moving_labels"], "-o", str(args.out / "loop" / row["id"]), "--quiet"]
                    for row in table], environment)
    different = []
    for row in by_id(args.out / "batch"):
        reports = [json.loads((folder / "report.json").read_text()) for folder in
                   (args.out / "batch" / row["folder"], args.out / "loop" / row["id"])]
        if reports[0]["metrics"] != reports[1]["metrics"]:
            different.append(row["id"])
    return {"pairs": len(table), "batch": batch, "loop": single, "time": batch["seconds"] / single["seconds"],
            "processor time": batch["cpu"] / single["cpu"], "pairs with other numbers": different}


def kill(args: argparse.Namespace) -> dict:
    """All pairs with one of two workers killed when a quarter is done."""
    hippocampi(args.data, args.out, args.pairs)
    processes, where = cluster(args.out)
    batch = subprocess.Popen([*NEPHI, "batch", str(args.out / "pairs.csv"), "-o", str(args.out / "killed"), "--json",
                              *where], stdout=subprocess.PIPE, text=True)
    ended: list[str] = []
    for line in batch.stdout:
        event = json.loads(line)
        if event["event"] == "pair":
            ended.append(event["id"])
            if len(ended) == args.pairs // 4:
                processes[1].kill()
    batch.wait()
    stop(processes)
    found = by_id(args.out / "killed")
    return {"exit code": batch.returncode, "pairs": args.pairs, "done": sum(row["status"] == "done" for row in found),
            "ended twice": len(ended) - len(set(ended)),
            "left behind": [str(path) for path in (args.out / "killed").rglob(".nephi-*")]}


def rows(args: argparse.Namespace) -> dict:
    """Tiny pairs: how the memory of the scheduler grows and how full the folders are."""
    tiny(args.out / "tiny", args.rows)
    processes, where = cluster(args.out)
    batch = subprocess.Popen([*NEPHI, "batch", str(args.out / "tiny" / "pairs.csv"), "-o", str(args.out / "many"),
                              "--json", *where, *QUICK], stdout=subprocess.PIPE, text=True)
    memory, began = [], 0.0
    scheduler, command = psutil.Process(processes[0].pid), psutil.Process(batch.pid)
    for line in batch.stdout:
        event = json.loads(line)
        if event["event"] == "pair":
            began = began or time.monotonic()
            memory.append((scheduler.memory_info().rss / 1e6, command.memory_info().rss / 1e6))
    seconds = time.monotonic() - began
    batch.wait()
    stop(processes)
    marks = [0, len(memory) // 4, len(memory) // 2, len(memory) - 1]
    return {"rows": args.rows, "exit code": batch.returncode, "pairs a second": (len(memory) - 1) / seconds,
            "scheduler, MB": [round(memory[mark][0]) for mark in marks],
            "command, MB": [round(memory[mark][1]) for mark in marks],
            "most entries of a folder": max(len(os.listdir(path)) for path, _, _ in os.walk(args.out / "many")),
            "cohort.html, MB": (args.out / "many" / "cohort.html").stat().st_size / 1e6}


def tasks(args: argparse.Namespace) -> dict:
    """What is handed out in a second where nothing is computed, no more at a time than there are workers."""
    from distributed import Client, LocalCluster, wait

    local = LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0")
    with local, Client(local) as client:
        client.submit(int, 1).result()
        before, running = time.monotonic(), set()
        for number in range(1000):
            running.add(client.submit(int, number, pure=False))
            if len(running) == 2:
                running -= wait(list(running), return_when="FIRST_COMPLETED").done
        return {"tasks a second": 1000 / (time.monotonic() - before)}


def hippocampi(data: Path, out: Path, count: int) -> list[dict]:
    """A table of neighbours with their labels."""
    names = sorted(path.name for path in (data / "images").glob("*.nii.gz"))[-39:]
    table = [{"id": f"{moving.split('.')[0]}_to_{fixed.split('.')[0]}", "fixed": str(data / "images" / fixed),
              "moving": str(data / "images" / moving), "fixed_labels": str(data / "labels" / fixed),
              "moving_labels": str(data / "labels" / moving)} for fixed, moving in zip(names, names[1:])][:count]
    write(out / "pairs.csv", table, ("id", *ROLES))
    return table


def tiny(folder: Path, count: int) -> None:
    """Blobs of 16^3, of which each pair has one moved a little."""
    folder.mkdir(parents=True, exist_ok=True)
    draws, axes = np.random.default_rng(0), np.mgrid[:16, :16, :16]
    for number in range(10):
        centre = 7.5 + draws.uniform(-1, 1, (3, 1, 1, 1))
        blob = 100 * np.exp(-((axes - centre) ** 2).sum(0) / 18) + draws.normal(0, 1, (16, 16, 16))
        sitk.WriteImage(sitk.GetImageFromArray(blob.astype(np.float32)), str(folder / f"{number}.nii.gz"))
    table = [{"id": f"pair-{n:05d}", "fixed": f"{n % 10}.nii.gz", "moving": f"{(n + 1) % 10}.nii.gz"}
             for n in range(count)]
    write(folder / "pairs.csv", table, ("id", "fixed", "moving"))


def write(path: Path, table: Sequence[dict], columns: Sequence[str]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table)


def by_id(folder: Path) -> list[dict]:
    with open(folder / "cohort.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def timed(commands: Sequence[Sequence[str]], environment: dict) -> dict:
    """Run commands one after the other."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for command in commands:
        subprocess.run(command, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": time.monotonic() - started,
            "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def cluster(out: Path) -> tuple[list[subprocess.Popen], list[str]]:
    """A scheduler and two workers as processes of their own, and how the command finds them."""
    file = (out / "scheduler.json").absolute()
    file.unlink(missing_ok=True)
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address",
                                  "127.0.0.1:0", "--scheduler-file", str(file)], **quiet)
    while not file.exists():
        time.sleep(0.2)
    workers = [subprocess.Popen([*dask, "worker", "--scheduler-file", str(file), "--nthreads", "1"], **quiet)
               for _ in range(2)]
    return [scheduler, *workers], ["--scheduler-file", str(file)]


def stop(processes: Sequence[subprocess.Popen]) -> None:
    for process in reversed(processes):
        process.terminate()
    for process in processes:
        threading.Timer(20, process.kill).start() if process.poll() is None else None
        process.wait()


if __name__ == "__main__":
    main()
