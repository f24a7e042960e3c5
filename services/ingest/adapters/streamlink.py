"""Where the HLS of a Twitch or YouTube page is, by streamlink in a child process with limits of its own.

streamlink's own requests do not go through the safe HTTP client: it is given pages of two sites only, gets none of our
environment, and what it answers is an address like any customer's, which the client checks when it is dialled.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import structlog

from ingest.adapters.pages import PageOffline, PageUnavailable, PageUnusable

log = structlog.get_logger()

CHILD = Path(__file__).with_name("streamlink_child.py")
WITHIN_S = 25.0
AT_ONCE = 2
MAX_OUTPUT_BYTES = 64 * 1024
MAX_ADDRESS = 4096
_MIB = 1024 * 1024
_LIMITS = (
    *("prlimit", f"--as={1536 * _MIB}", "--cpu=30", f"--fsize={4 * _MIB}", "--nofile=128", "--core=0", "--"),
    *("nice", "-n", "5", "setpriv", "--pdeathsig", "KILL", "--no-new-privs", "--"),
)


class StreamlinkPages:
    """`command` is the program that is asked; tests give another."""

    kind: ClassVar[str] = "streamlink"

    def __init__(
        self,
        *,
        command: Sequence[str] = (sys.executable, "-I", "-B", str(CHILD)),
        within_s: float = WITHIN_S,
        at_once: int = AT_ONCE,
    ) -> None:
        self._command = tuple(command)
        self._within_s = within_s
        self._turns = asyncio.Semaphore(at_once)

    async def resolve(self, page_url: str) -> str:
        """The address of its HLS. Raises PageOffline, PageUnavailable, PageUnusable."""
        async with self._turns:
            with tempfile.TemporaryDirectory(prefix="tldr-page-") as folder:
                output = await self._ask(json.dumps({"url": page_url}).encode(), folder=folder)
        return _address(output)

    async def _ask(self, question: bytes, *, folder: str) -> bytes:
        process = await self._start(folder)
        try:
            async with asyncio.timeout(self._within_s):
                return await _exchange(process, question)
        except TimeoutError as error:
            raise PageUnavailable(f"the page was not resolved within {self._within_s:g} s") from error
        finally:
            await _end(process)

    async def _start(self, folder: str) -> asyncio.subprocess.Process:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": folder, "LANG": "C.UTF-8"}
        try:
            return await asyncio.create_subprocess_exec(
                *_LIMITS,
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=folder,
                env=environment | {"XDG_CACHE_HOME": folder, "TMPDIR": folder},
                start_new_session=True,
            )
        except OSError as error:
            raise PageUnavailable(f"the resolver of pages cannot be started: {error.strerror}") from error


async def _exchange(process: asyncio.subprocess.Process, question: bytes) -> bytes:
    """All that it prints, as far as one byte beyond what is read of it."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(ConnectionError):
        process.stdin.write(question)
        await process.stdin.drain()
    process.stdin.close()
    output = bytearray()
    while len(output) <= MAX_OUTPUT_BYTES and (chunk := await process.stdout.read(_MIB)):
        output += chunk
    if len(output) > MAX_OUTPUT_BYTES:
        raise PageUnavailable(f"the resolver of pages printed more than {MAX_OUTPUT_BYTES} bytes")
    return bytes(output)


async def _end(process: asyncio.subprocess.Process) -> None:
    """With whatever it has started: the group is killed also where the program itself is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _address(output: bytes) -> str:
    try:
        answer = json.loads(output)
        failure = answer.get("failure")
        address, detail = str(answer.get("hls", "")), str(answer.get("detail", ""))
    except (ValueError, AttributeError) as error:
        raise PageUnavailable("the resolver of pages broke off") from error
    if failure == "offline":
        raise PageOffline(detail)
    if failure in ("refused", "missing"):
        raise PageUnusable(detail)
    if failure is not None or not address or len(address) > MAX_ADDRESS:
        raise PageUnavailable(detail or "the resolver of pages answered without an address")
    return address
