"""A local folder for segment bodies that wait for the object store, bounded in bytes.

What lies there belongs to one process alone, which a lock on its part of the folder tells: a successor fetches
anew, so the parts of processes that are gone are removed.
"""

import asyncio
import fcntl
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ingest.workflow.ports import SpoolFull

LOCK = "lock"
SUFFIX = ".body"


class FolderSpool:
    """This process's part of `root`; several processes may share `root`."""

    def __init__(self, root: Path, *, limit_bytes: int) -> None:
        self._folder = root / secrets.token_hex(8)
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        with _alone(root):
            _remove_abandoned(root)
            self._folder.mkdir()
            self._lock = (self._folder / LOCK).open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    async def keep(self, body: bytes) -> Path:
        if self._used_bytes + len(body) > self._limit_bytes:
            raise SpoolFull(
                f"{self._used_bytes} bytes wait for the object store, no room for {len(body)} more"
            )
        self._used_bytes += len(body)
        path = self._folder / f"{secrets.token_hex(8)}{SUFFIX}"
        writing = asyncio.ensure_future(asyncio.to_thread(path.write_bytes, body))
        try:
            await asyncio.shield(writing)
        except OSError as error:
            self._forget(path, body)
            raise SpoolFull(f"a body cannot be kept in {self._folder}: {error.strerror}") from error
        except asyncio.CancelledError:
            await asyncio.wait([writing])  # a thread cannot be stopped, and nobody would drop what it leaves
            self._forget(path, body)
            raise
        return path

    def _forget(self, path: Path, body: bytes) -> None:
        self._used_bytes -= len(body)
        path.unlink(missing_ok=True)

    async def drop(self, path: Path) -> None:
        """Whoever waits for it may be cancelled: it is dropped all the same."""
        await asyncio.shield(self._drop(path))

    async def _drop(self, path: Path) -> None:
        size_bytes = await asyncio.to_thread(_remove, path)
        self._used_bytes -= size_bytes  # read after waiting: others keep and drop meanwhile

    def close(self) -> None:
        """Give the part up; what still lies there is fetched anew by whoever goes on."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()


def _remove(path: Path) -> int:
    size_bytes = path.stat().st_size
    path.unlink()
    return size_bytes


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One process at a time makes or removes parts."""
    with (root / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_abandoned(root: Path) -> None:
    for part in root.glob(f"*/{LOCK}"):
        with suppress(BlockingIOError), part.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(part.parent, ignore_errors=True)
