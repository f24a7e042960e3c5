"""100ms' API: what runs there and not here is started, what runs here and not there is stopped.

A webhook that was lost so costs less than a minute. One replica at a time asks for a connection; what follows is
judged under the same locks as webhooks are, so both may tell of one stream at the same moment.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from json import loads
from typing import Any, ClassVar, Protocol

import structlog

from gateway.domain.hundredms_answers import Page
from gateway.domain.hundredms_reconciliation import (
    Ending,
    LiveStream,
    Plan,
    ending_of,
    reconcile,
)
from gateway.domain.hundredms_sighting import KnownStream, Sighting
from gateway.domain.hundredms_token import ApiCredentials
from gateway.domain.refusals import Refused
from gateway.domain.source import Platform
from gateway.domain.stream_options import StreamOptions
from gateway.domain.submission import NewStream
from gateway.workflow.hundredms import LiveStreamTables, SourceEnd, connection_context, stop_stream
from gateway.workflow.intake import Intake, StreamRequest
from shared import metrics
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.errors import PermanentError, PipelineError, RetryableError
from shared.ids import ConnectionId, OrganizationId, StreamId
from shared.keyring import Keyring

log = structlog.get_logger()

AT_ONCE = 16
WITHIN_S = 15.0  # for one connection
MAX_PAGES = 20
MAX_QUESTIONS = 20  # about single sessions, for one connection and turn
MAX_PAUSE_S = 300.0
SECOND_LOOK_S = 5.0  # after a first absence
MAX_ERROR = 300
API_STREAM = "live:"  # begins the external id of a stream that the API told of first


class ApiSlow(RetryableError):
    """The whole of one connection took too long."""

    code: ClassVar[str] = "hundredms_slow"


@dataclass(frozen=True, kw_only=True)
class DueConnection:
    """A connection whose turn it is, with its credentials as they are stored."""

    connection_id: ConnectionId
    organization_id: OrganizationId
    sealed_api_credentials: str
    options: dict[str, Any]
    api_failures: int


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What one turn says of the connection. `due_in_s` None keeps the usual pace."""

    error: str | None = None
    due_in_s: float | None = None


class Api(Protocol):
    async def running(self, credentials: ApiCredentials, *, start: str) -> Page: ...
    async def of_session(self, credentials: ApiCredentials, *, room_id: str, session_id: str) -> Page: ...


class ReconciliationTables(LiveStreamTables, Protocol):
    """One transaction of one organization."""

    async def buried(self) -> tuple[Sighting, ...]:
        """Stops of late whose start never came."""
        ...

    async def link(self, stream_id: StreamId, *, live_id: str) -> None:
        """The API's id of a stream that a webhook started."""
        ...

    async def count_absence(self, stream_id: StreamId, *, absent: bool) -> None: ...
    async def note_check(self, due: DueConnection, checked: Checked, *, at: datetime) -> None:
        """Unless the credentials were changed meanwhile."""
        ...


OpenReconciliation = Callable[[OrganizationId], AbstractAsyncContextManager[ReconciliationTables]]


class DueConnections(Protocol):
    async def __call__(self, *, at_most: int, pause_s: float) -> tuple[DueConnection, ...]:
        """Connections whose turn it is, over all tenants; nobody else gets them within `pause_s`."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Told:
    """All that 100ms told of one connection in this turn, and the streams that may be made of it."""

    running: tuple[LiveStream, ...]
    is_complete: bool
    asked_at: datetime
    prepared: dict[str, NewStream] = field(default_factory=dict)


class Reconciler:
    def __init__(
        self,
        *,
        due: DueConnections,
        open_tables: OpenReconciliation,
        api: Api,
        intake: Intake,
        keyring: Keyring,
        clock: Clock,
        pause_s: float,
    ) -> None:
        self._due = due
        self._open = open_tables
        self._api = api
        self._intake = intake
        self._keyring = keyring
        self._clock = clock
        self._pause_s = pause_s

    async def turn(self) -> bool:
        """Ask for every connection that is due; True when more may be."""
        due = await self._due(at_most=AT_ONCE, pause_s=self._pause_s)
        outcomes = await asyncio.gather(*map(self._check, due), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return len(due) == AT_ONCE

    async def _check(self, due: DueConnection) -> None:
        try:
            async with asyncio.timeout(WITHIN_S):
                plan = await self._reconcile(due)
            checked = Checked(due_in_s=self._second_look_s(plan))
        except TimeoutError:
            checked = self._failed(due, ApiSlow(f"100ms did not answer everything within {WITHIN_S:g} s"))
        except DatabaseUnavailable:
            raise
        except PipelineError as error:
            checked = self._failed(due, error)
        else:
            metrics.hundredms_api_checks.labels("answered").inc()
        async with self._open(due.organization_id) as tables:
            await tables.note_check(due, checked, at=self._clock())

    def _failed(self, due: DueConnection, error: PipelineError) -> Checked:
        """Each failure doubles the pause: the circuit of one connection is its own."""
        metrics.hundredms_api_checks.labels(error.code).inc()
        log.warning("hundredms_api_failed", connection_id=due.connection_id, reason=f"{error.code}: {error}")
        wait_s = min(self._pause_s * 2.0 ** min(due.api_failures + 1, 10), MAX_PAUSE_S)
        if isinstance(error, PermanentError):
            wait_s = max(wait_s, MAX_PAUSE_S)
        elif isinstance(error, RetryableError) and error.retry_after_s is not None:
            wait_s = max(wait_s, error.retry_after_s)
        return Checked(error=str(error)[:MAX_ERROR], due_in_s=wait_s)

    def _second_look_s(self, plan: Plan) -> float | None:
        """What is missing for the first time is looked for again at once; what stays missing is not."""
        is_first = len(plan.absent) > len(plan.suspects)
        return min(SECOND_LOOK_S, self._pause_s) if is_first else None

    async def _reconcile(self, due: DueConnection) -> Plan:
        credentials = read_credentials(due.connection_id, due.sealed_api_credentials, self._keyring)
        asked_at = self._clock()
        running, is_complete = await self._running(credentials)
        async with self._open(due.organization_id) as tables:
            known = await tables.known(due.connection_id)
            buried = await tables.buried()
        plan = reconcile(running, known=known, buried=buried, asked_at=asked_at, is_complete=is_complete)
        told = _Told(
            running=running,
            is_complete=is_complete,
            asked_at=asked_at,
            prepared=await self._prepared(due, plan.starts),
        )
        for room_id in _rooms(plan, known):
            await self._settle_room(due, room_id, told)
        for suspect in plan.suspects[:MAX_QUESTIONS]:
            await self._settle_suspect(due, suspect, await self._ending(credentials, suspect))
        return plan

    async def _running(self, credentials: ApiCredentials) -> tuple[tuple[LiveStream, ...], bool]:
        """All pages, and whether the last one was reached."""
        found: list[LiveStream] = []
        starts = {""}
        start = ""
        for _ in range(MAX_PAGES):
            page = await self._api.running(credentials, start=start)
            found += page.streams
            start = page.following
            if start in starts:
                break
            starts.add(start)
        return tuple(found), start == ""

    async def _ending(self, credentials: ApiCredentials, suspect: KnownStream) -> Ending | None:
        """What is no longer listed is asked for by its session: two absences alone end nothing.

        A question that fails says nothing of the others, nor of the list that was answered; only a wait that
        100ms asks for ends the turn.
        """
        told = suspect.sighting
        try:
            page = await self._api.of_session(credentials, room_id=told.room_id, session_id=told.session_id)
        except PipelineError as error:
            if isinstance(error, RetryableError) and error.retry_after_s is not None:
                raise
            reason = f"{error.code}: {error}"
            log.warning("hundredms_session_not_told", stream_id=suspect.stream_id, reason=reason)
            return None
        return None if page.following else ending_of(suspect, page.streams)

    async def _prepared(self, due: DueConnection, starts: Iterable[LiveStream]) -> dict[str, NewStream]:
        prepared = {}
        for live in starts:
            try:
                stream = await self._intake.prepare(_request(due, live), organization_id=due.organization_id)
            except Refused as refusal:
                metrics.hundredms_reconciled.labels("refused").inc()
                log.warning(
                    "hundredms_live_stream_refused", connection_id=due.connection_id, reason=str(refusal)
                )
            else:
                prepared[live.sighting.live_id] = stream
        return prepared

    async def _settle_room(self, due: DueConnection, room_id: str, told: _Told) -> None:
        """Decide again under the room's lock: a webhook may have come in since the first look."""
        async with self._open(due.organization_id) as tables:
            await tables.lock_room(room_id)
            known = await tables.known(due.connection_id, room_id=room_id)
            plan = reconcile(
                [live for live in told.running if live.sighting.room_id == room_id],
                known=known,
                buried=await tables.buried(),
                asked_at=told.asked_at,
                is_complete=told.is_complete,
            )
            await self._note(tables, plan)
            for live in plan.starts:
                if live.sighting.live_id in told.prepared:
                    await self._start(tables, due, live, told.prepared[live.sighting.live_id])

    async def _settle_suspect(self, due: DueConnection, suspect: KnownStream, ending: Ending | None) -> None:
        """Stop what is over, unless a webhook or another replica did so while 100ms was asked."""
        if ending is None:
            return
        room_id = suspect.sighting.room_id
        async with self._open(due.organization_id) as tables:
            await tables.lock_room(room_id)
            known = await tables.known(due.connection_id, room_id=room_id)
            if any(each.stream_id == suspect.stream_id and not each.is_over for each in known):
                await self._stop(tables, suspect.stream_id, ending)

    async def _note(self, tables: ReconciliationTables, plan: Plan) -> None:
        for stream_id, live_id in plan.links:
            await tables.link(stream_id, live_id=live_id)
        for stream_id in plan.seen:
            await tables.count_absence(stream_id, absent=False)
        for stream_id in plan.absent:
            await tables.count_absence(stream_id, absent=True)

    async def _start(
        self, tables: ReconciliationTables, due: DueConnection, live: LiveStream, stream: NewStream
    ) -> None:
        options = StreamOptions.model_validate(due.options)
        if not await self._intake.write(tables, stream, options=options):
            return
        await tables.know(due.connection_id, stream.stream_id, live.sighting)
        metrics.hundredms_reconciled.labels("started").inc()
        log.warning("hundredms_start_reconciled", connection_id=due.connection_id, stream_id=stream.stream_id)

    async def _stop(self, tables: ReconciliationTables, stream_id: StreamId, ending: Ending) -> None:
        place = await tables.place(stream_id)
        if place is None:
            return
        words = "failure: told by the API" if ending.failed else ""
        end = SourceEnd(stopped_at=ending.stopped_at, words=words, failed=ending.failed)
        await stop_stream(tables, place, end, reason=words or "not running any more", at=self._clock())
        metrics.hundredms_reconciled.labels("stopped").inc()
        log.warning("hundredms_stop_reconciled", stream_id=stream_id)


def _rooms(plan: Plan, known: Iterable[KnownStream]) -> tuple[str, ...]:
    """The rooms in which anything is to be done; most turns find none."""
    rooms = [each.sighting.room_id for each in known if each.stream_id in plan.touched]
    return tuple(dict.fromkeys((*rooms, *(live.sighting.room_id for live in plan.starts))))


def _request(due: DueConnection, live: LiveStream) -> StreamRequest:
    told = live.sighting
    return StreamRequest(
        source_url=live.url or "",
        options=StreamOptions.model_validate(due.options),
        platform=Platform.HUNDREDMS,
        metadata={"room_id": told.room_id, "session_id": told.session_id},
        connection_id=due.connection_id,
        external_id=f"{API_STREAM}{told.live_id}",
        source_started_at=told.started_at,
    )


def read_credentials(connection_id: ConnectionId, sealed: str, keyring: Keyring) -> ApiCredentials:
    """Raises SecretUnreadable."""
    plain = loads(keyring.decrypt(sealed, context=connection_context(connection_id)))
    return ApiCredentials(access_key=plain["access_key"], app_secret=plain["app_secret"])
