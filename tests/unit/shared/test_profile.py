"""Profiles: what is refused, how scores combine, when two are the same."""

import pytest
from pydantic import ValidationError

from shared.profile import Profile, combined_score

EIGHT = (
    "skill_execution",
    "game_impact",
    "rarity",
    "visual_spectacle",
    "emotional_intensity",
    "narrative_value",
    "timing_importance",
    "momentum_shift",
)


def made(weights: dict[str, float], **changes: object) -> Profile:
    dimensions = [{"name": name, "definition": name, "weight": weight} for name, weight in weights.items()]
    return Profile.model_validate({"name": "test", "dimensions": dimensions, **changes})


def test_weights_must_sum_to_one() -> None:
    with pytest.raises(ValidationError, match="sum to 1"):
        made({"a": 0.5, "b": 0.4})


def test_dimension_names_are_unique() -> None:
    with pytest.raises(ValidationError, match="unique"):
        Profile.model_validate(
            {"name": "x", "dimensions": [{"name": "a", "definition": "a", "weight": 0.5}] * 2}
        )


def test_thresholds_rise() -> None:
    with pytest.raises(ValidationError, match="must rise"):
        made({"a": 1.0}, thresholds={"standard": 0.9, "high_quality": 0.8})


def test_clip_lengths_rise() -> None:
    with pytest.raises(ValidationError, match="must rise"):
        made({"a": 1.0}, clip={"minimum_us": 40_000_000, "target_us": 30_000_000})


def test_the_score_weighs_the_dimensions() -> None:
    profile = made({"a": 0.75, "b": 0.25})
    assert 0.75 * 0.8 + 0.25 * 0.4 == pytest.approx(combined_score(profile, {"a": 0.8, "b": 0.4}))


def test_a_dimension_that_was_not_scored_is_no_zero() -> None:
    profile = made(dict.fromkeys(EIGHT, 0.125))
    assert 0.8 == pytest.approx(combined_score(profile, {"rarity": 0.8, "game_impact": 0.8}))


def test_dimensions_that_the_profile_does_not_know_count_for_nothing() -> None:
    assert 0.5 == combined_score(made({"a": 1.0}), {"a": 0.5, "unknown": 1.0})
    assert 0.0 == combined_score(made({"a": 1.0}), {"unknown": 1.0})


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_outside_its_range_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        combined_score(made({"a": 1.0}), {"a": score})


def test_equal_profiles_have_equal_hashes_and_others_do_not() -> None:
    assert made({"a": 1.0}).sha256() == made({"a": 1.0}).sha256()
    assert made({"a": 1.0}).sha256() != made({"a": 1.0}, prompt="other").sha256()


def test_a_profile_survives_its_stored_form() -> None:
    profile = made(dict.fromkeys(EIGHT, 0.125), tags=("final",))
    assert profile == Profile.model_validate_json(profile.canonical_bytes())
