"""From the default profile and a request's options to the profile that judges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.profile_files import default_profile
from gateway.domain.profile_resolution import ProfileFileInvalid, read_profile, resolve
from gateway.domain.stream_options import StreamOptions
from shared.profile import Quality, Sensitivity

BASIS = default_profile()


def test_the_default_profile_has_the_eight_dimensions_and_numbers_of_the_design() -> None:
    weights = [dimension.weight for dimension in BASIS.dimensions]

    assert weights == [0.20, 0.20, 0.15, 0.15, 0.10, 0.10, 0.05, 0.05]
    assert (BASIS.thresholds.standard, BASIS.thresholds.exceptional) == (0.70, 0.95)
    assert (BASIS.selection.max_per_window, BASIS.selection.spacing_us) == (3, 30_000_000)


def test_no_options_mean_the_documented_defaults() -> None:
    profile = resolve(BASIS, options=StreamOptions())

    assert (profile.quality, profile.sensitivity) == (Quality.HIGH, Sensitivity.MEDIUM)
    assert (profile.thresholds, profile.clip.target_us) == (BASIS.thresholds, 30_000_000)


@pytest.mark.parametrize(("sensitivity", "standard"), [("low", 0.8), ("medium", 0.7), ("high", 0.6)])
def test_sensitivity_moves_the_standard_threshold_by_a_tenth(sensitivity: str, standard: float) -> None:
    options = StreamOptions.model_validate({"sensitivity": sensitivity})

    assert resolve(BASIS, options=options).thresholds.standard == standard


def test_a_moved_threshold_never_passes_the_next_one() -> None:
    basis = BASIS.model_copy(update={"thresholds": BASIS.thresholds.model_copy(update={"standard": 0.8})})

    profile = resolve(basis, options=StreamOptions(sensitivity=Sensitivity.LOW))

    assert profile.thresholds.standard == profile.thresholds.high_quality == 0.85


def test_options_reach_clip_cap_tags_and_senses() -> None:
    options = StreamOptions(
        clip_duration=90,
        max_highlights=7,
        custom_tags=("final", "final"),
        include_audio=False,
        include_chat=False,
        frame_interval=0.5,
    )

    profile = resolve(BASIS, options=options)

    assert (profile.clip.target_us, profile.selection.max_highlights) == (90_000_000, 7)
    assert (profile.include_audio, profile.include_chat) == (False, False)
    assert profile.tags == ("final",)
    assert profile.frame_interval_s == 0.5


@given(
    st.sampled_from(list(Sensitivity)),
    st.integers(10, 120),
    st.one_of(st.none(), st.integers(1, 100)),
    st.sampled_from(list(Quality)),
)
def test_any_valid_options_give_a_valid_profile_whose_hash_depends_on_nothing_else(
    sensitivity: Sensitivity, clip_duration: int, max_highlights: int | None, quality: Quality
) -> None:
    options = StreamOptions(
        sensitivity=sensitivity,
        clip_duration=clip_duration,
        max_highlights=max_highlights,
        analysis_quality=quality,
    )

    assert resolve(BASIS, options=options).sha256() == resolve(BASIS, options=options).sha256()


def test_a_profile_file_whose_weights_do_not_sum_to_one_is_refused() -> None:
    content = {"name": "x", "dimensions": [{"name": "a", "definition": "b", "weight": 0.5}]}

    with pytest.raises(ProfileFileInvalid, match="sum to 1"):
        read_profile(content)
