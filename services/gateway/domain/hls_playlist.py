"""A highlight as an HLS media playlist (RFC 8216) over its archived segments; addresses are handed in, not made.

Nothing here knows where segments lie or who may see them.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from itertools import pairwise
from math import ceil

from shared.events import SegmentRef

MEDIA_TYPE = "application/vnd.apple.mpegurl"
HOLE_US = 250_000
"""Playlists round durations; a larger step between two segments is a hole, as it is for the clipper."""
_US_PER_S = 1_000_000
_VERSION_PLAIN = 3  # decimal EXTINF
_VERSION_WITH_MAP = 6  # EXT-X-MAP in a playlist of whole segments


def covering(segments: Sequence[SegmentRef], *, start_us: int, end_us: int) -> tuple[SegmentRef, ...]:
    """The segments that show any of [start_us, end_us), each once, in the order of the stream."""
    distinct = {segment.key: segment for segment in segments}.values()
    ordered = sorted(distinct, key=lambda segment: (segment.start_us, segment.epoch, segment.sequence))
    return tuple(one for one in ordered if one.start_us < end_us and _end_us(one) > start_us)


def keys_of(segments: Sequence[SegmentRef]) -> tuple[str, ...]:
    """The object keys that `media_playlist` will ask addresses for, each once."""
    keys = [key for one in segments for key in (one.init_key, one.key) if key is not None]
    return tuple(dict.fromkeys(keys))


def media_playlist(segments: Sequence[SegmentRef], *, start_us: int, url_of: Callable[[str], str]) -> str:
    """The finished playlist of these segments, as `covering` gives them; players begin at `start_us`.

    A hole between two segments is left out, with a discontinuity in its place. Whether each segment begins with a
    key frame is not known, and so not promised (EXT-X-INDEPENDENT-SEGMENTS).
    Raises ValueError when there is no segment.
    """
    if not segments:
        raise ValueError("a playlist needs a segment")
    return "\n".join((*_head(segments, start_us=start_us), *_body(segments, url_of), "#EXT-X-ENDLIST", ""))


def _head(segments: Sequence[SegmentRef], *, start_us: int) -> Iterator[str]:
    has_map = any(segment.init_key for segment in segments)
    offset_us = max(0, start_us - segments[0].start_us)
    yield "#EXTM3U"
    yield f"#EXT-X-VERSION:{_VERSION_WITH_MAP if has_map else _VERSION_PLAIN}"
    yield f"#EXT-X-TARGETDURATION:{ceil(max(one.duration_us for one in segments) / _US_PER_S)}"
    yield "#EXT-X-MEDIA-SEQUENCE:0"
    yield "#EXT-X-PLAYLIST-TYPE:VOD"
    yield f"#EXT-X-START:TIME-OFFSET={_seconds(offset_us)},PRECISE=YES"


def _body(segments: Sequence[SegmentRef], url_of: Callable[[str], str]) -> Iterator[str]:
    yield from _entry(segments[0], url_of, is_start=True, has_new_map=True)
    for before, after in pairwise(segments):
        is_broken = not _continues(before, after)
        if is_broken:
            yield "#EXT-X-DISCONTINUITY"
        has_new_map = before.init_key != after.init_key
        yield from _entry(after, url_of, is_start=is_broken, has_new_map=has_new_map)


def _entry(
    segment: SegmentRef, url_of: Callable[[str], str], *, is_start: bool, has_new_map: bool
) -> Iterator[str]:
    if has_new_map and segment.init_key is not None:
        yield f'#EXT-X-MAP:URI="{url_of(segment.init_key)}"'
    if is_start and segment.wall_at is not None:
        wall_at = segment.wall_at.astimezone(UTC).isoformat(timespec="milliseconds")
        yield f"#EXT-X-PROGRAM-DATE-TIME:{wall_at.replace('+00:00', 'Z')}"
    yield f"#EXTINF:{_seconds(segment.duration_us)},"
    yield url_of(segment.key)


def _continues(before: SegmentRef, after: SegmentRef) -> bool:
    """Whether a decoder may go on without starting anew."""
    same_format = (before.container, before.init_key) == (after.container, after.init_key)
    same_clock = before.epoch == after.epoch and not after.discontinuity
    return same_format and same_clock and abs(after.start_us - _end_us(before)) <= HOLE_US


def _end_us(segment: SegmentRef) -> int:
    return segment.start_us + segment.duration_us


def _seconds(amount_us: int) -> str:
    """Exact to the microsecond, without a detour over floats."""
    return f"{amount_us // _US_PER_S}.{amount_us % _US_PER_S:06d}"
