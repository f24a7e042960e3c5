"""A file as a source: FFmpeg copies it into fragments through the relay, as fast as its segments are taken.

A successor goes on where the last stored segment ended: reading begins a little before, and what is known is passed
over, so that it makes the same segments as an uninterrupted run.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import structlog

from ingest.adapters.remux.child import ChildBroken, ChildSilent, Workshop, fragments
from ingest.adapters.remux.file_bytes import FileBytes, read_head
from ingest.adapters.remux.file_relay import FileRelay
from ingest.adapters.remux.shelf import Shelf, end_us
from ingest.domain.actions import FailureKind, FetchFailure
from ingest.domain.fragments import ClockStandsStill, Fragment, Splicer, codecs_of
from ingest.domain.playlist import MICROSECONDS, MediaPlaylist, Segment
from ingest.domain.recorder import Progress
from ingest.domain.remux_plan import (
    CARRY_FRAMED_AAC,
    SNIFFED_BYTES,
    NotAMediaFile,
    RemuxPlan,
    asks_for_encoding,
    explain_refusal,
    is_other_sound,
    seek_arguments,
    sniff,
    unfit_codecs,
)
from ingest.workflow.ports import FetchedSegment, FetchFailed, Spool
from shared.media_runner import MediaCrashed, MediaRejected, RelayedInput
from shared.relay_socket import NoRelaySocket

log = structlog.get_logger()

TARGET_US: Final = 4 * MICROSECONDS
MOST_WAITING: Final = 6
LONG_POLL_S: Final = 1.0
SILENCE_S: Final = 60.0
TILE_US: Final = 50_000
# How far before the place to go on reading begins; containers without an index may miss by tens of seconds.
MARGINS_US: Final = (2 * MICROSECONDS, 60 * MICROSECONDS, None)
MOST_BREAKDOWNS: Final = 3
NO_MEDIA: Final = "it holds neither video nor audio"
NO_RANGES: Final = (
    "its server answers no range requests, and this file cannot be read from start to end without them"
)

CLOCK_BACK: Final = (
    "its clock goes back in the middle: recordings were joined in it, which must be sent one by one"
)
BROKEN_DOWN: Final = "reading it broke down"

OpenFile = Callable[[], Awaitable[FileBytes]]


class _Outcome(StrEnum):
    WHOLE = "whole"
    STARTED_LATE = "started_late"
    NEEDS_ENCODING = "needs_encoding"
    OTHER_SOUND = "other_sound"


@dataclass
class _Reading:
    """An opened file while one task reads it."""

    file: FileBytes
    demuxer: str
    unwraps_aac: bool
    transcodes: bool = False


class FileSource:
    """One file of one stream; reading begins with the first playlist that is asked for."""

    def __init__(self, open_file: OpenFile, *, workshop: Workshop, spool: Spool, progress: Progress) -> None:
        cursor = progress.cursor
        self._open_file = open_file
        self._workshop = workshop
        self._shelf = Shelf(spool, cursor=cursor, most_waiting=MOST_WAITING, target_us=TARGET_US)
        self._from_us = end_us(cursor)
        self._skipped_us = cursor.timeline.position_us if self._from_us is None else 0
        self._failure: FetchFailure | None = None
        self._is_whole = False
        self._breakdowns = 0
        self._work: asyncio.Task[None] | None = None

    async def playlist(self, *, from_sequence: int) -> MediaPlaylist:
        await self._shelf.forget(before=from_sequence)
        if self._work is None and not self._is_whole:
            self._work = asyncio.create_task(self._produce())
        await self._shelf.wait_news(LONG_POLL_S)
        if self._work is not None and self._work.done():
            self._work.result()  # what is not told as a failure is a fault, and the follower's to report
        if self._failure is not None and self._shelf.is_drained:
            self._raise_failure(self._failure)
        return self._shelf.playlist(kind="VOD", is_ended=self._is_whole, has_more=True)

    async def segment(self, segment: Segment, *, epoch: int, left_s: float) -> FetchedSegment:
        return await self._shelf.fetched(segment)

    def forget_variant(self) -> None:
        """The address stays the same; each block is asked for anew."""

    def refuse_delta(self) -> None:
        """There are none."""

    async def close(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        await self._shelf.close()

    def _raise_failure(self, failure: FetchFailure) -> None:
        """What is not for good is tried again at the next playlist."""
        if failure.kind is not FailureKind.REFUSED:
            self._failure, self._work = None, None
        raise FetchFailed(failure)

    # -- reading -------------------------------------------------------------------------------------------

    async def _produce(self) -> None:
        try:
            await self._read_file()
        except FetchFailed as failed:
            self._failure = failed.failure
        except OSError as error:
            log.warning("file_not_followed", reason=str(error))
            self._failure = FetchFailure(kind=FailureKind.NETWORK, detail=BROKEN_DOWN)
        finally:
            self._shelf.tell()

    async def _read_file(self) -> None:
        file = await self._open_file()
        try:
            demuxer = sniff(await read_head(file, SNIFFED_BYTES))
            reading = _Reading(file, demuxer, unwraps_aac=demuxer in CARRY_FRAMED_AAC)
            await self._read_to_end(reading)
        except NotAMediaFile as error:
            raise FetchFailed(_refused(str(error))) from error
        finally:
            await file.close()

    async def _read_to_end(self, reading: _Reading) -> None:
        margins = list(MARGINS_US) if self._from_us is not None and reading.file.is_seekable else [None]
        while True:
            outcome = await self._run_told(reading, margin_us=margins[0])
            if outcome is _Outcome.WHOLE:
                self._is_whole = True
                return
            if outcome is _Outcome.STARTED_LATE:
                margins.pop(0)
            reading.transcodes |= outcome is _Outcome.NEEDS_ENCODING
            reading.unwraps_aac &= outcome is not _Outcome.OTHER_SOUND

    async def _run_told(self, reading: _Reading, *, margin_us: int | None) -> _Outcome:
        """Raises FetchFailed for whatever went wrong, with what the relay knows before what FFmpeg says."""
        relay = FileRelay(reading.file)
        try:
            outcome = await self._run(reading, relay, margin_us=margin_us)
        except MediaRejected as error:
            other = _other_way(reading, str(error)) if relay.failure is None else None
            if other is not None:
                return other
            raise FetchFailed(relay.failure or _rejected(reading, str(error))) from error
        except ClockStandsStill as error:
            raise FetchFailed(_refused(CLOCK_BACK)) from error
        except (MediaCrashed, ChildSilent, ChildBroken) as error:
            raise FetchFailed(relay.failure or self._broken_down(str(error))) from error
        except NoRelaySocket as error:
            log.warning("remux_not_started", reason=str(error))
            raise FetchFailed(FetchFailure(kind=FailureKind.TIMEOUT, detail=BROKEN_DOWN)) from error
        if relay.failure is not None:
            raise FetchFailed(relay.failure)
        return outcome

    async def _run(self, reading: _Reading, relay: FileRelay, *, margin_us: int | None) -> _Outcome:
        plan = self._plan(reading, margin_us=margin_us)
        splicer = Splicer(target_us=TARGET_US, from_us=self._from_us)
        is_first = True
        opened = fragments(
            self._workshop,
            _input(reading, relay, plan),
            plan,
            relay=relay.serve,
            silence_s=SILENCE_S,
            served_bytes=lambda: relay.served_bytes,
        )
        async with opened as read:
            async for fragment in read:
                if is_first:
                    is_first = False
                    unusable = self._judge_first(fragment, reading, plan)
                    if unusable is not None:
                        return unusable
                    if self._skipped_us:
                        splicer = self._skipping(fragment)
                piece = splicer.add(fragment)
                if piece is not None:
                    await self._shelf.put(piece)
                    self._from_us, self._breakdowns = piece.end_us, 0
        if relay.failure is None:
            await self._finish(splicer, reading)
        return _Outcome.WHOLE

    async def _finish(self, splicer: Splicer, reading: _Reading) -> None:
        last = splicer.finish()
        if last is not None:
            await self._shelf.put(last)
            self._from_us = last.end_us
        elif self._from_us is None and not self._skipped_us:
            raise FetchFailed(_refused(NO_MEDIA if reading.file.is_seekable else NO_RANGES))

    def _plan(self, reading: _Reading, *, margin_us: int | None) -> RemuxPlan:
        """What is encoded anew can begin at any frame, what is copied only at a key frame before the place."""
        plan = RemuxPlan(transcodes=reading.transcodes, unwraps_aac=reading.unwraps_aac)
        if self._from_us is None or margin_us is None:
            return plan
        before_us = 0 if reading.transcodes else margin_us
        return replace(plan, seek_us=self._from_us - before_us)

    def _judge_first(self, fragment: Fragment, reading: _Reading, plan: RemuxPlan) -> _Outcome | None:
        unfit = unfit_codecs(codecs_of(fragment.init))
        if unfit and not reading.transcodes:
            log.info("source_encoded_anew", codecs=unfit)
            return _Outcome.NEEDS_ENCODING
        is_late = self._from_us is not None and fragment.pts_us > self._from_us + TILE_US
        return _Outcome.STARTED_LATE if is_late and plan.seek_us is not None else None

    def _skipping(self, first: Fragment) -> Splicer:
        """After a gap only the length so far is known, not the clock."""
        self._from_us, self._skipped_us = first.pts_us + self._skipped_us, 0
        return Splicer(target_us=TARGET_US, from_us=self._from_us)

    def _broken_down(self, said: str) -> FetchFailure:
        """FFmpeg itself may have been killed; a file on which it always breaks down is given up."""
        self._breakdowns += 1
        log.warning("remux_broke_down", reason=said, times=self._breakdowns)
        if self._breakdowns >= MOST_BREAKDOWNS:
            return _refused("it cannot be processed: reading it breaks down again and again")
        return FetchFailure(kind=FailureKind.TIMEOUT, detail=BROKEN_DOWN)


def _input(reading: _Reading, relay: FileRelay, plan: RemuxPlan) -> RelayedInput:
    seekable = ("-seekable", "1" if reading.file.is_seekable else "0")
    return RelayedInput(
        protocol="http",
        demuxer=reading.demuxer,
        path=relay.path,
        options=(*seek_arguments(plan), *seekable),
    )


def _other_way(reading: _Reading, said: str) -> _Outcome | None:
    """What to try instead, where FFmpeg only refused the way."""
    if reading.unwraps_aac and is_other_sound(said):
        return _Outcome.OTHER_SOUND
    return _Outcome.NEEDS_ENCODING if not reading.transcodes and asks_for_encoding(said) else None


def _rejected(reading: _Reading, said: str) -> FetchFailure:
    log.info("remux_rejected", reason=said)
    return _refused(explain_refusal(said) if reading.file.is_seekable else NO_RANGES)


def _refused(detail: str) -> FetchFailure:
    return FetchFailure(kind=FailureKind.REFUSED, detail=detail)
