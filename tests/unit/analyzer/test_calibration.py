"""Ramps and curves."""

import pytest

from analyzer.domain.signals.calibration import DEFAULT, Curve, Ramp


@pytest.mark.parametrize(("value", "expected"), [(-1, 0.0), (0, 0.0), (5, 0.5), (10, 1.0), (11, 1.0)])
def test_a_ramp_is_straight_between_its_ends_and_flat_outside(value: float, expected: float) -> None:
    assert Ramp(0, 10)(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, 0.0), (0.2, 0.0), (0.5, 0.3), (0.8, 0.6), (0.9, 0.8), (2, 1)]
)
def test_a_curve_joins_its_knots(value: float, expected: float) -> None:
    curve = Curve(((0.2, 0.0), (0.8, 0.6), (1.0, 1.0)))

    assert curve(value) == pytest.approx(expected)


def test_the_level_never_falls_and_stays_a_score() -> None:
    levels = [DEFAULT.level(step / 100) for step in range(101)]

    assert levels == sorted(levels)
    assert (levels[0], levels[-1]) == (0.0, 1.0)
