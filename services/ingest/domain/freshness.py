"""At an address that serves one stream after the other, tells the new stream's playlist from its predecessor's.

100ms' static addresses (`/beam/<customer>/<room>/master.m3u8`) are such: what stands there when a stream begins may
be the end of the one before, with a media sequence that means nothing for the next.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import dropwhile
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
        self._began_at = began_at
        self._is_proven = False
        self._suspects: dict[int, str] = {}
        self._newest = -1
        self._advances = 0

    def shown(self, playlist: MediaPlaylist) -> MediaPlaylist:
        """The playlist without what is older than the stream, and without an end that is not its own."""
        if self._is_proven:
            return playlist
        own = self._own(playlist)
        self._is_proven = len(own) == len(playlist.segments) > 0 or (not own and self._goes_on(playlist))
        return playlist if self._is_proven else _only(playlist, own)

    def _own(self, playlist: MediaPlaylist) -> Sequence[Segment]:
        """What its dates tell to be this stream's.

        Dates shortly before the beginning tell nothing by themselves: they may be the end of a stream that was
        stopped to start this one. They count where no older stream leads to them without a break, and in no list
        that ended before this stream began.
        """
        dated = tuple(dropwhile(self._is_older, playlist.segments))
        reaches = any(_is_from(segment, self._began_at) for segment in dated)
        if playlist.ended and not reaches:
            return ()
        if not dated or len(dated) == len(playlist.segments):
            return dated
        after_break = tuple(dropwhile(lambda segment: not segment.discontinuity, dated))
        return after_break or (dated if reaches else ())

    def _is_older(self, segment: Segment) -> bool:
        return not _is_from(segment, self._began_at - TOLERANCE)

    def _goes_on(self, playlist: MediaPlaylist) -> bool:
        """Whether a list that no date speaks for is alive, or has taken the place of one that was not.

        An older copy from another edge, and an end that is added, are no life.
        """
        listed = {segment.sequence: segment.identity for segment in playlist.segments}
        before, newest = self._suspects, self._newest
        if not listed or listed == before:
            return False
        self._suspects, self._newest = listed, max(newest, *listed)
        is_dated = playlist.segments[-1].wall_at is not None
        is_other = not any(listed.get(sequence) == identity for sequence, identity in before.items())
        if is_other:
            self._newest = max(listed)
        elif self._newest == newest or playlist.ended:
            return False
        self._advances += bool(before)
        enough = _ADVANCES_AGAINST_DATES if is_dated else _ADVANCES_WITHOUT_DATES
        return self._advances >= enough


def _is_from(segment: Segment, moment: datetime) -> bool:
    return segment.wall_at is not None and segment.wall_at >= moment


def _only(playlist: MediaPlaylist, own: Sequence[Segment]) -> MediaPlaylist:
    """Old segments stand in front of new ones; a list of old ones alone has not begun, let alone ended."""
    kept = tuple(own)
    return replace(
        playlist,
        segments=kept,
        media_sequence=kept[0].sequence if kept else playlist.media_sequence,
        listed_count=len(kept),
        ended=playlist.ended and bool(kept),
    )
