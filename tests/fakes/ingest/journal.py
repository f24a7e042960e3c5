"""A journal in memory that can be away, lose the lease, and tell when something was committed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest.domain.recorder import Entry, Followed, Progress
from ingest.workflow.ports import Lease, LeaseLost, Opened
from shared.database import DatabaseUnavailable
from shared.events import Event


@dataclass
class FakeJournal:
    stream: Followed
    entries: list[Entry] = field(default_factory=list)
    is_away: bool = False
    is_lost: bool = False
    committed: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, lease: Lease) -> Opened:
        progress = self.entries[-1].progress if self.entries else Progress()
        rows = tuple(entry.segment for entry in self.entries if entry.segment)
        kept = tuple(row for row in rows if row.position >= progress.first_open_position)
        return Opened(stream=self.stream, progress=progress, open_segments=kept)

    async def commit(self, lease: Lease, entries: Sequence[Entry]) -> None:
        if self.is_away:
            raise DatabaseUnavailable("away")
        if self.is_lost:
            raise LeaseLost("lost")
        self.entries.extend(entries)
        self.committed.set()

    @property
    def sequences(self) -> list[int]:
        return [entry.segment.ref.sequence for entry in self.entries if entry.segment]

    @property
    def events(self) -> list[Event]:
        return [event for entry in self.entries for event in entry.events]
