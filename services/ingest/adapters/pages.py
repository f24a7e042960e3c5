"""A page as a source: its HLS is found by a resolver, followed like any other, and found anew when its address expires.

How a page is resolved stands elsewhere (`streamlink`).
"""

from collections.abc import Callable
from typing import ClassVar, Protocol

import structlog

from ingest.domain.actions import FailureKind, FetchFailure
from ingest.domain.playlist import MediaPlaylist, Segment
from ingest.workflow.ports import FetchedSegment, FetchFailed, MediaSource, OffersVariants
from shared import metrics
from shared.errors import PermanentError, RetryableError

log = structlog.get_logger()

LEAST_INTERVAL_S = 10.0
# A channel may be off for the whole time that its stream is awaited, and each look is a process of its own.
LONGEST_INTERVAL_S = 40.0


class PageOffline(RetryableError):
    """The page is there, and has nothing to play now."""

    code: ClassVar[str] = "page_offline"


class PageUnavailable(RetryableError):
    """The page could not be asked."""

    code: ClassVar[str] = "page_unavailable"


class PageUnusable(PermanentError):
    """The page will never lead to media that we can follow; the message is for the stream's owner."""

    code: ClassVar[str] = "page_unusable"


class Pages(Protocol):
    async def resolve(self, page_url: str) -> str:
        """The address of the page's HLS. Raises PageOffline, PageUnavailable, PageUnusable."""
        ...


class PageSource:
    """Resolves no more often than every `LEAST_INTERVAL_S`, however often the follower asks; in vain, ever less."""

    def __init__(
        self,
        page_url: str,
        *,
        pages: Pages,
        open_hls: Callable[[str], MediaSource],
        now_s: Callable[[], float],
    ) -> None:
        """`now_s` is a monotonic clock."""
        self._page_url = page_url
        self._pages = pages
        self._open_hls = open_hls
        self._now_s = now_s
        self._hls: MediaSource | None = None
        self._is_stale = True
        self._resolve_at_s = 0.0
        self._interval_s = LEAST_INTERVAL_S
        self._last_failure = _failure(FailureKind.NETWORK, "the page was not asked yet")

    async def playlist(self, *, from_sequence: int) -> MediaPlaylist:
        if self._is_stale:
            await self._renew()
        return await self._opened().playlist(from_sequence=from_sequence)

    async def segment(self, segment: Segment, *, epoch: int, left_s: float) -> FetchedSegment:
        return await self._opened().segment(segment, epoch=epoch, left_s=left_s)

    def forget_variant(self) -> None:
        """The address may have expired: the page is asked for a new one at the next load."""
        self._is_stale = True
        if self._hls is not None:
            self._hls.forget_variant()

    def leave_variant(self) -> bool:
        return self._hls.leave_variant() if isinstance(self._hls, OffersVariants) else False

    def refuse_delta(self) -> None:
        if self._hls is not None:
            self._hls.refuse_delta()

    async def close(self) -> None:
        if self._hls is not None:
            await self._hls.close()

    def _opened(self) -> MediaSource:
        if self._hls is None:
            raise FetchFailed(self._last_failure)
        return self._hls

    async def _renew(self) -> None:
        """What was found last serves on where the page cannot be asked now: it may still be good."""
        if self._now_s() < self._resolve_at_s:
            return
        try:
            address = await self._resolved()
        except (PageOffline, PageUnavailable) as error:
            self._note(error.code, str(error))
            self._last_failure = _failure(FailureKind.NETWORK, str(error))
            return
        except PageUnusable as error:
            self._note(error.code, str(error))
            raise FetchFailed(_failure(FailureKind.REFUSED, str(error))) from error
        self._note("resolved", "")
        before, self._hls = self._hls, self._open_hls(address)
        self._is_stale = False
        if before is not None:
            await before.close()

    async def _resolved(self) -> str:
        """The interval begins when the page has answered: there may have been a queue."""
        rest_s, self._interval_s = self._interval_s, min(2 * self._interval_s, LONGEST_INTERVAL_S)
        try:
            address = await self._pages.resolve(self._page_url)
            rest_s = self._interval_s = LEAST_INTERVAL_S
        finally:
            self._resolve_at_s = self._now_s() + rest_s
        return address

    def _note(self, outcome: str, detail: str) -> None:
        metrics.pages_resolved.labels(outcome).inc()
        log.info("page_resolved", page=self._page_url, outcome=outcome, detail=detail)


class NoPages:
    """Stands where no resolver is set up."""

    async def resolve(self, page_url: str) -> str:
        raise PageUnusable(
            "pages of Twitch and YouTube are not followed by this installation: set PAGES=streamlink and install "
            "the package streamlink, or give the address of the HLS playlist"
        )


def _failure(kind: FailureKind, detail: str) -> FetchFailure:
    return FetchFailure(kind=kind, detail=detail)
