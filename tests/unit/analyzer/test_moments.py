"""Moments from synthetic series of a window of 20 s in bins of 100 ms."""

import pytest

from analyzer.domain.analysis import Moment
from analyzer.domain.signals.calibration import DEFAULT
from analyzer.domain.signals.moments import VISIBLE_DIMENSIONS, find_moments, find_peaks
from analyzer.domain.signals.series import Measurements
from shared.profile import combined_score
from tests.fakes.shared.stored_profiles import default_profile

BINS = 200
THRESHOLD = 0.70


def series(quiet: float, busy: float, *spans: tuple[int, int]) -> tuple[float, ...]:
    return tuple(busy if any(a <= at < b for a, b in spans) else quiet for at in range(BINS))


def window(
    *spans: tuple[int, int], loud: float = -12.0, moving: float = 0.5, onsets: float = 0.5
) -> Measurements:
    return Measurements(
        100_000,
        loudness_dbfs=series(-45.0, loud, *spans),
        onsets=series(0.1, onsets, *spans),
        changed=series(0.01, moving, *spans),
    )


def moments_of(measured: Measurements) -> tuple[Moment, ...]:
    return find_moments(measured, dimensions=VISIBLE_DIMENSIONS, calibration=DEFAULT)


def best_score(measured: Measurements) -> float:
    return max((combined_score(default_profile(), m.scores) for m in moments_of(measured)), default=0.0)


def test_an_outburst_of_sound_and_picture_is_one_moment_above_the_threshold() -> None:
    moments = moments_of(window((90, 140)))

    assert len(moments) == 1
    assert 9_000_000 <= moments[0].peak_us <= 14_000_000
    assert moments[0].start_us <= 10_000_000 < 13_000_000 <= moments[0].end_us
    assert combined_score(default_profile(), moments[0].scores) >= THRESHOLD


def test_a_quiet_static_window_has_no_moments() -> None:
    assert moments_of(window()) == ()


def test_loud_music_over_a_still_picture_stays_below_the_threshold() -> None:
    assert best_score(window((0, BINS), moving=0.06, onsets=0.4)) < THRESHOLD


def test_fast_movement_without_a_sound_in_an_audible_stream_stays_below_the_threshold() -> None:
    assert best_score(window((50, 120), loud=-40.0, onsets=0.12)) < THRESHOLD


def test_two_outbursts_apart_are_two_moments_in_time_order() -> None:
    moments = moments_of(window((30, 60), (130, 160)))

    assert [moment.start_us // 5_000_000 for moment in moments] == [0, 2]


def test_peaks_keep_their_distance() -> None:
    peaks = find_peaks((0.9,) * BINS, bin_us=100_000, calibration=DEFAULT)

    assert [peak.at for peak in peaks] == [20, 100]


def test_a_stream_without_sound_is_judged_by_its_picture() -> None:
    measured = Measurements(100_000, changed=series(0.01, 0.6, (80, 140)))

    moments = moments_of(measured)

    assert len(moments) == 1
    assert "emotional_intensity" not in moments[0].scores
    assert "no sound track" in moments[0].reason


def test_a_stream_without_picture_is_judged_by_its_sound() -> None:
    measured = Measurements(
        100_000, loudness_dbfs=series(-45.0, -12.0, (80, 140)), onsets=series(0.1, 0.5, (80, 140))
    )

    moments = moments_of(measured)

    assert len(moments) == 1
    assert "visual_spectacle" not in moments[0].scores
    assert moments[0].tags == ("loud", "outburst", "sound-only")


def test_dimensions_that_the_profile_lacks_are_left_out() -> None:
    moments = find_moments(
        window((90, 140)), dimensions=frozenset({"visual_spectacle", "rarity"}), calibration=DEFAULT
    )

    assert moments[0].scores.keys() == {"visual_spectacle"}


@pytest.mark.parametrize("bins", [1, 3, 12])
def test_a_very_short_window_gives_moments_inside_itself(bins: int) -> None:
    measured = Measurements(
        100_000, loudness_dbfs=(-10.0,) * bins, onsets=(0.6,) * bins, changed=(0.6,) * bins
    )

    (moment,) = moments_of(measured)

    assert 0 <= moment.start_us <= moment.peak_us <= moment.end_us <= bins * 100_000


def test_an_empty_window_has_no_moments() -> None:
    assert moments_of(Measurements(100_000)) == ()


def test_every_score_is_in_bounds_at_the_extremes() -> None:
    (moment, *_) = moments_of(window((90, 140), loud=0.0, moving=1.0, onsets=5.0))

    assert all(0.0 <= score <= 1.0 for score in (*moment.scores.values(), moment.confidence))


def test_the_reason_has_the_numbers() -> None:
    (moment,) = moments_of(window((90, 140)))

    assert "dB above the window's median at -12 dBFS" in moment.reason
    assert "x the window's median" in moment.reason


def test_the_title_says_nothing_about_time_and_differs_with_the_features() -> None:
    sudden = moments_of(window((90, 120)))[0].title
    constant = moments_of(window((0, BINS)))[0].title

    assert sudden != constant
    assert not any(letter.isdigit() for letter in sudden + constant)
