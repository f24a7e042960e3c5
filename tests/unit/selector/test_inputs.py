"""Inputs made from events."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from selector.domain.inputs import Closed, GapReported, WindowOffered, of_event
from shared.events import SegmentMissed, SegmentReady, StreamClosed, StreamStalled
from shared.ids import OrganizationId
from tests.unit.selector.run_builder import STREAM, segments, us

HEAD = {
    "event_id": UUID(int=1),
    "organization_id": OrganizationId("org_1"),
    "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
    "stream_id": STREAM,
}


def test_a_ready_window_becomes_an_offer_with_its_segments() -> None:
    refs = segments(0, 20)
    event = SegmentReady(
        **HEAD, run=0, index=3, start_us=0, end_us=us(20), profile_key="profiles/x.json", segments=refs
    )
    offered = of_event(event)
    assert offered == WindowOffered(run=0, index=3, start_us=0, end_us=us(20), segments=refs)


def test_a_missed_segment_becomes_a_gap_and_a_closed_stream_a_tombstone() -> None:
    missed = SegmentMissed(
        **HEAD, run=0, index=0, from_us=1, to_us=2, epoch=0, from_sequence=1, to_sequence=1, cause="404"
    )
    assert of_event(missed) == GapReported(run=0, from_us=1, to_us=2)
    assert of_event(StreamClosed(**HEAD, cause="stopped")) == Closed()


def test_an_event_that_selection_does_not_take_is_refused() -> None:
    with pytest.raises(KeyError):
        of_event(StreamStalled(**HEAD, run=0, index=0, at_us=0, cause="silence"))
