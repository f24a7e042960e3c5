"""Arithmetic on series."""

import pytest

from analyzer.domain.signals.series import Measurements, median, moving_loudness, moving_mean, padded


def test_a_moving_mean_uses_the_bins_that_exist_near_the_edges() -> None:
    assert moving_mean((0.0, 3.0, 6.0, 9.0), 3) == (1.5, 3.0, 6.0, 7.5)


def test_moving_loudness_averages_power_so_that_one_loud_bin_outweighs_many_quiet_ones() -> None:
    loudness = moving_loudness((-80.0, -80.0, -10.0, -80.0, -80.0), 5)

    assert loudness[2] == pytest.approx(-17.0, abs=0.1)


def test_padding_repeats_the_last_value_and_leaves_an_absent_series_absent() -> None:
    assert padded((1.0, 2.0), 4) == (1.0, 2.0, 2.0, 2.0)
    assert padded((), 4) == ()
    assert padded((1.0, 2.0, 3.0), 2) == (1.0, 2.0)


def test_the_median_of_an_even_number_is_the_upper_middle() -> None:
    assert median((4.0, 1.0, 3.0, 2.0)) == 3.0


def test_cuts_are_counted_with_both_bounds() -> None:
    measured = Measurements(100_000, cuts_us=(1, 5, 9))

    assert measured.cuts_between(1, 9) == 3
    assert measured.cuts_between(2, 8) == 1
