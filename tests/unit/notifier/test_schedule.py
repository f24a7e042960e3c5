"""The delays between attempts, on a virtual clock."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.schedule import DELAYS_S, retry_after_s, retry_delay_s

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def test_eleven_attempts_reach_over_seventy_five_hours_in_the_mean() -> None:
    hours = sum(retry_delay_s(attempts, spread=0.5) for attempts in range(1, 11)) / 3600
    assert len(DELAYS_S) == 11
    assert hours == pytest.approx(75.6, abs=0.05)


@given(attempts=st.integers(1, 40), spread=st.floats(0, 1))
def test_jitter_stays_within_a_fifth_of_the_slot(attempts: int, spread: float) -> None:
    slot_s = DELAYS_S[min(attempts, 10)]
    assert slot_s * 0.8 <= retry_delay_s(attempts, spread=spread) <= slot_s * 1.2000001


@pytest.mark.parametrize(
    ("hint_s", "expected_s"), [(None, 5.0), (1.0, 5.0), (8.0, 8.0), (10.0, 10.0), (3600.0, 10.0)]
)
def test_a_hint_lengthens_the_delay_up_to_twice_the_slot(hint_s: float | None, expected_s: float) -> None:
    assert retry_delay_s(1, spread=0.5, hint_s=hint_s) == expected_s


@pytest.mark.parametrize(
    ("header", "expected_s"),
    [
        ("", None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("99999999999999999999", 999_999_999.0),
        ("Fri, 20 Nov 2026 12:01:30 GMT", 90.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("²", None),
    ],
)
def test_retry_after_is_read_in_both_of_its_forms(header: str, expected_s: float | None) -> None:
    assert retry_after_s(header, at=NOW) == expected_s


@given(header=st.text(max_size=40))
def test_no_retry_after_breaks_the_reader(header: str) -> None:
    seconds = retry_after_s(header, at=NOW)
    assert seconds is None or seconds >= 0
