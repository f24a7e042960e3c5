"""Looks at a source once, at submission: is it there, what is it, and what does its platform tell of it.

Outside of any transaction, and within a time that the customer does not mind; an answer that does not come in it
never refuses a stream. What an answer means stands in `domain.reachability`.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

import structlog

from gateway.domain.pages import FIELD
from gateway.domain.reachability import (
    NOTHING_FOUND,
    Answer,
    ChannelNow,
    Findings,
    SourceStatus,
    judge,
    of_channel,
    unreachable,
)
from gateway.domain.refusals import Unacceptable
from gateway.domain.source import SourceAddress, SourceKind
from shared import metrics
from shared.addresses import BlockedAddress, UrlRefused
from shared.errors import PermanentError, PipelineError, RetryableError

log = structlog.get_logger()

AT_ONCE = 64


class Origins(Protocol):
    async def look(self, url: str, *, headers: Mapping[str, str], is_hinted: bool, within_s: float) -> Answer:
        """The beginning of the source's answer. Raises what the HTTP client raises."""
        ...


class Channels(Protocol):
    """The platform's own API."""

    async def now(self, login: str) -> ChannelNow | None:
        """None when there is no such channel. Raises RetryableError, PermanentError when it cannot be asked."""
        ...


class Survey:
    """`origins` looks at addresses, `twitch` is there when it is configured; in no time at all neither is asked."""

    def __init__(
        self, *, origins: Origins | None = None, twitch: Channels | None = None, within_s: float = 3.0
    ) -> None:
        self._origins = origins
        self._twitch = twitch
        self._within_s = within_s
        self._free = asyncio.Semaphore(AT_ONCE)

    async def of(self, source: SourceAddress, *, headers: Mapping[str, str]) -> Findings:
        """Raises Unacceptable for what can never become a stream."""
        if self._within_s <= 0 or self._free.locked():
            return self._counted(source, NOTHING_FOUND)
        async with self._free:
            return self._counted(source, await self._findings(source, headers))

    def _counted(self, source: SourceAddress, findings: Findings) -> Findings:
        metrics.source_checks.labels(source.kind.value, findings.check.status.value).inc()
        if findings.check.status is SourceStatus.UNREACHABLE:
            log.info("source_unreachable", source=source.display_url, detail=findings.check.detail)
        return findings

    async def _findings(self, source: SourceAddress, headers: Mapping[str, str]) -> Findings:
        if source.is_read_by_http and self._origins is not None:
            return await self._of_origin(self._origins, source, headers)
        if source.kind is SourceKind.TWITCH and source.page is not None and self._twitch is not None:
            return await self._of_channel(self._twitch, source.page.channel)
        return NOTHING_FOUND

    async def _of_origin(
        self, origins: Origins, source: SourceAddress, headers: Mapping[str, str]
    ) -> Findings:
        try:
            answer = await origins.look(
                source.url, headers=headers, is_hinted=source.is_hinted, within_s=self._within_s
            )
        except (BlockedAddress, UrlRefused) as error:
            raise Unacceptable(str(error), field=FIELD) from error
        except PipelineError as error:
            return unreachable(str(error))
        return judge(source, answer)

    async def _of_channel(self, twitch: Channels, login: str) -> Findings:
        if not login:
            return NOTHING_FOUND
        try:
            async with asyncio.timeout(self._within_s):
                channel = await twitch.now(login)
        except (TimeoutError, RetryableError, PermanentError) as error:
            log.warning("twitch_not_asked", login=login, reason=str(error) or type(error).__name__)
            return NOTHING_FOUND
        if channel is None:
            raise Unacceptable(f"Twitch has no channel {login}", field=FIELD)
        return of_channel(channel)
