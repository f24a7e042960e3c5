"""Reads FFmpeg's `framecrc` listing of copied video packets: their times, which no decoder has touched."""

import re
from fractions import Fraction

from clipper.domain.frames import FrameTable
from shared.media_runner import MediaRejected

_TICK = re.compile(r"^#tb 0: (\d+)/(\d+)$", re.MULTILINE)
_PACKET = re.compile(r"^0, *-?\d+, *(-?\d+), *(\d+),", re.MULTILINE)


def parse_packet_list(listing: str) -> FrameTable:
    """The times of the pictures that can be decoded.

    Pictures that are shown before the key frame at the head of the listing need a segment that is not there.
    Raises MediaRejected when the listing names no packet with a time.
    """
    tick = _TICK.search(listing)
    packets = [(int(pts), int(duration)) for pts, duration in _PACKET.findall(listing)]
    if tick is None or not packets:
        raise MediaRejected("no picture with a presentation time")
    ordered = sorted(packets)
    return FrameTable(
        tick_s=Fraction(int(tick[1]), int(tick[2])),
        first_pts=ordered[0][0],
        pts=tuple(pts for pts, _ in ordered if pts >= packets[0][0]),
        last_duration=ordered[-1][1] or _usual_step(ordered),
    )


def _usual_step(ordered: list[tuple[int, int]]) -> int:
    """The last picture stands as long as the one before it, where the packet does not say."""
    return ordered[-1][0] - ordered[-2][0] if len(ordered) > 1 else 1
