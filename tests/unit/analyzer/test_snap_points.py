"""Cuts and pauses as snap points."""

from dataclasses import replace

from analyzer.domain.signals.calibration import DEFAULT
from analyzer.domain.signals.series import Measurements
from analyzer.domain.signals.snap_points import snap_points


def test_cuts_and_the_middle_of_pauses_are_snap_points_in_order() -> None:
    loudness = (-20.0,) * 50 + (-60.0,) * 10 + (-20.0,) * 50

    points = snap_points(Measurements(100_000, loudness, cuts_us=(7_000_000, 1_000_000)), calibration=DEFAULT)

    assert points == (1_000_000, 5_500_000, 7_000_000)


def test_a_pause_without_sound_on_both_sides_is_none() -> None:
    loudness = (-60.0,) * 10 + (-20.0,) * 50 + (-60.0,) * 10

    assert snap_points(Measurements(100_000, loudness), calibration=DEFAULT) == ()


def test_a_stream_that_is_quiet_all_the_time_has_no_pauses() -> None:
    assert snap_points(Measurements(100_000, (-50.0, -49.0, -50.0) * 30), calibration=DEFAULT) == ()


def test_their_number_is_bounded() -> None:
    calibration = replace(DEFAULT, snap_points_max=3)

    assert snap_points(Measurements(100_000, cuts_us=tuple(range(9))), calibration=calibration) == (0, 1, 2)
