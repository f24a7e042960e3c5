import pytest

from gateway.domain.stream_status import TERMINAL, TRANSITIONS, StreamStatus, advance, is_terminal


def test_the_public_states_are_the_five_that_customers_know() -> None:
    assert [status.value for status in StreamStatus] == [
        "pending",
        "processing",
        "completed",
        "error",
        "cancelled",
    ]


def test_three_states_are_terminal() -> None:
    assert {status.value for status in TERMINAL} == {"completed", "error", "cancelled"}


@pytest.mark.parametrize("current", sorted(TERMINAL))
@pytest.mark.parametrize("wanted", StreamStatus)
def test_a_terminal_state_is_never_left(current: StreamStatus, wanted: StreamStatus) -> None:
    assert advance(current, wanted) is current


def test_no_state_leads_back_to_pending() -> None:
    assert all(StreamStatus.PENDING not in following for following in TRANSITIONS.values())


def test_a_stream_with_media_can_only_complete() -> None:
    following = {wanted for wanted in StreamStatus if advance(StreamStatus.PROCESSING, wanted) is wanted}

    assert following == {StreamStatus.PROCESSING, StreamStatus.COMPLETED}


@pytest.mark.parametrize("wanted", StreamStatus)
def test_a_pending_stream_may_become_anything(wanted: StreamStatus) -> None:
    assert advance(StreamStatus.PENDING, wanted) is wanted


def test_only_terminal_states_say_so() -> None:
    assert not is_terminal(StreamStatus.PROCESSING)
