"""Reads a stream's captions beside its media, modestly: one request at a time, and its failures harm nobody."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

import structlog

from ingest.domain.actions import SignalSeen
from ingest.domain.captions import CaptionPart, CaptionTracker
from ingest.domain.playlist import MICROSECONDS, MediaPlaylist, NotAPlaylist, PlaylistTooLarge, parse_playlist
from ingest.domain.timeline import Timeline
from ingest.domain.webvtt import NotCaptions, parse_webvtt
from ingest.workflow.ports import FetchFailed
from shared import metrics
from shared.http_client import Response

log = structlog.get_logger()

SHORTEST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 10.0
ATTEMPTS: Final = 2


@runtime_checkable
class OffersCaptions(Protocol):
    """A source that may have captions."""

    @property
    def captions_url(self) -> str:
        """Where they are listed; empty when there are none."""
        ...

    async def captions(self, url: str) -> Response:
        """Raises FetchFailed."""
        ...


class CaptionReader:
    """Follows the list of captions for as long as it runs."""

    def __init__(
        self, source: OffersCaptions, *, timeline: Callable[[], Timeline], tell: Callable[[SignalSeen], None]
    ) -> None:
        """`timeline` is where the media stands."""
        self._source = source
        self._timeline = timeline
        self._tell = tell
        self._tracker = CaptionTracker()
        self._list: MediaPlaylist | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            pause_s = await self._turn()
            await asyncio.sleep(pause_s)

    async def _turn(self) -> float:
        """Read what is new; answers how long to wait."""
        try:
            playlist = await self._playlist()
            for part in self._tracker.fresh(playlist, timeline=self._timeline()):
                await self._read(part)
        except (FetchFailed, NotAPlaylist, PlaylistTooLarge) as error:
            metrics.ingest_captions_failed.labels("list").inc()
            log.info("captions_unreadable", reason=str(error))
            return LONGEST_PAUSE_S
        return SHORTEST_PAUSE_S if playlist.ended else _pause_s(playlist)

    async def _playlist(self) -> MediaPlaylist:
        """Raises FetchFailed, NotAPlaylist, PlaylistTooLarge."""
        if self._list is not None and self._list.ended:
            return self._list
        answer = await self._source.captions(self._source.captions_url)
        parsed = parse_playlist(answer.body.decode("utf-8", errors="replace"), url=answer.url)
        if not isinstance(parsed, MediaPlaylist):
            raise NotAPlaylist(f"the captions at {answer.url} are a list of variants")
        self._list = parsed
        return parsed

    async def _read(self, part: CaptionPart) -> None:
        for attempt in range(ATTEMPTS):
            try:
                answer = await self._source.captions(part.segment.location.url)
                file = parse_webvtt(answer.body.decode("utf-8", errors="replace"))
            except (FetchFailed, NotCaptions) as error:
                metrics.ingest_captions_failed.labels("part").inc()
                log.info("captions_lost", sequence=part.segment.sequence, attempt=attempt, reason=str(error))
                await asyncio.sleep(SHORTEST_PAUSE_S)
                continue
            for signal in self._tracker.signals(part, file, timeline=self._timeline()):
                self._tell(signal)
            break
        self._tracker.done(part)


def _pause_s(playlist: MediaPlaylist) -> float:
    return min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, playlist.target_us / MICROSECONDS))
