"""Whether following stays flat in a stream's length: an EVENT playlist that grows to 12 hours of 2 s segments.

Run: `python bench/event_playlist.py [SEGMENTS]`. At each length: microseconds of a reload that brings one segment (to
read the text as the follower does, to read it whole for comparison, and the tracker's share), what reader and tracker
keep in memory, and the bytes of one reload. A reload that brings nothing new costs the head of a 304.
"""

import gc
import json
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from statistics import median
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from ingest.domain.playlist import MediaPlaylist, PlaylistReader, parse_playlist
from ingest.domain.policy import TrackerPolicy
from ingest.domain.tracker import PlaylistTracker

LENGTH = 21_600
POINTS = 9
RELOADS = 15
BULK = 1_000
ResultT = TypeVar("ResultT")
SEGMENT_US = 2_000_000
URL = "http://origin.example/live/stream.m3u8"
HEAD = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n"


class Following:
    """Reader and tracker of one playlist; every segment is stored as soon as it is asked for."""

    def __init__(self) -> None:
        self.text = HEAD
        self.count = 0
        self.reader = PlaylistReader()
        self.tracker = PlaylistTracker(TrackerPolicy(), now_s=0.0)

    def grow(self, upto: int) -> None:
        entries = [_entry(number) for number in range(self.count, upto)]
        self.text += "".join(entries)
        self.count = max(self.count, upto)

    def catch_up(self, upto: int) -> None:
        while self.count < upto:
            self.grow(min(upto, self.count + BULK))
            self.track(self.read())

    def read(self) -> MediaPlaylist:
        found = self.reader.read(self.text, url=URL, from_sequence=self.tracker.parse_from_sequence)
        assert isinstance(found, MediaPlaylist)
        return found

    def track(self, playlist: MediaPlaylist) -> None:
        now_s = 2.0 * self.count
        self.tracker.on_playlist(playlist, now_s=now_s)
        while due := self.tracker.next_fetches(64, now_s=now_s):
            for fetch in due:
                pts_us, place = fetch.sequence * SEGMENT_US, (fetch.epoch, fetch.sequence)
                self.tracker.on_segment_stored(*place, now_s=now_s, probed_us=SEGMENT_US, pts_us=pts_us)

    def reload(self) -> tuple[float, float, float]:
        """Microseconds: as the follower reads, reading whole, tracking."""
        self.grow(self.count + 1)
        whole_us, _ = _timed(lambda: parse_playlist(self.text, url=URL))
        read_us, playlist = _timed(self.read)
        track_us, _ = _timed(lambda: self.track(playlist))
        return read_us, whole_us, track_us


def _entry(number: int) -> str:
    hour, minute, second = number // 1800, number // 30 % 60, number * 2 % 60
    date = f"2026-11-20T{hour:02d}:{minute:02d}:{second:02d}.000Z"
    return f"#EXT-X-PROGRAM-DATE-TIME:{date}\n#EXTINF:2.000000,\nsegment_{number:08d}.ts\n"


def _timed(work: Callable[[], ResultT]) -> tuple[float, ResultT]:
    began_s = time.perf_counter()
    result = work()
    return 1e6 * (time.perf_counter() - began_s), result


def measure(length: int) -> list[dict[str, float]]:
    following = Following()
    return [_point(following, upto=length * (point + 1) // POINTS) for point in range(POINTS)]


def _point(following: Following, *, upto: int) -> dict[str, float]:
    following.catch_up(upto - RELOADS)
    reloads = [following.reload() for _ in range(RELOADS)]
    body = following.text.encode()
    return {
        "segments": following.count,
        "read_us": median(read_us for read_us, _, _ in reloads),
        "whole_us": median(whole_us for _, whole_us, _ in reloads),
        "track_us": median(track_us for _, _, track_us in reloads),
        "kept_kib": _kept_bytes(upto) / 1024,
        "bytes": len(body),
        "gzip": len(zlib.compress(body, 6)),
    }


def _kept_bytes(upto: int) -> int:
    """What a follower holds at this length beside the text in hand; counted apart, for counting slows all down."""
    gc.collect()
    tracemalloc.start()
    following = Following()
    following.catch_up(upto)
    following.text = ""
    gc.collect()
    found = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return found


def main(length: int) -> None:
    found = measure(length)
    table = Table(title="EVENT playlist, one more segment for each reload")
    for name in found[0]:
        table.add_column(name, justify="right")
    for each in found:
        table.add_row(*(f"{value:,.0f}" for value in each.values()))
    Console().print(table)
    print(json.dumps({"length": length, "points": found}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else LENGTH)
