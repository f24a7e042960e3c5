"""At an address that serves one stream after the other, tells the new stream's playlist from its predecessor's.

100ms' static addresses (`/beam/<customer>/<room>/master.m3u8`) are such: what stands there when a stream begins may
be the end of the one before, with a media sequence that means nothing for the next.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from ingest.domain.playlist import MediaPlaylist, Segment
from shared.events import Source

# 100ms tells a start when playback is active, up to a dozen seconds after the first picture was taken.
TOLERANCE = timedelta(seconds=15)
_STATIC = re.compile(r"/beam/[^/]+/[^/]+/[^/]+\.m3u8")
# A list that goes on is alive, whatever its dates say; without dates that is all there is to go by.
_ADVANCES_AGAINST_DATES = 2
_ADVANCES_WITHOUT_DATES = 1


def is_static_address(url: str) -> bool:
    """Whether all streams of a room have this address."""
    return _STATIC.fullmatch(urlsplit(url).path) is not None


def freshness_of(source: Source, url: str, *, is_joined: bool) -> "Freshness | None":
    """None where an address has one stream only, and for who goes on where another replica left off."""
    if is_joined or source.began_at is None or not is_static_address(url):
        return None
    return Freshness(began_at=source.began_at)


class Freshness:
    """Shows what belongs to the stream that began at `began_at`, and an empty list until there is any.

    Once a list is known to be the new one, everything passes: resets are for the tracker to judge.
    """

    def __init__(self, *, began_at: datetime) -> None:
        self._not_before = began_at - TOLERANCE
        self._is_proven = False
        self._suspects: dict[int, str] = {}
        self._advances = 0

    def shown(self, playlist: MediaPlaylist) -> MediaPlaylist:
        """The playlist without what is older than the stream, and without an end that is not its own."""
        if self._is_proven or not playlist.segments:
            return playlist if self._is_proven else _without(playlist, playlist.segments)
        old = [segment for segment in playlist.segments if not self._is_dated_after(segment)]
        if len(old) < len(playlist.segments):
            self._is_proven = not old
            return _without(playlist, old) if old else playlist
        self._is_proven = self._goes_on(playlist)
        return playlist if self._is_proven else _without(playlist, playlist.segments)

    def _is_dated_after(self, segment: Segment) -> bool:
        return segment.wall_at is not None and segment.wall_at >= self._not_before

    def _goes_on(self, playlist: MediaPlaylist) -> bool:
        """Whether a list that no date speaks for is alive, or has taken the place of one that was not."""
        listed = {segment.sequence: segment.identity for segment in playlist.segments}
        before, self._suspects = self._suspects, listed
        if not before or listed == before:
            return False
        is_dated = playlist.segments[-1].wall_at is not None
        is_continued = any(listed.get(sequence) == identity for sequence, identity in before.items())
        if not is_continued and not is_dated:
            return True
        self._advances += 1
        return self._advances >= (_ADVANCES_AGAINST_DATES if is_dated else _ADVANCES_WITHOUT_DATES)


def _without(playlist: MediaPlaylist, old: Sequence[Segment]) -> MediaPlaylist:
    """Old segments stand in front of new ones; a list of old ones alone has not begun, let alone ended."""
    kept = playlist.segments[len(old) :]
    return replace(
        playlist,
        segments=kept,
        media_sequence=kept[0].sequence if kept else playlist.media_sequence,
        listed_count=len(kept),
        ended=playlist.ended and bool(kept),
    )
