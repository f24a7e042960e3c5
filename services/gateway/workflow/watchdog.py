"""Gives every stream whose deadline has passed a terminal state that names the silent stage.

Each event that moves a stream moves its deadline; which words a silent stream gets stands in `domain/completion.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.domain.completion import give_up
from gateway.domain.stream_status import StreamRecord
from gateway.workflow import completion
from gateway.workflow.completion import Completer
from shared import trace
from shared.database import Database
from shared.ids import OrganizationId, StreamId
from shared.middleware import UnitOfWork
from shared.outbox import Outbox

log = structlog.get_logger()

BATCH = 50


class Store(completion.Store, Protocol):
    """One tenant's streams, in the caller's transaction."""

    async def lock_overdue(self, stream_id: StreamId) -> StreamRecord | None:
        """Lock the stream; None when it finished or moved meanwhile, by the database's clock."""
        ...


class Overdue(Protocol):
    """The one look across tenants: ids only."""

    async def __call__(
        self, database: Database, *, limit: int
    ) -> tuple[tuple[StreamId, OrganizationId], ...]:
        """Streams that are not finished and whose deadline has passed, by the database's clock."""
        ...


@dataclass(frozen=True)
class Watchdog:
    """One transaction for each overdue stream, in the name of its tenant."""

    database: Database
    outbox: Outbox
    overdue: Overdue
    stores: Callable[[UnitOfWork], Store]
    completer: Completer

    async def turn(self) -> bool:
        """Close what is overdue; True when more may wait."""
        found = await self.overdue(self.database, limit=BATCH)
        for stream_id, organization_id in found:
            described: dict[str, trace.Value] = {
                "tldr.organization_id": organization_id,
                "tldr.stream_id": stream_id,
            }
            with trace.span("close overdue stream", attributes=described):
                await self._close(stream_id, organization_id)
        if found:
            self.outbox.wake.set()
        return len(found) == BATCH

    async def _close(self, stream_id: StreamId, organization_id: OrganizationId) -> None:
        async with self.database.transaction(organization_id) as session:
            unit = UnitOfWork(session, self.outbox)
            store = self.stores(unit)
            stream = await store.lock_overdue(stream_id)
            if stream is None:
                return
            facts = await store.facts_of(stream)
            outcome = give_up(stream, facts)
            log.warning("stream_overdue", stream_id=stream_id, error=outcome.error)
            await self.completer.finish(
                stream, outcome, facts=facts, closed="watchdog", store=store, unit=unit
            )
