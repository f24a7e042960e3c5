"""What Gemini says, in every shape it may come in: moments, named faults, or a typed failure; never a crash."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.domain.gemini.answer import AnswerUnreadable, Reading, read_answer
from analyzer.domain.gemini.prompt import ClipSpan
from analyzer.domain.verdict import Sifted, sift

SPAN = ClipSpan(2_000_000, 22_000_000)
LENGTH_US = 20_000_000
DIMENSIONS = frozenset({"rarity", "skill_execution"})
GOOD: dict[str, Any] = {
    "start_s": 4.0,
    "end_s": 8.5,
    "peak_s": 6.25,
    "scores": {"rarity": 0.5, "skill_execution": 1},
    "confidence": 0.75,
    "title": "A save",
    "description": "d",
    "reason": "r",
    "tags": ["save"],
}


def text_of(*items: Any) -> str:
    return json.dumps({"moments": list(items)})


def read(text: str, *, cut: bool = False) -> Reading:
    return read_answer(text, span=SPAN, moments_max=5, cut=cut)


def sifted(text: str) -> Sifted:
    reading = read(text)
    return sift(reading.moments, length_us=LENGTH_US, dimensions=DIMENSIONS, unread=reading.faults)


def test_a_moment_is_moved_to_the_windows_clock() -> None:
    [moment] = read(text_of(GOOD)).moments

    assert (2_000_000, 4_250_000, 6_500_000) == (moment.start_us, moment.peak_us, moment.end_us)
    assert ({"rarity": 0.5, "skill_execution": 1.0}, 0.75) == (moment.scores, moment.confidence)
    assert ("A save", "d", "r", ("save",)) == (moment.title, moment.description, moment.reason, moment.tags)


def test_texts_and_tags_may_be_left_out() -> None:
    bare = {key: GOOD[key] for key in ("start_s", "end_s", "peak_s", "scores", "confidence", "title")}

    [moment] = read(text_of(bare)).moments

    assert ("", "", ()) == (moment.description, moment.reason, moment.tags)


def test_no_moments_is_a_whole_answer() -> None:
    assert Reading(()) == read('{"moments": []}')


@pytest.mark.parametrize(
    "fence", ["```json\n{}\n```", "```\n{}\n```  ", "  ```JSON\n{}\n```\n", "```json\n{}"]
)
def test_a_fence_is_taken_off(fence: str) -> None:
    assert 1 == len(read(fence.replace("{}", text_of(GOOD))).moments)


UNREADABLE = {
    "nothing": "",
    "blank": " \n ",
    "prose": "I see a great save at four seconds.",
    "prose before": f"Here it is: {text_of(GOOD)}",
    "prose behind": f"{text_of(GOOD)} I hope this helps!",
    "cut in a number": text_of(GOOD)[:30],
    "cut in a text": text_of(GOOD)[:-15],
    "a list": json.dumps([GOOD]),
    "a number": "42",
    "a text": '"no moments"',
    "null": "null",
    "NaN": text_of(GOOD).replace("0.75", "NaN"),
    "Infinity": text_of(GOOD).replace("0.75", "-Infinity"),
    "another key": json.dumps({"highlights": [GOOD]}),
    "moments is null": '{"moments": null}',
    "moments is an object": json.dumps({"moments": GOOD}),
    "moments is a text": json.dumps({"moments": text_of(GOOD)}),
    "a key twice": '{"moments": [], "moments": []}',
    "a score twice": text_of(GOOD).replace('"rarity": 0.5', '"rarity": 0.5, "rarity": 1.0'),
    "python": str({"moments": [GOOD]}),
    "a comment": text_of(GOOD).replace("}", "} // done", 1),
    "a trailing comma": text_of(GOOD).replace("]}", ",]}"),
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "a number of 5000 digits": text_of(GOOD).replace("0.75", "1" * 5000),
    "far too long": text_of(GOOD | {"title": "x" * 300_000}),
    "two documents": text_of(GOOD) * 2,
    "a fence within": f"a\n```json\n{text_of(GOOD)}\n```",
    "xml": "<moments><moment/></moments>",
    "NUL": "\x00",
}


@pytest.mark.parametrize("shape", UNREADABLE)
def test_what_is_not_the_object_that_was_asked_for_is_unreadable(shape: str) -> None:
    with pytest.raises(AnswerUnreadable):
        read(UNREADABLE[shape])


BAD_ITEMS: dict[str, Any] = {
    "null": None,
    "a number": 7,
    "a list": [GOOD],
    "empty": {},
    "no start": {key: value for key, value in GOOD.items() if key != "start_s"},
    "a time as text": GOOD | {"start_s": "00:04"},
    "a time as null": GOOD | {"end_s": None},
    "a time as bool": GOOD | {"peak_s": True},
    "an endless time": GOOD | {"start_s": 1e308},
    "a score as text": GOOD | {"scores": {"rarity": "high"}},
    "a score as null": GOOD | {"scores": {"rarity": None}},
    "a score as bool": GOOD | {"scores": {"rarity": True}},
    "scores as list": GOOD | {"scores": [0.5, 0.6]},
    "a thousand scores": GOOD | {"scores": {f"d{n}": 0.5 for n in range(1000)}},
    "confidence as word": GOOD | {"confidence": "high"},
    "title as number": GOOD | {"title": 5},
    "title as null": GOOD | {"title": None},
    "tags as text": GOOD | {"tags": "save"},
    "tags of numbers": GOOD | {"tags": [1]},
}


@pytest.mark.parametrize("shape", BAD_ITEMS)
def test_an_item_of_another_shape_is_named_and_the_good_one_is_kept(shape: str) -> None:
    reading = read(text_of(BAD_ITEMS[shape], GOOD))

    assert 1 == len(reading.moments)
    assert [0] == [fault.startswith("item 0: ") - 1 for fault in reading.faults]


def test_a_number_beyond_floats_is_a_fault_of_its_item() -> None:
    reading = read(text_of(GOOD, GOOD).replace("0.75", "1e309", 1))

    assert (1, 1) == (len(reading.moments), len(reading.faults))


INCREDIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "before the window": ({"start_s": 1.0}, "is not inside the window"),
    "behind the window": ({"end_s": 22.001}, "is not inside the window"),
    "backwards": ({"start_s": 8.5, "end_s": 4.0}, "is not inside the window"),
    "of no length": ({"start_s": 8.5}, "is not inside the window"),
    "a peak outside": ({"peak_s": 9.0}, "is outside its span"),
    "an unknown dimension": ({"scores": {"rarity": 0.5, "luck": 0.5}}, "no dimension luck"),
    "a score above 1": ({"scores": {"rarity": 1.01}}, "is not in [0, 1]"),
    "a score below 0": ({"scores": {"rarity": -0.1}}, "is not in [0, 1]"),
    "a score in percent": ({"scores": {"rarity": 85}}, "is not in [0, 1]"),
    "no scores": ({"scores": {}}, "it has no score"),
    "confidence in percent": ({"confidence": 90}, "confidence is not in [0, 1]"),
    "no title": ({"title": "  \n"}, "it has no title"),
}


@pytest.mark.parametrize("shape", INCREDIBLE)
def test_what_can_be_read_and_not_be_believed_is_rejected_and_never_clamped(shape: str) -> None:
    changes, told = INCREDIBLE[shape]

    judged = sifted(text_of(GOOD | changes, GOOD))

    assert 1 == len(judged.moments)
    assert told in judged.faults[0]


def test_moments_beyond_the_limit_are_left_out_and_counted() -> None:
    reading = read(text_of(*[GOOD] * 700))

    assert (5, ("695 items beyond the limit of 5",)) == (len(reading.moments), reading.faults)


def test_an_answer_that_was_cut_keeps_its_whole_items() -> None:
    whole = text_of(GOOD, GOOD, GOOD)

    for length in range(len(whole)):
        try:
            reading = read(whole[:length], cut=True)
        except AnswerUnreadable:
            assert length < len(text_of(GOOD))
        else:
            assert 1 <= len(reading.moments) <= 3
            assert "it was cut at the limit of tokens" in reading.faults


def test_texts_become_one_printable_line_and_families_of_emoji_stay() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    odd = GOOD | {"title": f"a\x00b\n\u202ec\ud800 {family}", "tags": ["x" * 99, "\x07", *"abcdefghij"]}

    [moment] = read(text_of(odd)).moments

    assert f"a b c {family}" == moment.title
    assert ("x" * 50, *"abcdef") == moment.tags


def test_names_of_dimensions_cannot_smuggle_what_no_event_can_hold() -> None:
    judged = sifted(text_of(GOOD | {"scores": {"\ud800\x00": 0.5}}, GOOD))

    assert judged.faults[0].encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(tuple(GOOD)), inner, max_size=9)
    ),
    max_leaves=20,
)


@given(
    st.lists(
        st.builds(
            lambda changes: GOOD | changes,
            st.dictionaries(
                st.sampled_from(tuple(GOOD)), json_values | st.floats(-5, 40, allow_nan=False), max_size=3
            ),
        ),
        max_size=5,
    )
)
def test_no_moment_that_is_kept_lies_outside_its_window(items: list[dict[str, Any]]) -> None:
    try:
        judged = sifted(text_of(*items))
    except AnswerUnreadable:
        return
    for moment in judged.moments:
        assert 0 <= moment.start_us < moment.end_us <= LENGTH_US
        assert moment.start_us <= moment.peak_us <= moment.end_us
        assert all(0 <= score <= 1 for score in moment.scores.values())
        assert moment.scores.keys() <= DIMENSIONS
