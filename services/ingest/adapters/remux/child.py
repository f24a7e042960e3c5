"""One run of FFmpeg behind a relay: fragments as they come, and its end in words."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from ingest.domain.fmp4 import BoxesMalformed
from ingest.domain.fragments import Fragment, FragmentReader, FragmentsMalformed
from ingest.domain.remux_plan import RemuxPlan, output_arguments
from shared.errors import RetryableError
from shared.media_runner import MediaRunner, OpenRelay, RelayedInput, RelayedProcess

READ_BYTES: Final = 256 * 1024


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
    workshop: Workshop, source: RelayedInput, plan: RemuxPlan, *, relay: OpenRelay, silence_s: float
) -> AsyncIterator[AsyncIterator[Fragment]]:
    """The fragments of one run, at the reader's pace; after the last one FFmpeg's own end is raised.

    Raises MediaRejected, MediaCrashed, ChildSilent, ChildBroken, ClockStandsStill, NoRelaySocket.
    """
    opened = workshop.runner.relayed(
        source,
        output_arguments(plan),
        relay=relay,
        work_dir=workshop.work_dir,
        cpu_s=workshop.cpu_s,
    )
    async with opened as process, aclosing(_read(process, silence_s=silence_s)) as read:
        yield read


async def _read(process: RelayedProcess, *, silence_s: float) -> AsyncGenerator[Fragment, None]:
    reader = FragmentReader()
    while chunk := await _chunk(process, silence_s=silence_s):
        try:
            for fragment in reader.feed(chunk):
                yield fragment
        except (BoxesMalformed, FragmentsMalformed) as error:
            raise ChildBroken(str(error)) from error
    await process.finished()


async def _chunk(process: RelayedProcess, *, silence_s: float) -> bytes:
    try:
        async with asyncio.timeout(silence_s):
            return await process.stdout.read(READ_BYTES)
    except TimeoutError as error:
        raise ChildSilent(f"no media for {silence_s:g} s") from error
