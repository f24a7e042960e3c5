"""Which sound goes with which pictures, decided on listed and measured times alone."""

from datetime import UTC, datetime, timedelta

import pytest

from ingest.domain.fmp4 import edit_shift_us
from ingest.domain.media_body import NotMedia
from ingest.domain.playlist import Location, MediaPlaylist, MultivariantPlaylist, Segment, parse_playlist
from ingest.domain.sound import (
    Placed,
    Seams,
    SoundPiece,
    Span,
    cut_sound,
    examine_sound,
    name_of,
    plan_sound,
    rendition_of,
)
from tests.fakes.ingest.media import box, fmp4_init, fmp4_track, full_box, ts_body, ts_segment

FRAME_US = 1024 * 1e6 / 48_000
WALL_AT = datetime(2026, 1, 1, tzinfo=UTC)


def segment(n: int, duration_us: int = 2_000_000, *, run: int = 0, wall_us: int | None = None) -> Segment:
    wall_at = None if wall_us is None else WALL_AT + timedelta(microseconds=wall_us)
    location = Location(url=f"https://cdn.example/{n}.aac")
    return Segment(
        sequence=n,
        location=location,
        duration_us=duration_us,
        discontinuity_sequence=run,
        wall_at=wall_at,
    )


def listed(*segments: Segment, ended: bool = False) -> MediaPlaylist:
    return MediaPlaylist(
        url="https://cdn.example/sound.m3u8",
        target_us=2_000_000,
        media_sequence=segments[0].sequence if segments else 0,
        listed_count=len(segments),
        segments=segments,
        ended=ended,
    )


def piece(pts_us: int | None, duration_us: int = 2_000_000, *, wall_us: int | None = None) -> SoundPiece:
    wall_at = None if wall_us is None else WALL_AT + timedelta(microseconds=wall_us)
    return SoundPiece(
        demuxer="mpegts",
        content=b"x",
        pts_us=pts_us,
        duration_us=duration_us,
        frame_us=FRAME_US,
        wall_at=wall_at,
    )


def span(start_us: int = 0, *, sequence: int = 0, run: int = 0, wall_us: int | None = None) -> Span:
    return Span(
        start_us=start_us,
        length_us=2_000_000,
        sequence=sequence,
        discontinuity_sequence=run,
        wall_at=None if wall_us is None else WALL_AT + timedelta(microseconds=wall_us),
    )


def adts(count: int) -> bytes:
    """Empty frames of AAC, 48 kHz."""
    return bytes([0xFF, 0xF1, 0x4C, 0x80, 0x01, 0x1F, 0xFC, 0]) * count


def master(*media: str) -> MultivariantPlaylist:
    lines = "".join(f"#EXT-X-MEDIA:TYPE=AUDIO,{each}\n" for each in media)
    text = f'#EXTM3U\n{lines}#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\nv.m3u8\n'
    parsed = parse_playlist(text, url="https://cdn.example/master.m3u8")
    assert isinstance(parsed, MultivariantPlaylist)
    return parsed


PLAIN, AUTO = 'GROUP-ID="a",NAME="plain",URI="p"', 'GROUP-ID="a",NAME="auto",AUTOSELECT=YES,URI="q"'
DEFAULT = 'GROUP-ID="a",NAME="default",DEFAULT=YES,URI="r"'
FORBIDDEN = 'GROUP-ID="a",NAME="forbidden",DEFAULT=YES,URI="file:///etc/passwd"'


@pytest.mark.parametrize(
    ("media", "chosen"),
    [
        ((PLAIN, AUTO, DEFAULT), "default"),
        ((PLAIN, AUTO), "auto"),
        ((PLAIN, PLAIN.replace("plain", "second")), "plain"),
        ((FORBIDDEN, PLAIN), "plain"),
        ((DEFAULT.replace('"a"', '"b"'),), None),
        ((DEFAULT, 'GROUP-ID="a",NAME="muxed"'), None),
        ((), None),
    ],
)
def test_the_default_rendition_is_heard_where_the_variant_has_no_sound_in_itself(
    media: tuple[str, ...], chosen: str | None
) -> None:
    found = master(*media)
    rendition = rendition_of(found, found.variants[0])
    assert chosen == (rendition.name if rendition else None)


def test_without_any_clue_the_same_number_is_read_first() -> None:
    plan = plan_sound(listed(*(segment(n) for n in range(5))), {}, span(8_000_000, sequence=3))
    assert 3 == plan.wanted[0].sequence


def test_dates_tell_where_to_read_whatever_the_numbers_are() -> None:
    playlist = listed(*(segment(n, wall_us=(n - 100) * 2_000_000) for n in range(100, 105)))
    plan = plan_sound(playlist, {}, span(70_000_000, sequence=3, wall_us=5_000_000))
    assert [102, 103] == [each.sequence for each in plan.wanted]


def test_a_clock_that_was_read_corrects_the_guess() -> None:
    playlist = listed(*(segment(n) for n in range(5)))
    known = {name_of(playlist.segments[3]): piece(4_000_000)}
    plan = plan_sound(playlist, known, span(7_000_000, sequence=3))
    assert ([4], False, False) == ([each.sequence for each in plan.wanted], plan.is_whole, plan.is_all)


def test_what_covers_the_span_is_whole() -> None:
    playlist = listed(segment(0), segment(1), segment(2))
    known = {name_of(each): piece(n * 1_970_000, 1_970_000) for n, each in enumerate(playlist.segments)}
    plan = plan_sound(playlist, known, span(2_000_000, sequence=1))
    assert ([-30_000, 1_940_000], True) == ([each.at_us for each in plan.placed], plan.is_whole)


def test_sound_that_is_not_listed_yet_is_neither_whole_nor_all() -> None:
    playlist = listed(segment(0))
    known = {name_of(playlist.segments[0]): piece(0, 1_970_000)}
    assert not plan_sound(playlist, known, span()).is_all
    assert plan_sound(listed(*playlist.segments, ended=True), known, span()).is_all


def test_a_list_may_end_a_little_before_the_pictures() -> None:
    playlist = listed(segment(0), ended=True)
    known = {name_of(playlist.segments[0]): piece(0, 1_970_000)}
    assert plan_sound(playlist, known, span()).is_whole


def test_what_was_given_up_is_not_asked_for_again() -> None:
    playlist = listed(segment(0), segment(1))
    plan = plan_sound(playlist, {}, span(), lost={name_of(playlist.segments[0])})
    assert ((), True, False, True) == (plan.wanted, plan.has_lost, plan.is_whole, plan.is_all)


def test_only_sound_of_the_same_run_between_discontinuities_counts() -> None:
    playlist = listed(segment(0), segment(1, run=1), segment(2, run=1))
    plan = plan_sound(playlist, {}, span(0, sequence=1, run=1))
    assert 1 == plan.wanted[0].sequence


def test_clocks_that_are_not_the_same_give_way_to_the_dates() -> None:
    playlist = listed(segment(0, wall_us=500_000), segment(1, wall_us=2_500_000))
    known = {name_of(playlist.segments[0]): piece(900_000_000, wall_us=500_000)}
    plan = plan_sound(playlist, known, span(60_000_000, wall_us=1_000_000))
    assert [-500_000] == [each.at_us for each in plan.placed]
    cut = cut_sound(plan.placed, span(60_000_000, wall_us=1_000_000))
    assert cut is not None and 59_500_000 - 900_000_000 == cut.offset_us


def test_the_wrap_of_the_clock_is_no_distance() -> None:
    wrap_us = 2**33 * 1_000_000 // 90_000
    playlist = listed(segment(0), segment(1))
    known = {name_of(playlist.segments[0]): piece(wrap_us - 500_000)}
    assert [-1_000_000] == [each.at_us for each in plan_sound(playlist, known, span(500_000)).placed]


@pytest.mark.parametrize("jitter_us", [-11, 0, 11])
def test_both_sides_of_an_edge_cut_at_the_same_frame(jitter_us: int) -> None:
    """A frame that begins at the edge, give or take a tick, belongs to one side."""
    frames = round(2_000_000 / FRAME_US)
    edge_us = round(frames * FRAME_US) + jitter_us
    placed = (Placed(piece=piece(0, 4_000_000), at_us=0),)
    before = cut_sound(placed, Span(start_us=0, length_us=edge_us, sequence=0))
    later = (Placed(piece=piece(0, 4_000_000), at_us=-edge_us),)
    after = cut_sound(later, Span(start_us=edge_us, length_us=2_000_000, sequence=1))
    assert before is not None and after is not None
    assert pytest.approx(before.to_s, abs=1e-6) == after.from_s
    assert pytest.approx((frames - 0.5) * FRAME_US / 1e6, abs=2e-5) == after.from_s


def test_packed_sound_is_not_joined_across_a_hole() -> None:
    packed = SoundPiece(demuxer="aac", content=b"x", pts_us=0, duration_us=500_000)
    cut = cut_sound((Placed(piece=packed, at_us=0), Placed(piece=packed, at_us=1_500_000)), span())
    assert cut is not None and b"x" == cut.content


def test_nothing_makes_no_cut() -> None:
    assert cut_sound((), span()) is None


def test_neighbours_share_an_edge_and_a_jump_is_none() -> None:
    seams = Seams()
    seams.begin(span(2_000_030, sequence=1))
    assert 2_000_030 == seams.settled(span(0, sequence=0)).length_us
    assert 2_000_030 == seams.settled(span(2_000_030, sequence=1)).start_us
    assert 9_000_000 == seams.settled(span(9_000_000, sequence=1)).start_us


def test_seams_forget() -> None:
    seams = Seams(most=4)
    for n in range(100):
        seams.settled(span(n * 2_000_000, sequence=n))
    assert 4 == len(seams._edges_us)


def test_packed_audio_tells_its_time_in_a_tag() -> None:
    private = b"com.apple.streaming.transportStreamTimestamp\x00" + (900_000).to_bytes(8, "big")
    frame = b"PRIV" + len(private).to_bytes(4, "big") + bytes(2) + private
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 0, len(frame)]) + frame
    found = examine_sound(tag + adts(94), segment=segment(0))
    assert ("aac", 10_000_000, adts(94)) == (found.demuxer, found.pts_us, found.content)
    assert round(94 * FRAME_US) == found.duration_us


def test_a_body_without_sound_is_refused() -> None:
    for body in (ts_segment(0, 2_000_000), b"<html>" * 100, b"", b"ID3"):
        with pytest.raises(NotMedia):
            examine_sound(body, segment=segment(0))


def test_sound_beside_pictures_is_measured_by_itself() -> None:
    found = examine_sound(ts_body(range(0, 180_000, 3_600), range(9_000, 189_000, 1_920)), segment=segment(0))
    assert 100_000 == found.pts_us


@pytest.mark.parametrize("cut_at", range(0, 40, 3))
def test_a_tag_that_is_cut_off_harms_nobody(cut_at: int) -> None:
    with pytest.raises(NotMedia):
        examine_sound((b"ID3\x04\x00\x00\x00\x00\x00\x7f" + bytes(30))[:cut_at], segment=segment(0))


def test_an_edit_list_tells_how_much_earlier_the_media_is_presented() -> None:
    def init(*entries: int) -> bytes:
        edits = box(b"edts", full_box(b"elst", len(entries) // 3, *entries))
        track = fmp4_track(1, b"vide", 12_800)
        whole = box(b"trak", track[8:], edits)
        return fmp4_init(full_box(b"mvhd", 0, 0, 1_000, 0), whole)

    assert 80_000 == edit_shift_us(init(0, 1024, 1 << 16))
    assert 80_000 - 500_000 == edit_shift_us(init(500, -1, 1 << 16, 0, 1024, 1 << 16))
    assert 0 == edit_shift_us(fmp4_init())
