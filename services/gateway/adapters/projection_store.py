"""SQL of the projection: upserts that give the same rows in any order, and the facts that decisions need.

Core statements on the tables of `tables.py`, in the transaction of the session that is passed in.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, case, exists, false, func, literal, or_, select, text, true, update
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Row
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.selectable import LateralFromClause
from sqlmodel.ext.asyncio.session import AsyncSession

from gateway.adapters import tables as t
from gateway.domain.completion import ClipFact, Completion, ParkedFact, RunFacts
from gateway.domain.coverage import Span
from gateway.domain.events_feed import HighlightState, announcement_ids
from gateway.domain.public_views import ClipRecord, HighlightRecord
from gateway.domain.stream_status import Ended, Selection, StreamRecord, StreamStatus
from gateway.domain.timeline_stretch import stretches_of
from gateway.workflow.projection import Movement
from gateway.workflow.public_events import EndpointRecord, NewDelivery, NewPublicEvent
from shared import events
from shared.database import Database
from shared.ids import DeliveryId, EndpointId, HighlightId, OrganizationId, StreamId, WindowId, window_id

COVERED = ("analysed", "skipped")
RUNNING = ("pending", "processing")
_SECRET = {"sealed_source_url", "sealed_headers", "connection_id", "profile_key"}
STREAM_COLUMNS = tuple(column for column in t.streams.c if column.name not in _SECRET)
HIGHLIGHT_COLUMNS = tuple(
    column
    for column in t.highlights.c
    if column.name not in {"organization_id", "run", "segments", "updated_at"}
)
CLIP_COLUMNS = tuple(
    t.clips.c[name]
    for name in (
        "highlight_id",
        "revision",
        "status",
        "video_key",
        "thumbnail_key",
        "duration_us",
        "code",
        "reason",
    )
)


# -- rows to records -----------------------------------------------------------------------------------


def stream_record(row: Row[Any]) -> StreamRecord:
    """From a row of STREAM_COLUMNS."""
    values = dict(row._mapping)
    ended, selection = values.pop("ended"), values.pop("selection")
    return StreamRecord(
        **values | {"status": StreamStatus(row.status)},
        ended=_ended(ended) if ended else None,
        selection=_selection(selection) if selection else None,
    )


def _ended(stored: Mapping[str, Any]) -> Ended:
    return Ended(
        **dict(stored)
        | {
            "windows": tuple(WindowId(name) for name in stored["windows"]),
            "gap_indexes": tuple(stored["gap_indexes"]),
        }
    )


def _selection(stored: Mapping[str, Any]) -> Selection:
    final = tuple((HighlightId(name), int(revision)) for name, revision in stored["final"])
    return Selection(**dict(stored) | {"final": final})


def highlight_record(row: Row[Any]) -> HighlightRecord:
    """From a row that holds HIGHLIGHT_COLUMNS, and perhaps more."""
    values = {column.name: row._mapping[column.name] for column in HIGHLIGHT_COLUMNS}
    return HighlightRecord(**values | {"tags": tuple(row.tags)})


def clip_record(row: Row[Any]) -> ClipRecord:
    """From a row of CLIP_COLUMNS."""
    return _clip_of_array(tuple(row))


def _clip_of_array(values: Sequence[Any]) -> ClipRecord:
    """From the values of CLIP_COLUMNS."""
    named = dict(zip((column.name for column in CLIP_COLUMNS), values, strict=True))
    return ClipRecord(ready=named.pop("status") == "ready", **named)


# -- facts -----------------------------------------------------------------------------------------------


async def run_facts(session: AsyncSession, stream_ids: Iterable[StreamId]) -> dict[StreamId, RunFacts]:
    """Facts of the streams' current runs by stream id, in one statement; unknown ids are left out."""
    connection = await session.connection()
    rows = await connection.execute(_FACTS.where(t.streams.c.stream_id.in_(list(stream_ids))))
    return {StreamId(row.stream_id): _facts(row) for row in rows}


def _facts(row: Row[Any]) -> RunFacts:
    spans = zip(row.starts or (), row.ends or (), strict=True)
    excluded = zip(row.excluded_from or (), row.excluded_to or (), strict=True)
    return RunFacts(
        windows_analysed=row.analysed,
        windows_skipped=row.skipped,
        windows_failed=row.failed,
        failure_reason=row.failure_reasons[0] if row.failure_reasons else "",
        analysed=tuple(Span(start_us, end_us) for start_us, end_us in spans),
        gaps=row.gaps,
        gaps_us=int(row.gaps_us),
        gaps_repaired=row.gaps_repaired,
        repaired_us=int(row.repaired_us),
        excluded=tuple(Span(start_us, end_us) for start_us, end_us in excluded),
        repair_windows=row.repair_windows,
        stalled=row.stalled,
        degraded=bool(row.degraded),
        highlights={HighlightId(name): revision for name, revision, _ in row.highlights or ()},
        retracted=frozenset(HighlightId(name) for name, _, retracted in row.highlights or () if retracted),
        clips=tuple(_clip_fact(*clip) for clip in row.clips or ()),
        parked=tuple(
            ParkedFact(service=service, event_name=name, reason=reason)
            for service, name, reason in row.parked or ()
        ),
    )


def _clip_fact(highlight_id: str, revision: int, status: str, reason: str | None) -> ClipFact:
    return ClipFact(
        highlight_id=HighlightId(highlight_id),
        revision=revision,
        ready=status == "ready",
        reason=reason or "",
    )


def _of_this_run(table: Any) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.stream_id == t.streams.c.stream_id, table.c.run == t.streams.c.run


def _array(column: ColumnElement[Any], order: ColumnElement[Any], only: ColumnElement[bool]) -> Any:
    return func.array_agg(aggregate_order_by(column, order)).filter(only)


def _window_facts() -> LateralFromClause:
    c = t.windows.c
    covered = c.verdict.in_(COVERED)
    return (
        select(
            func.count().filter(c.verdict == "analysed").label("analysed"),
            func.count().filter(c.verdict == "skipped").label("skipped"),
            func.count().filter(c.verdict == "failed").label("failed"),
            _array(c.reason, c["index"], c.verdict == "failed").label("failure_reasons"),
            _array(c.start_us, c["index"], covered).label("starts"),
            _array(c.end_us, c["index"], covered).label("ends"),
            func.bool_or(c.degraded).label("degraded"),
        )
        .where(*_of_this_run(t.windows))
        .lateral("window_facts")
    )


def _gap_facts() -> LateralFromClause:
    """Gaps that stay, as far as they stay, and what recordings brought back of the others."""
    g, r = t.gaps.c, t.repairs.c
    length_us = g.to_us - g.from_us
    within_us = func.greatest(func.least(r.to_us, g.to_us) - func.greatest(r.from_us, g.from_us), 0)
    filled_us = case((r.outcome == "repaired", length_us), (r.outcome == "partly", within_us), else_=0)
    is_filled = func.coalesce(r.outcome == "repaired", false())
    same_gap = (r.stream_id == g.stream_id) & (r.run == g.run) & (r.gap_index == g["index"])
    return (
        select(
            func.count().filter(~is_filled).label("gaps"),
            func.count().filter(is_filled).label("gaps_repaired"),
            func.coalesce(func.sum(length_us - filled_us), 0).label("gaps_us"),
            func.coalesce(func.sum(filled_us), 0).label("repaired_us"),
        )
        .select_from(t.gaps.outerjoin(t.repairs, same_gap))
        .where(*_of_this_run(t.gaps))
        .lateral("gap_facts")
    )


def _annotation_facts() -> LateralFromClause:
    c = t.annotations.c
    return (
        select(
            _array(c.from_us, c["index"], true()).label("excluded_from"),
            _array(c.to_us, c["index"], true()).label("excluded_to"),
        )
        .where(*_of_this_run(t.annotations))
        .lateral("annotation_facts")
    )


def _repair_facts() -> LateralFromClause:
    """Windows that all attempts have brought; the gaps of a group name the same ones."""
    c = t.repairs.c
    names = func.unnest(c.windows).column_valued("name")
    return (
        select(func.count(names.distinct()).label("repair_windows"))
        .select_from(t.repairs.join(names.scalar_alias, true()))
        .where(*_of_this_run(t.repairs))
        .lateral("repair_facts")
    )


def _rows(label: str, table: Any, columns: Sequence[str], order: Sequence[str]) -> LateralFromClause:
    """The stream's rows as one JSON array of arrays, in a fixed order."""
    row = func.jsonb_build_array(*(table.c[name] for name in columns))
    ordered = aggregate_order_by(row, *(table.c[name] for name in order))
    return (
        select(func.jsonb_agg(ordered, type_=JSONB).label(label))
        .where(table.c.stream_id == t.streams.c.stream_id)
        .lateral(f"{label}_facts")
    )


def _facts_statement() -> Select[Any]:
    windows, gaps = _window_facts(), _gap_facts()
    annotations, repairs = _annotation_facts(), _repair_facts()
    keyed = ("highlight_id", "revision")
    highlights = _rows("highlights", t.highlights, (*keyed, "retracted"), keyed)
    clips = _rows("clips", t.clips, (*keyed, "status", "reason"), keyed)
    parked_order = ("service", "event_name", "event_id")
    parked = _rows("parked", t.parked, ("service", "event_name", "reason"), parked_order)
    stalled = exists().where(
        *_of_this_run(t.stalls), t.stalls.c.stalled_at.is_not(None), t.stalls.c.resumed_at.is_(None)
    )
    source: Any = t.streams
    for part in (windows, gaps, annotations, repairs, highlights, clips, parked):
        source = source.join(part, true())
    return select(
        t.streams.c.stream_id,
        *windows.c,
        *gaps.c,
        *annotations.c,
        *repairs.c,
        highlights.c.highlights,
        clips.c.clips,
        parked.c.parked,
        stalled.label("stalled"),
    ).select_from(source)


_FACTS = _facts_statement()


async def overdue_streams(database: Database, *, limit: int) -> tuple[tuple[StreamId, OrganizationId], ...]:
    """Streams of all tenants that are not finished and whose deadline has passed: ids only."""
    async with database.transaction() as session:
        connection = await session.connection()
        rows = await connection.execute(_OVERDUE, {"limit": limit})
        return tuple((StreamId(row.stream_id), OrganizationId(row.organization_id)) for row in rows)


_OVERDUE = text("SELECT stream_id, organization_id FROM streams_past_deadline(:limit)")


# -- the store -------------------------------------------------------------------------------------------


class ProjectionStore:
    """The projection's rows of one tenant, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def _run(self, statement: Any, parameters: Any = None) -> Any:
        connection = await self._session.connection()
        return await connection.execute(statement, parameters)

    # -- streams -------------------------------------------------------------------------------------

    async def move(self, stream_id: StreamId, movement: Movement) -> StreamRecord | None:
        statement = update(t.streams).where(t.streams.c.stream_id == stream_id)
        if movement.run is not None:
            statement = statement.where(t.streams.c.run == movement.run)
        result = await self._run(statement.values(_moved(movement)).returning(*STREAM_COLUMNS))
        row = result.first()
        return stream_record(row) if row else None

    async def has_stream(self, stream_id: StreamId) -> bool:
        found = await self._run(select(literal(1)).where(t.streams.c.stream_id == stream_id))
        return found.first() is not None

    async def read_stream(self, stream_id: StreamId) -> StreamRecord | None:
        """The stream as it is, without a lock."""
        row = (await self._run(select(*STREAM_COLUMNS).where(t.streams.c.stream_id == stream_id))).first()
        return stream_record(row) if row else None

    async def lock_overdue(self, stream_id: StreamId) -> StreamRecord | None:
        c = t.streams.c
        statement = select(*STREAM_COLUMNS).where(
            c.stream_id == stream_id, c.status.in_(RUNNING), c.deadline_at < func.now()
        )
        row = (await self._run(statement.with_for_update())).first()
        return stream_record(row) if row else None

    async def begin(self, stream_id: StreamId, *, at: datetime) -> StreamRecord:
        return await self._set_stream(stream_id, status=StreamStatus.PROCESSING.value, updated_at=at)

    async def finish(
        self, stream_id: StreamId, completion: Completion, *, at: datetime, status: StreamStatus
    ) -> StreamRecord:
        return await self._set_stream(
            stream_id,
            status=status.value,
            partial=completion.partial,
            cause=completion.cause,
            error=completion.error,
            updated_at=at,
            completed_at=func.coalesce(t.streams.c.completed_at, at),
        )

    async def _set_stream(self, stream_id: StreamId, **values: Any) -> StreamRecord:
        statement = update(t.streams).where(t.streams.c.stream_id == stream_id).values(**values)
        return stream_record((await self._run(statement.returning(*STREAM_COLUMNS))).one())

    async def facts_of(self, stream: StreamRecord) -> RunFacts:
        return (await run_facts(self._session, (stream.stream_id,)))[stream.stream_id]

    # -- ingest and analyzer -------------------------------------------------------------------------

    async def put_window(self, event: events.SegmentReady) -> None:
        row = _window_row(event, window_id(event.stream_id, event.position))
        stretches = [stretch.to_json() for stretch in stretches_of(event.segments)]
        new = upsert(t.windows).values(**row, ready_at=event.occurred_at, stretches=stretches)
        ready_at = func.least(t.windows.c.ready_at, new.excluded.ready_at)
        w = t.windows.c
        # A verdict of the same revision may have come first, without media.
        newest = (new.excluded.revision >= w.revision) | (w.stretches == literal([], JSONB))
        media = _chosen(t.windows, new.excluded, ("stretches",), newest)
        await self._run(_on_window(new, {**_window_place(new), **media, "ready_at": ready_at}))

    async def put_verdict(self, event: events.SegmentAnalyzed) -> None:
        verdict = {
            "verdict": event.verdict.value,
            "reason": event.reason,
            "provider": event.provider,
            "model": event.model,
            "degraded": event.degraded,
            "input_tokens": event.input_tokens,
            "output_tokens": event.output_tokens,
            "cost_microusd": event.cost_microusd,
            "analyzed_at": event.occurred_at,
        }
        new = upsert(t.windows).values(**_window_row(event, event.window_id), **verdict)
        judged = _chosen(t.windows, new.excluded, verdict, _better_verdict(new.excluded))
        await self._run(_on_window(new, {**_window_place(new), **judged}))

    async def put_gap(self, event: events.SegmentMissed) -> None:
        fields = {"stream_id", "run", "index", "organization_id", "from_us", "to_us"}
        fields |= {"cause", "epoch", "from_sequence", "to_sequence"}
        row = event.model_dump(include=fields)
        await self._run(upsert(t.gaps).values(**row).on_conflict_do_nothing())

    async def put_stall(self, event: events.StreamStalled | events.StreamResumed) -> None:
        row = event.model_dump(include={"stream_id", "run", "index", "organization_id", "at_us", "cause"})
        moment = "stalled_at" if isinstance(event, events.StreamStalled) else "resumed_at"
        new = upsert(t.stalls).values(**row, **{moment: event.occurred_at})
        # The place of a stall is where it began; a resumption that comes first only holds it open.
        columns = ("at_us", "cause", moment) if moment == "stalled_at" else (moment,)
        changes = {name: new.excluded[name] for name in columns}
        await self._run(new.on_conflict_do_update(index_elements=["stream_id", "run", "index"], set_=changes))

    async def put_annotation(self, event: events.SegmentAnnotated) -> None:
        fields = {"stream_id", "run", "index", "organization_id", "kind", "from_us", "to_us", "detail"}
        row = event.model_dump(include=fields)
        await self._run(upsert(t.annotations).values(**row).on_conflict_do_nothing())

    async def put_repair(self, event: events.SegmentRepaired) -> None:
        """The newest attempt, but a failure never takes back what was repaired; the windows of them all."""
        told = event.model_dump(include={"outcome", "revision", "from_us", "to_us", "reason"})
        told["repaired_at"] = event.occurred_at
        key = event.model_dump(include={"stream_id", "run", "gap_index", "organization_id"})
        new = upsert(t.repairs).values(**key, **told, windows=list(event.windows))
        r, incoming = t.repairs.c, new.excluded
        is_kept = (incoming.outcome == "failed") & (r.outcome != "failed")
        chosen = _chosen(t.repairs, incoming, told, (incoming.revision > r.revision) & ~is_kept)
        windows = case((incoming.revision == r.revision, r.windows), else_=r.windows + incoming.windows)
        place = ["stream_id", "run", "gap_index"]
        await self._run(new.on_conflict_do_update(index_elements=place, set_={**chosen, "windows": windows}))

    async def put_signal(self, event: events.SignalReceived, *, most: int) -> bool:
        fields = {
            "stream_id",
            "event_id",
            "organization_id",
            "run",
            "kind",
            "at_us",
            "wall_at",
            "duration_us",
        }
        fields |= {"weight", "text", "origin", "external_id", "author", "occurred_at"}
        parameters = event.model_dump(include=fields) | {"most": most}
        return (await self._run(_KEEP_SIGNAL, parameters)).first() is not None

    async def put_candidate(self, event: events.CandidateScored) -> None:
        row = event.model_dump(
            include={"candidate_id", "organization_id", "stream_id", "run", "index", "revision"}
        )
        new = upsert(t.candidates).values(**row, body=event.model_dump(mode="json"))
        await self._run(
            new.on_conflict_do_update(
                index_elements=["candidate_id"],
                set_={"revision": new.excluded.revision, "body": new.excluded.body},
                where=new.excluded.revision > t.candidates.c.revision,
            )
        )

    # -- selector and clipper ------------------------------------------------------------------------

    async def put_judgement(self, event: events.CandidateJudged) -> None:
        fields = {"candidate_id", "ordinal", "organization_id", "stream_id", "rule", "score", "bound"}
        row = event.model_dump(include=fields | {"against", "highlight_id", "explanation"})
        row |= {"decision": event.decision.value, "judged_at": event.occurred_at}
        await self._run(upsert(t.judgements).values(**row).on_conflict_do_nothing())

    async def put_highlight(self, event: events.HighlightEvent) -> None:
        content = event.model_dump(mode="json", include={column.name for column in t.highlights.c})
        key = {
            name: content.pop(name) for name in ("highlight_id", "organization_id", "stream_id", "revision")
        }
        at = event.occurred_at
        new = upsert(t.highlights).values(**key, **content, created_at=at, updated_at=at)
        h, incoming = t.highlights.c, new.excluded
        newest = incoming.revision > h.revision
        # A retraction that came first left a row without content.
        chosen = _chosen(t.highlights, incoming, content, or_(newest, h.segments == literal([], JSONB)))
        await self._run(_on_highlight(new, chosen | {"retracted": case((newest, False), else_=h.retracted)}))

    async def put_retraction(self, event: events.HighlightRetracted) -> None:
        key = event.model_dump(include={"highlight_id", "organization_id", "stream_id", "revision"})
        at = event.occurred_at
        new = upsert(t.highlights).values(
            **key, **_NO_CONTENT, retracted=True, reason=event.reason, created_at=at, updated_at=at
        )
        h = t.highlights.c
        retracted = case((new.excluded.revision >= h.revision, True), else_=h.retracted)
        await self._run(_on_highlight(new, {"retracted": retracted}))

    async def put_clip(self, event: events.ClipReady | events.ClipFailed) -> None:
        """A clip that is ready is never taken back by a failure of the same revision."""
        key = event.model_dump(include={"highlight_id", "revision", "organization_id", "stream_id"})
        row = key | _clip_outcome(event) | {"finished_at": event.occurred_at}
        new = upsert(t.clips).values(**row)
        changes = {name: new.excluded[name] for name in row if name not in key}
        await self._run(
            new.on_conflict_do_update(
                index_elements=["highlight_id", "revision"],
                set_=changes,
                where=(t.clips.c.status == "failed") & (new.excluded.status == "ready"),
            )
        )

    async def highlight_state(self, stream_id: StreamId, highlight_id: HighlightId) -> HighlightState:
        statement = _HIGHLIGHT_WITH_CLIPS.where(t.highlights.c.highlight_id == highlight_id)
        row = (await self._run(statement)).first()
        if row is None:
            return HighlightState()
        highlight = highlight_record(row)
        clips = tuple(_clip_of_array(clip) for clip in row.clips or ())
        ids = announcement_ids(stream_id, highlight_id, up_to_revision=highlight.revision)
        announced = await self._announced(ids) if clips or highlight.retracted else None
        return HighlightState(highlight=highlight, clips=clips, announced=announced)

    async def _announced(self, ids: Sequence[str]) -> int | None:
        """The newest revision of a highlight that these events told of."""
        found = await self._run(_ANNOUNCED, {"ids": list(ids)})
        newest = found.scalar_one()
        return None if newest is None else int(newest)

    # -- public events, deliveries, what was parked ----------------------------------------------------

    async def add_public_event(
        self, stream: StreamRecord, event: NewPublicEvent
    ) -> tuple[EndpointRecord, ...] | None:
        rows = (await self._run(_minting(stream, event))).all()
        if not rows:
            return None
        return tuple(
            EndpointRecord(
                endpoint_id=EndpointId(row.endpoint_id),
                version=row.version,
                event_types=tuple(row.event_types),
                last_delivery=DeliveryId(row.last_delivery) if row.last_delivery else None,
            )
            for row in rows
            if row.endpoint_id is not None
        )

    async def add_deliveries(self, stream: StreamRecord, deliveries: Sequence[NewDelivery]) -> None:
        rows = [
            {
                "delivery_id": delivery.delivery_id,
                "organization_id": stream.organization_id,
                "endpoint_id": delivery.endpoint_id,
                "public_event_id": delivery.public_event_id,
                "stream_id": stream.stream_id,
            }
            for delivery in deliveries
        ]
        await self._run(upsert(t.deliveries).values(rows).on_conflict_do_nothing())

    async def finish_deliveries(
        self, organization_id: OrganizationId, results: tuple[events.DeliveryResult, ...]
    ) -> None:
        """The newest result of each delivery wins."""
        rows = [
            result.model_dump() | {"organization_id": organization_id}
            for result in sorted(results, key=lambda result: result.delivery_id)
        ]
        await self._run(_FINISH_DELIVERY, rows)

    async def put_parked(self, event: events.MessageParked) -> None:
        row = event.model_dump(include={"service", "organization_id", "stream_id", "event_name"})
        row |= {"code": event.code, "reason": event.reason, "parked_at": event.occurred_at}
        new = upsert(t.parked).values(event_id=str(event.parked_event_id), **row)
        await self._run(new.on_conflict_do_nothing())


# -- parts of statements -----------------------------------------------------------------------------------

_NO_CONTENT: Mapping[str, Any] = {
    "run": 0,
    "start_us": 0,
    "end_us": 0,
    "peak_us": 0,
    "score": 0.0,
    "confidence": 0.0,
    "type": "",
    "title": "",
    "segments": [],
}
_CLIPS = (
    select(func.jsonb_agg(func.jsonb_build_array(*CLIP_COLUMNS), type_=JSONB))
    .where(t.clips.c.highlight_id == t.highlights.c.highlight_id)
    .scalar_subquery()
)
_HIGHLIGHT_WITH_CLIPS = select(*HIGHLIGHT_COLUMNS, _CLIPS.label("clips"))
_ANNOUNCED = text(
    "SELECT max((body::jsonb #>> '{data,revision}')::int) FROM public_events "
    "WHERE public_event_id = ANY(CAST(:ids AS text[]))"
)
# The row of the count is locked until the transaction ends, so numbers rise in the order of commits.
_KEEP_SIGNAL = text(
    """
    WITH counted AS (
        INSERT INTO signal_counts AS known (stream_id, organization_id, seen)
        SELECT :stream_id, :organization_id, 1
        WHERE NOT EXISTS (SELECT 1 FROM signals WHERE event_id = CAST(:event_id AS uuid))
        ON CONFLICT (stream_id) DO UPDATE SET seen = known.seen + 1
        RETURNING seen
    )
    INSERT INTO signals (stream_id, number, event_id, organization_id, run, kind, at_us, wall_at, duration_us,
        weight, text, origin, external_id, author, occurred_at)
    SELECT :stream_id, seen, CAST(:event_id AS uuid), :organization_id, :run, :kind, CAST(:at_us AS bigint),
        CAST(:wall_at AS timestamptz), :duration_us, :weight, :text, :origin, :external_id, :author, :occurred_at
    FROM counted WHERE seen <= :most ON CONFLICT DO NOTHING RETURNING number
    """
)
_FINISH_DELIVERY = text(
    """
    UPDATE deliveries SET outcome = :outcome, attempts = :attempts, status = :status, error = :error,
        finished_at = :finished_at
    WHERE delivery_id = :delivery_id AND organization_id = :organization_id
      AND (finished_at IS NULL OR finished_at < :finished_at)
    """
)


def _moved(movement: Movement) -> dict[str, Any]:
    c = t.streams.c
    changes: dict[str, Any] = {
        "updated_at": func.greatest(c.updated_at, movement.at),
        "deadline_at": func.greatest(c.deadline_at, movement.deadline_at),
        "media_duration_us": _risen(c.media_duration_us, movement.media_end_us),
        "offered_us": _risen(c.offered_us, movement.offered_end_us),
    }
    if movement.seen_at is not None:
        changes["started_at"] = func.least(c.started_at, movement.seen_at)
    if movement.ended is not None:
        changes |= _at_the_end(movement.ended) | {"ended_at": movement.ended_at}
    if movement.selection is not None:
        changes["selection"] = _newest_selection(movement.selection)
    return changes


def _newest_selection(selection: Selection) -> ColumnElement[Any]:
    """Repairs raise the revision, and relays give no order."""
    stored = t.streams.c.selection
    known = func.coalesce(stored["revision"].as_integer(), 0)
    told = literal(_stored_selection(selection), JSONB)
    return case((stored.is_(None), told), (known <= selection.revision, told), else_=stored)


def _risen(column: ColumnElement[int], value: int) -> ColumnElement[int]:
    """While the stream runs; what ingest tells at the end is final."""
    return case((t.streams.c.ended.is_(None), func.greatest(column, value)), else_=column)


def _at_the_end(ended: Ended) -> dict[str, Any]:
    stored = {
        "cause": ended.cause,
        "detail": ended.detail,
        "windows": list(ended.windows),
        "gap_indexes": list(ended.gap_indexes),
        "media_duration_us": ended.media_duration_us,
        "offered_us": ended.offered_us,
        "segments": ended.segments,
        "excluded_us": ended.excluded_us,
    }
    return {
        "ended": stored,
        "media_duration_us": ended.media_duration_us,
        "offered_us": ended.offered_us,
    }


def _stored_selection(selection: Selection) -> dict[str, Any]:
    return {
        "final": [list(pair) for pair in selection.final],
        "windows_analysed": selection.windows_analysed,
        "windows_skipped": selection.windows_skipped,
        "windows_failed": selection.windows_failed,
        "failure_reason": selection.failure_reason,
        "revision": selection.revision,
    }


def _chosen(
    table: Any, incoming: Any, names: Iterable[str], condition: ColumnElement[bool]
) -> dict[str, ColumnElement[Any]]:
    """Take the incoming columns where the condition holds, keep the stored ones elsewhere."""
    return {name: case((condition, incoming[name]), else_=table.c[name]) for name in names}


def _window_row(event: events.SegmentReady | events.SegmentAnalyzed, identifier: WindowId) -> dict[str, Any]:
    fields = {"stream_id", "run", "index", "organization_id", "revision", "start_us", "end_us"}
    return event.model_dump(include=fields) | {"window_id": identifier}


def _window_place(new: Any) -> dict[str, ColumnElement[Any]]:
    newest = new.excluded.revision > t.windows.c.revision
    place = _chosen(t.windows, new.excluded, ("window_id", "start_us", "end_us"), newest)
    return place | {"revision": func.greatest(t.windows.c.revision, new.excluded.revision)}


def _better_verdict(incoming: Any) -> ColumnElement[bool]:
    """The newest revision wins, but a failure never takes back a verdict."""
    stored = t.windows.c
    cured = (incoming.verdict != "failed") & (stored.verdict == "failed")
    newer = (incoming.revision >= stored.revision) & (
        (incoming.verdict != "failed") | (stored.verdict == "failed")
    )
    return or_(stored.verdict.is_(None), cured, newer)


def _on_window(new: Any, changes: Mapping[str, Any]) -> Any:
    return new.on_conflict_do_update(index_elements=["stream_id", "run", "index"], set_=changes)


def _on_highlight(new: Any, changes: Mapping[str, Any]) -> Any:
    h, incoming = t.highlights.c, new.excluded
    times = {
        "revision": func.greatest(h.revision, incoming.revision),
        "created_at": func.least(h.created_at, incoming.created_at),
        "updated_at": func.greatest(h.updated_at, incoming.updated_at),
    }
    return new.on_conflict_do_update(index_elements=["highlight_id"], set_={**changes, **times})


def _clip_outcome(event: events.ClipReady | events.ClipFailed) -> dict[str, Any]:
    media = ("video_key", "thumbnail_key", "start_us", "duration_us", "size_bytes", "width", "height")
    if isinstance(event, events.ClipReady):
        return {"status": "ready", "code": None, "reason": None} | event.model_dump(include=set(media))
    return dict.fromkeys(media) | {
        "status": "failed",
        "code": event.code,
        "reason": f"{event.stage}: {event.reason}",
    }


def _minting(stream: StreamRecord, event: NewPublicEvent) -> Select[Any]:
    """Add the event and take its number, or do neither; answers a row for each endpoint, or one without."""
    minted = (
        upsert(t.public_events)
        .values(
            public_event_id=event.public_event_id,
            organization_id=stream.organization_id,
            stream_id=stream.stream_id,
            sequence=event.sequence,
            type=event.type,
            body=event.body,
            created_at=event.created_at,
        )
        .on_conflict_do_nothing(index_elements=["public_event_id"])
        .returning(t.public_events.c.sequence)
        .cte("minted")
    )
    numbered = (
        update(t.streams)
        .where(t.streams.c.stream_id == stream.stream_id, exists(select(minted.c.sequence)))
        .values(next_sequence=event.sequence + 1)
        .returning(t.streams.c.next_sequence)
        .cte("numbered")
    )
    e = t.endpoints.c
    for_stream = e.active & or_(e.stream_id.is_(None), e.stream_id == stream.stream_id)
    return select(e.endpoint_id, e.version, e.event_types, _last_delivery(stream)).select_from(
        numbered.outerjoin(t.endpoints, for_stream & (e.organization_id == stream.organization_id))
    )


def _last_delivery(stream: StreamRecord) -> Any:
    d, p = t.deliveries.c, t.public_events.c
    return (
        select(d.delivery_id)
        .join_from(t.deliveries, t.public_events, d.public_event_id == p.public_event_id)
        .where(d.endpoint_id == t.endpoints.c.endpoint_id, d.stream_id == stream.stream_id)
        .order_by(p.sequence.desc())
        .limit(1)
        .correlate(t.endpoints)
        .scalar_subquery()
        .label("last_delivery")
    )
