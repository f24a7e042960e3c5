"""One run of FFmpeg behind a relay: fragments as they come, and its end in words."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from ingest.domain.fmp4 import BoxesMalformed
from ingest.domain.fragments import Fragment, FragmentReader, FragmentsMalformed
from ingest.domain.remux_plan import RemuxPlan, output_arguments
from shared.errors import RetryableError
from shared.media_runner import MediaRunner, OpenRelay, RelayedInput, RelayedProcess

READ_BYTES: Final = 256 * 1024
# In a file without an index the place to go on at is found by reading up to it.
LONGEST_SEARCH_S: Final = 900.0


class ChildSilent(RetryableError):
    """Nothing came out of FFmpeg for too long."""

    code: ClassVar[str] = "remux_silent"


class ChildBroken(RetryableError):
    """What came out of FFmpeg is not what was asked for."""

    code: ClassVar[str] = "remux_broken"


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What every run needs: the runner, and a folder that stays empty."""

    runner: MediaRunner
    work_dir: Path
    cpu_s: float = 6 * 3600.0


@asynccontextmanager
async def fragments(
    workshop: Workshop,
    source: RelayedInput,
    plan: RemuxPlan,
    *,
    relay: OpenRelay,
    silence_s: float,
    served_bytes: Callable[[], int] = lambda: 0,
) -> AsyncIterator[AsyncIterator[Fragment]]:
    """The fragments of one run, at the reader's pace; after the last one FFmpeg's own end is raised.

    While `served_bytes` grows FFmpeg is taken to search, and may be silent for longer, but not for ever.
    Raises MediaRejected, MediaCrashed, ChildSilent, ChildBroken, ClockStandsStill, NoRelaySocket.
    """
    opened = workshop.runner.relayed(
        source,
        output_arguments(plan),
        relay=relay,
        work_dir=workshop.work_dir,
        cpu_s=workshop.cpu_s,
    )
    async with (
        opened as process,
        aclosing(_read(process, silence_s=silence_s, served_bytes=served_bytes)) as read,
    ):
        yield read


async def _read(
    process: RelayedProcess, *, silence_s: float, served_bytes: Callable[[], int]
) -> AsyncGenerator[Fragment, None]:
    reader = FragmentReader()
    while chunk := await read_patiently(process.stdout, silence_s=silence_s, served_bytes=served_bytes):
        try:
            for fragment in reader.feed(chunk):
                yield fragment
        except (BoxesMalformed, FragmentsMalformed) as error:
            raise ChildBroken(str(error)) from error
    await process.finished()


async def read_patiently(
    stdout: asyncio.StreamReader,
    *,
    silence_s: float,
    served_bytes: Callable[[], int],
    longest_s: float = LONGEST_SEARCH_S,
) -> bytes:
    """What comes next, nothing at the end. Raises ChildSilent."""
    waited_s = 0.0
    while waited_s < longest_s:
        before = served_bytes()
        with suppress(TimeoutError):
            async with asyncio.timeout(silence_s):
                return await stdout.read(READ_BYTES)
        if served_bytes() == before:
            raise ChildSilent(f"no media for {silence_s:g} s")
        waited_s += silence_s
    raise ChildSilent(f"no media in what was read for {longest_s:g} s")
