"""Submission, listing and stopping of streams, and their highlights, in the name of one organization."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.domain.page import Page, PageRequest
from gateway.domain.public_views import PublicHighlight, PublicStream
from gateway.domain.refusals import NotFound, Unacceptable
from gateway.domain.stream_status import TERMINAL
from gateway.domain.submission import StreamPlace, stream_offline
from gateway.workflow.authentication import Caller
from gateway.workflow.intake import Intake, IntakeTables, StreamRequest
from gateway.workflow.reachability import Survey
from gateway.workflow.views import Views
from shared.clock import Clock
from shared.ids import HighlightId, OrganizationId, StreamId

SUBMISSION_ROUTE = "POST /streams"


class StreamTables(IntakeTables, Protocol):
    """One transaction of one organization."""

    async def find_stream(self, stream_id: StreamId) -> StreamPlace | None:
        """The stream, locked until the transaction ends."""
        ...

    async def request_stop(self, stream_id: StreamId, *, at: datetime) -> None: ...
    async def recall(self, *, route: str, key: str) -> "KeptAnswer | None":
        """What is kept under the key and was kept within the last day."""
        ...

    async def use_upload(self, upload_id: str) -> bool:
        """Keep a finished upload for a while longer; False when there is none of this id that is whole."""
        ...

    async def remember(self, answer: "KeptAnswer") -> "KeptAnswer":
        """Keep the answer under its key, or give back what was kept there within the last day."""
        ...


OpenStreams = Callable[[OrganizationId], AbstractAsyncContextManager[StreamTables]]


@dataclass(frozen=True)
class RequestKey:
    """The customer's Idempotency-Key, and the hash of the body that it was sent with."""

    key: str
    request_sha256: str


@dataclass(frozen=True, kw_only=True)
class KeptAnswer:
    route: str
    key: RequestKey
    answer: str
    at: datetime


class Streams:
    def __init__(
        self, *, open_streams: OpenStreams, intake: Intake, survey: Survey, views: Views, clock: Clock
    ) -> None:
        self._open = open_streams
        self._intake = intake
        self._survey = survey
        self._views = views
        self._clock = clock

    async def submit(
        self, caller: Caller, request: StreamRequest, *, request_key: RequestKey | None = None
    ) -> PublicStream:
        """Accept a stream; the same request key gives the same stream. Raises Unacceptable.

        The source is looked at between two transactions, and not at all for an answer that was given before.
        """
        source = self._intake.admit(request)
        given = await self._given(caller.organization_id, request_key)
        if given is not None:
            return given
        findings = await self._survey.of(source, headers=request.options.headers())
        stream = await self._intake.prepare(
            request, organization_id=caller.organization_id, findings=findings
        )
        public = self._views.of_new(stream)
        async with self._open(caller.organization_id) as tables:
            kept = await self._kept(tables, request_key, public)
            if kept is not None:
                return kept
            if source.upload_id is not None and not await tables.use_upload(source.upload_id):
                raise Unacceptable("there is no finished upload of this id", field="source_url")
            await self._intake.write(tables, stream, options=request.options)
        return public

    async def _given(
        self, organization_id: OrganizationId, request_key: RequestKey | None
    ) -> PublicStream | None:
        """The answer that this very request got before."""
        if request_key is None:
            return None
        async with self._open(organization_id) as tables:
            kept = await tables.recall(route=SUBMISSION_ROUTE, key=request_key.key)
        return _same_answer(kept, request_key) if kept else None

    async def _kept(
        self, tables: StreamTables, request_key: RequestKey | None, public: PublicStream
    ) -> PublicStream | None:
        if request_key is None:
            return None
        answer = KeptAnswer(
            route=SUBMISSION_ROUTE, key=request_key, answer=public.model_dump_json(), at=self._clock()
        )
        kept = await tables.remember(answer)
        return None if kept is answer else _same_answer(kept, request_key)

    async def stream(self, caller: Caller, stream_id: StreamId) -> PublicStream:
        found = await self._views.stream(caller.organization_id, stream_id)
        if found is None:
            raise _no_stream()
        return found

    async def streams(
        self, caller: Caller, page: PageRequest, *, external_id: str | None = None
    ) -> Page[PublicStream]:
        return await self._views.streams(caller.organization_id, page, external_id=external_id)

    async def stop(self, caller: Caller, stream_id: StreamId) -> None:
        """Ask for the end of a stream: once, and without effect on one that has ended. Raises NotFound."""
        async with self._open(caller.organization_id) as tables:
            place = await tables.find_stream(stream_id)
            if place is None:
                raise _no_stream()
            if place.status in TERMINAL or place.stop_requested_at is not None:
                return
            now = self._clock()
            await tables.request_stop(stream_id, at=now)
            await tables.emit(stream_offline(place, reason="stop requested", at=now))

    async def highlights(
        self, caller: Caller, stream_id: StreamId, page: PageRequest
    ) -> Page[PublicHighlight]:
        found = await self._views.highlights(caller.organization_id, stream_id, page)
        if found is None:
            raise _no_stream()
        return found

    async def highlight(self, caller: Caller, highlight_id: HighlightId) -> PublicHighlight:
        found = await self._views.highlight(caller.organization_id, highlight_id)
        if found is None:
            raise NotFound("Highlight not found")
        return found


def _same_answer(kept: KeptAnswer, request_key: RequestKey) -> PublicStream:
    if kept.key.request_sha256 != request_key.request_sha256:
        raise Unacceptable("This Idempotency-Key was used with another request", field="Idempotency-Key")
    return PublicStream.model_validate_json(kept.answer)


def _no_stream() -> NotFound:
    return NotFound("Stream not found")
