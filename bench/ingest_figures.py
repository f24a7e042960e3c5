"""What processes have used, read from /proc, and percentiles."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def percentiles(lags_s: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the longest; -1 where there is nothing to count."""
    ordered = sorted(lags_s)
    if not ordered:
        return {"lag_p50_s": -1.0, "lag_p99_s": -1.0, "lag_max_s": -1.0}
    return {
        "lag_p50_s": ordered[len(ordered) // 2],
        "lag_p99_s": ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
        "lag_max_s": ordered[-1],
    }


def family(*roots: int) -> tuple[int, ...]:
    """These processes and all that descend from them."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children[int(fields[1])].append(int(entry.name))
    found, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children[pid]
    return tuple(found)


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time of these processes, and of children that they have waited for."""
    return sum(sum(map(int, fields[11:15])) for pid in pids if (fields := _stat(pid))) / _TICKS_PER_S


def pss_mib(pids: Iterable[int]) -> float:
    """Proportional set size: what is shared counts in parts."""
    return sum(map(_pss_kib, pids)) / 1024


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
