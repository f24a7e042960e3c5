"""Reads the sound of a rendition of its own beside the pictures, and has each of their segments made whole.

Modest: it reads what a segment of pictures covers and little else, waits for it for a bounded time, and what cannot
be had leaves the pictures as they are, told.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import Any, ClassVar, Final, Protocol

import structlog

from ingest.domain.media_body import NotMedia, examine
from ingest.domain.playlist import MICROSECONDS, MediaPlaylist, Segment
from ingest.domain.sound import (
    Seams,
    SoundCut,
    SoundName,
    SoundPiece,
    SoundPlan,
    Span,
    carries_sound,
    cut_sound,
    examine_sound,
    name_of,
    plan_sound,
    span_of,
)
from ingest.domain.timeline import clock_step_us
from ingest.workflow.ports import FetchedSegment, FetchFailed
from shared import metrics
from shared.errors import RetryableError
from shared.http_client import Limits

log = structlog.get_logger()

SOUND_LIMITS: Final = Limits(max_bytes=4 * 1024 * 1024, total_s=10.0)
KEPT_BYTES: Final = 16 * 1024 * 1024
KEPT_PIECES: Final = 64
MOST_READS: Final = 64  # for one segment of pictures
PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 2.0
MOST_TRIES: Final = 3  # for one part of the sound
MIX_S: Final = 1.0  # of the time that a segment has left, for FFmpeg and the archive
PATIENCE_AFTER_FAILURE_S: Final = 0.5
PATIENCE_PLAY_S: Final = 1.0
LONGEST_PATIENCE_S: Final = 15.0
LIST_AWAY_S: Final = 10.0
FRESH_ADDRESSES_S: Final = 10.0
_DENIED: Final = frozenset({401, 403, 404, 410})
_CLOCK_PLAY_US: Final = 1_000
_LENGTH_PLAY_US: Final = 50_000


class NotMixed(RetryableError):
    """Pictures and sound could not be made one segment."""

    code: ClassVar[str] = "not_mixed"


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A segment of pictures as FFmpeg reads it: `content` begins with its init section, where it has one."""

    demuxer: str
    content: bytes


class Mixer(Protocol):
    """Makes one MPEG-TS segment of two, without decoding."""

    async def mixed(self, pictures: Pictures, sound: SoundCut | None) -> bytes:
        """Without sound, the pictures alone. Raises NotMixed."""
        ...


class SoundSource(Protocol):
    """The list of the sound, and its segments."""

    async def playlist(self, *, from_sequence: int) -> MediaPlaylist:
        """Raises FetchFailed."""
        ...

    async def clear(self, segment: Segment, *, epoch: int, limits: Limits) -> tuple[bytes, bytes | None]:
        """Body and init section in the clear. Raises FetchFailed."""
        ...

    def move_to(self, url: str, *, headers: Mapping[str, str]) -> None:
        """The same list under a fresh address."""
        ...


class SoundTrack:
    """The sound of one variant; several segments of pictures may ask at the same time."""

    def __init__(self, source: SoundSource, mixer: Mixer, *, now_s: Callable[[], float] = monotonic) -> None:
        self._source = source
        self._mixer = mixer
        self._now_s = now_s
        self._list: MediaPlaylist | None = None
        self._known: OrderedDict[SoundName, SoundPiece] = OrderedDict()
        self._seams = Seams()
        self._epoch = 0
        self._reading: dict[str, asyncio.Task[bool]] = {}
        self._tries: Counter[SoundName] = Counter()
        self._list_failure = ""
        self._is_denied = False
        self._asked_s = now_s()
        self._heard_s = now_s()
        self._listed_s = -PAUSE_S

    def move_to(self, url: str, *, headers: Mapping[str, str]) -> None:
        """Fresh addresses for what is read."""
        self._source.move_to(url, headers=headers)
        self._is_denied = False

    @property
    def wants_addresses(self) -> bool:
        """Whether the list of variants may know a fresh address; True once in some seconds."""
        if not self._is_denied or self._now_s() - self._asked_s < FRESH_ADDRESSES_S:
            return False
        self._asked_s = self._now_s()
        return True

    def close(self) -> None:
        for task in self._reading.values():
            task.cancel()

    async def join(
        self, fetched: FetchedSegment, *, segment: Segment, epoch: int, left_s: float
    ) -> FetchedSegment:
        """The segment with its sound; as it is when it has sound already, or when there is none to be had."""
        has_sound = await asyncio.to_thread(carries_sound, fetched.body, fetched.media, init=fetched.init)
        if has_sound or fetched.media.pts_us is None:
            return fetched
        self._begin(epoch)
        span = span_of(segment, fetched.media, init=fetched.init)
        self._seams.begin(span)
        plan = await self._gather(span, patience_s=self._patience_s(segment, left_s=left_s))
        cut = cut_sound(plan.placed, self._seams.settled(span))
        if not plan.is_whole:
            self._tell(segment, reason=_reason(plan, self._list_failure))
        return await self._mixed(fetched, segment, cut)

    def _begin(self, epoch: int) -> None:
        """Numbers count anew with each epoch."""
        if epoch != self._epoch:
            self._epoch, self._list, self._seams = epoch, None, Seams()
            self._known.clear()
            self._tries.clear()

    # -- what is to be heard ------------------------------------------------------------------------------

    def _patience_s(self, segment: Segment, *, left_s: float) -> float:
        """The list of the sound may be one segment behind; a list that is away for long is not waited for."""
        if self._list_failure and self._now_s() - self._heard_s > LIST_AWAY_S:
            return PATIENCE_AFTER_FAILURE_S
        target_us = self._list.target_us if self._list is not None else 0
        usual_s = 2 * max(segment.duration_us, target_us) / MICROSECONDS + PATIENCE_PLAY_S
        return max(PATIENCE_AFTER_FAILURE_S, min(usual_s, LONGEST_PATIENCE_S, left_s - MIX_S))

    async def _gather(self, span: Span, *, patience_s: float) -> SoundPlan:
        try:
            async with asyncio.timeout(patience_s):
                await self._read_all(span)
        except TimeoutError:
            log.info("sound_awaited_in_vain", sequence=span.sequence, patience_s=patience_s)
        plan = self._plan(span)
        if not plan.placed:
            self._known.clear()  # what was known led nowhere: the clocks may have jumped
        return plan

    def _plan(self, span: Span) -> SoundPlan:
        if self._list is None:
            return SoundPlan()
        lost = {name for name, count in self._tries.items() if count >= MOST_TRIES}
        return plan_sound(self._list, self._known, self._seams.settled(span), lost=lost)

    async def _read_all(self, span: Span) -> None:
        pause_s = PAUSE_S
        for _ in range(MOST_READS):
            plan = self._plan(span)
            if plan.is_whole or plan.is_all:
                return
            wanted = next(iter(plan.wanted), None)
            is_read = wanted is not None and await self._once(
                str(name_of(wanted)), partial(self._read_piece, wanted)
            )
            if not is_read:
                await asyncio.sleep(max(0.0, self._listed_s + pause_s - self._now_s()))
                await self._once("", self._read_list)
                is_failing = self._list_failure or wanted is not None
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S) if is_failing else PAUSE_S

    async def _once(self, name: str, read: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
        """One request for all who ask for the same; whoever asks no more does not end it for the others."""
        task = self._reading.get(name)
        if task is None:
            task = self._reading[name] = asyncio.create_task(read())
            task.add_done_callback(lambda _: self._reading.pop(name, None))
        await asyncio.wait({task})
        return not task.cancelled() and task.result()

    async def _read_list(self) -> bool:
        lowest = min((sequence for sequence, _ in self._known), default=0)
        try:
            playlist = await self._source.playlist(from_sequence=max(0, lowest - 1))
        except FetchFailed as failed:
            self._list_failure = failed.failure.label
            self._note(failed, what="list")
            return False
        finally:
            self._listed_s = self._now_s()
        self._list, self._list_failure, self._heard_s = playlist, "", self._now_s()
        return True

    async def _read_piece(self, segment: Segment) -> bool:
        epoch = self._epoch
        try:
            body, init = await self._source.clear(segment, epoch=epoch, limits=SOUND_LIMITS)
            piece = await asyncio.to_thread(examine_sound, body, segment=segment, init=init)
        except (FetchFailed, NotMedia) as error:
            self._tries[name_of(segment)] += 1
            self._note(error, what="part")
            return False
        if epoch == self._epoch:
            self._keep(name_of(segment), piece)
        return True

    def _note(self, error: FetchFailed | NotMedia, *, what: str) -> None:
        """What is denied may be there under a fresh address."""
        self._is_denied = isinstance(error, FetchFailed) and error.failure.status in _DENIED
        log.info("sound_failed", what=what, reason=str(error))

    def _keep(self, name: SoundName, piece: SoundPiece) -> None:
        self._known[name] = piece
        while len(self._known) > KEPT_PIECES or self._kept_bytes > KEPT_BYTES:
            self._known.popitem(last=False)
        while len(self._tries) > KEPT_PIECES:
            del self._tries[next(iter(self._tries))]

    @property
    def _kept_bytes(self) -> int:
        return sum(len(piece.content) for piece in self._known.values())

    # -- pictures and sound ---------------------------------------------------------------------------------

    async def _mixed(self, fetched: FetchedSegment, segment: Segment, cut: SoundCut | None) -> FetchedSegment:
        """Without sound, fragmented MP4 becomes a transport stream all the same: a stream has one container."""
        if cut is None and fetched.media.container == "mpegts":
            return fetched
        try:
            body = await self._mixer.mixed(_pictures(fetched), cut)
            return await asyncio.to_thread(_judged, body, fetched, segment.duration_us, cut is not None)
        except NotMixed as error:
            log.warning("sound_not_mixed", sequence=segment.sequence, reason=str(error))
            if cut is not None:
                self._tell(segment, reason="not_mixed")
            return fetched

    def _tell(self, segment: Segment, *, reason: str) -> None:
        metrics.ingest_audio_apart.inc()
        log.warning("audio_apart", sequence=segment.sequence, reason=reason)


def _reason(plan: SoundPlan, list_failure: str) -> str:
    if list_failure:
        return list_failure
    if plan.wanted or plan.has_lost:
        return "not_had"
    return "partial" if plan.placed else "not_listed"


def _pictures(fetched: FetchedSegment) -> Pictures:
    if fetched.media.container == "mpegts":
        return Pictures(demuxer="mpegts", content=fetched.body)
    return Pictures(demuxer="mov", content=(fetched.init or b"") + fetched.body)


def _judged(body: bytes, before: FetchedSegment, listed_us: int, has_sound: bool) -> FetchedSegment:
    """The pictures must stand where they stood. Raises NotMixed."""
    try:
        media = examine(body, listed_us=listed_us)
    except NotMedia as error:
        raise NotMixed(str(error)) from error
    if media.container != "mpegts" or media.pts_us is None or before.media.pts_us is None:
        raise NotMixed("what was mixed has no clock")
    moved_us = clock_step_us(media.pts_us, before.media.pts_us)
    longer_us = (media.duration_us or 0) - (before.media.duration_us or media.duration_us or 0)
    if abs(moved_us) > _CLOCK_PLAY_US or abs(longer_us) > _LENGTH_PLAY_US:
        raise NotMixed(f"the pictures moved by {moved_us} us, and became {longer_us} us longer")
    if has_sound and not carries_sound(body, media, init=None):
        raise NotMixed("what was mixed has no sound")
    kept = replace(before.media, container=media.container)
    return FetchedSegment(body=body, sha256=sha256(body).hexdigest(), media=kept)
