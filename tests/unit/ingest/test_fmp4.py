"""Times in fragmented MP4, and what a broken or hostile body gets."""

import struct

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingest.domain.fmp4 import BoxesMalformed, FragmentClock, read_fragment_clock
from tests.fakes.ingest.media import box, fmp4_fragment, fmp4_init, fmp4_segment, fmp4_track, full_box

INIT = fmp4_init()
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SEGMENT = fmp4_segment(0, 2_000_000)
CLOCK = FragmentClock(pts_us=10_000_000, duration_us=2_000_000)


def test_time_runs_from_the_first_picture_shown_to_the_end_of_the_last() -> None:
    """I P B B: decoded in this order, shown as I B B P."""
    shown = [(512, 512), (512, 1536), (512, 0), (512, 0)]
    clock = read_fragment_clock(fmp4_fragment(12_800, shown), init=INIT)
    assert FragmentClock(pts_us=1_040_000, duration_us=160_000) == clock


def test_leading_pictures_come_before_the_key_frame() -> None:
    clock = read_fragment_clock(fmp4_fragment(12_800, [(512, 0), (512, -1024)]), init=INIT)
    assert FragmentClock(pts_us=960_000, duration_us=80_000) == clock


def test_chunks_of_one_segment_are_one_stretch_of_time() -> None:
    chunks = [fmp4_fragment(12_800 + n * 5_120, [(512, 0)] * 10) for n in range(3)]
    clock = read_fragment_clock(b"".join(chunks), init=INIT)
    assert FragmentClock(pts_us=1_000_000, duration_us=1_200_000) == clock


def test_the_picture_decides_also_where_sound_comes_first() -> None:
    sound = fmp4_fragment(0, [(1_024, 0)] * 200, track_id=2)
    assert CLOCK == read_fragment_clock(sound + SEGMENT, init=INIT)


def test_without_pictures_the_sound_decides() -> None:
    init = fmp4_init(fmp4_track(2, b"soun", 48_000))
    clock = read_fragment_clock(fmp4_fragment(48_000, [(1_024, 0)] * 10, track_id=2), init=init)
    assert FragmentClock(pts_us=1_000_000, duration_us=213_333) == clock


@pytest.mark.parametrize("long_time", [True, False])
def test_decode_times_have_32_or_64_bits(long_time: bool) -> None:
    clock = read_fragment_clock(fmp4_fragment(2**32 - 1_024, [(512, 0)], long_time=long_time), init=INIT)
    assert clock == FragmentClock(pts_us=335_544_240_000, duration_us=40_000)


def test_a_time_of_decades_is_read_without_overflow() -> None:
    clock = read_fragment_clock(fmp4_fragment(2**64 - 1, [(2**32 - 1, 0)]), init=INIT)
    assert clock is not None and clock.duration_us == 335_544_319_922


def test_durations_may_stand_in_the_fragment_or_in_the_init_section() -> None:
    def fragment(header: bytes) -> bytes:
        run = full_box(b"trun", 25, 0, flags=0x001)
        time = full_box(b"tfdt", 0)
        return box(b"moof", box(b"traf", header, time, run)) + box(b"mdat")

    in_fragment = full_box(b"tfhd", 1, 0, 0, 7, 512, flags=0x0B)
    in_init = full_box(b"tfhd", 1)
    expected = FragmentClock(pts_us=0, duration_us=1_000_000)
    assert expected == read_fragment_clock(fragment(in_fragment), init=INIT)
    assert expected == read_fragment_clock(fragment(in_init), init=fmp4_init(default_duration=512))


def test_without_a_decode_time_there_is_a_length_and_no_start() -> None:
    run = full_box(b"trun", 25, *[512] * 25, flags=0x100)
    body = box(b"moof", box(b"traf", full_box(b"tfhd", 1), run)) + box(b"mdat")
    assert FragmentClock(pts_us=None, duration_us=1_000_000) == read_fragment_clock(body, init=INIT)


def test_a_body_may_be_its_own_init_section() -> None:
    assert CLOCK == read_fragment_clock(INIT + SEGMENT, init=None)


def test_long_sizes_and_a_last_box_without_one_are_understood() -> None:
    moof, mdat = SEGMENT[SEGMENT.index(b"moof") - 4 : -13], SEGMENT[-13:]
    long_moof = struct.pack(">I4sQ", 1, b"moof", len(moof) + 8) + moof[8:]
    open_mdat = bytes(4) + mdat[4:]
    assert CLOCK == read_fragment_clock(long_moof + open_mdat, init=INIT)


def test_fragments_of_other_tracks_say_nothing() -> None:
    assert read_fragment_clock(fmp4_fragment(0, [(512, 0)], track_id=9), init=INIT) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        SEGMENT[:-1],
        SEGMENT + b"\x00",
        SEGMENT + b"\x00\x00\x00\x07free",
        SEGMENT + struct.pack(">I4sQ", 1, b"free", 15),
        SEGMENT + struct.pack(">I4sQ", 1, b"free", 2**63),
        SEGMENT + struct.pack(">I4s", 1, b"free"),
        SEGMENT + struct.pack(">I4s", 2**32 - 1, b"free"),
        SEGMENT[: SEGMENT.index(b"mdat") - 4],
        box(b"styp", b"msdh") + box(b"mdat", b"media"),
        box(b"moof", box(b"traf")) + box(b"mdat"),
        box(b"moof", box(b"traf", full_box(b"tfhd", 1), full_box(b"tfdt", version=1))) + box(b"mdat"),
        box(b"moof", box(b"traf", full_box(b"tfhd", 1), full_box(b"trun", 2**32 - 1, flags=0x100)))
        + box(b"mdat"),
        box(b"moof", box(b"traf", full_box(b"tfhd", 1), full_box(b"trun", 2**32 - 1))) + box(b"mdat"),
        box(b"moof", box(b"traf", full_box(b"tfhd", 1), *[full_box(b"trun", 10**6)] * 2), box(b"traf"))
        + box(b"mdat"),
    ],
)
def test_what_does_not_fit_is_malformed(body: bytes) -> None:
    with pytest.raises(BoxesMalformed):
        read_fragment_clock(body, init=INIT)


def test_a_flood_of_empty_boxes_is_not_read_to_its_end() -> None:
    flood = box(b"moof", box(b"free") * 200_000) + SEGMENT
    with pytest.raises(BoxesMalformed, match="more boxes"):
        read_fragment_clock(flood, init=INIT)


@pytest.mark.parametrize(
    "init",
    [
        b"",
        INIT[:-1],
        box(b"ftyp"),
        box(b"moov", box(b"trak")),
        fmp4_init(fmp4_track(1, b"vide", 0)),
        box(b"moov", box(b"trak", full_box(b"tkhd"), box(b"mdia", full_box(b"mdhd"), full_box(b"hdlr")))),
    ],
)
def test_an_init_section_must_say_what_the_tracks_are(init: bytes) -> None:
    with pytest.raises(BoxesMalformed):
        read_fragment_clock(SEGMENT, init=init)


def outcome(body: bytes, init: bytes) -> FragmentClock | None:
    """Any answer will do, and so will the one error; all else fails the test."""
    try:
        return read_fragment_clock(body, init=init)
    except BoxesMalformed:
        return None


@UNHURRIED
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_garbage_never_crashes(body: bytes, init: bytes) -> None:
    outcome(body, INIT)
    outcome(SEGMENT, init)


@UNHURRIED
@given(st.integers(0, len(SEGMENT) - 1), st.binary(min_size=1, max_size=8))
@example(0, b"\x00\x00\x00\x00")
@example(0, b"\x00\x00\x00\x01")
@example(0, b"\xff\xff\xff\xff")
def test_no_changed_byte_of_a_segment_crashes(at: int, change: bytes) -> None:
    outcome(SEGMENT[:at] + change + SEGMENT[at + len(change) :], INIT)


@UNHURRIED
@given(st.integers(0, len(INIT) - 1), st.binary(min_size=1, max_size=8))
def test_no_changed_byte_of_an_init_section_crashes(at: int, change: bytes) -> None:
    outcome(SEGMENT, INIT[:at] + change + INIT[at + len(change) :])


@UNHURRIED
@given(st.integers(0, len(SEGMENT) - 1))
def test_a_segment_that_is_cut_off_anywhere_is_malformed(length: int) -> None:
    with pytest.raises(BoxesMalformed):
        read_fragment_clock(SEGMENT[:length], init=INIT)
