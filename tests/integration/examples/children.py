"""The example consumers as child processes, and the means to run the one in Node."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples" / "consumers"
INSTALL_TIMEOUT_S = 60.0
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Example:
    """A running consumer; the lines that it prints are read in their order."""

    process: asyncio.subprocess.Process

    async def consumes(self) -> None:
        """Return once it consumes, for the first time or again."""
        assert self.process.stderr is not None
        heard = b""
        async with asyncio.timeout(PATIENCE_S):
            while not heard.startswith(b"consuming "):
                heard = await self.process.stderr.readline()
                assert heard, "the example ended"

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
    source = EXAMPLES / "node"
    manifest = (source / "package.json").read_bytes()
    folder = REPOSITORY / ".scratch" / "examples" / f"node-{hashlib.sha256(manifest).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_bytes(manifest)
    if not (folder / "node_modules" / "amqplib").is_dir():
        await _install(folder)
    shutil.copy(source / "consume.mjs", folder)
    return ["node", str(folder / "consume.mjs")]


async def _install(folder: Path) -> None:
    command = ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--prefix", str(folder))
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
