"""Presentation times out of PES headers."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.ts import Clock, is_transport_stream, read_clock
from tests.fakes.ingest.media import packet, ts_body

FRAME = 3600


def test_first_picture_and_length_up_to_the_end_of_the_last_one() -> None:
    body = ts_body(video=range(90_000, 270_000, FRAME), audio=range(80_000, 270_000, 1920))
    expected = Clock(pts_us=1_000_000, duration_us=2_000_000, has_video=True, has_audio=True)
    assert expected == read_clock(body)


def test_pictures_that_are_sent_out_of_order_count_by_their_time() -> None:
    shown = list(range(90_000, 180_000, FRAME))
    random.Random(1).shuffle(shown)
    clock = read_clock(ts_body(video=shown))
    assert clock is not None
    assert (1_000_000, 1_000_000) == (clock.pts_us, clock.duration_us)


def test_sound_alone_has_a_clock_too() -> None:
    clock = read_clock(ts_body(audio=range(0, 90_000, 1920)))
    assert clock is not None
    assert (0, False, True) == (clock.pts_us, clock.has_video, clock.has_audio)


def test_the_wrap_of_the_clock_inside_a_segment_is_no_end() -> None:
    start = 2**33 - 45_000
    clock = read_clock(ts_body(video=[(start + n * FRAME) % 2**33 for n in range(25)]))
    assert clock is not None
    assert 1_000_000 == clock.duration_us


def test_frames_of_alternating_length_make_the_right_length() -> None:
    times = [round(n * 90_000 / 23.976) for n in range(48)]
    clock = read_clock(ts_body(video=times))
    assert clock is not None
    assert abs(clock.duration_us - 48 / 23.976 * 1_000_000) < 12


def test_a_single_picture_has_no_length() -> None:
    clock = read_clock(packet(256, 0xE0, 90_000))
    assert clock == Clock(pts_us=1_000_000, duration_us=0, has_video=True, has_audio=False)


def test_no_time_stamp_gives_no_clock() -> None:
    assert read_clock(b"\x47" + bytes(187)) is None


def test_the_sync_byte_of_the_first_packets_tells_a_transport_stream() -> None:
    body = ts_body(video=range(0, 90_000, FRAME))
    broken = body[:188] + b"x" + body[189:]
    assert [True, False, False, False] == [
        is_transport_stream(each) for each in (body, broken, b"", b"<html>" * 100)
    ]


@given(st.binary(max_size=2000))
def test_garbage_never_raises(body: bytes) -> None:
    read_clock(body)
    read_clock(ts_body(video=[0, FRAME]) + body)
