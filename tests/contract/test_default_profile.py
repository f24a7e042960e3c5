"""The profile that judges a stream when nobody says otherwise: dimensions, thresholds, numbers of the selection."""

from gateway.adapters.profile_files import default_profile

DIMENSIONS = {
    "skill_execution",
    "game_impact",
    "rarity",
    "visual_spectacle",
    "emotional_intensity",
    "narrative_value",
    "timing_importance",
    "momentum_shift",
}


def test_the_default_profile_scores_the_eight_dimensions() -> None:
    dimensions = default_profile().dimensions

    assert {dimension.name for dimension in dimensions} == DIMENSIONS
    assert all(dimension.definition and dimension.weight > 0 for dimension in dimensions)


def test_the_default_profile_has_the_agreed_thresholds_and_spacing() -> None:
    profile = default_profile()
    thresholds, selection = profile.thresholds, profile.selection

    assert (thresholds.exceptional, thresholds.high_quality, thresholds.standard) == (0.95, 0.85, 0.70)
    assert (selection.limit_window_us, selection.spacing_us) == (300_000_000, 30_000_000)
