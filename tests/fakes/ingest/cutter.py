"""A recording of any length that is cut without FFmpeg: pieces of 2 s with time stamps and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ingest.workflow.repair_ports import CutFile, OpenRecording
from shared.errors import PipelineError
from tests.fakes.ingest.media import ts_segment

PIECE_US = 2_000_000
CLOCK_BEGINS_US = 10_000_000


@dataclass
class FakeCutter:
    """`failures` are raised one by one at opening; while `gate` is not set, a cut hangs."""

    folder: Path
    duration_us: int = 3600_000_000
    failures: list[PipelineError] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    opened: list[str] = field(default_factory=list)
    cuts: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    @asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[OpenRecording]:
        self.opened.append(url)
        if self.failures:
            raise self.failures.pop(0)
        yield self

    async def cut(self, *, from_us: int, to_us: int) -> AsyncIterator[CutFile]:
        self.cuts.append((from_us, to_us))
        await self.gate.wait()
        start_us = from_us // PIECE_US * PIECE_US
        while start_us < min(to_us, self.duration_us):
            path = self.folder / "piece.ts"
            path.write_bytes(ts_segment(start_us - CLOCK_BEGINS_US, PIECE_US))
            yield CutFile(path=path)
            start_us += PIECE_US
