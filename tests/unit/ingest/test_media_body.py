"""What a fetched body is."""

import pytest

from ingest.domain.media_body import MediaBody, NotMedia, examine
from tests.fakes.ingest.media import ts_segment


def test_a_transport_stream_tells_its_clock() -> None:
    body = examine(ts_segment(0, 2_000_000), listed_us=2_000_000)
    assert MediaBody(container="mpegts", pts_us=10_000_000, duration_us=2_000_000) == body


def test_an_absurd_length_is_left_out() -> None:
    body = examine(ts_segment(0, 9_000_000), listed_us=1_000_000)
    assert MediaBody(container="mpegts", pts_us=10_000_000) == body


def test_fragmented_mp4_is_known_by_its_first_box() -> None:
    assert MediaBody(container="fmp4") == examine(b"\x00\x00\x00\x18stypmsdh", listed_us=1)


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"\x47short", b"ID3\x04" + bytes(400)])
def test_anything_else_is_no_media(body: bytes) -> None:
    with pytest.raises(NotMedia):
        examine(body, listed_us=1)
