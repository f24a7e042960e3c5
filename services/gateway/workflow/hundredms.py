"""100ms: what an admitted webhook causes, in the transaction that also records it.

Who is admitted stands in `hundredms_gate`, what happens while PostgreSQL is away in `hundredms_reception`.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from json import dumps
from typing import Protocol

import structlog

from gateway.domain.hundredms_connection import Connection, Webhook
from gateway.domain.hundredms_payload import Action, HundredmsEvent, parse_body, read_event
from gateway.domain.refusals import Refused
from gateway.domain.source import Platform
from gateway.domain.stream_options import StreamOptions
from gateway.domain.stream_status import TERMINAL
from gateway.domain.submission import NewStream, StreamPlace, stream_offline
from gateway.workflow.intake import Intake, IntakeTables, StreamRequest
from shared import metrics
from shared.ids import ConnectionId, OrganizationId, StreamId
from shared.keyring import Keyring

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class ReceivedEvent:
    """One row of what 100ms told, with the payload as it came, sealed: its addresses may hold signatures."""

    connection: Connection
    event: HundredmsEvent
    sealed_payload: str
    received_at: datetime


class HundredmsTables(IntakeTables, Protocol):
    """One transaction of one organization."""

    async def record(self, received: ReceivedEvent) -> bool:
        """False when this very event was recorded before."""
        ...

    async def note(self, received: ReceivedEvent, note: str) -> None:
        """What was done about the event."""
        ...

    async def stop_of(self, connection_id: ConnectionId, beam_id: str) -> str | None:
        """The reason of a stop that came before its start."""
        ...

    async def bury(self, received: ReceivedEvent, *, beam_id: str) -> None:
        """Remember a stop whose start has not come."""
        ...

    async def lock_beam(self, connection_id: ConnectionId, beam_id: str) -> None:
        """Let a start and a stop of the same beam happen one after the other."""
        ...

    async def find_beam(self, connection_id: ConnectionId, beam_id: str) -> StreamPlace | None: ...
    async def request_stop(self, stream_id: StreamId, *, at: datetime) -> None: ...


OpenHundredms = Callable[[OrganizationId], AbstractAsyncContextManager[HundredmsTables]]


class Hundredms:
    def __init__(self, *, open_hundredms: OpenHundredms, intake: Intake, keyring: Keyring) -> None:
        self._open = open_hundredms
        self._intake = intake
        self._keyring = keyring

    async def receive(self, connection: Connection, webhook: Webhook) -> None:
        """Record one webhook and do what it asks for; a second copy changes nothing. Raises Malformed."""
        received = self._read(connection, webhook)
        stream = await self._prepared(received)
        async with self._open(connection.organization_id) as tables:
            if not await tables.record(received):
                outcome = "duplicate"
            else:
                outcome = await self._handle(tables, received, stream)
                await tables.note(received, outcome)
        metrics.hundredms_webhooks.labels(received.event.action, outcome.partition(":")[0]).inc()
        log.info("hundredms_webhook", type=received.event.type, outcome=outcome)

    def _read(self, connection: Connection, webhook: Webhook) -> ReceivedEvent:
        payload = parse_body(webhook.body)
        context = connection_context(connection.connection_id)
        return ReceivedEvent(
            connection=connection,
            event=read_event(payload, raw=webhook.body),
            sealed_payload=self._keyring.encrypt(dumps(payload, ensure_ascii=False), context=context),
            received_at=webhook.received_at,
        )

    async def _prepared(self, received: ReceivedEvent) -> NewStream | str | None:
        """The stream that a start announces, or why none can be made of it."""
        event, connection = received.event, received.connection
        if event.action is not Action.START:
            return None
        if event.url is None or event.beam_id is None:
            return "refused: a start without url or room"
        request = StreamRequest(
            source_url=event.url,
            options=StreamOptions.model_validate(connection.options),
            platform=Platform.HUNDREDMS,
            metadata={"room_id": event.room_id, "session_id": event.session_id},
            connection_id=connection.connection_id,
            external_id=event.beam_id,
        )
        try:
            return await self._intake.prepare(request, organization_id=connection.organization_id)
        except Refused as refusal:
            return f"refused: {refusal}"

    async def _handle(
        self, tables: HundredmsTables, received: ReceivedEvent, stream: NewStream | str | None
    ) -> str:
        event = received.event
        if isinstance(stream, str):
            return stream
        if stream is not None:
            return await self._start(tables, received, stream)
        if event.action in (Action.STOP, Action.FAIL) and event.beam_id is not None:
            return await self._stop(tables, received, event.beam_id)
        return "recorded"

    async def _start(self, tables: HundredmsTables, received: ReceivedEvent, stream: NewStream) -> str:
        connection_id, beam_id = received.connection.connection_id, str(stream.external_id)
        await tables.lock_beam(connection_id, beam_id)
        stopped = await tables.stop_of(connection_id, beam_id)
        if stopped is not None:
            return f"ignored: stopped before its start ({stopped})"
        options = StreamOptions.model_validate(received.connection.options)
        if not await self._intake.write(tables, stream, options=options):
            return "ignored: the beam has a stream"
        return f"started: {stream.stream_id}"

    async def _stop(self, tables: HundredmsTables, received: ReceivedEvent, beam_id: str) -> str:
        connection_id = received.connection.connection_id
        await tables.lock_beam(connection_id, beam_id)
        place = await tables.find_beam(connection_id, beam_id)
        if place is None:
            await tables.bury(received, beam_id=beam_id)
            return "buried: the start has not come"
        if place.status not in TERMINAL and place.stop_requested_at is None:
            await tables.request_stop(place.stream_id, at=received.received_at)
        reason = f"100ms: {received.event.reason}"
        await tables.emit(stream_offline(place, reason=reason, at=received.received_at))
        return f"stopped: {place.stream_id}"


def connection_context(connection_id: ConnectionId) -> str:
    """What the payloads and the HMAC secrets of a connection are sealed for."""
    return f"connection:{connection_id}"
