"""Times the import of each service and prints it beside the floor: the third-party packages that all stand on.

Run from the repository's root: `.venv/bin/python bench/import_time.py`. A table for people, then one line of JSON.
On a busy machine only the CPU's seconds and their ratio mean something.
Each figure is the median of fresh processes that run by turns; the first round, which fills the caches, does not count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[1]
SERVICES = ("gateway", "ingest", "analyzer", "selector", "clipper", "notifier")
STARTS = {
    "python": "pass",
    "floor": "import fastapi, faststream.rabbit, sqlmodel",
    **{name: f"import {name}.app, {name}.settings, shared.runtime" for name in SERVICES},
}


def start_s(code: str) -> tuple[float, float]:
    """Wall and CPU seconds of a process that runs this code and ends."""
    paths = os.pathsep.join(str(REPOSITORY / each) for each in ("services", "libs"))
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, check=True)
    after, wall_s = os.times(), time.perf_counter() - began
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return wall_s, cpu_s


def measure(rounds: int) -> dict[str, tuple[float, float]]:
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in STARTS}
    for number in range(rounds + 1):
        for name, code in STARTS.items():
            figures = start_s(code)
            if number:
                taken[name].append(figures)
    return {
        name: (statistics.median(wall for wall, _ in each), statistics.median(cpu for _, cpu in each))
        for name, each in taken.items()
    }


def main(rounds: int) -> None:
    found = measure(rounds)
    floor_s = found["floor"][1]
    table = Table(title=f"Import time, median of {rounds}")
    for title in ("what", "wall s", "CPU s", "CPU to floor"):
        table.add_column(title, justify="left" if title == "what" else "right")
    for name, (wall_s, cpu_s) in found.items():
        table.add_row(name, f"{wall_s:.2f}", f"{cpu_s:.2f}", f"{cpu_s / floor_s:.2f}")
    Console().print(table)
    figures = {
        name: {"wall_s": round(wall, 3), "cpu_s": round(cpu, 3)} for name, (wall, cpu) in found.items()
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args().rounds)
