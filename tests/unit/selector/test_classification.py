"""Types and reasons."""

from selector.domain.classification import leading_dimensions, reason_of, type_of
from shared.profile import HighlightType
from tests.unit.selector.run_builder import moment, profile

TYPES = (
    HighlightType(name="loud", dimensions=("audio",)),
    HighlightType(name="clutch", dimensions=("motion",), keywords=("clutch", "1v3")),
    HighlightType(name="ace", keywords=("ace", "penta kill")),
)
PROFILE = profile(types=TYPES)


def test_keywords_in_the_text_decide_before_dimensions() -> None:
    assert type_of(moment(5, title="An ACE on Haven"), profile=PROFILE) == "ace"


def test_the_type_with_most_keywords_wins() -> None:
    assert type_of(moment(5, title="clutch 1v3 ace"), profile=PROFILE) == "clutch"


def test_keywords_match_whole_words_and_tags() -> None:
    assert type_of(moment(5, title="replaced"), profile=PROFILE) == "loud"
    tagged = moment(5).model_copy(update={"tags": ("penta kill",)})
    assert type_of(tagged, profile=PROFILE) == "ace"


def test_without_keywords_the_leading_dimension_names_the_type() -> None:
    led = moment(5).model_copy(update={"scores": {"audio": 0.5, "motion": 0.9}})
    assert type_of(led, profile=PROFILE) == "clutch"


def test_a_moment_that_fits_no_type_is_a_highlight() -> None:
    assert type_of(moment(5), profile=profile()) == "highlight"
    assert type_of(moment(5).model_copy(update={"scores": {}}), profile=PROFILE) == "highlight"


def test_dimensions_that_the_profile_does_not_know_never_lead() -> None:
    led = moment(5).model_copy(update={"scores": {"other": 1.0, "motion": 0.2, "audio": 0.0}})
    assert leading_dimensions(led, profile=PROFILE) == ("motion",)


def test_the_reason_ends_with_the_score_in_words_and_numbers() -> None:
    expected = "It got loud. Score 0.80, above the threshold of 0.70, led by audio 0.80 and motion 0.80."
    assert reason_of(moment(5, score=0.8), profile=PROFILE) == expected


def test_a_reason_without_a_full_stop_becomes_a_sentence_of_its_own() -> None:
    quiet = moment(5, score=0.8).model_copy(update={"reason": "loudness rose 9 dB"})
    told = reason_of(quiet, profile=PROFILE)
    assert told.startswith("Loudness rose 9 dB. Score 0.80")
