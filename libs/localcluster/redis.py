"""A private Redis server on loopback that keeps nothing; only tests of what may use Redis start it."""

import secrets
import socket
import time
from pathlib import Path

from localcluster.binaries import locate
from localcluster.children import ChildExitedError, ChildProcess
from localcluster.ports import LOOPBACK, claim_port

FIRST_START_ATTEMPTS = 3
READY_POLL_S = 0.01
READY_TIMEOUT_S = 10.0


class RedisStartError(Exception):
    """The server did not become ready; the message carries the end of its log."""


class RedisServer:
    """One server under `root`, with a password. Port and password stay the same over restarts, the data do not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = 0
        self._password = secrets.token_urlsafe(18)
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        """URL of the first database; valid once `start` has returned."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running()

    def start(self) -> None:
        """Start the server and wait until it answers, a few hundredths of a second.

        Raises:
            RedisStartError: it ended, or was not ready within 10 s.
        """
        attempts = FIRST_START_ATTEMPTS if not self.port else 1
        for attempt in range(1, attempts + 1):
            self.port = self.port if attempts == 1 else claim_port()
            try:
                self._start_once()
            except (ChildExitedError, TimeoutError) as failure:
                self.kill()
                if attempt == attempts:
                    raise RedisStartError(f"Redis in {self.root} did not start: {failure}") from failure
            else:
                return

    def stop(self) -> None:
        """Orderly shutdown; no effect when it does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """SIGKILL, as if the machine lost power; `start` brings an empty server back on the same port."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        if self._child is not None:
            self._child.freeze()

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        if self._child is not None:
            self._child.thaw()

    def _start_once(self) -> None:
        self._write_configuration()
        self._child = ChildProcess(
            [locate("redis-server"), self.root / "redis.conf"],
            environment={"LANG": "C.UTF-8"},
            log_path=self.root / "redis.log",
            folder=self.root,
        )
        self._child.start()
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._answers():
            self._child.require_running()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready within {READY_TIMEOUT_S:g} s:\n{self._child.log_tail()}")
            time.sleep(READY_POLL_S)

    def _write_configuration(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        configuration = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "requirepass": self._password,
            "dir": str(self.root),
            "save": '""',
            "appendonly": "no",
        }
        path = self.root / "redis.conf"
        path.touch(mode=0o600)
        path.write_text("".join(f"{name} {value}\n" for name, value in configuration.items()))

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=2) as probe:
                probe.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                return probe.recv(64).startswith(b"+OK")
        except OSError:
            return False
