"""SQL of the timeline and of signals: rows of one run, bounded, by time."""

from functools import partial
from typing import Any

from sqlalchemy import Select, func, select

from gateway.adapters import tables as t
from gateway.adapters.view_store import ViewRows
from gateway.domain.signals import SignalRecord, SignalRows
from gateway.domain.stream_status import StreamRecord
from gateway.domain.timeline import (
    AnnotationFact,
    GapFact,
    RepairFact,
    StallFact,
    TimelineRows,
    WindowFact,
)
from gateway.domain.timeline_stretch import Stretch
from shared.ids import StreamId

_SIGNAL_COLUMNS = tuple(
    t.signals.c[name]
    for name in (
        "number",
        "run",
        "kind",
        "at_us",
        "wall_at",
        "duration_us",
        "weight",
        "text",
        "origin",
        "external_id",
        "author",
    )
)


class TimelineStore(ViewRows):
    """Beside what the other views read."""

    async def timeline_rows(
        self, stream: StreamRecord, *, from_us: int, to_us: int | None, most: int
    ) -> TimelineRows:
        w, g, a, s = t.windows.c, t.gaps.c, t.annotations.c, t.stalls.c
        within = partial(_within, stream=stream, from_us=from_us, to_us=to_us, most=most)
        windows = await self._rows(within(select(t.windows), w.start_us, w.end_us))
        gaps = await self._rows(within(_GAPS, g.from_us, g.to_us))
        annotations = await self._rows(within(select(t.annotations), a.from_us, a.to_us))
        stalls = await self._rows(within(select(t.stalls), s.at_us, s.at_us + 1))
        starts = ((windows, "start_us"), (gaps, "from_us"), (annotations, "from_us"), (stalls, "at_us"))
        cuts = [rows[most][name] for rows, name in starts if len(rows) > most]
        return TimelineRows(
            windows=tuple(map(_window, windows[:most])),
            gaps=tuple(map(_gap, gaps[:most])),
            annotations=tuple(map(_annotation, annotations[:most])),
            stalls=tuple(map(_stall, stalls[:most])),
            cut_us=max(min(cuts), from_us + 1) if cuts else None,
            origin=await self._origin(stream) if from_us else None,
        )

    async def _origin(self, stream: StreamRecord) -> Stretch | None:
        c = t.windows.c
        of_run = (c.stream_id == stream.stream_id, c.run == stream.run)
        for row in await self._rows(select(c.stretches).where(*of_run).order_by(c["index"]).limit(1)):
            return next(map(Stretch.from_json, row["stretches"]), None)
        return None

    async def signals(self, stream_id: StreamId, *, kind: str | None, after: int, most: int) -> SignalRows:
        c = t.signals.c
        statement = select(*_SIGNAL_COLUMNS).where(c.stream_id == stream_id, c.number > after)
        if kind is not None:
            statement = statement.where(c.kind == kind)
        rows = await self._rows(statement.order_by(c.number).limit(most + 1))
        counted = select(t.signal_counts.c.seen).where(t.signal_counts.c.stream_id == stream_id)
        seen = (await self._execute(counted)).scalar_one_or_none() or 0
        kept = select(func.count()).select_from(t.signals).where(c.stream_id == stream_id)
        return SignalRows(
            records=tuple(SignalRecord(**row) for row in rows[:most]),
            more=len(rows) > most,
            seen=seen,
            kept=(await self._execute(kept)).scalar_one(),
        )

    async def _rows(self, statement: Any) -> list[dict[str, Any]]:
        return [dict(row._mapping) for row in await self._execute(statement)]


_GAPS = select(
    t.gaps,
    t.repairs.c.outcome,
    t.repairs.c.from_us.label("repair_from_us"),
    t.repairs.c.to_us.label("repair_to_us"),
    t.repairs.c.revision.label("repair_revision"),
    func.cardinality(t.repairs.c.windows).label("repair_windows"),
    t.repairs.c.reason.label("repair_reason"),
    t.repairs.c.repaired_at,
).select_from(
    t.gaps.outerjoin(
        t.repairs,
        (t.repairs.c.stream_id == t.gaps.c.stream_id)
        & (t.repairs.c.run == t.gaps.c.run)
        & (t.repairs.c.gap_index == t.gaps.c["index"]),
    )
)


def _within(
    statement: Select[Any],
    start: Any,
    end: Any,
    *,
    stream: StreamRecord,
    from_us: int,
    to_us: int | None,
    most: int,
) -> Select[Any]:
    """One row more than is shown, which tells where the answer was cut."""
    table = start.table
    of_run = (table.c.stream_id == stream.stream_id, table.c.run == stream.run, end > from_us)
    statement = statement.where(*of_run)
    if to_us is not None:
        statement = statement.where(start < to_us)
    return statement.order_by(start, table.c["index"]).limit(most + 1)


def _window(row: dict[str, Any]) -> WindowFact:
    return WindowFact(
        index=row["index"],
        from_us=row["start_us"],
        to_us=row["end_us"],
        verdict=row["verdict"],
        reason=row["reason"],
        degraded=row["degraded"],
        provider=row["provider"],
        stretches=tuple(Stretch.from_json(stored) for stored in row["stretches"]),
    )


def _gap(row: dict[str, Any]) -> GapFact:
    return GapFact(
        index=row["index"],
        from_us=row["from_us"],
        to_us=row["to_us"],
        cause=row["cause"],
        repair=_repair(row) if row["outcome"] is not None else None,
    )


def _repair(row: dict[str, Any]) -> RepairFact:
    return RepairFact(
        outcome=row["outcome"],
        from_us=row["repair_from_us"],
        to_us=row["repair_to_us"],
        revision=row["repair_revision"],
        windows=row["repair_windows"],
        reason=row["repair_reason"],
        repaired_at=row["repaired_at"],
    )


def _annotation(row: dict[str, Any]) -> AnnotationFact:
    return AnnotationFact(kind=row["kind"], from_us=row["from_us"], to_us=row["to_us"], detail=row["detail"])


def _stall(row: dict[str, Any]) -> StallFact:
    return StallFact(
        at_us=row["at_us"],
        cause=row["cause"],
        stalled_at=row["stalled_at"],
        resumed_at=row["resumed_at"],
    )
