"""Children, grandchildren and scratch folders end with us, also when we are killed with -9."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from localcluster.children import ChildExitedError, ChildProcess, live_pids, scratch_folder
from localcluster.cluster import in_parallel
from tests.integration.localcluster.waiting import wait_until

FAMILY = "sleep 600 & echo $! > grandchild; trap '' TERM; echo ready; wait; wait"
PARENT = """
import sys, time
from pathlib import Path
from localcluster.children import ChildProcess, scratch_folder
with scratch_folder() as folder:
    child = ChildProcess(["/bin/sh", "-c", sys.argv[1]], environment={"PATH": "/usr/bin:/bin"},
                         log_path=folder / "log", folder=folder)
    child.start()
    while "ready" not in child.log_tail(): time.sleep(0.01)
    print(folder, child.pid, Path(folder, "grandchild").read_text().strip(), flush=True)
    time.sleep(600)
"""


@contextmanager
def _family(folder: Path) -> Iterator[tuple[ChildProcess, int]]:
    child = ChildProcess(
        ["/bin/sh", "-c", FAMILY],
        environment={"PATH": "/usr/bin:/bin"},
        log_path=folder / "log",
        folder=folder,
    )
    child.start()
    try:
        wait_until(lambda: "ready" in child.log_tail())
        yield child, int((folder / "grandchild").read_text())
    finally:
        child.kill()


def test_stop_kills_what_ignores_sigterm_and_what_it_started(tmp_path: Path) -> None:
    with _family(tmp_path) as (child, grandchild):
        pids = {child.pid, grandchild}

        child.stop(timeout_s=0.1)

        assert not child.is_running()
        assert pids & live_pids() == set()


def test_a_frozen_child_is_killed_all_the_same(tmp_path: Path) -> None:
    with _family(tmp_path) as (child, grandchild):
        child.freeze()
        child.kill()

        assert {child.pid, grandchild} & live_pids() == set()


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    child = ChildProcess(["/bin/sleep", "600"], environment={}, log_path=tmp_path / "log")
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()

    running = child.is_running()
    child.kill()

    assert running


def test_the_log_of_a_child_that_ended_is_in_the_error(tmp_path: Path) -> None:
    child = ChildProcess(
        ["/bin/sh", "-c", "echo out of luck; exit 3"], environment={}, log_path=tmp_path / "log"
    )
    child.start()
    child.wait(timeout_s=10)

    with pytest.raises(ChildExitedError, match=r"(?s)code 3.*out of luck"):
        child.require_running()
    child.stop()


def test_a_program_that_cannot_start_leaves_no_guard(tmp_path: Path) -> None:
    before = live_pids()
    child = ChildProcess([tmp_path / "absent"], environment={}, log_path=tmp_path / "log")

    with pytest.raises(FileNotFoundError):
        child.start()

    assert _own_children() <= before


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_however_the_parent_ends(end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, FAMILY],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=_environment(),
    ) as parent:
        assert parent.stdout is not None
        folder, *pids = parent.stdout.readline().split()
        parent.send_signal(end)

    wait_until(lambda: not ({int(pid) for pid in pids} & live_pids()))
    wait_until(lambda: not Path(folder).exists())


def test_the_first_failure_of_parallel_actions_is_raised_after_all_have_run() -> None:
    done: list[str] = []

    def fail() -> None:
        raise RuntimeError("first")

    with pytest.raises(RuntimeError, match="first"):
        in_parallel((fail, lambda: done.append("second")))

    assert done == ["second"]


def test_a_scratch_folder_can_be_passed_through_but_not_listed() -> None:
    with scratch_folder() as folder:
        mode = folder.stat().st_mode & 0o777

    assert mode == 0o711
    assert not folder.exists()


def _own_children() -> frozenset[int]:
    tasks = Path("/proc/self/task").iterdir()
    return frozenset(int(pid) for task in tasks for pid in (task / "children").read_text().split())


def _environment() -> dict[str, str]:
    libs = Path(__file__).resolve().parents[3] / "libs"
    return {**os.environ, "PYTHONPATH": str(libs)}
