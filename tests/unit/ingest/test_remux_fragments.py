"""Pieces begin where the media's own clock says, wherever reading began."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.fragments import (
    LARGEST_PIECE_BYTES,
    Fragment,
    FragmentReader,
    FragmentsMalformed,
    Piece,
    Splicer,
    codecs_of,
)

TARGET_US = 4_000_000


def fragments(lengths_us: list[int]) -> list[Fragment]:
    made, at_us = [], 10_000_000
    for number, length_us in enumerate(lengths_us):
        body = number.to_bytes(2, "big")
        made.append(Fragment(init=b"i", body=body, pts_us=at_us, end_us=at_us + length_us))
        at_us += length_us
    return made


def spliced(given_fragments: list[Fragment], *, from_us: int | None = None) -> list[Piece]:
    splicer = Splicer(target_us=TARGET_US, from_us=from_us)
    pieces = [splicer.add(fragment) for fragment in given_fragments]
    return [piece for piece in (*pieces, splicer.finish()) if piece is not None]


LENGTHS = st.lists(st.integers(min_value=100_000, max_value=12_000_000), min_size=1, max_size=60)


@given(LENGTHS)
def test_pieces_tile_and_hold_every_fragment_once(lengths_us: list[int]) -> None:
    made = fragments(lengths_us)
    pieces = spliced(made)
    assert b"".join(fragment.body for fragment in made) == b"".join(piece.body for piece in pieces)
    assert sum(lengths_us) == sum(piece.duration_us for piece in pieces)
    assert all(piece.duration_us >= TARGET_US for piece in pieces[:-1])


@given(LENGTHS, st.data())
def test_whoever_goes_on_makes_the_same_pieces(lengths_us: list[int], data: st.DataObject) -> None:
    made = fragments(lengths_us)
    whole = spliced(made)
    stored = data.draw(st.integers(min_value=1, max_value=len(whole)))
    from_us = whole[stored - 1].end_us
    before = [index for index, fragment in enumerate(made) if fragment.pts_us < from_us]
    begin = data.draw(st.sampled_from(before))
    assert whole[stored:] == spliced(made[begin:], from_us=from_us)


def test_another_init_section_begins_another_piece() -> None:
    first, second = fragments([1_000_000, 1_000_000])
    other = Fragment(init=b"j", body=b"x", pts_us=second.pts_us, end_us=second.end_us)
    assert [b"i", b"j"] == [piece.init for piece in spliced([first, other])]


def test_a_piece_of_too_many_bytes_ends_before_its_time() -> None:
    body = bytes(LARGEST_PIECE_BYTES // 2)
    large = [
        Fragment(init=b"i", body=body, pts_us=each.pts_us, end_us=each.end_us)
        for each in fragments([1000, 1000, 1000])
    ]
    pieces = spliced(large)
    assert [2000, 1000] == [piece.duration_us for piece in pieces]
    assert LARGEST_PIECE_BYTES == max(len(piece.body) for piece in pieces)


@pytest.mark.parametrize(
    ("kind", "size"),
    [(b"moof", 0), (b"moof", 7), (b"moof", 2**24), (b"moov", 2**24), (b"mdat", 2**27), (b"mdat", 2**31)],
)
def test_a_box_of_an_impossible_size_is_refused(kind: bytes, size: int) -> None:
    with pytest.raises(FragmentsMalformed):
        list(FragmentReader().feed(size.to_bytes(4, "big") + kind))


def test_sample_entries_are_named_in_order() -> None:
    def described(name: bytes) -> bytes:
        return b"stsd" + bytes(4) + (1).to_bytes(4, "big") + (100).to_bytes(4, "big") + name + bytes(20)

    assert ("avc1", "mp4a") == codecs_of(described(b"avc1") + described(b"mp4a"))
