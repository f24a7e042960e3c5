"""The life of a private server that keeps everything in memory; what it serves stands elsewhere."""

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from localcluster.children import ChildExitedError, ChildProcess
from localcluster.ports import claim_port

FIRST_START_ATTEMPTS = 3
READY_POLL_S = 0.01


class MemoryServer(ABC):
    """One server under `root`. Its port stays the same over restarts, what it holds does not."""

    name: ClassVar[str]
    ready_timeout_s: ClassVar[float]
    start_error: ClassVar[type[Exception]]

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = 0
        self._child: ChildProcess | None = None

    @abstractmethod
    def _made(self) -> ChildProcess:
        """The program that shall listen on `port`, not yet started; `root` is there."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server can be used now."""

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running()

    def start(self) -> None:
        """Start the server and wait until it answers. Raises `start_error` with the end of its log."""
        attempts = FIRST_START_ATTEMPTS if not self.port else 1
        for attempt in range(1, attempts + 1):
            self.port = self.port if attempts == 1 else claim_port()
            try:
                self._start_once()
            except (ChildExitedError, TimeoutError) as failure:
                self.kill()
                if attempt == attempts:
                    raise self.start_error(
                        f"{self.name} in {self.root} did not start: {failure}"
                    ) from failure
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
        self.root.mkdir(parents=True, exist_ok=True)
        self._child = self._made()
        self._child.start()
        deadline = time.monotonic() + self.ready_timeout_s
        while not self._answers():
            self._child.require_running()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready within {self.ready_timeout_s:g} s:\n{self._child.log_tail()}")
            time.sleep(READY_POLL_S)
