"""What is credible in a provider's answer."""

import math
from dataclasses import replace
from typing import Any

import pytest

from analyzer.domain.analysis import Moment
from analyzer.domain.verdict import fault_of, sift

DIMENSIONS = frozenset({"rarity", "game_impact"})
MOMENT = Moment(start_us=1, end_us=9, peak_us=5, scores={"rarity": 0.5}, confidence=0.5, title="A title")


def test_a_moment_inside_the_window_is_credible() -> None:
    assert fault_of(MOMENT, length_us=10, dimensions=DIMENSIONS) is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"start_us": -1}, "is not inside the window"),
        ({"end_us": 11}, "is not inside the window"),
        ({"end_us": 1}, "is not inside the window"),
        ({"peak_us": 0}, "is outside its span"),
        ({"scores": {"rarity": 1.1}}, "the score of rarity is not in [0, 1]"),
        ({"scores": {"rarity": math.nan}}, "the score of rarity is not in [0, 1]"),
        ({"scores": {"luck": 0.5}}, "the profile has no dimension luck"),
        ({"scores": {}}, "it has no score"),
        ({"title": " "}, "it has no title"),
        ({"confidence": math.inf}, "its confidence is not in [0, 1]"),
    ],
)
def test_a_moment_that_cannot_be_believed_is_named(change: dict[str, Any], fault: str) -> None:
    found = fault_of(replace(MOMENT, **change), length_us=10, dimensions=DIMENSIONS)

    assert found is not None
    assert fault in found


def test_sifting_keeps_the_credible_unchanged_and_one_fault_for_each_other() -> None:
    sifted = sift((MOMENT, replace(MOMENT, end_us=99)), length_us=10, dimensions=DIMENSIONS)

    assert sifted.moments == (MOMENT,)
    assert len(sifted.faults) == 1
