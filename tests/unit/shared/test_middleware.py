"""Pure parts of the middleware: the retry schedule and the delivery that a message's bytes become."""

import pytest

from shared.events import HighlightConfirmed, Lane
from shared.middleware import RETRY_DELAYS_S, delivery_of, retry_delay_s
from tests.builders import ORGANIZATION, STREAM, highlight_confirmed


@pytest.mark.parametrize(("attempt", "planned_s"), [(1, 1.0), (2, 5.0), (3, 20.0), (4, 60.0), (9, 60.0)])
def test_delays_follow_the_schedule_and_stay_at_its_end(attempt: int, planned_s: float) -> None:
    assert planned_s == retry_delay_s(attempt, hint_s=None, spread=0.5)


def test_a_hint_is_honoured_when_it_is_longer_than_the_schedule() -> None:
    assert 30.0 == retry_delay_s(1, hint_s=30.0, spread=0.5)
    assert 5.0 == retry_delay_s(2, hint_s=1.0, spread=0.5)


def test_jitter_stays_within_a_fifth() -> None:
    planned_s = RETRY_DELAYS_S[1]
    assert planned_s * 0.8 == pytest.approx(retry_delay_s(2, hint_s=None, spread=0.0))
    assert planned_s * 1.2 == pytest.approx(retry_delay_s(2, hint_s=None, spread=1.0))


def test_a_delivery_carries_what_its_event_says() -> None:
    event = highlight_confirmed()
    delivery = delivery_of(
        HighlightConfirmed, event.model_dump_json().encode(), lane=Lane.VOD, traceparent="t"
    )
    assert (event.event_id, ORGANIZATION, STREAM) == (
        delivery.event_id,
        delivery.organization_id,
        delivery.stream_id,
    )
    assert event.occurred_at.date() == delivery.day
    assert ("vod", "t") == (delivery.lane, delivery.traceparent)


def test_bytes_that_are_no_event_get_an_id_from_themselves() -> None:
    first, again = (delivery_of(HighlightConfirmed, b"\xff{", lane=Lane.LIVE, traceparent=None) for _ in "12")
    other = delivery_of(HighlightConfirmed, b"[]", lane=Lane.LIVE, traceparent=None)
    assert first.event_id == again.event_id != other.event_id
    assert first.stream_id is None


def test_no_character_that_postgresql_refuses_is_kept() -> None:
    delivery = delivery_of(HighlightConfirmed, b'{"a": "\x00"}', lane=Lane.LIVE, traceparent=None)
    assert "\x00" not in delivery.payload
