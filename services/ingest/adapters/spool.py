"""A local folder for segment bodies that wait for the object store, bounded in bytes.

What lies there belongs to this process alone: a successor fetches anew, so the folder is emptied at the start.
"""

import asyncio
import secrets
from pathlib import Path

from ingest.workflow.ports import SpoolFull

SUFFIX = ".body"


class FolderSpool:
    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        """The folder exists and is no other process's."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._used_bytes = 0

    async def keep(self, body: bytes) -> Path:
        if self._used_bytes + len(body) > self._limit_bytes:
            raise SpoolFull(
                f"{self._used_bytes} bytes wait for the object store, no room for {len(body)} more"
            )
        self._used_bytes += len(body)
        path = self._folder / f"{secrets.token_hex(8)}{SUFFIX}"
        try:
            await asyncio.to_thread(path.write_bytes, body)
        except OSError as error:
            self._used_bytes -= len(body)
            path.unlink(missing_ok=True)
            raise SpoolFull(f"a body cannot be kept in {self._folder}: {error.strerror}") from error
        return path

    async def drop(self, path: Path) -> None:
        size_bytes = (await asyncio.to_thread(path.stat)).st_size
        await asyncio.to_thread(path.unlink)
        self._used_bytes -= size_bytes

    def empty(self) -> None:
        """Remove what a killed predecessor left."""
        for path in self._folder.glob(f"*{SUFFIX}"):
            path.unlink(missing_ok=True)
