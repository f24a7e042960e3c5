"""Load a run under its lock, apply one input, store the state, tell what came out: all in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from selector.domain.announcement import Run, events_of
from selector.domain.inputs import Closed, Input, of_event
from selector.domain.moment import Moment
from selector.domain.outputs import HighlightDecided, Judged, Noted, Output, SelectionFinal, Standing
from selector.domain.repairs import apply_late, is_awaited, is_of_repair, overdue
from selector.domain.state import State
from shared import metrics, trace
from shared.clock import Clock
from shared.closures import Closures
from shared.database import Database
from shared.errors import RetryableError
from shared.events import Lane, SegmentReady, StreamClosed, StreamEvent, StreamOnline
from shared.ids import OrganizationId, StreamId
from shared.middleware import UnitOfWork
from shared.outbox import Outbox
from shared.profile import Profile

log = structlog.get_logger()


class ProfileUnknown(RetryableError):
    """The run's `stream.online`, which names the profile, has not arrived yet."""

    code = "profile_unknown"


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """One run as it is stored. `profile_key` is None until `stream.online` was seen.

    `offered_at` tells when each unjudged window was offered: its deadline counts from there, so that windows
    which wait together also expire together. `traceparent` is the trace that the run began in.
    """

    organization_id: OrganizationId
    stream_id: StreamId
    run: int
    lane: Lane
    profile_key: str | None
    state: State
    offered_at: Mapping[int, datetime]
    traceparent: str | None = None

    @property
    def waiting_since(self) -> datetime | None:
        """When the window that the run waits for was offered; None when it was not, or nothing is waited for."""
        return None if self.state.blocked_on is None else self.offered_at.get(self.state.blocked_on)

    def advanced(self, state: State) -> "StoredRun":
        kept = {index: at for index, at in self.offered_at.items() if is_awaited(state, index)}
        return replace(self, state=state, offered_at=kept)


@dataclass(frozen=True)
class DueRun:
    """A run that waits for the window `index` past its deadline."""

    organization_id: OrganizationId
    stream_id: StreamId
    run: int
    index: int


class Profiles(Protocol):
    async def get(self, key: str) -> Profile: ...


class Runs(Protocol):
    """The runs, each in one row. Everything but `due` happens in the caller's tenant transaction."""

    async def lock(
        self,
        session: AsyncSession,
        *,
        organization_id: OrganizationId,
        stream_id: StreamId,
        run: int,
        lane: Lane,
        profile_key: str | None,
    ) -> StoredRun:
        """The run under a row lock, made where it is new; a profile key that is given is kept."""
        ...

    async def save(self, session: AsyncSession, run: StoredRun, *, deadline_s: float) -> None:
        """Store the run. The window that it waits for is due `deadline_s` after its offer, or after now."""
        ...

    async def standing(self, session: AsyncSession, run: StoredRun) -> tuple[Moment, ...]:
        """The run's published moments."""
        ...

    async def stand(self, session: AsyncSession, run: StoredRun, moments: Sequence[Moment]) -> None:
        """Store published moments, each in the place of an older form of itself."""
        ...

    async def of_stream(self, session: AsyncSession, stream_id: StreamId) -> tuple[int, ...]:
        """Numbers of the stream's runs."""
        ...

    async def due(self, *, limit: int) -> tuple[DueRun, ...]:
        """Runs of all tenants that wait for a window past its deadline."""
        ...


class Selection:
    """The use case of the service."""

    def __init__(
        self,
        *,
        runs: Runs,
        profiles: Profiles,
        closures: Closures,
        database: Database,
        outbox: Outbox,
        clock: Clock,
        deadline_s: float,
    ) -> None:
        """`deadline_s`: how long a run may wait for one window before the window counts as failed."""
        self._runs = runs
        self._profiles = profiles
        self._closures = closures
        self._database = database
        self._outbox = outbox
        self._clock = clock
        self._deadline_s = deadline_s

    async def begin(self, event: StreamOnline, unit: UnitOfWork) -> None:
        """Note which profile judges the run; what came before it is judged now."""
        await self._locked(unit.session, event, run=event.run, profile_key=event.profile_key)

    async def take(self, event: StreamEvent, unit: UnitOfWork) -> None:
        """Apply an event to its run. Raises ProfileUnknown while `stream.online` is still on its way."""
        number: int = getattr(event, "run")  # noqa: B009 - every event that selection takes has a run
        stored = await self._locked(
            unit.session, event, run=number, profile_key=getattr(event, "profile_key", None)
        )
        if isinstance(event, SegmentReady):
            stored = replace(stored, offered_at={event.index: event.occurred_at, **stored.offered_at})
        await self._apply(stored, of_event(event), unit)

    async def close(self, event: StreamClosed, unit: UnitOfWork) -> None:
        """Nothing more comes out of any run of the stream; one that is simply complete may still be repaired."""
        await self._closures.record(unit.session, event)
        if event.cause == "completed":
            return
        for number in await self._runs.of_stream(unit.session, event.stream_id):
            stored = await self._locked(unit.session, event, run=number, profile_key=None)
            if stored.profile_key is not None:
                await self._apply(stored, Closed(), unit)

    async def expire_due(self, *, limit: int) -> int:
        """Fail the windows that runs have waited for too long; the number of runs looked at."""
        due = await self._runs.due(limit=limit)
        for run in due:
            await self._expire(run)
        return len(due)

    async def _expire(self, due: DueRun) -> None:
        async with self._database.transaction(due.organization_id) as session:
            stored = await self._runs.lock(
                session,
                organization_id=due.organization_id,
                stream_id=due.stream_id,
                run=due.run,
                lane=Lane.LIVE,
                profile_key=None,
            )
            expired = overdue(stored.state) if stored.state.blocked_on == due.index else None
            if expired is not None and stored.profile_key is not None:
                with trace.span("expire window", parent=stored.traceparent, attributes=_described(due)):
                    await self._apply(stored, expired, UnitOfWork(session, self._outbox))
        self._outbox.wake.set()

    async def _locked(
        self, session: AsyncSession, event: StreamEvent, *, run: int, profile_key: str | None
    ) -> StoredRun:
        return await self._runs.lock(
            session,
            organization_id=event.organization_id,
            stream_id=event.stream_id,
            run=run,
            lane=event.lane,
            profile_key=profile_key,
        )

    async def _apply(self, stored: StoredRun, given: Input, unit: UnitOfWork) -> None:
        if stored.profile_key is None:
            raise ProfileUnknown(f"{stored.stream_id} run {stored.run}: stream.online has not arrived")
        profile = await self._profiles.get(stored.profile_key)
        standing = await self._standing(stored, given, unit)
        state, outputs = apply_late(stored.state, given, profile=profile, standing=standing)
        await self._runs.save(unit.session, stored.advanced(state), deadline_s=self._deadline_s)
        moments = {each.moment.highlight_id: each.moment for each in outputs if isinstance(each, Standing)}
        if moments:
            await self._runs.stand(unit.session, stored, tuple(moments.values()))
        run = Run(
            organization_id=stored.organization_id,
            stream_id=stored.stream_id,
            run=stored.run,
            lane=stored.lane,
            profile_key=stored.profile_key,
            occurred_at=self._clock(),
        )
        await unit.emit(*events_of(outputs, run=run))
        for output in outputs:
            _observe(output)

    async def _standing(self, stored: StoredRun, given: Input, unit: UnitOfWork) -> tuple[Moment, ...]:
        """Only what comes after the end needs to know all that stands."""
        if not stored.state.repairs and not is_of_repair(given):
            return ()
        return await self._runs.standing(unit.session, stored)


def _described(due: DueRun) -> dict[str, trace.Value]:
    return {"tldr.organization_id": due.organization_id, "tldr.stream_id": due.stream_id}


def _observe(output: Output) -> None:
    match output:
        case Judged():
            metrics.judgements.labels(output.decision.value, output.rule).inc()
        case HighlightDecided():
            metrics.highlights.labels("revised" if output.revision else "confirmed").inc()
        case Noted():
            log.info("input_ignored", reason=output.reason, detail=output.detail)
        case SelectionFinal():
            log.info("selection_closed", highlights=len(output.final), failed=output.windows_failed)
