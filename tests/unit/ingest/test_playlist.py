from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.playlist import (
    ByteRange,
    MediaPlaylist,
    MultivariantPlaylist,
    NotAPlaylist,
    NoUsableVariant,
    PlaylistLimits,
    PlaylistTooLarge,
    choose_variant,
    parse_date_time,
    parse_playlist,
)
from shared.errors import PermanentError, RetryableError

URL = "https://cdn.example/live/room/stream.m3u8?token=a"
SHARED = Path(__file__).resolve().parents[3] / "../shared"
HEAD = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n"


def media(body: str, **options: Any) -> MediaPlaylist:
    parsed = parse_playlist(HEAD + body, url=URL, **options)
    assert isinstance(parsed, MediaPlaylist)
    return parsed


def master(body: str) -> MultivariantPlaylist:
    parsed = parse_playlist("#EXTM3U\n" + body, url=URL)
    assert isinstance(parsed, MultivariantPlaylist)
    return parsed


def segments(count: int) -> str:
    return "".join(f"#EXTINF:2.0,\ns{number}.ts\n" for number in range(count))


def test_a_live_playlist_is_read() -> None:
    parsed = media("#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2.002,title\nseg7.ts?x=1\n#EXTINF:1.5\n/abs/seg8.ts\n")
    assert [(s.sequence, s.location.url, s.duration_us) for s in parsed.segments] == [
        (7, "https://cdn.example/live/room/seg7.ts?x=1", 2_002_000),
        (8, "https://cdn.example/abs/seg8.ts", 1_500_000),
    ]
    assert (parsed.target_us, parsed.media_sequence, parsed.last_sequence, parsed.ended) == (
        2_000_000,
        7,
        8,
        False,
    )


@pytest.mark.parametrize("body", ["", "<html>error</html>", '{"error": 1}', "#EXTM3U\n#EXT-X-VERSION:3\n"])
def test_what_is_no_playlist_is_a_retryable_error(body: str) -> None:
    with pytest.raises(NotAPlaylist):
        parse_playlist(body, url=URL)
    assert issubclass(NotAPlaylist, RetryableError)


def test_a_huge_body_is_refused_for_good() -> None:
    with pytest.raises(PlaylistTooLarge):
        media(segments(10), limits=PlaylistLimits(size_characters=50))
    assert issubclass(PlaylistTooLarge, PermanentError)


def test_byte_order_mark_and_windows_line_ends_are_accepted() -> None:
    parsed = parse_playlist("\ufeff" + (HEAD + segments(2)).replace("\n", "\r\n"), url=URL)
    assert isinstance(parsed, MediaPlaylist)
    assert [s.location.url for s in parsed.segments] == [
        f"https://cdn.example/live/room/s{n}.ts" for n in (0, 1)
    ]


def test_unreadable_lines_cost_nothing_but_themselves() -> None:
    parsed = media(
        "#EXTINF:abc,\na.ts\n#EXTINF:-3,\nb.ts\n#EXT-X-PROGRAM-DATE-TIME:yesterday\n#EXTINF:nan,\nc.ts\n"
        "#EXT-X-BYTERANGE:x@y\n#EXTINF:inf,\nd.ts\n#EXT-X-MAP:nothing\n#EXTINF:1e999,\ne.ts\nf.ts\n"
    )
    assert [s.duration_us for s in parsed.segments] == [2_000_000] * 6
    assert len(parsed.faults) == 8


def test_an_unreadable_target_duration_falls_back_to_the_longest_segment() -> None:
    parsed = parse_playlist("#EXTM3U\n#EXT-X-TARGETDURATION:x\n#EXTINF:3.5,\na.ts\n", url=URL)
    assert isinstance(parsed, MediaPlaylist)
    assert parsed.target_us == 3_500_000


def test_a_truncated_playlist_drops_the_segment_without_address() -> None:
    assert len(media("#EXTINF:2,\na.ts\n#EXTINF:2,\n").segments) == 1


def test_a_playlist_without_segments_is_a_playlist() -> None:
    assert media("#EXT-X-MEDIA-SEQUENCE:5\n").last_sequence == 4


@pytest.mark.parametrize(
    "text", ["2026-05-01T12:00:00.250+0000", "2026-05-01T12:00:00.250Z", "2026-05-01T14:00:00.250+02:00",
             "2026-05-01T12:00:00.250", "2026-05-01T12:00:00.250000123z"],
)  # fmt: skip
def test_date_times_are_read_in_every_common_form(text: str) -> None:
    assert parse_date_time(text) == datetime(2026, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "noon", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:00"])
def test_implausible_date_times_are_none(text: str) -> None:
    assert parse_date_time(text) is None


def test_date_time_is_carried_forward_until_a_discontinuity() -> None:
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    parsed = media(
        "#EXT-X-PROGRAM-DATE-TIME:2026-05-01T12:00:00Z\n"
        + segments(2)
        + "#EXT-X-DISCONTINUITY\n#EXTINF:2,\nx.ts\n"
    )
    assert [s.wall_at for s in parsed.segments] == [at, at + timedelta(seconds=2), None]


def test_discontinuities_count_from_the_discontinuity_sequence() -> None:
    parsed = media(
        "#EXT-X-DISCONTINUITY-SEQUENCE:4\n#EXTINF:2,\na.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:2,\nb.ts\n"
    )
    assert [(s.discontinuity, s.discontinuity_sequence) for s in parsed.segments] == [(False, 4), (True, 5)]
    assert parsed.has_discontinuity_sequence


def test_endlist_kind_gap_and_date_ranges_are_kept() -> None:
    parsed = media(
        '#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-DATERANGE:ID="1",X-100MSLIVE-PAYLOAD="e30="\n'
        "#EXTINF:2,\na.ts\n#EXT-X-GAP\n#EXTINF:2,\nb.ts\n#EXT-X-ENDLIST\n"
    )
    assert (parsed.kind, parsed.ended, [s.gap for s in parsed.segments]) == ("EVENT", True, [False, True])
    assert parsed.date_ranges == ('ID="1",X-100MSLIVE-PAYLOAD="e30="',)


def test_aes_keys_rotate_and_take_the_sequence_as_iv() -> None:
    parsed = media(
        '#EXT-X-MEDIA-SEQUENCE:9\n#EXT-X-KEY:METHOD=AES-128,URI="k1?a=b,c"\n#EXTINF:2,\na.ts\n'
        '#EXT-X-KEY:METHOD=AES-128,URI="k2",IV=0x0A\n#EXTINF:2,\nb.ts\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:2,\nc.ts\n'
    )
    first, second, third = (segment.key for segment in parsed.segments)
    assert first is not None and first.location.url == "https://cdn.example/live/room/k1?a=b,c"
    assert first.iv_for(9) == (9).to_bytes(16, "big")
    assert second is not None and second.iv_for(10) == (10).to_bytes(16, "big") == second.iv
    assert third is None


def test_other_encryption_is_flagged() -> None:
    parsed = media('#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x",KEYFORMAT="com.apple"\n#EXTINF:2,\na.ts\n')
    assert parsed.segments[0].unsupported == "SAMPLE-AES (com.apple)"
    assert parsed.segments[0].refusal == ""


def test_map_and_byte_ranges_carry_their_offsets() -> None:
    parsed = media(
        '#EXT-X-MAP:URI="f.mp4",BYTERANGE="100@0"\n#EXT-X-BYTERANGE:50@100\n#EXTINF:2,\nf.mp4\n'
        "#EXT-X-BYTERANGE:70\n#EXTINF:2,\nf.mp4\n"
    )
    assert [s.byte_range for s in parsed.segments] == [
        ByteRange(offset=100, length=50),
        ByteRange(offset=150, length=70),
    ]
    init = parsed.segments[0].init
    assert init is not None and init.byte_range is not None and init.byte_range.header == "bytes=0-99"
    assert parsed.segments[0].identity != parsed.segments[1].identity


def test_byte_range_offsets_survive_a_start_in_the_middle() -> None:
    body = "#EXT-X-BYTERANGE:50@0\n#EXTINF:2,\nf.ts\n#EXT-X-BYTERANGE:70\n#EXTINF:2,\nf.ts\n"
    assert media(body, from_sequence=1).segments == media(body).segments[1:]


def test_low_latency_parts_are_ignored_and_delta_updates_flagged() -> None:
    parsed = media(
        '#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXT-X-PART:DURATION=0.3,URI="p.ts"\n#EXTINF:2,\na.ts\n'
        '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="q.ts"\n'
    )
    assert (parsed.skipped, [s.sequence for s in parsed.segments]) == (True, [3])


@pytest.mark.parametrize(
    "uri", ["file:///etc/passwd", "ftp://h/x.ts", "data:video/mp2t;base64,AA", "http://[::1/x.ts",
            "https://h:99999999/x", "concat:a|b", "javascript:alert(1)"],
)  # fmt: skip
def test_addresses_that_are_not_http_are_refused_with_a_reason(uri: str) -> None:
    assert media(f"#EXTINF:2,\n{uri}\n").segments[0].refusal != ""


def test_a_refused_key_or_map_refuses_the_segment() -> None:
    key = media('#EXT-X-KEY:METHOD=AES-128,URI="file:///k"\n#EXTINF:2,\na.ts\n').segments[0]
    init = media('#EXT-X-MAP:URI="file:///m"\n#EXTINF:2,\na.ts\n').segments[0]
    assert (key.refusal, init.refusal) == ("scheme file is not allowed",) * 2


def test_identity_is_free_of_host_and_query() -> None:
    one = media("#EXTINF:2,\nhttps://edge1.example/live/a.ts?t=1\n").segments[0]
    two = media("#EXTINF:2,\nhttps://edge2.example/live/a.ts?t=2\n").segments[0]
    assert one.identity == two.identity == "/live/a.ts"


def test_entries_beyond_the_cap_wait_for_the_next_parse() -> None:
    limits = PlaylistLimits(entries=3)
    first = media(segments(8) + "#EXT-X-ENDLIST\n", limits=limits)
    rest = media(segments(8) + "#EXT-X-ENDLIST\n", limits=limits, from_sequence=5)
    assert (first.truncated, first.ended, first.last_sequence, first.listed_count) == (True, False, 2, 8)
    assert (rest.truncated, rest.ended, [s.sequence for s in rest.segments]) == (False, True, [5, 6, 7])


def test_a_list_that_ends_before_the_wanted_sequence_is_read_whole() -> None:
    assert len(media(segments(3), from_sequence=100).segments) == 3


def test_reading_from_a_sequence_gives_what_reading_all_gives() -> None:
    body = (
        "#EXT-X-PROGRAM-DATE-TIME:2026-05-01T12:00:00Z\n"
        + segments(5)
        + "#EXT-X-DISCONTINUITY\n"
        + segments(3)
    )
    assert media(body, from_sequence=4).segments == media(body).segments[4:]


def test_variants_and_renditions_are_read() -> None:
    parsed = master(
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",URI="a.m3u8",DEFAULT=YES\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=100,RESOLUTION=1280x720,CODECS="avc1.64,mp4a.40.2",AUDIO="a"\nv.m3u8\n'
    )
    (variant,) = parsed.variants
    assert (variant.location.url, variant.height, variant.bandwidth, variant.audio_group) == (
        "https://cdn.example/live/room/v.m3u8", 720, 100, "a",
    )  # fmt: skip
    assert parsed.renditions[0].default


@pytest.mark.parametrize(
    ("heights", "target", "expected"),
    [((1080, 720, 480), 720, 720), ((1080, 480, 360), 720, 480), ((2160, 1080), 720, 1080), ((720,), 0, 720)],
)
def test_the_best_variant_up_to_the_target_is_chosen_else_the_nearest_above(
    heights: tuple[int, ...], target: int, expected: int
) -> None:
    body = "".join(
        f"#EXT-X-STREAM-INF:BANDWIDTH={h},RESOLUTION={h * 16 // 9}x{h}\n{h}.m3u8\n" for h in heights
    )
    assert choose_variant(master(body), target_height=target).height == expected


def test_a_portrait_counts_by_its_short_side_and_audio_only_is_passed_over() -> None:
    parsed = master(
        "#EXT-X-STREAM-INF:BANDWIDTH=900,RESOLUTION=720x1280\nportrait.m3u8\n"
        '#EXT-X-STREAM-INF:BANDWIDTH=9000,CODECS="mp4a.40.2"\naudio.m3u8\n'
    )
    assert choose_variant(parsed).lines == 720


def test_without_resolutions_the_highest_bandwidth_is_chosen() -> None:
    parsed = master("#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nb.m3u8\n")
    assert choose_variant(parsed).bandwidth == 2


def test_refused_and_failed_variants_are_passed_over_until_none_is_left() -> None:
    parsed = master("#EXT-X-STREAM-INF:BANDWIDTH=1\nfile:///a\n#EXT-X-STREAM-INF:BANDWIDTH=2\nb.m3u8\n")
    chosen = choose_variant(parsed)
    with pytest.raises(NoUsableVariant):
        choose_variant(parsed, excluding={chosen.name})


def test_the_documented_100ms_master_is_read() -> None:
    path = SHARED / "samples/100ms/playlists/master.m3u8"
    if not path.exists():
        pytest.skip("needs ../shared/samples")
    parsed = parse_playlist(path.read_text(), url="https://cdn.100ms.live/beam/c/r/20260101/1/master.m3u8")
    assert isinstance(parsed, MultivariantPlaylist)
    assert choose_variant(parsed).location.url.startswith(
        "https://cdn.100ms.live/beam/c/r/20260101/1/stream_"
    )


_LINES = st.sampled_from(
    ["#EXTM3U", "#EXTINF:", "#EXTINF:2,", "#EXT-X-TARGETDURATION:2", "#EXT-X-KEY:METHOD=AES-128", "#EXT-X-MAP:URI=",
     "#EXT-X-BYTERANGE:1@", "#EXT-X-DISCONTINUITY", "#EXT-X-SKIP:SKIPPED-SEGMENTS=x", "a.ts", "http://[", "\x00", "#"],
)  # fmt: skip


@given(st.lists(_LINES | st.text(max_size=40), max_size=30))
def test_no_body_raises_anything_but_the_typed_errors(lines: list[str]) -> None:
    with suppress(NotAPlaylist, PlaylistTooLarge):
        parse_playlist(HEAD + "\n".join(lines), url=URL)
