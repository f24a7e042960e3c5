"""Another run of a stream that failed before any of its media was archived."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from gateway.domain.completion import WATCHDOG
from gateway.domain.public_views import PublicStream
from gateway.domain.refusals import Conflict, NotFound
from gateway.domain.stream_status import StreamStatus, is_terminal
from gateway.domain.submission import NewStream, stream_online
from gateway.workflow.authentication import Caller
from gateway.workflow.views import Views
from shared.clock import Clock
from shared.events import Event
from shared.ids import OrganizationId, StreamId


class NotRetried(Conflict):
    """The stream stands where another run would do no good, or harm."""


@dataclass(frozen=True, kw_only=True)
class EndedStream:
    """What decides on a retry, and what the next run is announced with."""

    stream: NewStream
    status: StreamStatus
    partial: bool
    cause: str | None
    run: int


class RetryTables(Protocol):
    """One transaction of one organization."""

    async def find_ended(self, stream_id: StreamId) -> EndedStream | None:
        """The stream as it was accepted, locked until the transaction ends."""
        ...

    async def begin_anew(self, stream_id: StreamId, *, run: int, at: datetime, deadline_at: datetime) -> None:
        """Make it pending in this run; what was said of the former run's failure is gone."""
        ...

    async def emit(self, *events: Event) -> None: ...


OpenRetries = Callable[[OrganizationId], AbstractAsyncContextManager[RetryTables]]


@dataclass(frozen=True, kw_only=True)
class Retries:
    """`start_deadline` is how long the new run has until media must flow."""

    open_retries: OpenRetries
    views: Views
    clock: Clock
    start_deadline: timedelta

    async def retry(self, caller: Caller, stream_id: StreamId) -> PublicStream:
        """The stream in its new run. Raises NotFound, NotRetried."""
        async with self.open_retries(caller.organization_id) as tables:
            ended = await tables.find_ended(stream_id)
            if ended is None:
                raise NotFound("Stream not found")
            _check(ended)
            now, run = self.clock(), ended.run + 1
            stream = replace(ended.stream, created_at=now, deadline_at=now + self.start_deadline)
            await tables.begin_anew(stream_id, run=run, at=now, deadline_at=stream.deadline_at)
            await tables.emit(stream_online(stream, run=run))
        found = await self.views.stream(caller.organization_id, stream_id)
        if found is None:
            raise NotFound("Stream not found")
        return found


def _check(ended: EndedStream) -> None:
    """Raises NotRetried, with what to do instead."""
    if not is_terminal(ended.status):
        raise NotRetried("The stream still runs.")
    if ended.status is StreamStatus.CANCELLED:
        raise NotRetried("The stream was stopped at your request. Submit it again to follow it.")
    if ended.status is StreamStatus.COMPLETED:
        raise NotRetried(_PARTIAL if ended.partial else "The stream is complete.")
    if ended.cause == WATCHDOG:
        raise NotRetried("The stream was closed because nothing moved. Submit it again.")


_PARTIAL = (
    "What was archived of the stream is kept with its highlights, and a second run would tell them twice. "
    "Gaps are filled by themselves when a recording arrives; submit the source again for what came later."
)
