"""The projection on a real database: any order and any number of repeats of a stream's events, one outcome."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import select, text, update

from gateway.adapters import tables as t
from gateway.adapters.projection_store import ProjectionStore, overdue_streams, run_facts
from gateway.domain.public_views import public_stream
from gateway.subscribers import register
from gateway.workflow.completion import Completer
from gateway.workflow.playback import PlaybackLinks
from gateway.workflow.projection import Projection, StreamUnknown
from gateway.workflow.public_events import PublicEvents
from gateway.workflow.watchdog import Watchdog
from shared import events
from shared.contract import consumed_by
from shared.database import Database
from shared.events import Event
from shared.ids import (
    DeliveryId,
    EndpointId,
    HighlightId,
    OrganizationId,
    Position,
    StreamId,
    candidate_id,
    delivery_id,
    event_id,
    highlight_id,
    public_event_id,
    window_id,
)
from shared.middleware import StateHandler, UnitOfWork
from shared.outbox import Outbox
from tests.builders import NOW, ORGANIZATION, STREAM, highlight_confirmed, segment_ref

EventT = TypeVar("EventT", bound=Event)
S = 1_000_000
WINDOWS = 4
EVERYTHING, DETECTIONS, ELSEWHERE = EndpointId("ep_all"), EndpointId("ep_detected"), EndpointId("ep_other")
# Rows that hold when something was done rather than what happened differ from run to run.
WHEN = {"updated_at", "deadline_at", "completed_at", "next_sequence"}
PROJECTED = (
    t.streams,
    t.windows,
    t.gaps,
    t.stalls,
    t.candidates,
    t.judgements,
    t.highlights,
    t.clips,
    t.parked,
)


class Links:
    async def signed_url(self, key: str, *, expires_s: int) -> str:
        return f"https://cdn.example.com/{key}?expires_s={expires_s}"


PLAYBACK = PlaybackLinks(base_url="https://api.example.com/v1", secret="s" * 32, clock=lambda: NOW)


@dataclass
class Handlers:
    """Stands in for the consumer: takes what `subscribers.py` registers."""

    by_model: dict[type[Event], StateHandler] = field(default_factory=dict)

    def state(self, model: type[Event], handler: StateHandler) -> None:
        self.by_model[model] = handler


@dataclass(frozen=True)
class Gateway:
    """The projection as the composition root puts it together, without a broker."""

    database: Database
    outbox: Outbox
    handlers: dict[type[Event], StateHandler]
    watchdog: Watchdog

    async def handle(self, event: Event) -> None:
        async with self.database.transaction(event.organization_id) as session:
            await self.handlers[type(event)](event, UnitOfWork(session, self.outbox))

    async def handle_all(self, stream_events: Sequence[Event]) -> None:
        for event in stream_events:
            await self.handle(event)

    async def rows(self, table: Any, *, without: Container[str] = ()) -> list[dict[str, Any]]:
        columns = [column for column in table.c if column.name not in without]
        async with self.database.transaction(ORGANIZATION) as session:
            connection = await session.connection()
            found = await connection.execute(select(*columns).order_by(*table.primary_key.columns))
            return [dict(row._mapping) for row in found]

    async def projected(self) -> dict[str, list[dict[str, Any]]]:
        return {table.name: await self.rows(table, without=WHEN) for table in PROJECTED}

    async def public_events(self) -> list[dict[str, Any]]:
        return sorted(await self.rows(t.public_events), key=lambda row: int(row["sequence"]))

    async def told(self) -> list[str]:
        return [row["type"] for row in await self.public_events()]

    async def stream(self) -> dict[str, Any]:
        return (await self.rows(t.streams))[0]

    async def emitted(self, name: str) -> list[dict[str, Any]]:
        async with self.database.transaction() as session:
            connection = await session.connection()
            found = await connection.execute(
                text("SELECT body FROM outbox WHERE event_name = :name ORDER BY seq"), {"name": name}
            )
            return [json.loads(row.body) for row in found]

    async def reset(self) -> None:
        """An empty database but for one stream that was just accepted, and three endpoints."""
        async with self.database.transaction(ORGANIZATION) as session:
            connection = await session.connection()
            for table in (*PROJECTED, t.public_events, t.deliveries, t.endpoints):
                await connection.execute(table.delete())
            await connection.execute(text("DELETE FROM outbox"))
            await connection.execute(t.streams.insert().values(**STREAM_ROW))
            await connection.execute(t.endpoints.insert().values(ENDPOINT_ROWS))


STREAM_ROW: dict[str, Any] = {
    "stream_id": STREAM,
    "organization_id": ORGANIZATION,
    "platform": "hls",
    "sealed_source_url": "sealed",
    "display_url": "https://example.com/live.m3u8",
    "profile_key": "profiles/0.json",
    "options": {"custom_tags": ["vip"]},
    "metadata": {"match": 7},
    "created_at": NOW,
    "updated_at": NOW,
    "deadline_at": NOW + timedelta(minutes=10),
}


def endpoint_row(endpoint: EndpointId, *event_types: str, stream_id: str | None = None) -> dict[str, Any]:
    return {
        "endpoint_id": endpoint,
        "organization_id": ORGANIZATION,
        "stream_id": stream_id,
        "version": 3,
        "sealed_url": "sealed",
        "display_url": "https://customer.example.com/hook",
        "sealed_secrets": ["sealed"],
        "event_types": list(event_types),
    }


ENDPOINT_ROWS = [
    endpoint_row(EVERYTHING),
    endpoint_row(DETECTIONS, "highlight.detected", stream_id=STREAM),
    endpoint_row(ELSEWHERE, stream_id="str_aaaaaaaaaaaa"),
]


@pytest.fixture
async def gateway(gateway_database: Database) -> AsyncIterator[Gateway]:
    outbox = Outbox("gateway")
    public_events = PublicEvents(links=Links(), playback=PLAYBACK, clock=lambda: datetime.now(UTC))
    completer = Completer(public_events, lambda: datetime.now(UTC))

    def stores(unit: UnitOfWork) -> ProjectionStore:
        return ProjectionStore(unit.session)

    handlers = Handlers()
    projection = Projection(stores, public_events, completer, lambda: datetime.now(UTC))
    register(handlers, projection)  # type: ignore[arg-type]
    watchdog = Watchdog(
        database=gateway_database, outbox=outbox, overdue=overdue_streams, stores=stores, completer=completer
    )
    made = Gateway(gateway_database, outbox, handlers.by_model, watchdog)
    await made.reset()
    yield made


# -- the events of one stream ------------------------------------------------------------------------


def at(second: float) -> datetime:
    return NOW + timedelta(seconds=second)


def made(model: type[EventT], second: float, *parts: str | int, **fields: Any) -> EventT:
    head = {
        "event_id": event_id(STREAM, model.name, *parts),
        "organization_id": ORGANIZATION,
        "stream_id": STREAM,
        "occurred_at": at(second),
    }
    return model.model_validate(head | fields)


def flowing() -> events.StreamFlowing:
    return made(events.StreamFlowing, 2, 0, run=0, wall_at=at(0))


def window(index: int) -> events.SegmentReady:
    start_us = index * 15 * S
    return made(
        events.SegmentReady,
        20 + index * 15,
        index,
        run=0,
        index=index,
        start_us=start_us,
        end_us=start_us + 20 * S,
        profile_key="profiles/0.json",
        segments=(segment_ref(index, start_us=start_us),),
    )


def verdict(index: int, verdict: str = "analysed", **fields: Any) -> events.SegmentAnalyzed:
    ready = window(index)
    return made(
        events.SegmentAnalyzed,
        22 + index * 15,
        index,
        verdict,
        window_id=window_id(STREAM, Position(0, index)),
        run=0,
        index=index,
        profile_key="profiles/0.json",
        start_us=ready.start_us,
        end_us=ready.end_us,
        verdict=verdict,
        provider="signals",
        **fields,
    )


def candidate(index: int) -> events.CandidateScored:
    name = candidate_id(STREAM, Position(0, index), 0)
    return made(
        events.CandidateScored,
        21 + index * 15,
        name,
        candidate_id=name,
        window_id=window_id(STREAM, Position(0, index)),
        run=0,
        index=index,
        profile_key="profiles/0.json",
        start_us=index * 15 * S,
        end_us=index * 15 * S + 5 * S,
        peak_us=index * 15 * S + 2 * S,
        scores={"action": 0.9},
        confidence=0.8,
        title=f"Moment {index}",
        provider="signals",
    )


def judgement(index: int, ordinal: int, decision: str) -> events.CandidateJudged:
    name = candidate_id(STREAM, Position(0, index), 0)
    return made(
        events.CandidateJudged,
        23 + index * 15 + ordinal,
        name,
        ordinal,
        candidate_id=name,
        run=0,
        ordinal=ordinal,
        decision=decision,
        rule="threshold",
        score=0.8,
        bound=0.7,
    )


def highlight_of(index: int) -> HighlightId:
    return highlight_id(STREAM, candidate_id(STREAM, Position(0, index), 0))


def confirmed(index: int) -> events.HighlightConfirmed:
    name = highlight_of(index)
    return highlight_confirmed(
        event_id=event_id(STREAM, "highlight.confirmed", name, 0),
        occurred_at=at(25 + index * 15),
        highlight_id=name,
        title=f"Moment {index}",
        tags=("goal",),
    )


def revised(index: int, revision: int) -> events.HighlightRevised:
    first = confirmed(index).model_dump()
    changes = {
        "event_id": event_id(STREAM, "highlight.revised", highlight_of(index), revision),
        "occurred_at": at(30 + index * 15 + revision),
        "revision": revision,
        "end_us": first["end_us"] + revision * S,
        "title": f"Moment {index}, revised",
    }
    return events.HighlightRevised.model_validate(first | changes)


def retracted(index: int, revision: int) -> events.HighlightRetracted:
    name = highlight_of(index)
    fields = {"highlight_id": name, "revision": revision, "reason": "a better one came"}
    return made(events.HighlightRetracted, 40, name, revision, **fields)


def clip_ready(index: int, revision: int = 0) -> events.ClipReady:
    name = highlight_of(index)
    return made(
        events.ClipReady,
        28 + index * 15 + revision,
        name,
        revision,
        highlight_id=name,
        revision=revision,
        video_key=f"clips/{name}/r{revision}/clip.mp4",
        thumbnail_key=f"clips/{name}/r{revision}/thumbnail.jpg",
        start_us=2 * S,
        duration_us=10 * S,
        size_bytes=1000,
        sha256="0" * 64,
        width=1280,
        height=720,
    )


def clip_failed(index: int, revision: int = 0) -> events.ClipFailed:
    name = highlight_of(index)
    return made(
        events.ClipFailed,
        28 + index * 15,
        name,
        revision,
        highlight_id=name,
        revision=revision,
        stage="cut",
        code="no_key_frame",
        reason="no key frame",
    )


def gap() -> events.SegmentMissed:
    return made(
        events.SegmentMissed,
        50,
        0,
        run=0,
        index=0,
        from_us=65 * S,
        to_us=70 * S,
        epoch=0,
        from_sequence=30,
        to_sequence=32,
        cause="not_found",
    )


def stream_ended(**fields: Any) -> events.StreamEnded:
    told = {
        "run": 0,
        "cause": "endlist",
        "windows": tuple(window_id(STREAM, Position(0, index)) for index in range(WINDOWS)),
        "media_duration_us": 70 * S,
        "offered_us": 65 * S,
        "segments": 33,
    }
    return made(events.StreamEnded, 80, **told | fields)


def selection_closed(*final: tuple[HighlightId, int], failed: int = 0) -> events.SelectionClosed:
    return made(
        events.SelectionClosed,
        85,
        run=0,
        final=tuple(events.FinalHighlight(highlight_id=name, revision=rev) for name, rev in final),
        windows_analysed=WINDOWS - failed,
        windows_skipped=0,
        windows_failed=failed,
        failure_reason="the model refused" if failed else "",
    )


def message_parked(service: str, name: str, reason: str) -> events.MessageParked:
    return made(
        events.MessageParked,
        60,
        service,
        name,
        service=service,
        event_name=name,
        parked_event_id=UUID(int=1),
        code="unparsable",
        reason=reason,
    )


WHOLE: tuple[Event, ...] = (
    flowing(),
    *(window(index) for index in range(WINDOWS)),
    *(candidate(index) for index in range(WINDOWS)),
    *(verdict(index) for index in range(WINDOWS)),
    judgement(0, 0, "rejected"),
    judgement(0, 1, "kept"),
    confirmed(0),
    clip_ready(0),
    confirmed(2),
    clip_ready(2),
    stream_ended(),
    selection_closed((highlight_of(0), 0), (highlight_of(2), 0)),
)
# A stream in which as much as can be goes wrong, and one highlight is revised and another taken back.
ROUGH: tuple[Event, ...] = (
    flowing(),
    *(window(index) for index in range(WINDOWS)),
    *(candidate(index) for index in range(WINDOWS)),
    *(verdict(index) for index in range(WINDOWS - 1)),
    verdict(WINDOWS - 1, "failed", reason="the model refused"),
    judgement(1, 0, "kept"),
    made(events.StreamStalled, 45, 0, run=0, index=0, at_us=60 * S, cause="unchanged"),
    made(events.StreamResumed, 48, 0, run=0, index=0, at_us=60 * S),
    gap(),
    confirmed(0),
    clip_ready(0),
    revised(0, 1),
    clip_ready(0, 1),
    confirmed(1),
    clip_failed(1),
    confirmed(2),
    retracted(2, 1),
    stream_ended(cause="source_dead", detail="timeout", gap_indexes=(0,), offered_us=70 * S),
    selection_closed((highlight_of(0), 1), (highlight_of(1), 0), failed=1),
)


def shuffled(stream_events: Sequence[Event], seed: int) -> list[Event]:
    """One to three copies of each event, in an order drawn from the seed."""
    order = random.Random(seed)
    copies = [event for event in stream_events for _ in range(order.randint(1, 3))]
    order.shuffle(copies)
    return copies


# -- one outcome -------------------------------------------------------------------------------------


def test_every_event_that_the_contract_sends_has_a_handler() -> None:
    handlers = Handlers()
    register(handlers, Projection(None, None, None, None))  # type: ignore[arg-type]

    assert {model.name for model in handlers.by_model} == {spec.name for spec in consumed_by("gateway")}


async def test_a_stream_in_order_tells_its_story_in_order(gateway: Gateway) -> None:
    await gateway.handle_all(WHOLE)

    assert await gateway.told() == [
        "stream.started",
        "highlight.detected",
        "highlight.created",
        "highlight.detected",
        "highlight.created",
        "stream.completed",
    ]


async def test_a_finished_stream_says_so_everywhere(gateway: Gateway) -> None:
    await gateway.handle_all(WHOLE)

    row = await gateway.stream()
    body = json.loads((await gateway.public_events())[-1]["body"])
    closed = await gateway.emitted("stream.closed")
    assert (row["status"], row["partial"], row["cause"], row["error"]) == ("completed", False, None, None)
    assert (row["started_at"], row["ended_at"]) == (at(2), at(80))
    assert (body["data"]["status"], body["data"]["progress"]["coverage_pct"]) == ("completed", 100.0)
    assert [(event["cause"], event["stream_id"]) for event in closed] == [("completed", STREAM)]


async def test_a_stream_starts_with_its_first_segment_and_before_its_first_window(gateway: Gateway) -> None:
    await gateway.handle_all([flowing(), flowing()])

    row, [body] = await gateway.stream(), await gateway.public_events()
    shown = json.loads(body["body"])["data"]
    assert (row["status"], row["started_at"], await gateway.told()) == (
        "processing",
        at(2),
        ["stream.started"],
    )
    assert (shown["status"], shown["started_at"]) == ("processing", at(2).isoformat().replace("+00:00", "Z"))


async def test_that_media_flows_may_be_told_after_the_first_window(gateway: Gateway) -> None:
    await gateway.handle_all([window(0), flowing(), window(1)])

    row = await gateway.stream()
    assert (row["status"], row["started_at"], await gateway.told()) == (
        "processing",
        at(2),
        ["stream.started"],
    )


async def test_a_stream_that_flowed_and_fell_silent_is_completed_in_part(gateway: Gateway) -> None:
    await gateway.handle(flowing())
    await let_deadline_pass(gateway)

    await gateway.watchdog.turn()

    row = await gateway.stream()
    assert (row["status"], row["partial"], row["cause"]) == ("completed", True, "watchdog")


@dataclass(frozen=True)
class Story:
    """Events in the order in which they happen, and what they lead to."""

    events: tuple[Event, ...]
    projected: dict[str, list[dict[str, Any]]]
    told: list[str]


@pytest.fixture(params=[WHOLE, ROUGH], ids=["whole", "rough"])
async def story(gateway: Gateway, request: pytest.FixtureRequest) -> Story:
    await gateway.handle_all(request.param)
    return Story(request.param, await gateway.projected(), await gateway.told())


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(min_value=0, max_value=2**32))
async def test_any_order_and_any_repeats_give_the_same_rows(
    gateway: Gateway, story: Story, seed: int
) -> None:
    await gateway.reset()

    await gateway.handle_all(shuffled(story.events, seed))

    public = await gateway.public_events()
    assert await gateway.projected() == story.projected
    assert [row["sequence"] for row in public] == list(range(1, len(public) + 1))
    assert public[-1]["type"] == "stream.completed"
    assert settled(row["type"] for row in public) == settled(story.told)


def settled(told: Iterator[str] | list[str]) -> list[str]:
    """What must be told in any order; whether a revision or a retraction was seen early depends on the order."""
    by_chance = {"highlight.updated", "highlight.retracted", "highlight.detected"}
    return sorted(kind for kind in told if kind not in by_chance)


async def test_handlers_that_run_at_once_give_the_same_rows(gateway: Gateway) -> None:
    await gateway.handle_all(ROUGH)
    expected = await gateway.projected()
    await gateway.reset()

    await asyncio.gather(*(gateway.handle(event) for event in shuffled(ROUGH, seed=7)))

    assert await gateway.projected() == expected
    assert (await gateway.told())[-1] == "stream.completed"


async def test_each_highlight_is_created_once_and_updated_by_its_revision(gateway: Gateway) -> None:
    await gateway.handle_all([confirmed(0), clip_ready(0), clip_ready(0), revised(0, 1), confirmed(0)])
    await gateway.handle_all([clip_ready(0, 1), clip_ready(0, 1), clip_ready(0)])

    bodies = [json.loads(row["body"]) for row in await gateway.public_events()]
    assert [(body["type"], body["data"].get("revision")) for body in bodies] == [
        ("stream.started", None),
        ("highlight.detected", 0),
        ("highlight.created", 0),
        ("highlight.updated", 1),
    ]
    assert bodies[-1]["data"]["video_url"].startswith(f"https://cdn.example.com/clips/{highlight_of(0)}/r1/")


async def test_a_detected_highlight_can_be_played_before_its_clip_is_there(gateway: Gateway) -> None:
    await gateway.handle_all([confirmed(0), clip_ready(0)])

    detected, created = (json.loads(row["body"])["data"] for row in (await gateway.public_events())[1:])
    assert detected["video_url"] == detected["playback_url"]
    assert detected["video_url"].startswith(
        f"https://api.example.com/v1/highlights/{highlight_of(0)}/playlist.m3u8?organization={ORGANIZATION}"
    )
    assert (detected["video_type"], detected["clip_status"]) == ("hls", "pending")
    assert (created["video_type"], created["playback_url"]) == ("mp4", detected["playback_url"])
    assert created["video_url"].startswith(f"https://cdn.example.com/clips/{highlight_of(0)}/r0/")


async def test_a_highlight_whose_clip_came_first_is_detected_with_it(gateway: Gateway) -> None:
    await gateway.handle_all([clip_ready(0), confirmed(0)])

    detected = json.loads((await gateway.public_events())[1]["body"])
    assert (detected["type"], detected["data"]["video_type"]) == ("highlight.detected", "mp4")


async def test_a_highlight_that_was_told_and_taken_back_is_told_as_such(gateway: Gateway) -> None:
    await gateway.handle_all([confirmed(0), clip_ready(0), retracted(0, 1), retracted(0, 1)])

    assert await gateway.told() == [
        "stream.started",
        "highlight.detected",
        "highlight.created",
        "highlight.retracted",
    ]


async def test_a_highlight_that_is_first_seen_revised_is_detected_before_it_is_created(
    gateway: Gateway,
) -> None:
    await gateway.handle_all([clip_ready(0, 1), revised(0, 1), confirmed(0), clip_ready(0)])

    assert await gateway.told() == ["stream.started", "highlight.detected", "highlight.created"]


# -- ends --------------------------------------------------------------------------------------------


async def test_flaws_are_told_in_words(gateway: Gateway) -> None:
    await gateway.handle_all(ROUGH)

    row = await gateway.stream()
    assert (row["status"], row["partial"], row["cause"]) == ("completed", True, "source_dead")
    assert [
        part in row["error"] for part in ("5.0 s of media in 1 gap", "1 of 4 windows", "1 of 2 clips")
    ] == [
        True,
        True,
        True,
    ]


async def test_a_stop_before_any_media_cancels_the_stream(gateway: Gateway) -> None:
    await gateway.handle(
        stream_ended(cause="stopped", windows=(), segments=0, media_duration_us=0, offered_us=0)
    )

    closed = await gateway.emitted("stream.closed")
    assert await gateway.told() == ["stream.cancelled"]
    assert [event["cause"] for event in closed] == ["stopped"]


async def test_a_source_that_cannot_be_reached_is_an_error(gateway: Gateway) -> None:
    nothing = {"windows": (), "segments": 0, "media_duration_us": 0, "offered_us": 0}

    await gateway.handle(stream_ended(cause="source_unreachable", detail="http_404", **nothing))

    row = await gateway.stream()
    assert (row["status"], row["cause"], await gateway.told()) == (
        "error",
        "source_unreachable",
        ["stream.error"],
    )
    assert row["error"].endswith("Detail: http_404")


async def test_a_stream_that_ingest_could_not_take_on_is_an_error(gateway: Gateway) -> None:
    await gateway.handle(message_parked("ingest", "stream.online", "the source cannot be decrypted."))

    assert await gateway.told() == ["stream.error"]


async def test_a_repair_after_the_end_updates_the_words_and_not_the_status(gateway: Gateway) -> None:
    story = [
        event for event in WHOLE if not (isinstance(event, events.ClipReady) and "r0" in event.video_key)
    ]
    await gateway.handle_all([*story, clip_ready(0), clip_failed(2)])
    before = await gateway.stream()

    await gateway.handle(clip_ready(2))

    after = await gateway.stream()
    assert (before["status"], before["cause"]) == ("completed", "clips_failed")
    assert (after["status"], after["partial"], after["cause"]) == ("completed", False, None)
    assert (await gateway.told())[-3:] == ["stream.completed", "highlight.created", "stream.updated"]
    assert after["completed_at"] == before["completed_at"]


async def test_a_message_that_is_parked_late_makes_the_stream_partial(gateway: Gateway) -> None:
    await gateway.handle_all([*WHOLE, message_parked("selector", "candidate.scored", "no such span")])

    row = await gateway.stream()
    assert (row["status"], row["partial"], row["cause"]) == ("completed", True, "parked")


async def test_an_event_of_another_organizations_stream_is_refused(gateway: Gateway) -> None:
    foreign = window(0).model_copy(update={"organization_id": OrganizationId("org_ffffffffffff")})

    with pytest.raises(StreamUnknown, match=STREAM):
        await gateway.handle(foreign)


async def test_an_event_of_a_run_that_is_over_moves_nothing(gateway: Gateway) -> None:
    async with gateway.database.transaction(ORGANIZATION) as session:
        await (await session.connection()).execute(update(t.streams).values(run=1))

    await gateway.handle_all(WHOLE[:5])

    row = await gateway.stream()
    assert (row["status"], row["started_at"], await gateway.told()) == ("pending", None, [])


# -- the watchdog ------------------------------------------------------------------------------------


async def let_deadline_pass(gateway: Gateway) -> None:
    async with gateway.database.transaction(ORGANIZATION) as session:
        connection = await session.connection()
        await connection.execute(
            update(t.streams).values(deadline_at=datetime.now(UTC) - timedelta(seconds=1))
        )


async def test_the_watchdog_closes_a_stream_that_never_began(gateway: Gateway) -> None:
    await let_deadline_pass(gateway)

    more = await gateway.watchdog.turn()

    row, closed = await gateway.stream(), await gateway.emitted("stream.closed")
    assert (more, row["status"], row["cause"]) == (False, "error", "watchdog")
    assert "ingest has not told the end" in row["error"]
    assert (await gateway.told(), [event["cause"] for event in closed]) == (["stream.error"], ["watchdog"])


async def test_the_watchdog_keeps_what_a_silent_stream_has_found(gateway: Gateway) -> None:
    await gateway.handle_all(WHOLE[:-1])
    await let_deadline_pass(gateway)

    await gateway.watchdog.turn()
    await gateway.handle(WHOLE[-1])

    row = await gateway.stream()
    assert (row["status"], row["partial"], row["cause"]) == ("completed", True, "watchdog")
    assert "selector: every window has its verdict" in row["error"]
    assert (await gateway.told())[-1] == "stream.completed"


async def test_progress_moves_the_deadline_out_of_the_watchdogs_reach(gateway: Gateway) -> None:
    await let_deadline_pass(gateway)

    await gateway.handle(window(0))
    await gateway.watchdog.turn()

    assert (await gateway.stream())["status"] == "processing"


# -- webhooks ----------------------------------------------------------------------------------------


async def test_each_endpoint_is_asked_to_be_told_what_it_listens_to(gateway: Gateway) -> None:
    await gateway.handle_all(shuffled(WHOLE, seed=3))

    requested = await gateway.emitted("notification.requested")
    by_endpoint = {
        endpoint: sorted(event["type"] for event in requested if event["endpoint_id"] == endpoint)
        for endpoint in (EVERYTHING, DETECTIONS, ELSEWHERE)
    }
    assert by_endpoint == {
        EVERYTHING: ["highlight.created", "highlight.created", "stream.completed", "stream.started"],
        DETECTIONS: ["highlight.detected", "highlight.detected"],
        ELSEWHERE: [],
    }


async def test_a_request_carries_the_exact_characters_of_the_feed(gateway: Gateway) -> None:
    await gateway.handle(window(0))

    requested = (await gateway.emitted("notification.requested"))[0]
    row = (await gateway.public_events())[0]
    assert (requested["body"], requested["sequence"], requested["endpoint_version"]) == (row["body"], 1, 3)
    assert requested["delivery_id"] == delivery_id(EVERYTHING, row["public_event_id"])


async def test_the_newest_result_of_a_delivery_is_kept(gateway: Gateway) -> None:
    await gateway.handle(window(0))
    delivery = delivery_id(EVERYTHING, public_event_id(STREAM, "stream.started", 0))

    for outcome, second in (("delivered", 20), ("failed", 10)):
        await gateway.handle(delivery_finished(delivery, outcome, second))

    rows = await gateway.rows(t.deliveries)
    assert [(row["outcome"], row["attempts"], row["finished_at"]) for row in rows] == [
        ("delivered", 20, at(20))
    ]


def delivery_finished(delivery: DeliveryId, outcome: str, second: int) -> events.DeliveryFinished:
    return events.DeliveryFinished.model_validate(
        {
            "event_id": event_id(delivery, "delivery.finished", second),
            "organization_id": ORGANIZATION,
            "occurred_at": at(second),
            "results": [
                {
                    "delivery_id": delivery,
                    "endpoint_id": EVERYTHING,
                    "outcome": outcome,
                    "attempts": second,
                    "finished_at": at(second),
                }
            ],
        }
    )


# -- reading, and what it costs ----------------------------------------------------------------------


async def test_facts_give_the_public_stream_while_it_runs(gateway: Gateway) -> None:
    await gateway.handle_all([window(0), window(1), verdict(0), gap()])
    await gateway.handle(made(events.StreamStalled, 45, 0, run=0, index=0, at_us=60 * S, cause="unchanged"))

    async with gateway.database.transaction(ORGANIZATION) as session:
        stream = await ProjectionStore(session).read_stream(STREAM)
        facts = await run_facts(session, (STREAM, StreamId("str_aaaaaaaaaaaa")))

    assert stream is not None
    progress = public_stream(stream, facts[STREAM]).progress
    assert (progress.processed_duration, progress.offered_duration, progress.gaps, progress.stalled) == (
        20.0,
        70.0,
        1,
        True,
    )


@contextmanager
def counted_statements(database: Database) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    sqlalchemy_event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    yield statements
    sqlalchemy_event.remove(database.engine.sync_engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (flowing(), 1),
        (window(1), 2),
        (verdict(1), 2),
        (candidate(1), 1),
        (judgement(1, 0, "kept"), 1),
        (clip_failed(0), 4),
        (clip_ready(0), 7),
    ],
    ids=lambda value: value.name if isinstance(value, Event) else "",
)
async def test_an_event_costs_few_statements(gateway: Gateway, event: Event, expected: int) -> None:
    await gateway.handle_all([window(0), confirmed(0)])

    with counted_statements(gateway.database) as statements:
        await gateway.handle(event)

    # One more sets the tenant, which is the middleware's. The last of the list mints, delivers and emits, too.
    assert len(statements) - 1 == expected
