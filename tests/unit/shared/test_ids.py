"""Ids: deterministic ones are functions of their position, random ones have their form."""

import pytest

from shared.ids import (
    Position,
    StreamId,
    candidate_id,
    derived_id,
    event_id,
    highlight_id,
    is_stream_id,
    random_id,
    window_id,
)

STREAM = StreamId("str_0123456789ab")


def test_a_stream_id_is_str_and_twelve_hex_characters() -> None:
    assert is_stream_id(random_id("str", bytes(6)))
    assert not is_stream_id("str_xyz")
    assert not is_stream_id("str_0123456789ab0")


def test_too_little_entropy_is_refused() -> None:
    with pytest.raises(ValueError, match="entropy"):
        random_id("str", bytes(5))


def test_ids_of_equal_positions_are_equal_and_of_others_are_not() -> None:
    assert window_id(STREAM, Position(0, 1)) == window_id(STREAM, Position(0, 1, 0))
    positions = [Position(0, 1), Position(1, 0), Position(0, 1, 1), Position(0, 11)]
    assert len(positions) == len({window_id(STREAM, position) for position in positions})


def test_parts_cannot_run_into_one_another() -> None:
    assert event_id("a", "b", 1, 23) != event_id("a", "b", 12, 3)
    assert derived_id("x", "a", "b|c") != derived_id("y", "a", "b|c")


def test_a_highlight_is_named_after_its_anchor() -> None:
    anchor = candidate_id(STREAM, Position(0, 3), 0)
    assert highlight_id(STREAM, anchor) == highlight_id(STREAM, anchor)
    assert highlight_id(STREAM, anchor) != highlight_id(STREAM, candidate_id(STREAM, Position(0, 3), 1))
