"""Finished segments of one source on the local disk, bounded, and the playlist that lists them."""

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from ingest.domain.actions import Cursor, FailureKind, FetchFailure
from ingest.domain.fragments import Piece
from ingest.domain.media_body import NotMedia, examine
from ingest.domain.playlist import InitSection, Location, MediaPlaylist, Segment
from ingest.workflow.ports import FetchedSegment, FetchFailed, Spool, SpoolFull

SCHEME: Final = "remux"
_ROOM_CHECK_S: Final = 0.5
# What one source may keep of the disk that all share: a minute of the highest rates, minutes of usual ones.
MOST_WAITING_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class _Held:
    path: Path
    init: bytes
    size_bytes: int


class Shelf:
    """Numbers go on from `cursor`; `most_waiting` bounds what is finished and was not asked for yet."""

    def __init__(self, spool: Spool, *, cursor: Cursor, most_waiting: int, target_us: int) -> None:
        self._spool = spool
        self._most_waiting = most_waiting
        self._target_us = target_us
        self._next_sequence = cursor.sequence + 1
        self._segments: list[Segment] = []
        self._held: dict[int, _Held] = {}
        self._asked: set[int] = set()
        self._listed = cursor.sequence
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def is_drained(self) -> bool:
        """Whether all that was finished was asked for."""
        return self._waiting_count == 0

    @property
    def _waiting_count(self) -> int:
        return len(self._held.keys() - self._asked)

    def _has_room(self, piece: Piece) -> bool:
        waiting = self._held.keys() - self._asked
        size_bytes = sum(self._held[sequence].size_bytes for sequence in waiting) + len(piece.body)
        return not waiting or (len(waiting) < self._most_waiting and size_bytes <= MOST_WAITING_BYTES)

    async def put(self, piece: Piece, *, wall_at: datetime | None = None, breaks: bool = False) -> None:
        """Waits while enough is waiting, or while the disk has no room."""
        while not self._has_room(piece):
            self._room.clear()
            await self._room.wait()
        while not await self._put(piece, wall_at=wall_at, breaks=breaks):  # noqa: ASYNC110 - other streams free it
            await asyncio.sleep(_ROOM_CHECK_S)

    async def put_now(self, piece: Piece, *, wall_at: datetime | None, breaks: bool) -> bool:
        """For what cannot wait; what finds no room becomes a gap, and then the answer is False."""
        if self._has_room(piece) and await self._put(piece, wall_at=wall_at, breaks=breaks):
            return True
        self.put_gap(piece.duration_us)
        return False

    def put_gap(self, duration_us: int) -> None:
        """Media that is known to be missing."""
        name = f"{SCHEME}:/{self._next_sequence}/gap"
        self._list(
            Segment(
                sequence=self._next_sequence, location=Location(url=name), duration_us=duration_us, gap=True
            )
        )

    async def _put(self, piece: Piece, *, wall_at: datetime | None, breaks: bool) -> bool:
        try:
            path = await self._spool.keep(piece.body)
        except SpoolFull:
            return False
        self._held[self._next_sequence] = _Held(path=path, init=piece.init, size_bytes=len(piece.body))
        self._list(_segment(self._next_sequence, piece, wall_at=wall_at, breaks=breaks))
        return True

    def _list(self, segment: Segment) -> None:
        self._segments.append(segment)
        self._next_sequence += 1
        self._news.set()

    def tell(self) -> None:
        """Wake whoever waits for news."""
        self._news.set()

    @property
    def has_news(self) -> bool:
        """Whether something was finished that no playlist has listed yet."""
        return bool(self._segments) and self._segments[-1].sequence > self._listed

    async def wait_news(self, timeout_s: float) -> None:
        """Until there are news, or `tell`."""
        if self.has_news:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()

    def playlist(self, *, kind: str = "", is_ended: bool, has_more: bool) -> MediaPlaylist:
        self._news.clear()
        segments = tuple(self._segments)
        first = segments[0].sequence if segments else self._next_sequence
        self._listed = self._next_sequence - 1
        return MediaPlaylist(
            url=f"{SCHEME}:/",
            target_us=self._target_us,
            media_sequence=first,
            listed_count=len(segments),
            segments=segments,
            ended=is_ended,
            truncated=has_more and not is_ended,
            kind=kind,
        )

    async def fetched(self, segment: Segment) -> FetchedSegment:
        """Raises FetchFailed when it is not there any more."""
        held = self._held.get(segment.sequence)
        if held is None:
            raise FetchFailed(FetchFailure(kind=FailureKind.STATUS, status=404))
        self._asked.add(segment.sequence)
        self._room.set()
        body = await asyncio.to_thread(held.path.read_bytes)
        return await asyncio.to_thread(_examined, body, held.init, segment.duration_us)

    async def forget(self, *, before: int) -> None:
        """Drop what is settled."""
        self._segments = [segment for segment in self._segments if segment.sequence >= before]
        for sequence in sorted(each for each in self._held if each < before):
            held = self._held.pop(sequence)
            self._asked.discard(sequence)
            await self._spool.drop(held.path)
        self._room.set()

    async def close(self) -> None:
        await self.forget(before=self._next_sequence)


def end_us(cursor: Cursor) -> int | None:
    """Where the last stored piece ended on the fragments' clock, as its name says; None after a gap."""
    name = cursor.identity.rpartition("/")[2]
    _, dash, end = name.partition("-")
    return int(end) if dash and end.isdigit() else None


def _segment(sequence: int, piece: Piece, *, wall_at: datetime | None, breaks: bool) -> Segment:
    digest = hashlib.sha256(piece.init).hexdigest()[:16]
    return Segment(
        sequence=sequence,
        location=Location(url=f"{SCHEME}:/{sequence}/{piece.start_us}-{piece.end_us}"),
        duration_us=piece.duration_us,
        discontinuity=breaks,
        wall_at=wall_at,
        init=InitSection(location=Location(url=f"{SCHEME}:/init/{digest}")),
    )


def _examined(body: bytes, init: bytes, listed_us: int) -> FetchedSegment:
    try:
        media = examine(body, listed_us=listed_us, init=init)
    except NotMedia as error:
        raise FetchFailed(FetchFailure(kind=FailureKind.CORRUPT, detail=str(error))) from error
    return FetchedSegment(body=body, sha256=hashlib.sha256(body).hexdigest(), media=media, init=init)
