"""The example consumers as child processes, and the means to run the one in Node."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples" / "consumers"
INSTALL_TIMEOUT_S = 40.0
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Example:
    """A running consumer; the lines that it prints are read in their order."""

    process: asyncio.subprocess.Process

    async def consumes(self) -> None:
        """Return once it consumes."""
        assert self.process.stderr is not None
        heard = [b""]
        async with asyncio.timeout(PATIENCE_S):
            while not heard[-1].startswith(b"consuming "):
                heard.append(await self.process.stderr.readline())
                assert heard[-1], b"".join(heard).decode(errors="replace")

    async def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            found: dict[str, Any] = json.loads(await self.process.stdout.readline())
            return found

    async def end(self) -> tuple[int, bytes]:
        """Exit status after SIGTERM, and what it had printed beyond the lines that were read."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            rest, _ = await self.process.communicate()
        return self.process.returncode or 0, rest


async def started(command: list[str], *, url: str, consumer: str) -> Example:
    environment = {"PATH": os.environ["PATH"], "AMQP_URL": url, "CONSUMER": consumer}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=pipe, stderr=pipe)
    return Example(process)


async def python_command() -> list[str]:
    return [sys.executable, str(EXAMPLES / "python" / "consume.py")]


async def node_command() -> list[str]:
    """The example in a copy of its folder with its package installed, as a reader would have it.

    The copy stays for the next run and is named after what it holds; skips where node or the package is missing.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    sources = [EXAMPLES / "node" / name for name in ("package.json", "consume.mjs")]
    content = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    folder = REPOSITORY / ".scratch" / "examples" / f"node-{content}"
    if not folder.is_dir():
        await _prepare(folder, sources)
    return ["node", str(folder / "consume.mjs")]


async def _prepare(folder: Path, sources: Iterable[Path]) -> None:
    """Appears whole or not at all, for other runs may be about to make the same."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as scratch:
        fresh = Path(scratch, "node")
        fresh.mkdir()
        for source in sources:
            shutil.copy(source, fresh)
        await _install(fresh)
        with contextlib.suppress(OSError):  # somebody was faster
            fresh.rename(folder)


async def _install(folder: Path) -> None:
    quiet = ("--no-package-lock", "--no-audit", "--no-fund", "--fetch-retries=0")
    command = ("npm", "install", *quiet, "--prefix", str(folder))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, start_new_session=True)
    try:
        async with asyncio.timeout(INSTALL_TIMEOUT_S):
            _, errors = await process.communicate()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
        pytest.skip(f"npm gave no package within {INSTALL_TIMEOUT_S:g} s")
    if process.returncode:
        pytest.skip(f"npm could not install amqplib: {errors.decode(errors='replace')[-200:]}")
