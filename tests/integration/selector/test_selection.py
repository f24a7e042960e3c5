"""The selector on a real database: order and multiplicity of arrival, deadlines, tombstones."""

import random
from collections.abc import AsyncIterator

import asyncpg
import pytest

from selector.adapters.run_rows import RunRows
from selector.workflow import ProfileUnknown, Selection
from shared.closures import Closures
from shared.database import Database
from shared.events import (
    CandidateScored,
    SegmentAnalyzed,
    SegmentReady,
    SegmentRepaired,
    StreamClosed,
    StreamEvent,
    StreamOnline,
)
from shared.ids import Position, candidate_id, event_id, window_id
from shared.middleware import UnitOfWork
from shared.outbox import Outbox
from shared.profile import Profile
from shared.repairs import repair_epoch, repair_index
from tests.builders import (
    NOW,
    ORGANIZATION,
    STREAM,
    candidate_scored,
    profile,
    segment_analyzed,
    segment_ready,
    segment_ref,
    stream_ended,
    stream_online,
)
from tests.conftest import Installation

DEADLINE_S = 600.0
OUTCOME = "SELECT event_id::text, event_name FROM selector.outbox ORDER BY 1"


class OneProfile:
    async def get(self, key: str) -> Profile:
        return profile()


class Rig:
    """A selection without its broker: events go in by hand, each in a transaction of its own."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.database = Database(installation.database_url("selector"), schema="selector")
        self.outbox = Outbox("selector")
        self.selection = Selection(
            runs=RunRows(self.database),
            profiles=OneProfile(),
            closures=Closures(self.database),
            database=self.database,
            outbox=self.outbox,
            clock=lambda: NOW,
            deadline_s=DEADLINE_S,
        )

    async def give(self, event: StreamEvent) -> None:
        async with self.database.transaction(event.organization_id) as session:
            unit = UnitOfWork(session, self.outbox)
            if isinstance(event, StreamOnline):
                await self.selection.begin(event, unit)
            elif isinstance(event, StreamClosed):
                await self.selection.close(event, unit)
            else:
                await self.selection.take(event, unit)

    async def give_all(self, events: list[StreamEvent]) -> None:
        """As the middleware does: what cannot be judged yet comes again later."""
        waiting = list(events)
        while waiting:
            event = waiting.pop(0)
            try:
                await self.give(event)
            except ProfileUnknown:
                waiting.append(event)

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(self.installation.admin_url)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()


@pytest.fixture
async def rig(installation: Installation) -> AsyncIterator[Rig]:
    made = Rig(installation)
    yield made
    await made.database.close()


def life_of_a_stream() -> list[StreamEvent]:
    """Six windows with moments in three of them, one seen twice."""
    events: list[StreamEvent] = [
        stream_online(),
        *map(segment_ready, range(6)),
        candidate_scored(0, peak_s=18, score=0.8),
        candidate_scored(1, peak_s=18, score=0.82),
        candidate_scored(3, peak_s=60, score=0.9),
        candidate_scored(4, peak_s=75, score=0.4),
        *(segment_analyzed(index, candidates=int(index in {0, 1, 3, 4})) for index in range(6)),
        stream_ended(6),
    ]
    return events


async def test_the_outcome_is_the_same_for_every_order_and_multiplicity(rig: Rig) -> None:
    outcomes = []
    for seed in range(4):
        shuffled = [event for event in life_of_a_stream() for _ in range(1 + seed)]
        random.Random(seed).shuffle(shuffled)
        await rig.rows("TRUNCATE selector.runs, selector.outbox")
        await rig.give_all(shuffled)
        outcomes.append(await rig.rows(OUTCOME))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert {"highlight.confirmed", "candidate.judged", "selection.closed"} == {
        name for _, name in outcomes[0]
    }


async def test_an_event_before_any_profile_is_told_is_retried(rig: Rig) -> None:
    with pytest.raises(ProfileUnknown):
        await rig.give(stream_ended(1))
    assert [] == await rig.rows("SELECT 1 FROM selector.runs")


async def test_a_window_without_a_verdict_fails_after_its_deadline_and_the_selection_closes(rig: Rig) -> None:
    await rig.give(segment_ready(0))
    await rig.give(segment_ready(1))
    await rig.give(segment_analyzed(1))
    await rig.give(stream_ended(2))
    assert 1 == len(await rig.rows("SELECT 1 FROM selector.runs WHERE due_at IS NOT NULL"))
    await rig.rows("UPDATE selector.runs SET due_at = now() - interval '1 s' RETURNING 1")
    assert 1 == await rig.selection.expire_due(limit=10)
    [(failed, reason)] = await rig.rows(
        "SELECT body::jsonb ->> 'windows_failed', body::jsonb ->> 'failure_reason' FROM selector.outbox "
        "WHERE event_name = 'selection.closed'"
    )
    assert ("1", True) == (failed, "timeout" in str(reason))


async def test_the_deadline_of_a_window_counts_from_its_offer(rig: Rig) -> None:
    await rig.give(segment_ready(0))
    [(due,)] = await rig.rows("SELECT extract(epoch FROM due_at)::float8 FROM selector.runs")
    assert NOW.timestamp() + DEADLINE_S == due


async def test_a_closed_stream_puts_out_nothing_more(rig: Rig) -> None:
    await rig.give(segment_ready(0))
    closed = StreamClosed(
        event_id=event_id(STREAM, StreamClosed.name),
        organization_id=ORGANIZATION,
        stream_id=STREAM,
        occurred_at=NOW,
        cause="watchdog",
    )
    await rig.give(closed)
    await rig.give(segment_analyzed(0))
    await rig.give(stream_ended(1))
    assert [] == await rig.rows("SELECT 1 FROM selector.outbox")
    assert [("watchdog",)] == await rig.rows("SELECT cause FROM selector.closed_streams")


async def test_another_tenant_sees_none_of_it(rig: Rig) -> None:
    await rig.give(segment_ready(0))
    connection = await asyncpg.connect(rig.installation.database_url("selector"))
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL search_path = selector")
            assert 0 == await connection.fetchval("SELECT count(*) FROM runs")
            await connection.execute("SELECT set_config('app.organization_id', 'org_other', true)")
            assert 0 == await connection.fetchval("SELECT count(*) FROM runs")
            await connection.execute("SELECT set_config('app.organization_id', $1, true)", ORGANIZATION)
            assert 1 == await connection.fetchval("SELECT count(*) FROM runs")
    finally:
        await connection.close()


def repair_of_a_gap() -> list[StreamEvent]:
    """One window of 20 s that a recording brought, with a moment in it."""
    position = Position(0, repair_index(0, 0), 1)
    place = {"index": position.index, "revision": position.revision}
    start_us = 200_000_000
    segments = tuple(
        segment_ref(n, start_us=start_us + n * 2_000_000, epoch=repair_epoch(0, revision=1))
        for n in range(10)
    )
    named = {"candidate_id": candidate_id(STREAM, position, 0), "window_id": window_id(STREAM, position)}
    span = {"start_us": start_us, "end_us": start_us + 20_000_000}
    found = candidate_scored(0, peak_s=210).model_dump()
    offered, judged = segment_ready(0).model_dump(), segment_analyzed(0).model_dump()
    return [
        SegmentReady.model_validate(offered | place | span | {"segments": segments}),
        CandidateScored.model_validate(found | place | named),
        SegmentAnalyzed.model_validate(
            judged | place | span | named | {"candidates": (named["candidate_id"],)}
        ),
        SegmentRepaired(
            event_id=event_id(STREAM, SegmentRepaired.name, position),
            organization_id=ORGANIZATION,
            stream_id=STREAM,
            occurred_at=NOW,
            run=0,
            gap_index=0,
            outcome="repaired",
            from_us=206_000_000,
            to_us=214_000_000,
            windows=(named["window_id"],),
        ),
    ]


def closed(cause: str) -> StreamClosed:
    return StreamClosed.model_validate(
        {
            "event_id": event_id(STREAM, StreamClosed.name, cause),
            "organization_id": ORGANIZATION,
            "stream_id": STREAM,
            "occurred_at": NOW,
            "cause": cause,
        }
    )


async def test_a_completed_stream_is_still_repaired_in_any_order(rig: Rig) -> None:
    outcomes = []
    for seed in range(3):
        await rig.rows("TRUNCATE selector.runs, selector.outbox, selector.standing")
        await rig.give_all(life_of_a_stream())
        await rig.give(closed("completed"))
        late = repair_of_a_gap() * 2
        random.Random(seed).shuffle(late)
        await rig.give_all(late)
        outcomes.append(await rig.rows(OUTCOME))

    assert all(outcome == outcomes[0] for outcome in outcomes)
    closings = await rig.rows(
        "SELECT (body::jsonb ->> 'revision')::int, jsonb_array_length(body::jsonb -> 'final') "
        "FROM selector.outbox WHERE event_name = 'selection.closed' ORDER BY 1"
    )
    assert [(0, 1), (1, 2)] == closings
    assert 2 == len(await rig.rows("SELECT 1 FROM selector.standing"))


async def test_a_stream_that_is_erased_after_its_completion_is_closed_for_good(rig: Rig) -> None:
    closures = Closures(rig.database)
    await rig.give(closed("completed"))
    assert not await closures.is_closed_for(ORGANIZATION, STREAM)

    await rig.give(closed("suspended"))
    await rig.give(closed("completed"))

    assert await closures.is_closed_for(ORGANIZATION, STREAM)
