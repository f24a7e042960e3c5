"""Encoding settings."""

import pytest

from clipper.domain.encoding import choose_encoding
from shared.profile import Quality


def test_a_higher_tier_is_encoded_better() -> None:
    tiers = (Quality.PREMIUM, Quality.HIGH, Quality.STANDARD, Quality.FAST)

    factors = [choose_encoding(tier, width=640, height=360, frames=750).crf for tier in tiers]

    assert factors == [18, 20, 22, 24]


@pytest.mark.parametrize(
    ("frames", "preset"), [(750, "superfast"), (30 * 30, "superfast"), (120 * 30, "ultrafast")]
)
def test_a_large_workload_takes_the_cheap_preset(frames: int, preset: str) -> None:
    assert choose_encoding(Quality.HIGH, width=1920, height=1080, frames=frames).preset == preset


def test_odd_sizes_are_made_even() -> None:
    encoding = choose_encoding(Quality.HIGH, width=641, height=361, frames=1)

    assert (encoding.width, encoding.height) == (640, 360)
