"""A private PostgreSQL server on loopback with its own data folder; schemas and roles are made elsewhere."""

import ctypes
import getpass
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from localcluster.binaries import locate
from localcluster.children import POLL_S, ChildExitedError, ChildProcess
from localcluster.ports import LOOPBACK, claim_port

SUPERUSER = "postgres"
FIRST_START_ATTEMPTS = 3
READY_TIMEOUT_S = 30.0
IPC_RMID = 0
# mmap: a killed server leaves nothing in /dev/shm, its shared memory goes with the data folder.
SETTINGS = MappingProxyType(
    {
        "dynamic_shared_memory_type": "mmap",
        "listen_addresses": LOOPBACK,
        "log_timezone": "UTC",
        "max_connections": "300",
        "timezone": "UTC",
        "unix_socket_directories": "",
    }
)


class PostgresStartError(Exception):
    """The server could not be prepared or did not become ready; the message carries its log."""


class PostgresServer:
    """One server under `root`; `settings` are added to postgresql.conf. fsync stays on unless they say otherwise.

    `initdb` refuses root: as root the server runs as the OS account postgres (or nobody), which must be able
    to enter `root` (see `children.scratch_folder`). Port, password and data stay the same over restarts.
    """

    def __init__(self, root: Path, *, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        self.root = root
        self.port = 0
        self._settings = {**SETTINGS, **settings}
        self._password = secrets.token_urlsafe(18)
        self.account = _account()
        self._child: ChildProcess | None = None

    @property
    def admin_url(self) -> str:
        """URL of the superuser on the database `postgres`; valid once `start` has returned."""
        return f"postgresql://{SUPERUSER}:{self._password}@{LOOPBACK}:{self.port}/postgres"

    @property
    def log_path(self) -> Path:
        return self.root / "postgres.log"

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running()

    def start(self) -> None:
        """Create the data folder if there is none, start, and wait for readiness.

        Raises:
            PostgresStartError: initdb failed or the server ended before it was ready.
        """
        if not (self._data / "PG_VERSION").is_file():
            self._create()
        attempts = FIRST_START_ATTEMPTS if not self.port else 1
        for attempt in range(1, attempts + 1):
            self.port = self.port if attempts == 1 else claim_port()
            try:
                self._start_once()
            except (ChildExitedError, TimeoutError) as failure:
                self.kill()
                if attempt == attempts:
                    raise PostgresStartError(
                        f"PostgreSQL in {self.root} did not start: {failure}"
                    ) from failure
            else:
                return

    def stop(self) -> None:
        """Orderly fast shutdown: sessions are cut, everything is written; no effect when it does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        self._remove_leftover_shared_memory()

    def kill(self) -> None:
        """SIGKILL the server and all its processes, as if the machine lost power; `start` recovers."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def freeze(self) -> None:
        """SIGSTOP all processes of the server: connections stay open and nothing answers."""
        if self._child is not None:
            self._child.freeze()

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        if self._child is not None:
            self._child.thaw()

    @property
    def _data(self) -> Path:
        return self.root / "data"

    def _create(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        _require_passable(self.root, account=self.account)
        self._data.mkdir(mode=0o700, exist_ok=True)
        self._give_away(self._data)
        password_file = self.root / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        self._give_away(password_file)
        try:
            self._initdb(password_file)
        finally:
            password_file.unlink()
        self._write_settings()

    def _initdb(self, password_file: Path) -> None:
        command = [str(locate("initdb")), f"--pgdata={self._data}", f"--username={SUPERUSER}"]
        command += [
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]
        command += ["--no-sync", "--no-instructions"]
        result = subprocess.run(
            command,
            env=_environment(),
            cwd="/",
            user=self.account,
            group=_primary_group(self.account),
            extra_groups=None if self.account is None else [],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise PostgresStartError(f"initdb in {self.root} failed: {result.stderr.strip()}")

    def _write_settings(self) -> None:
        lines = [f"{name} = '{value}'\n" for name, value in self._settings.items()]
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.writelines(lines)

    def _start_once(self) -> None:
        # SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one, which also frees shared memory.
        self._child = ChildProcess(
            [locate("postgres"), "-D", self._data, "-p", str(self.port)],
            environment=_environment(),
            log_path=self.log_path,
            folder=self._data,
            user=self.account,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGQUIT,
        )
        self._child.start()
        self._wait_ready(self._child)

    def _wait_ready(self, child: ChildProcess) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._reports_ready(child.pid):
            child.require_running()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready within {READY_TIMEOUT_S:g} s:\n{child.log_tail()}")
            time.sleep(POLL_S)

    def _reports_ready(self, pid: int) -> bool:
        """What pg_ctl looks at: line 1 of postmaster.pid is the process, line 8 its state."""
        lines = self._postmaster_lines()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _postmaster_lines(self) -> tuple[str, ...]:
        try:
            return tuple((self._data / "postmaster.pid").read_text().splitlines())
        except FileNotFoundError:
            return ()

    def _remove_leftover_shared_memory(self) -> None:
        """A killed server leaves a 56-byte System V segment, which its next start would remove: line 7."""
        lines = self._postmaster_lines()
        if len(lines) >= 7 and len(lines[6].split()) == 2:
            ctypes.CDLL(None).shmctl(int(lines[6].split()[1]), IPC_RMID, None)

    def _give_away(self, path: Path) -> None:
        if self.account is not None:
            shutil.chown(path, self.account, _primary_group(self.account))


def _account() -> str | None:
    """The OS account to run the server as; nothing when we are not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), getpass.getuser())


def _primary_group(account: str | None) -> int | None:
    return None if account is None else pwd.getpwnam(account).pw_gid


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}


def _require_passable(root: Path, *, account: str | None) -> None:
    if account is None:
        return
    for folder in (root, *root.resolve().parents):
        if not folder.stat().st_mode & 0o001:
            raise PostgresStartError(
                f"the OS account {account} cannot enter {folder}; PostgreSQL refuses root, so choose a folder "
                "that others may pass through (chmod o+x)"
            )
