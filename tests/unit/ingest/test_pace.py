from ingest.domain.pace import Pace, advance, miss, next_poll_s
from ingest.domain.policy import TrackerPolicy

POLICY = TrackerPolicy()


def arrivals(*times_s: float, media_s: float = 2.0) -> Pace:
    pace = Pace()
    for now_s in times_s:
        pace = advance(pace, media_s=media_s, segment_s=2.0, now_s=now_s)
    return pace


def test_a_source_four_times_as_fast_is_measured_as_such() -> None:
    assert arrivals(0, 0.5, 1.0, 1.5).wall_per_media == 0.25


def test_a_slow_source_is_never_expected_later_than_its_playlist_says() -> None:
    assert arrivals(0, 10, 20).wall_per_media == 1.0


def test_the_first_guess_lies_in_the_middle_of_what_is_possible() -> None:
    assert next_poll_s(arrivals(100), policy=POLICY, now_s=100) == 101.0


def test_after_misses_the_steps_grow_to_half_an_interval() -> None:
    pace, now_s, steps = arrivals(0, 2, 4), 6.5, []
    for _ in range(6):
        pace = miss(pace, now_s=now_s)
        at_s = next_poll_s(pace, policy=POLICY, now_s=now_s)
        steps.append(round(at_s - now_s, 3))
        now_s = at_s
    assert steps == [0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_no_pause_is_longer_than_the_ceiling() -> None:
    pace = advance(Pace(), media_s=30, segment_s=30, now_s=0)
    assert next_poll_s(pace, policy=POLICY, now_s=0) == POLICY.reload_ceiling_s
