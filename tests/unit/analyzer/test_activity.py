"""Sound and picture as one activity."""

import pytest

from analyzer.domain.signals.activity import LONE_PICTURE_CEILING, activity_of, blend
from analyzer.domain.signals.calibration import DEFAULT
from analyzer.domain.signals.series import Measurements

BIN_US = 100_000


def total_of(measured: Measurements) -> float:
    return max(activity_of(measured, width_us=BIN_US, calibration=DEFAULT).total)


def test_sound_without_picture_and_picture_without_sound_are_nothing() -> None:
    assert total_of(Measurements(BIN_US, (-10.0,) * 5, (0.6,) * 5, (0.0,) * 5)) == 0.0
    assert total_of(Measurements(BIN_US, (-80.0,) * 5, (0.0,) * 5, (1.0,) * 5)) == 0.0


def test_both_at_their_limit_are_one() -> None:
    assert total_of(Measurements(BIN_US, (0.0,) * 5, (1.0,) * 5, (1.0,) * 5)) == pytest.approx(1.0)


def test_a_missing_track_does_not_count_as_silence_but_stays_below_both_together() -> None:
    assert total_of(Measurements(BIN_US, changed=(1.0,) * 5)) == LONE_PICTURE_CEILING


def test_an_outburst_counts_more_than_the_same_level_held_throughout() -> None:
    steady = Measurements(BIN_US, (-20.0,) * 9, (0.4,) * 9, (0.3,) * 9)
    outburst = Measurements(BIN_US, (*(-60.0,) * 8, -20.0), (0.4,) * 9, (0.3,) * 9)

    assert total_of(outburst) > total_of(steady)


def test_sound_that_ends_before_the_picture_is_held_to_its_end() -> None:
    activity = activity_of(
        Measurements(BIN_US, (-20.0,) * 3, (0.4,) * 3, (0.3,) * 5), width_us=BIN_US, calibration=DEFAULT
    )

    assert len(activity.total) == len(activity.sound) == len(activity.picture) == 5


def test_a_blend_leans_to_the_side_with_the_larger_share() -> None:
    assert blend(0.25, 1.0, picture_share=0.5) == 0.5
    assert blend(0.25, 1.0, picture_share=0.8) > 0.5
