"""A private Redis server on loopback that keeps nothing; only tests of what may use Redis start it."""

import secrets
import socket
from pathlib import Path

from localcluster.binaries import locate
from localcluster.children import ChildProcess
from localcluster.memory_server import MemoryServer
from localcluster.ports import LOOPBACK


class RedisStartError(Exception):
    """The server did not become ready; the message carries the end of its log."""


class RedisServer(MemoryServer):
    """Redis with a password, which stays the same over restarts. It is ready in a few hundredths of a second."""

    name = "Redis"
    ready_timeout_s = 10.0
    start_error = RedisStartError

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._password = secrets.token_urlsafe(18)

    @property
    def url(self) -> str:
        """URL of the first database; valid once `start` has returned."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    def _made(self) -> ChildProcess:
        self._write_configuration()
        return ChildProcess(
            [locate("redis-server"), self.root / "redis.conf"],
            environment={"LANG": "C.UTF-8"},
            log_path=self.root / "redis.log",
            folder=self.root,
        )

    def _write_configuration(self) -> None:
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
