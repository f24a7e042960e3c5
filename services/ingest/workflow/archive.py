"""Bodies into the archive: the object store, or the local spool while that is away. Rows come after, not here."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from ingest.domain.media_body import EXTENSIONS
from ingest.domain.recorder import Followed, StoredSegment
from ingest.workflow.ports import FetchedSegment, Spool, SpoolFull
from shared import keys
from shared.events import Lane
from shared.object_store import ObjectDiffers, ObjectStore, StoreUnavailable

log = structlog.get_logger()

INIT_EXTENSION = "init.mp4"
REMEMBERED_INITS = 4096
# A live body goes to the spool when the store is silent for so long; a source's window may hold only 10 s.
LIVE_PATIENCE_S = 4.0


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A body in the spool and the key under which it must be stored before its row is committed."""

    key: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A segment that is safe; `waiting` is what the store still lacks of it."""

    segment: StoredSegment
    waiting: tuple[Waiting, ...] = ()


class Archive:
    """Stores under the content's hash, so that storing twice is storing once."""

    def __init__(self, store: ObjectStore, spool: Spool, *, live_patience_s: float = LIVE_PATIENCE_S) -> None:
        self._store = store
        self._spool = spool
        self._live_patience_s = live_patience_s
        self._inits: OrderedDict[str, None] = OrderedDict()

    async def keep(
        self,
        stream: Followed,
        *,
        epoch: int,
        sequence: int,
        fetched: FetchedSegment,
    ) -> Kept:
        """Raises SpoolFull when the body can be put nowhere."""
        container, digest = fetched.media.container, fetched.sha256
        key = _key(stream, epoch, sequence, sha256=digest, extension=EXTENSIONS[container])
        init_key, init_waiting = await self._put_init(stream, epoch, fetched.init)
        try:
            waiting = await self._put(key, fetched.body, sha256=digest, patience_s=self._patience_s(stream))
        except SpoolFull:
            await self.discard(init_waiting)
            raise
        segment = StoredSegment(
            key=key, size_bytes=len(fetched.body), sha256=digest, container=container, init_key=init_key
        )
        return Kept(segment=segment, waiting=(*init_waiting, *waiting))

    async def deliver(self, waiting: Sequence[Waiting]) -> None:
        """Bring spooled bodies to the store. Raises StoreUnavailable; done as often as wanted."""
        for each in waiting:
            if await asyncio.to_thread(each.path.exists):
                await self._store_once(each.key, await asyncio.to_thread(each.path.read_bytes))
                await self._spool.drop(each.path)

    async def discard(self, waiting: Sequence[Waiting]) -> None:
        """Give up bodies whose rows will never be committed here."""
        for each in waiting:
            if await asyncio.to_thread(each.path.exists):
                await self._spool.drop(each.path)

    async def _put_init(
        self, stream: Followed, epoch: int, init: bytes | None
    ) -> tuple[str | None, tuple[Waiting, ...]]:
        """An init section is stored under sequence 0: the same one has the same key, whoever resumes."""
        if init is None:
            return None, ()
        digest = hashlib.sha256(init).hexdigest()
        key = _key(stream, epoch, 0, sha256=digest, extension=INIT_EXTENSION)
        if key in self._inits:
            return key, ()
        waiting = await self._put(key, init, sha256=digest, patience_s=self._patience_s(stream))
        if not waiting:
            self._note_init(key)
        return key, waiting

    def _note_init(self, key: str) -> None:
        """An init section goes with every segment, but into the store once."""
        self._inits[key] = None
        if len(self._inits) > REMEMBERED_INITS:
            self._inits.popitem(last=False)

    def _patience_s(self, stream: Followed) -> float | None:
        """A recording can wait for a slow store, and would otherwise fill the spool."""
        return self._live_patience_s if stream.lane is Lane.LIVE else None

    async def _put(
        self, key: str, body: bytes, *, sha256: str, patience_s: float | None
    ) -> tuple[Waiting, ...]:
        try:
            async with asyncio.timeout(patience_s):
                await self._store_once(key, body, sha256=sha256)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("object_store_away", key=key, reason=str(error) or "silent")
            return (Waiting(key=key, path=await self._spool.keep(body)),)
        return ()

    async def _store_once(self, key: str, body: bytes, *, sha256: str | None = None) -> None:
        """Other bytes there do not match the hash in their own key: damage, which the body in hand repairs."""
        try:
            await self._store.put_once(key, body, sha256=sha256)
        except ObjectDiffers:
            log.warning("archived_object_differs", key=key)
            await self._store.put(key, body)


def _key(stream: Followed, epoch: int, sequence: int, *, sha256: str, extension: str) -> str:
    return keys.archive_segment(
        stream.organization_id,
        stream.stream_id,
        run=stream.run,
        epoch=epoch,
        sequence=sequence,
        sha256=sha256,
        extension=extension,
    )
