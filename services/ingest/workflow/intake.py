"""What the events of other services change: which streams are followed, and how long."""

import asyncio
from dataclasses import dataclass, field

from ingest.workflow.ports import Register
from shared.closures import Closures
from shared.events import Lane, SegmentAnalyzed, StreamClosed, StreamOffline, StreamOnline
from shared.middleware import UnitOfWork

AFTER_COMMIT_S = 0.05


@dataclass(frozen=True)
class Wake:
    """Wakes the loop over the leases shortly after the running transaction will have committed."""

    event: asyncio.Event = field(default_factory=asyncio.Event)

    def soon(self) -> None:
        asyncio.get_running_loop().call_later(AFTER_COMMIT_S, self.event.set)


class Intake:
    """State handlers; each works in the transaction of its message."""

    def __init__(self, *, register: Register, closures: Closures, wake: Wake) -> None:
        self._register = register
        self._closures = closures
        self._wake = wake

    async def on_stream_online(self, event: StreamOnline, unit: UnitOfWork) -> None:
        await self._register.add(unit.session, event)
        self._wake.soon()

    async def on_stream_offline(self, event: StreamOffline, unit: UnitOfWork) -> None:
        await self._register.set_offline(unit.session, event)
        self._wake.soon()

    async def on_stream_closed(self, event: StreamClosed, unit: UnitOfWork) -> None:
        """A stream that completed has ended here already; what is followed of it is a later run."""
        await self._closures.record(unit.session, event)
        if event.cause != "completed":
            await self._register.close(unit.session, event.stream_id)
        self._wake.soon()

    async def on_segment_analyzed(self, event: SegmentAnalyzed, unit: UnitOfWork) -> None:
        """Windows of a recording are counted, so that fetching stays a few windows ahead of analysis."""
        if event.revision == 0:
            await self._register.count_analysed(unit.session, event.stream_id, run=event.run)
        if event.lane is Lane.VOD:
            self._wake.soon()
