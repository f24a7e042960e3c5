"""Trace context: one trace goes on over texts, and begins where there is none."""

import asyncio

import pytest
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from shared import trace
from tests.tracing import recorded

ELSEWHERE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"


def test_a_span_without_a_parent_begins_a_trace() -> None:
    trace.configure()
    assert trace.current_traceparent() is None
    with trace.span("first"):
        assert trace.current_traceparent() is not None
        assert 32 == len(trace.current_trace_id() or "")


def test_a_traceparent_carries_the_trace_on_with_new_spans() -> None:
    trace.configure()
    with trace.span("here"):
        text, trace_id = trace.current_traceparent(), trace.current_trace_id()
    with trace.span("there", parent=text):
        assert trace_id == trace.current_trace_id()
        assert text != trace.current_traceparent()


def test_an_invalid_traceparent_begins_a_new_trace() -> None:
    trace.configure()
    with trace.span("there", parent="rubbish"):
        assert trace.current_trace_id() is not None


def test_a_trace_that_begins_here_is_recorded_by_its_share() -> None:
    with recorded(ratio=0.5) as exporter:
        for _ in range(400):
            with trace.span("root"), trace.span("child"):
                pass
        spans = exporter.get_finished_spans()
    roots = {span.context.trace_id for span in spans if span.name == "root"}
    assert 120 < len(roots) < 280
    assert roots == {span.context.trace_id for span in spans if span.name == "child"}


@pytest.mark.parametrize(("flag", "expected"), [("01", 1), ("00", 0)])
def test_inside_the_product_the_beginning_decides(flag: str, expected: int) -> None:
    with recorded(ratio=0.5) as exporter:
        with trace.span("there", parent=f"{ELSEWHERE}-{flag}", kind=SpanKind.CONSUMER):
            pass
        assert expected == len(exporter.get_finished_spans())


@pytest.mark.parametrize(("ratio", "expected"), [(0.0001, 0), (1.0, 1)])
def test_a_caller_from_outside_does_not_decide(ratio: float, expected: int) -> None:
    with recorded(ratio=ratio) as exporter:
        with trace.span("request", parent=f"{ELSEWHERE}-01", kind=SpanKind.SERVER):
            assert ELSEWHERE.split("-")[1] == trace.current_trace_id()
        assert expected == len(exporter.get_finished_spans())


@pytest.mark.parametrize("trace_id", ["1" + "0" * 31, "f" * 32], ids=["lowest", "highest"])
def test_an_id_that_a_caller_chose_is_recorded_as_often_as_any_other(trace_id: str) -> None:
    with recorded(ratio=0.5) as exporter:
        for _ in range(400):
            with trace.span("request", parent=f"00-{trace_id}-00f067aa0ba902b7-01", kind=SpanKind.SERVER):
                pass
        assert 120 < len(exporter.get_finished_spans()) < 280


def test_without_a_collector_spans_have_ids_and_are_not_recorded() -> None:
    trace.configure()
    with trace.span("there", parent=f"{ELSEWHERE}-01"):
        assert ELSEWHERE.split("-")[1] == trace.current_trace_id()
        assert not get_current_span().is_recording()


def test_an_error_marks_the_span_and_leaves_its_words_behind() -> None:
    with recorded() as exporter:
        with pytest.raises(ValueError, match="canary"), trace.span("work"):
            raise ValueError("canary")
        with trace.span("other"):
            trace.fail("bad_status")
        raised, told = exporter.get_finished_spans()
    assert StatusCode.ERROR == raised.status.status_code == told.status.status_code
    assert {"error.type": "bad_status"} == dict(told.attributes or {})
    assert "canary" not in raised.to_json()


async def test_tasks_continue_a_trace_without_a_span_of_their_own() -> None:
    async def seen() -> str | None:
        return trace.current_traceparent()

    with trace.continued(f"{ELSEWHERE}-01"):
        task = asyncio.create_task(seen())
    assert f"{ELSEWHERE}-01" == await task
    assert trace.current_traceparent() is None


def test_a_long_job_begins_new_traces_that_link_to_its_own() -> None:
    with recorded(ratio=0.0001) as exporter:
        chapters = trace.Chapters(f"{ELSEWHERE}-01", spans=2)
        for number in range(5):
            with chapters.span(f"part {number}", attributes={}):
                pass
        spans = exporter.get_finished_spans()
    traces = [f"{span.context.trace_id:032x}" for span in spans]
    origin = ELSEWHERE.split("-")[1]
    assert [origin, origin] == traces[:2]
    assert 3 == len(set(traces))
    assert traces[2] == traces[3]
    assert [[], [], [origin], [], [origin]] == [
        [f"{link.context.trace_id:032x}" for link in span.links] for span in spans
    ]
    assert spans[2].context.span_id == spans[3].parent.span_id
