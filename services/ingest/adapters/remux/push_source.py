"""A stream that a server pushes (RTMP, SRT) or plays (RTSP) as a source: one connection after the other, each cut
into segments, with a gap of measured length between them.

Its wall clock is that of arrival. What comes while nobody takes it is kept up to a bound, then told as a gap.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from ingest.adapters.remux.child import ChildBroken, ChildSilent, Workshop, fragments
from ingest.adapters.remux.shelf import Shelf
from ingest.adapters.remux.wire_relay import WireRelay
from ingest.domain.actions import FailureKind, FetchFailure
from ingest.domain.fragments import ClockStandsStill, Fragment, Piece, Splicer, codecs_of
from ingest.domain.playlist import MICROSECONDS, MediaPlaylist, Segment
from ingest.domain.recorder import Progress
from ingest.domain.remux_plan import (
    CARRY_FRAMED_AAC,
    RemuxPlan,
    asks_for_encoding,
    explain_refusal,
    is_other_sound,
    unfit_codecs,
)
from ingest.workflow.ports import FetchedSegment, FetchFailed, Spool
from shared.clock import Clock
from shared.media_runner import MediaCrashed, MediaRejected, RelayedInput
from shared.relay_socket import NoRelaySocket

log = structlog.get_logger()

TARGET_US: Final = 2 * MICROSECONDS
MOST_WAITING: Final = 150
LONG_POLL_S: Final = 3.0
SILENCE_S: Final = 30.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0
# A connection that ended in order, and nothing for so long after it, is the end: an encoder that starts anew is sooner.
END_PATIENCE_S: Final = 120.0
LEAST_GAP_US: Final = 50_000
BROKEN_DOWN: Final = "reading it broke down"


@dataclass(frozen=True, kw_only=True)
class PushAddress:
    """How FFmpeg asks for the stream, and what carries its bytes."""

    source: RelayedInput
    open_relay: Callable[[], WireRelay]


@dataclass
class _Anchor:
    """Where the clock of one connection stands on the wall."""

    pts_us: int
    at: datetime

    def wall_at(self, pts_us: int) -> datetime:
        return self.at + timedelta(microseconds=pts_us - self.pts_us)


class PushSource:
    """One stream; connecting begins with the first playlist that is asked for."""

    def __init__(
        self,
        address: PushAddress,
        *,
        workshop: Workshop,
        spool: Spool,
        progress: Progress,
        clock: Clock,
        end_patience_s: float = END_PATIENCE_S,
    ) -> None:
        timeline = progress.cursor.timeline
        self._address = address
        self._workshop = workshop
        self._clock = clock
        self._end_patience_s = end_patience_s
        self._shelf = Shelf(spool, cursor=progress.cursor, most_waiting=MOST_WAITING, target_us=TARGET_US)
        self._plan = RemuxPlan(unwraps_aac=address.source.demuxer in CARRY_FRAMED_AAC)
        self._ended_at = timeline.wall_end_at if timeline.segment_count else None
        self._left_at: datetime | None = None
        self._failure: FetchFailure | None = None
        self._is_flowing = False
        self._is_over = False
        self._work: asyncio.Task[None] | None = None

    async def playlist(self, *, from_sequence: int) -> MediaPlaylist:
        await self._shelf.forget(before=from_sequence)
        if self._work is None:
            self._work = asyncio.create_task(self._produce())
        await self._shelf.wait_news(LONG_POLL_S)
        if self._work.done():
            self._work.result()  # what is not told as a failure is a fault, and the follower's to report
        if not self._shelf.has_news and not self._is_flowing and not self._is_over:
            raise FetchFailed(self._failure or FetchFailure(kind=FailureKind.TIMEOUT, detail="no media yet"))
        return self._shelf.playlist(is_ended=self._is_over, has_more=False)

    async def segment(self, segment: Segment, *, epoch: int, left_s: float) -> FetchedSegment:
        return await self._shelf.fetched(segment)

    def forget_variant(self) -> None:
        """The address stays the same."""

    def refuse_delta(self) -> None:
        """There are none."""

    async def close(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        await self._shelf.close()

    # -- connections ---------------------------------------------------------------------------------------

    async def _produce(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._is_over:
            had_media = await self._connect_told()
            pause_s = FIRST_PAUSE_S if had_media else min(LONGEST_PAUSE_S, pause_s * 2)
            self._is_over = self._has_ended()
            self._shelf.tell()
            if not self._is_over:
                await asyncio.sleep(pause_s)

    def _has_ended(self) -> bool:
        """Ended in order, and nothing came since."""
        waited = self._clock() - self._left_at if self._left_at is not None else timedelta()
        return waited > timedelta(seconds=self._end_patience_s)

    async def _connect_told(self) -> bool:
        """One connection; answers whether it brought media, and remembers why it ended."""
        relay = self._address.open_relay()
        try:
            await self._connect(relay)
            failure = relay.failure
        except MediaRejected as error:
            failure = relay.failure or self._judge_rejection(str(error))
        except FetchFailed as failed:
            failure = failed.failure
        except (MediaCrashed, ChildSilent, ChildBroken, ClockStandsStill, NoRelaySocket, OSError) as error:
            failure = relay.failure or _broken_down(error)
        had_media, self._is_flowing = self._is_flowing, False
        self._note_end(failure, had_media=had_media)
        return had_media

    def _note_end(self, failure: FetchFailure | None, *, had_media: bool) -> None:
        if had_media:
            self._left_at = self._clock() if failure is None else None
        self._failure = failure or FetchFailure(kind=FailureKind.NETWORK, detail="the stream ended")
        log.info("push_ended", failure=self._failure.label, detail=self._failure.detail, had_media=had_media)

    async def _connect(self, relay: WireRelay) -> None:
        splicer, anchor, is_first = Splicer(target_us=TARGET_US), None, True
        asked_at = self._clock()
        opened = fragments(
            self._workshop, self._address.source, self._plan, relay=relay.serve, silence_s=SILENCE_S
        )
        try:
            async with _patience() as patience, opened as read:
                async for fragment in read:
                    if anchor is None:
                        if self._needs_encoding(fragment):
                            return
                        anchor = self._begin(fragment, asked_at=asked_at)
                    piece = splicer.add(fragment)
                    if piece is not None:
                        await self._keep(piece, anchor, is_first=is_first)
                        is_first = False
                        patience.reschedule(asyncio.get_running_loop().time() + SILENCE_S)
        finally:
            last = splicer.finish()
            if last is not None and anchor is not None:
                await self._keep(last, anchor, is_first=is_first)

    def _begin(self, first: Fragment, *, asked_at: datetime) -> _Anchor:
        """The first fragment is whole now, so it began its own length ago; servers may send a start at once."""
        self._is_flowing, self._left_at = True, None
        length = timedelta(microseconds=first.end_us - first.pts_us)
        began_at = max(asked_at, self._clock() - length)
        if self._ended_at is not None:
            gap_us = round((began_at - self._ended_at) / timedelta(microseconds=1))
            if gap_us > LEAST_GAP_US:
                self._shelf.put_gap(gap_us)
        return _Anchor(first.pts_us, began_at)

    async def _keep(self, piece: Piece, anchor: _Anchor, *, is_first: bool) -> None:
        breaks = is_first and self._ended_at is not None
        self._ended_at = anchor.wall_at(piece.end_us)
        wall_at = anchor.wall_at(piece.start_us)
        if not await self._shelf.put_now(piece, wall_at=wall_at, breaks=breaks):
            log.warning("push_overrun", duration_us=piece.duration_us)

    def _needs_encoding(self, first: Fragment) -> bool:
        unfit = unfit_codecs(codecs_of(first.init))
        if not unfit or self._plan.transcodes:
            return False
        log.info("source_encoded_anew", codecs=unfit)
        self._plan = RemuxPlan(transcodes=True)
        return True

    def _judge_rejection(self, said: str) -> FetchFailure:
        """Where FFmpeg only refused the way, the next connection goes another one."""
        if self._plan.unwraps_aac and is_other_sound(said):
            self._plan = RemuxPlan()
        elif not self._plan.transcodes and asks_for_encoding(said):
            self._plan = RemuxPlan(transcodes=True)
        log.info("remux_rejected", reason=explain_refusal(said))
        return FetchFailure(kind=FailureKind.NETWORK, detail=explain_refusal(said))


@asynccontextmanager
async def _patience() -> AsyncIterator[asyncio.Timeout]:
    """Bytes may flow and still make no piece: sound without the pictures, a clock that stands still."""
    try:
        async with asyncio.timeout(SILENCE_S) as patience:
            yield patience
    except TimeoutError as error:
        raise ChildSilent(f"no piece for {SILENCE_S:g} s") from error


def _broken_down(error: Exception) -> FetchFailure:
    """What FFmpeg said is not passed on: it may name the stream's key."""
    log.warning("push_broke_down", error=type(error).__name__)
    return FetchFailure(kind=FailureKind.TIMEOUT, detail=BROKEN_DOWN)
