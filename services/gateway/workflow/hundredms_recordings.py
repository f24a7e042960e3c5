"""100ms' recordings: the chat becomes signals, and the best file is offered for repair once its stream has ended.

What is repaired from it is decided by ingest. Recordings may come late, twice, or before their stream has ended.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from json import loads
from typing import ClassVar, Protocol

import structlog

from gateway.domain.hundredms_answers import Presigned
from gateway.domain.hundredms_chat import ChatMessage, chat_signal, read_chat
from gateway.domain.hundredms_reconciliation import claimed
from gateway.domain.hundredms_recording import RecordedFile, Recording
from gateway.domain.hundredms_sighting import KnownStream, Sighting
from gateway.domain.hundredms_token import ApiCredentials
from gateway.domain.hundredms_values import moment_of
from gateway.workflow.hundredms import connection_context
from gateway.workflow.hundredms_reconciliation import read_credentials
from shared import metrics
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.errors import PermanentError, PipelineError, RetryableError
from shared.events import Event, Lane, RecordingAvailable
from shared.ids import ConnectionId, OrganizationId, StreamId, event_id
from shared.keyring import Keyring

log = structlog.get_logger()

AT_ONCE = 4
BATCH = 500
MAX_ATTEMPTS = 10
SIGN_ATTEMPTS = 5  # after that the address of the webhook, which lives for days, is better than none
WITHIN_S = 50.0  # less than the lease
LEASE_S = 60.0
MAX_WAIT_S = 300.0
GIVE_UP_AFTER = timedelta(hours=24)


class ChatNotThere(RetryableError):
    """The address of the chat did not answer 200."""

    code: ClassVar[str] = "chat_not_there"


class RecordingSlow(RetryableError):
    """All that a recording asks for took too long."""

    code: ClassVar[str] = "recording_slow"


@dataclass(frozen=True, kw_only=True)
class DueRecording:
    connection_id: ConnectionId
    recording_id: str
    organization_id: OrganizationId


@dataclass(frozen=True, kw_only=True)
class StoredRecording:
    """One row. `chat_messages` counts those that were handed on; `offered_at`: nothing is left to offer."""

    sealed_details: str
    beam_id: str
    received_at: datetime
    attempts: int
    offered_at: datetime | None
    chat_messages: int
    chat_done_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class RecordedStream:
    """The stream that a recording is of. `is_over`: it has its final state."""

    stream_id: StreamId
    run: int
    lane: Lane
    is_over: bool
    include_chat: bool


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is written of a recording; None leaves a thing as it is."""

    offered_at: datetime | None = None
    chat_messages: int | None = None
    chat_done_at: datetime | None = None
    note: str | None = None
    attempts: int | None = None


class RecordingTables(Protocol):
    """One transaction of one organization."""

    async def recording(self, due: DueRecording) -> StoredRecording | None: ...
    async def recorded_stream(
        self, connection_id: ConnectionId, *, beam_id: str
    ) -> RecordedStream | None: ...
    async def lock_room(self, room_id: str) -> None: ...
    async def known(
        self, connection_id: ConnectionId, *, room_id: str | None = None
    ) -> tuple[KnownStream, ...]: ...
    async def claim(self, stream_id: StreamId, *, beam_id: str) -> None: ...
    async def api_credentials(self, connection_id: ConnectionId) -> str | None:
        """Sealed; None where there are none."""
        ...

    async def note_recording(self, due: DueRecording, progress: Progress, *, again_in_s: float) -> None:
        """What has been offered, and whose chat is done, is not due again."""
        ...

    async def emit(self, *events: Event) -> None: ...


OpenRecordings = Callable[[OrganizationId], AbstractAsyncContextManager[RecordingTables]]


class DueRecordings(Protocol):
    async def __call__(self, *, at_most: int, lease_s: float) -> tuple[DueRecording, ...]:
        """Recordings that are due, over all tenants; nobody else gets them within `lease_s`."""
        ...


class Chats(Protocol):
    async def fetch(self, url: str) -> bytes:
        """The whole file, bounded. Raises ChatNotThere, and what the HTTP client raises."""
        ...


class Presigner(Protocol):
    async def presigned(self, credentials: ApiCredentials, asset_id: str) -> Presigned: ...


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One recording with all that is known of it in this turn."""

    due: DueRecording
    row: StoredRecording
    recording: Recording
    stream: RecordedStream
    sealed_credentials: str | None


class Recordings:
    def __init__(
        self,
        *,
        due: DueRecordings,
        open_tables: OpenRecordings,
        chats: Chats,
        api: Presigner,
        keyring: Keyring,
        clock: Clock,
        pause_s: float,
    ) -> None:
        self._due = due
        self._open = open_tables
        self._chats = chats
        self._api = api
        self._keyring = keyring
        self._clock = clock
        self._pause_s = max(pause_s, 1.0)

    async def turn(self) -> bool:
        """Look at what is due; True when more may be."""
        due = await self._due(at_most=AT_ONCE, lease_s=LEASE_S)
        outcomes = await asyncio.gather(*map(self._settle, due), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return len(due) == AT_ONCE

    async def _settle(self, due: DueRecording) -> None:
        try:
            async with asyncio.timeout(WITHIN_S):
                await self._take(due)
        except TimeoutError:
            await self._fail(due, RecordingSlow(f"not done within {WITHIN_S:g} s"), self._given_up())
        except DatabaseUnavailable:
            raise
        except PipelineError as error:
            await self._fail(due, error, self._given_up())

    async def _step(self, case: _Case, step: Callable[[_Case], Awaitable[None]], last: Progress) -> None:
        """What becomes of the file says nothing of the chat, and the other way round."""
        try:
            await step(case)
        except DatabaseUnavailable:
            raise
        except PipelineError as error:
            await self._fail(case.due, error, last)

    async def _fail(self, due: DueRecording, error: PipelineError, last: Progress) -> None:
        """It is due again, until its attempts are used up: then `last` is written."""
        reason = f"{error.code}: {error}"
        log.warning("hundredms_recording_failed", recording_id=due.recording_id, reason=reason)
        async with self._open(due.organization_id) as tables:
            row = await tables.recording(due)
            attempts = row.attempts + 1 if row else MAX_ATTEMPTS
            is_last = attempts >= MAX_ATTEMPTS or isinstance(error, PermanentError)
            progress = replace(last, attempts=0) if is_last else Progress(attempts=attempts)
            wait_s = min(self._pause_s * 2.0**attempts, MAX_WAIT_S)
            await tables.note_recording(due, replace(progress, note=reason), again_in_s=wait_s)
        metrics.hundredms_recordings.labels("failed" if is_last else "retried").inc()

    def _given_up(self, note: str = "") -> Progress:
        now = self._clock()
        return Progress(offered_at=now, chat_done_at=now, note=note)

    async def _take(self, due: DueRecording) -> None:
        async with self._open(due.organization_id) as tables:
            row = await tables.recording(due)
            if row is None:
                return
            sighting, recording = self._read(due, row)
            stream = await self._stream(tables, due, sighting)
            if stream is None:
                await self._without_stream(tables, due, row)
                return
            sealed = await tables.api_credentials(due.connection_id)
        case = _Case(due=due, row=row, recording=recording, stream=stream, sealed_credentials=sealed)
        now = self._clock()
        if row.chat_done_at is None:
            await self._step(case, self._take_chat, Progress(chat_done_at=now))
        if row.offered_at is None and stream.is_over:
            await self._step(case, self._offer, Progress(offered_at=now))
        elif row.offered_at is None:
            await self._note(case, Progress())

    def _read(self, due: DueRecording, row: StoredRecording) -> tuple[Sighting, Recording]:
        """Raises SecretUnreadable."""
        plain = loads(
            self._keyring.decrypt(row.sealed_details, context=connection_context(due.connection_id))
        )
        told, recording, file = plain["sighting"], plain["recording"], plain["recording"]["file"]
        moments = {name: moment_of(told[name]) for name in ("started_at", "stopped_at")}
        return (
            Sighting(**told | moments),
            Recording(
                **recording
                | {
                    "file": RecordedFile(**file) if file else None,
                    "started_at": moment_of(recording["started_at"]),
                }
            ),
        )

    async def _stream(
        self, tables: RecordingTables, due: DueRecording, told: Sighting
    ) -> RecordedStream | None:
        """By its beam, or by room and time where both webhooks of it were lost."""
        found = await tables.recorded_stream(due.connection_id, beam_id=told.beam_id)
        if found is not None or not told.room_id:
            return found
        await tables.lock_room(told.room_id)
        match = claimed(told, await tables.known(due.connection_id, room_id=told.room_id))
        if match is None:
            return None
        await tables.claim(match.stream_id, beam_id=told.beam_id)
        return await tables.recorded_stream(due.connection_id, beam_id=told.beam_id)

    async def _without_stream(self, tables: RecordingTables, due: DueRecording, row: StoredRecording) -> None:
        """The start may still come, out of order or by the API."""
        progress = Progress(note="no stream of this beam is known yet")
        if self._clock() - row.received_at > GIVE_UP_AFTER:
            metrics.hundredms_recordings.labels("no_stream").inc()
            progress = self._given_up("no stream of this beam is known")
        await tables.note_recording(due, progress, again_in_s=self._pause_s)

    # -- the file ------------------------------------------------------------------------------------

    async def _offer(self, case: _Case) -> None:
        recording = case.recording
        if recording.file is None or recording.started_at is None or not recording.duration_us:
            await self._offered(case, None, note="nothing to repair from: no MP4 or playlist with its times")
            return
        url, expires_at = await self._address(case, recording.file)
        if url:
            await self._offered(case, self._available(case, url, expires_at), note="offered")
        else:
            await self._offered(case, None, note="nothing to repair from: no address of the file")

    async def _offered(self, case: _Case, event: RecordingAvailable | None, *, note: str) -> None:
        progress = Progress(offered_at=self._clock(), note=note)
        await self._note(case, progress, *(() if event is None else (event,)))
        metrics.hundredms_recordings.labels("nothing" if event is None else "offered").inc()
        log.info("hundredms_recording", stream_id=case.stream.stream_id, outcome=note)

    async def _address(self, case: _Case, file: RecordedFile) -> tuple[str, datetime | None]:
        """Signed anew where the API lets us; the address of the webhook has its own end, which it does not tell."""
        if case.sealed_credentials is None or not file.asset_id:
            return file.url, None
        credentials = read_credentials(case.due.connection_id, case.sealed_credentials, self._keyring)
        try:
            signed = await self._api.presigned(credentials, file.asset_id)
        except PipelineError as error:
            is_due_again = case.row.attempts < SIGN_ATTEMPTS or not file.url
            if isinstance(error, RetryableError) and is_due_again:
                raise
            log.warning("hundredms_not_signed_anew", asset_id=file.asset_id, reason=str(error))
            return file.url, None
        lasts = None if signed.expires_in_s is None else timedelta(seconds=signed.expires_in_s)
        return signed.url, None if lasts is None else self._clock() + lasts

    def _available(self, case: _Case, url: str, expires_at: datetime | None) -> RecordingAvailable:
        stream, recording = case.stream, case.recording
        assert recording.started_at is not None
        return RecordingAvailable(
            event_id=event_id(stream.stream_id, RecordingAvailable.name, stream.run, case.due.recording_id),
            organization_id=case.due.organization_id,
            occurred_at=self._clock(),
            lane=stream.lane,
            stream_id=stream.stream_id,
            run=stream.run,
            recording_id=case.due.recording_id,
            sealed_url=self._keyring.encrypt(url, context=f"stream:{stream.stream_id}"),
            started_at=recording.started_at,
            duration_us=recording.duration_us,
            expires_at=expires_at,
        )

    # -- the chat ------------------------------------------------------------------------------------

    async def _take_chat(self, case: _Case) -> None:
        url = case.recording.chat_url
        if url is None or not case.stream.include_chat:
            await self._note(case, Progress(chat_done_at=self._clock()))
            return
        chat = await asyncio.to_thread(read_chat, await self._chats.fetch(url))
        for first in range(case.row.chat_messages, len(chat.messages), BATCH):
            await self._hand_on(case, chat.messages[first : first + BATCH], done=first)
        metrics.hundredms_chat.labels("left_out").inc(chat.left_out)
        log.info(
            "hundredms_chat",
            stream_id=case.stream.stream_id,
            messages=len(chat.messages),
            left_out=chat.left_out,
        )
        await self._note(case, Progress(chat_done_at=self._clock()))

    async def _hand_on(self, case: _Case, messages: tuple[ChatMessage, ...], *, done: int) -> None:
        """One bounded transaction; how far it came is written with it."""
        stream, now = case.stream, self._clock()
        signals = [
            chat_signal(
                message,
                stream_id=stream.stream_id,
                organization_id=case.due.organization_id,
                run=stream.run,
                lane=stream.lane,
                at=now,
            )
            for message in messages
        ]
        await self._note(case, Progress(chat_messages=done + len(messages)), *signals)
        metrics.hundredms_chat.labels("taken").inc(len(messages))

    async def _note(self, case: _Case, progress: Progress, *events: Event) -> None:
        async with self._open(case.due.organization_id) as tables:
            await tables.emit(*events)
            await tables.note_recording(case.due, progress, again_in_s=self._pause_s)
