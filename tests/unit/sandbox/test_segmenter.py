"""Reading the list of segments that FFmpeg writes."""

from sandbox.live_window import LiveSegment
from sandbox.segmenter import parse_segments


def test_segments_are_contiguous_with_the_durations_of_the_list() -> None:
    listed = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:3.600000,\na.ts\n#EXTINF:1.720000,\nb.ts\n#EXT-X-ENDLIST\n"
    )

    assert parse_segments(listed) == (
        LiveSegment(uri="a.ts", start_us=0, duration_us=3_600_000),
        LiveSegment(uri="b.ts", start_us=3_600_000, duration_us=1_720_000),
    )
