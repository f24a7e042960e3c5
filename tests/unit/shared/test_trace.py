"""Trace context: one trace goes on over texts, and begins where there is none."""

from shared import trace


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
