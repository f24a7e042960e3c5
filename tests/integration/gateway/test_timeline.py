"""The timeline and the signals of a stream over HTTP, from the events that tell them, in any order."""

import random
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from gateway.adapters.projection_store import ProjectionStore
from gateway.app import playback_links
from gateway.subscribers import register
from gateway.workflow import projection as projecting
from gateway.workflow.completion import Completer
from gateway.workflow.projection import Projection
from gateway.workflow.public_events import PublicEvents
from shared import events
from shared.clock import utc_now
from shared.events import Event
from shared.ids import event_id, window_id
from shared.middleware import StateHandler, UnitOfWork
from shared.repairs import repair_epoch, repair_index
from tests.builders import NOW, segment_ref
from tests.integration.gateway.api_client import Customer, GatewayApp

S = 1_000_000
EventT = TypeVar("EventT", bound=Event)


class Pipeline:
    """Makes the events of one stream, and hands them to the projection as the consumer would."""

    def __init__(self, app: GatewayApp, customer: Customer, stream_id: str) -> None:
        self._app = app
        self._customer = customer
        self.stream_id = stream_id
        self._handlers: dict[type[Event], StateHandler] = {}
        public_events = PublicEvents(
            links=app.base.store, playback=playback_links(app.settings), clock=utc_now
        )
        register(
            self,  # type: ignore[arg-type]
            Projection(
                lambda unit: ProjectionStore(unit.session),
                public_events,
                Completer(public_events, utc_now),
                utc_now,
            ),
        )

    def state(self, model: type[Event], handler: StateHandler) -> None:
        self._handlers[model] = handler

    async def tell(self, *told: Event) -> None:
        for event in told:
            async with self._app.database.transaction(event.organization_id) as session:
                await self._handlers[type(event)](event, UnitOfWork(session, self._app.base.outbox))

    def made(self, model: type[EventT], *parts: str | int, **fields: Any) -> EventT:
        head = {
            "event_id": event_id(self.stream_id, model.name, *parts),
            "organization_id": self._customer.organization_id,
            "stream_id": self.stream_id,
            "occurred_at": NOW,
        }
        return model.model_validate(head | fields)

    def window(
        self, index: int, *, from_s: int, to_s: int, revision: int = 0, **ref: Any
    ) -> events.SegmentReady:
        segments = tuple(
            segment_ref(
                start // 2,
                start_us=start * S,
                wall_at=NOW + timedelta(seconds=start),
                **ref | {"discontinuity": ref.get("discontinuity", False) and start == from_s},
            )
            for start in range(from_s, to_s, 2)
        )
        return self.made(
            events.SegmentReady,
            index,
            revision,
            run=0,
            index=index,
            revision=revision,
            start_us=from_s * S,
            end_us=to_s * S,
            profile_key="profiles/0.json",
            segments=segments,
        )

    def verdict(self, ready: Any, verdict: str = "analysed", **fields: Any) -> Event:
        return self.made(
            events.SegmentAnalyzed,
            ready.index,
            ready.revision,
            window_id=self.window_id(ready),
            run=0,
            index=ready.index,
            revision=ready.revision,
            profile_key="profiles/0.json",
            start_us=ready.start_us,
            end_us=ready.end_us,
            verdict=verdict,
            provider="signals",
            **fields,
        )

    def window_id(self, ready: Any) -> str:
        return window_id(ready.stream_id, ready.position)

    def gap(self, index: int, *, from_s: int, to_s: int, cause: str = "not_found") -> Event:
        return self.made(
            events.SegmentMissed,
            index,
            run=0,
            index=index,
            from_us=from_s * S,
            to_us=to_s * S,
            epoch=0,
            from_sequence=from_s // 2,
            to_sequence=to_s // 2 - 1,
            cause=cause,
        )

    def repaired(self, gap: int, windows: tuple[str, ...], *, from_s: int, to_s: int, **fields: Any) -> Event:
        outcome = {"outcome": "repaired", "reason": "Placed by the wall clock."} | fields
        return self.made(
            events.SegmentRepaired,
            gap,
            fields.get("revision", 1),
            run=0,
            gap_index=gap,
            from_us=from_s * S,
            to_us=to_s * S,
            windows=windows,
            **outcome,
        )

    def ended(self, *windows: Any, **fields: Any) -> Event:
        return self.made(
            events.StreamEnded,
            0,
            run=0,
            cause="endlist",
            windows=tuple(self.window_id(each) for each in windows),
            **fields,
        )

    def selection(self, analysed: int, **fields: Any) -> Event:
        values = {"final": (), "windows_skipped": 0, "windows_failed": 0} | fields
        return self.made(
            events.SelectionClosed, fields.get("revision", 0), run=0, windows_analysed=analysed, **values
        )

    def signal(self, number: int, kind: str = "chat", **fields: Any) -> Event:
        told = {"at_us": number * S, "text": f"message {number}", "author": "a"} | fields
        return self.made(events.SignalReceived, number, kind=kind, **told)

    async def read(self, path: str, **query: Any) -> dict[str, Any]:
        answer = await self._app.client.get(
            f"/v1/streams/{self.stream_id}{path}", params=query, headers=self._customer.headers
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def told(self) -> list[str]:
        rows = await self._app.rows("SELECT type FROM public_events ORDER BY sequence", self._customer)
        return [row["type"] for row in rows]


@pytest.fixture
async def pipeline(gateway_app: GatewayApp) -> Pipeline:
    customer = await gateway_app.register()
    stream = await gateway_app.submit(customer)
    return Pipeline(gateway_app, customer, stream["id"])


def story(pipeline: Pipeline) -> list[Event]:
    """20 s, a gap of 4 s, an encoder that starts anew, 10 s of advertising."""
    first = pipeline.window(0, from_s=0, to_s=20)
    second = pipeline.window(1, from_s=24, to_s=40, epoch=1, discontinuity=True)
    ad = pipeline.made(
        events.SegmentAnnotated, 0, run=0, index=0, kind="ad", from_us=40 * S, to_us=50 * S, detail="SCTE-35"
    )
    stall = {"run": 0, "index": 0, "at_us": 20 * S}
    return [
        first,
        pipeline.gap(0, from_s=20, to_s=24),
        pipeline.made(events.StreamStalled, 0, cause="silent", **stall),
        pipeline.made(events.StreamResumed, 0, **stall),
        second,
        ad,
        pipeline.verdict(first),
        pipeline.verdict(second, "skipped", reason="nothing stirs"),
        pipeline.ended(
            first,
            second,
            gap_indexes=(0,),
            media_duration_us=46 * S,
            offered_us=50 * S,
            excluded_us=10 * S,
            segments=23,
        ),
        pipeline.selection(1, windows_skipped=1),
    ]


async def test_the_timeline_tells_what_is_archived_missing_excluded_and_judged(pipeline: Pipeline) -> None:
    await pipeline.tell(*story(pipeline))

    timeline = await pipeline.read("/timeline")

    shown = [
        (each["kind"], each["from_s"], each["to_s"], each["starts_with"]) for each in timeline["stretches"]
    ]
    assert [
        ("archived", 0.0, 20.0, "start"),
        ("gap", 20.0, 24.0, None),
        ("archived", 24.0, 40.0, "gap"),
        ("ad", 40.0, 50.0, None),
    ] == shown
    gap = timeline["stretches"][1]
    assert "not_found" == gap["cause"]
    assert gap["explanation"] and gap["advice"]
    assert [("analysed", 1), ("skipped", 1)] == [
        (each["verdict"], each["count"]) for each in timeline["windows"]
    ]
    assert 20.0 == timeline["stalls"][0]["at_s"]
    assert {
        "offered_s": 50.0,
        "archived_s": 46.0,
        "repaired_s": 0.0,
        "gap_s": 4.0,
        "excluded_s": 10.0,
        "analysed_s": 36.0,
        "archived_pct": 92.0,
        "gap_pct": 8.0,
        "excluded_pct": 20.0,
        "analysed_pct": 90.0,
    } == timeline["coverage"]
    assert (False, None) == (timeline["live"], timeline["next_from_s"])


async def test_the_timeline_is_the_same_in_whatever_order_it_is_told(pipeline: Pipeline) -> None:
    told = story(pipeline)
    random.Random(4).shuffle(told)
    await pipeline.tell(*told, *told)

    shuffled = await pipeline.read("/timeline")

    assert ["archived", "gap", "archived", "ad"] == [each["kind"] for each in shuffled["stretches"]]
    assert 90.0 == shuffled["coverage"]["analysed_pct"]
    assert ["stream.started", "stream.completed"] == await pipeline.told()


async def test_a_timeline_while_the_stream_runs_shows_what_is_known(pipeline: Pipeline) -> None:
    await pipeline.tell(*story(pipeline)[:3])

    timeline = await pipeline.read("/timeline")

    assert timeline["live"]
    assert ["pending"] == [each["verdict"] for each in timeline["windows"]]
    assert timeline["stalls"][0]["resumed_at"] is None


async def test_a_long_timeline_comes_in_answers_that_join(
    pipeline: Pipeline, gateway_app: GatewayApp
) -> None:
    gateway_app.app.state.use_cases.timelines._max_rows = 3
    for number in range(8):
        await pipeline.tell(pipeline.gap(number, from_s=number * 10, to_s=number * 10 + 4))

    seen: list[float] = []
    start: float | None = 0.0
    while start is not None:
        page = await pipeline.read("/timeline", **{"from": start})
        seen += [each["from_s"] for each in page["stretches"]]
        start = page["next_from_s"]

    assert [number * 10.0 for number in range(8)] == seen


async def test_a_span_of_the_timeline_is_cut_to_what_was_asked_for(pipeline: Pipeline) -> None:
    await pipeline.tell(*story(pipeline))

    timeline = await pipeline.read("/timeline", **{"from": 21, "to": 30})

    assert [("gap", 20.0, 24.0), ("archived", 24.0, 30.0)] == [
        (each["kind"], each["from_s"], each["to_s"]) for each in timeline["stretches"]
    ]


async def test_drift_is_told_against_the_first_clock_of_the_run_whatever_was_asked_for(
    pipeline: Pipeline,
) -> None:
    first = pipeline.window(0, from_s=0, to_s=20)
    second = pipeline.window(1, from_s=24, to_s=40, epoch=1, discontinuity=True)
    late = tuple(
        each.model_copy(update={"wall_at": each.wall_at + timedelta(seconds=3)}) for each in second.segments
    )
    await pipeline.tell(first, second.model_copy(update={"segments": late}))

    whole = await pipeline.read("/timeline")
    rest = await pipeline.read("/timeline", **{"from": 22})

    assert [0.0, 3.0] == [each["wall_skew_s"] for each in whole["stretches"]]
    assert [(3.0, "discontinuity")] == [
        (each["wall_skew_s"], each["starts_with"]) for each in rest["stretches"]
    ]


async def test_a_repair_after_the_end_raises_coverage_and_clears_what_was_partial(pipeline: Pipeline) -> None:
    await pipeline.tell(*story(pipeline))
    before = await pipeline.read("")
    window = pipeline.window(
        repair_index(0, 0), from_s=14, to_s=30, revision=1, epoch=repair_epoch(0, revision=1)
    )

    await pipeline.tell(
        pipeline.repaired(0, (pipeline.window_id(window),), from_s=20, to_s=24),
        window,
    )
    waiting = await pipeline.read("")
    await pipeline.tell(pipeline.verdict(window), pipeline.selection(2, windows_skipped=1, revision=1))
    after = await pipeline.read("")

    assert (True, "gaps", 90.0) == (before["partial"], before["cause"], before["progress"]["coverage_pct"])
    assert (True, "completed") == (waiting["partial"], waiting["status"])
    assert (False, None, None) == (after["partial"], after["cause"], after["error"])
    assert (100.0, 0) == (after["progress"]["coverage_pct"], after["progress"]["gaps"])
    assert ["stream.started", "stream.completed", "stream.updated"] == await pipeline.told()
    timeline = await pipeline.read("/timeline")
    [gap] = [each for each in timeline["stretches"] if each["kind"] == "gap"]
    assert ("repaired", 1, None) == (gap["repair"]["outcome"], gap["repair"]["windows"], gap["advice"])
    assert [(14.0, 30.0)] == [
        (each["from_s"], each["to_s"]) for each in timeline["stretches"] if each["kind"] == "repaired"
    ]
    assert (4.0, 0.0) == (timeline["coverage"]["repaired_s"], timeline["coverage"]["gap_s"])


async def test_a_repair_in_part_leaves_the_rest_of_the_gap(pipeline: Pipeline) -> None:
    await pipeline.tell(*story(pipeline))
    window = pipeline.window(
        repair_index(0, 0), from_s=14, to_s=22, revision=1, epoch=repair_epoch(0, revision=1)
    )

    await pipeline.tell(
        window,
        pipeline.verdict(window),
        pipeline.selection(2, windows_skipped=1, revision=1),
        pipeline.repaired(0, (pipeline.window_id(window),), from_s=20, to_s=22, outcome="partly"),
    )

    after = await pipeline.read("")
    assert (True, 95.0) == (after["partial"], after["progress"]["coverage_pct"])
    assert "2.0 s of media in 1 gap" in after["error"]
    assert "stream.updated" == (await pipeline.told())[-1]


@pytest.mark.parametrize("is_reversed", [False, True])
async def test_the_second_attempt_at_a_gap_is_awaited_as_the_first_was(
    pipeline: Pipeline, *, is_reversed: bool
) -> None:
    await pipeline.tell(*story(pipeline))
    first, second = (
        pipeline.window(
            repair_index(0, 0),
            from_s=14,
            to_s=to_s,
            revision=revision,
            epoch=repair_epoch(0, revision=revision),
        )
        for revision, to_s in ((1, 22), (2, 30))
    )
    attempts = [
        pipeline.repaired(0, (pipeline.window_id(first),), from_s=20, to_s=22, outcome="partly"),
        pipeline.repaired(0, (pipeline.window_id(second),), from_s=20, to_s=24, revision=2),
    ]
    judged = (first, second, pipeline.verdict(first), pipeline.verdict(second))

    await pipeline.tell(*(reversed(attempts) if is_reversed else attempts), *judged)
    await pipeline.tell(pipeline.selection(2, windows_skipped=1, revision=1))
    waiting = await pipeline.read("")
    await pipeline.tell(pipeline.selection(2, windows_skipped=1, revision=2))
    after = await pipeline.read("")

    assert (True, False) == (waiting["partial"], after["partial"])
    assert 100.0 == after["progress"]["coverage_pct"]
    assert ["stream.started", "stream.completed", "stream.updated"] == await pipeline.told()


async def test_a_failed_repair_changes_nothing_and_is_told_in_the_timeline(pipeline: Pipeline) -> None:
    await pipeline.tell(*story(pipeline))

    await pipeline.tell(
        pipeline.repaired(0, (), from_s=20, to_s=24, outcome="failed", reason="It does not cover the gap.")
    )

    assert ["stream.started", "stream.completed"] == await pipeline.told()
    timeline = await pipeline.read("/timeline")
    [gap] = [each for each in timeline["stretches"] if each["kind"] == "gap"]
    assert ("failed", "It does not cover the gap.") == (gap["repair"]["outcome"], gap["repair"]["reason"])


async def test_an_older_selection_never_replaces_a_repaired_one(pipeline: Pipeline) -> None:
    await pipeline.tell(*story(pipeline)[:-1])

    await pipeline.tell(pipeline.selection(2, windows_skipped=1, revision=1), pipeline.selection(1))

    [row] = await pipeline._app.rows("SELECT selection FROM streams", pipeline._customer)
    assert (1, 2) == (row["selection"]["revision"], row["selection"]["windows_analysed"])


async def test_signals_are_listed_in_order_by_cursor_and_kind(pipeline: Pipeline) -> None:
    await pipeline.tell(*(pipeline.signal(number, "chat" if number % 2 else "odds") for number in range(5)))
    await pipeline.tell(pipeline.signal(3))

    first = await pipeline.read("/signals", limit=2)
    rest = await pipeline.read("/signals", after=first["next"])
    odds = await pipeline.read("/signals", kind="odds")

    assert ["message 0", "message 1"] == [each["text"] for each in first["items"]]
    assert ["message 2", "message 3", "message 4"] == [each["text"] for each in rest["items"]]
    assert (None, 5, 0) == (rest["next"], rest["kept"], rest["not_kept"])
    assert ["message 0", "message 2", "message 4"] == [each["text"] for each in odds["items"]]


async def test_a_signal_says_to_which_attempt_at_the_stream_it_belongs(pipeline: Pipeline) -> None:
    await pipeline.tell(pipeline.signal(0), pipeline.signal(1, run=1))

    page = await pipeline.read("/signals")

    assert [0, 1] == [each["run"] for each in page["items"]]


async def test_signals_beyond_the_bound_are_counted_and_not_kept(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projecting, "MOST_SIGNALS", 3)

    await pipeline.tell(*(pipeline.signal(number) for number in range(5)))

    page = await pipeline.read("/signals")
    assert (3, 3, 2) == (len(page["items"]), page["kept"], page["not_kept"])


@pytest.mark.parametrize("path", ["timeline", "signals"])
async def test_another_organization_sees_no_such_stream(
    pipeline: Pipeline, gateway_app: GatewayApp, path: str
) -> None:
    await pipeline.tell(*story(pipeline), pipeline.signal(0))
    other = await gateway_app.register("somebody-else")

    answer = await gateway_app.client.get(f"/v1/streams/{pipeline.stream_id}/{path}", headers=other.headers)

    assert 404 == answer.status_code


async def test_a_reversed_span_is_refused(pipeline: Pipeline, gateway_app: GatewayApp) -> None:
    answer = await gateway_app.client.get(
        f"/v1/streams/{pipeline.stream_id}/timeline",
        params={"from": 9, "to": 3},
        headers=pipeline._customer.headers,
    )

    assert 422 == answer.status_code
