"""Playlists that are made to be slow: bounded work, whatever they say."""

from time import perf_counter

import pytest

from ingest.domain.playlist import PlaylistTooLarge, parse_attributes, parse_playlist

HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n"
MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize(
    "line",
    [
        "A" * MEBIBYTE,
        "A " * (MEBIBYTE // 2),
        "A=," * (MEBIBYTE // 3),
        'A="' * (MEBIBYTE // 3),
        "A" + " " * MEBIBYTE,
        "A=" + "x" * MEBIBYTE + '"',
        "=" * MEBIBYTE,
    ],
    ids=["one name", "names", "empty", "open quotes", "blanks", "one value", "equals"],
)
def test_a_long_line_of_attributes_costs_no_more_than_its_length(line: str) -> None:
    began_s = perf_counter()
    parse_attributes(line)
    assert perf_counter() - began_s < 5


def test_attributes_are_read_as_before() -> None:
    expected = {"METHOD": "AES-128", "URI": "a,b=c", "IV": "0x1", "X-NAME": "y"}
    assert expected == parse_attributes('METHOD=AES-128,URI="a,b=c", IV = 0x1 ,X-NAME="y"')


def test_a_list_of_too_many_lines_is_refused_at_once() -> None:
    with pytest.raises(PlaylistTooLarge, match="lines"):
        parse_playlist(HEAD + "a\n" * 300_000, url="https://cdn.example.com/x.m3u8")


def test_a_list_of_twelve_hours_is_not() -> None:
    entry = "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z\n#EXTINF:2.0,\na.ts\n"
    assert parse_playlist(HEAD + entry * 21_600, url="https://cdn.example.com/x.m3u8")
