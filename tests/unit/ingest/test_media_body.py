"""What a fetched body is."""

import pytest

from ingest.domain.media_body import MediaBody, NotMedia, examine
from tests.fakes.ingest.media import fmp4_init, fmp4_segment, ts_segment


def test_a_transport_stream_tells_its_clock() -> None:
    body = examine(ts_segment(0, 2_000_000), listed_us=2_000_000)
    assert MediaBody(container="mpegts", pts_us=10_000_000, duration_us=2_000_000) == body


def test_an_absurd_length_is_left_out() -> None:
    body = examine(ts_segment(0, 9_000_000), listed_us=1_000_000)
    assert MediaBody(container="mpegts", pts_us=10_000_000) == body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (ts_segment(0, 2_000_000), False),
        (ts_segment(0, 2_000_000)[:-40], True),
        (ts_segment(0, 1_000_000), True),
        (ts_segment(0, 1_700_000), False),
        (ts_segment(0, 2_000_000)[: 188 * 10] + b"x" + ts_segment(0, 2_000_000)[188 * 10 + 1 :], True),
    ],
)
def test_a_body_that_ends_within_a_packet_or_much_too_early_looks_broken(body: bytes, expected: bool) -> None:
    assert expected == examine(body, listed_us=2_000_000).looks_broken


def test_fragmented_mp4_tells_its_clock_by_its_init_section() -> None:
    body = examine(fmp4_segment(4_000_000, 2_000_000), listed_us=2_000_000, init=fmp4_init())
    assert MediaBody(container="fmp4", pts_us=14_000_000, duration_us=2_000_000) == body


def test_a_fragment_with_an_absurd_length_keeps_its_start() -> None:
    body = examine(fmp4_segment(0, 9_000_000), listed_us=1_000_000, init=fmp4_init())
    assert MediaBody(container="fmp4", pts_us=10_000_000) == body


@pytest.mark.parametrize("init", [None, b"<html></html>", b"", fmp4_init()[:-1]])
def test_a_fragment_without_a_whole_init_section_is_no_media(init: bytes | None) -> None:
    with pytest.raises(NotMedia):
        examine(fmp4_segment(0, 2_000_000), listed_us=2_000_000, init=init)


@pytest.mark.parametrize(
    "body", [b"", b"<html></html>", b"\x47short", b"ID3\x04" + bytes(400), b"\x00\x00\x00\x18stypmsdh"]
)
def test_anything_else_is_no_media(body: bytes) -> None:
    with pytest.raises(NotMedia):
        examine(body, listed_us=1)
