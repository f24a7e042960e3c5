"""Child processes that cannot outlive us, and scratch folders that cannot either; no knowledge of any server.

Each child runs in a process group whose leader is a tiny shell, the *guard*. The guard reads a pipe that
only this process holds open. However this process ends, `kill -9` included, the pipe closes and the guard
kills its group. PR_SET_PDEATHSIG would not do: it fires when the starting *thread* ends, and it does not
reach grandchildren.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

POLL_S = 0.01
VANISH_TIMEOUT_S = 10.0
LOG_TAIL_BYTES = 2_000

# $1: what the group is told first, one second before it is killed; KILL for no grace.
_GROUP_GUARD = """trap '' INT TERM HUP QUIT; read -r _
[ "$1" = KILL ] || { kill -s "$1" 0; sleep 1; }
kill -s KILL 0"""

# The group guards act at the same time, so the folder is removed until it stays away.
_FOLDER_GUARD = """trap '' INT TERM HUP QUIT; read -r _
for _ in 1 2 3 4 5 6 7 8; do rm -rf "$1"; sleep 0.5; done"""


class ChildExitedError(Exception):
    """A child ended by itself while it was expected to run."""


class ChildProcess:
    """One program in its own process group, output appended to a log file.

    `environment` is the whole environment. `user` is the OS account to run as (needs root), with its group.
    `stop_signal` asks for an orderly end. `orphan_signal` is sent one second before SIGKILL when this
    process vanished; SIGKILL means at once.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        log_path: Path,
        folder: Path | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        orphan_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.log_path = log_path
        self._arguments = [str(argument) for argument in arguments]
        self._environment = dict(environment)
        self._folder = folder
        self._user = user
        self._stop_signal = stop_signal
        self._orphan_signal = orphan_signal
        self._guard: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the program. Raises ChildExitedError before the first start."""
        return self._started().pid

    def start(self) -> None:
        """Start the program; it must not be running."""
        assert not self.is_running(), f"{self._arguments[0]} runs already"
        self._guard = _start_guard(_GROUP_GUARD, self._orphan_signal.name.removeprefix("SIG"))
        try:
            self._process = self._spawn(group=self._guard.pid)
        except BaseException:
            _end_guard(self._guard)
            raise

    def is_running(self) -> bool:
        """Whether the program was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def require_running(self) -> None:
        """Raise ChildExitedError, with the end of the log, when the program has ended."""
        if not self.is_running():
            code = self._started().returncode
            raise ChildExitedError(f"{self._arguments[0]} ended with code {code}:\n{self.log_tail()}")

    def wait(self, *, timeout_s: float) -> int:
        """Exit code once the program ends by itself. Raises subprocess.TimeoutExpired."""
        return self._started().wait(timeout_s)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the program alone."""
        self._started().send_signal(number)

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Ask the program to end, wait, then kill whatever is left of it; no effect when it does not run."""
        if self._process is None or self._guard is None:
            return
        self._process.send_signal(self._stop_signal)
        self._process.send_signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL the program and everything it started, and wait until all of it is gone."""
        if self._process is None or self._guard is None:
            return
        family = self._family()
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        _end_guard(self._guard)
        self._guard = None
        _wait_until_gone(family)

    def freeze(self) -> None:
        """SIGSTOP the program and everything it started; the guard stays awake."""
        self._signal_family(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        self._signal_family(signal.SIGCONT)

    def log_tail(self) -> str:
        """The last 2,000 bytes of the log, as text."""
        if not self.log_path.is_file():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")

    def _spawn(self, *, group: int) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                self._arguments,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=group,
                user=self._user,
                group=_primary_group(self._user),
                extra_groups=None if self._user is None else [],
            )

    def _signal_family(self, number: signal.Signals) -> None:
        for pid in self._family():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _family(self) -> frozenset[int]:
        """The program, its descendants, and orphans that stayed in its group; not the guard."""
        guard = self._guard
        group = guard.pid if guard is not None else 0
        stats = tuple(_process_stats())
        family = {pid for pid, _, pgrp in stats if pgrp == group}
        if self.is_running():  # a process that was waited for may have lost its id to a stranger
            family.add(self.pid)
        grown = True
        while grown:
            children = {pid for pid, parent, _ in stats if parent in family}
            grown = not children <= family
            family |= children
        return frozenset(family - {group})

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ChildExitedError(f"{self._arguments[0]} was not started")
        return self._process


@contextmanager
def scratch_folder(*, prefix: str = "tldr-") -> Iterator[Path]:
    """A new folder under the temp folder, removed at the end, also when this process is killed with -9.

    Other OS accounts may pass through it but not list it (mode 711): servers that refuse root live inside.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    guard = _start_guard(_FOLDER_GUARD, str(folder))
    try:
        folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _end_guard(guard)


def live_pids() -> frozenset[int]:
    """Ids of all processes of the machine except zombies."""
    return frozenset(pid for pid, _, _ in _process_stats())


def _start_guard(script: str, argument: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "guard", argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        process_group=0,
    )


def _end_guard(guard: subprocess.Popen[bytes]) -> None:
    guard.kill()
    guard.wait()
    if guard.stdin is not None:
        guard.stdin.close()


def _primary_group(user: str | None) -> int | None:
    if user is None:
        return None
    import pwd  # noqa: PLC0415 - does not exist on every platform that can import this module

    return pwd.getpwnam(user).pw_gid


def _wait_until_gone(pids: frozenset[int]) -> None:
    deadline = time.monotonic() + VANISH_TIMEOUT_S
    while pids & live_pids():
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(pids & live_pids())} survived SIGKILL")
        time.sleep(POLL_S)


def _process_stats() -> Iterator[tuple[int, int, int]]:
    """(process id, parent id, process group) of each process that is not a zombie."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            stat = Path(entry.path, "stat").read_text(errors="replace")
            # The second field is the program's name in parentheses, which may itself hold anything.
            state, parent, group = stat.rpartition(")")[2].split()[:3]
            if state not in "ZX":
                yield int(entry.name), int(parent), int(group)
