"""Files that customers upload: begun, received in parts that survive a broken connection, whole, forgotten.

One request at a time writes to an upload: it holds a lease, and whoever has lost it commits nothing. An object is
stored first; the row that makes it count comes second. Memory holds one part for each request, whatever its length.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar, Protocol

import structlog

from gateway.domain.refusals import Conflict, Gone, Locked, NotFound, Refused, TooLong, Unacceptable
from gateway.domain.uploads import (
    LEAST_TAIL_BYTES,
    MAX_PARTS,
    PART_BYTES,
    Checksum,
    Part,
    Upload,
    UploadCaps,
    UploadId,
    manifest,
    read_metadata,
)
from gateway.workflow.accounts import Entropy
from gateway.workflow.authentication import Caller
from shared import keys, metrics
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.errors import RetryableError
from shared.ids import OrganizationId, random_id
from shared.object_store import ObjectStore, Stored, StoreUnavailable

log = structlog.get_logger()

LEASE_S = 30.0
RENEW_S = 8.0
PUT_WITHIN_S = 20.0
# A writer holds up to two parts, of 8 MiB each unless set otherwise: the process has 512 MiB.
WRITERS = 16
WRITERS_OF_ONE = 4
SWEPT_AT_ONCE = 20
KEEP_TOMBSTONES_DAYS = 7
FORGOTTEN_AT_ONCE = 1000


class BodyBroken(RetryableError):
    """The customer's connection broke, or nothing came over it for too long."""

    code: ClassVar[str] = "body_broken"


class WritersBusy(RetryableError):
    """As many chunks as may be are being received."""

    code: ClassVar[str] = "uploads_busy"


class ChecksumWrong(Refused):
    """The chunk is not the one that its checksum speaks of; nothing of it was kept."""

    code: ClassVar[str] = "checksum_mismatch"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to write to an upload, as long as its lease is renewed; `parts` is how many it has."""

    upload: Upload
    fence: int
    parts: int


@dataclass(frozen=True, kw_only=True)
class Held:
    """What an organization has uploaded and not yet lost: how many unfinished ones, how many bytes in all."""

    unfinished: int
    size_bytes: int


class UploadTables(Protocol):
    """One transaction of one organization; the clock of leases and expiry is the database's."""

    async def lock_uploads(self) -> None:
        """Let uploads of one organization begin one after the other."""
        ...

    async def held(self) -> Held: ...
    async def add(self, upload: Upload) -> None: ...
    async def find(self, upload_id: UploadId) -> Upload | None: ...
    async def is_gone(self, upload_id: UploadId) -> bool:
        """Whether its time is over."""
        ...

    async def claim(self, upload_id: UploadId, *, lease_s: float, keep_s: float) -> Claim | None:
        """None while somebody else holds it."""
        ...

    async def renew(self, claim: Claim, *, lease_s: float, keep_s: float) -> bool: ...
    async def parts(self, upload_id: UploadId) -> tuple[Part, ...]:
        """In their order."""
        ...

    async def advance(self, claim: Claim, part: Part, *, finished_s: float | None) -> bool:
        """Count the part; `finished_s` is how long the upload is kept from now on, where that is the last one."""
        ...

    async def release(self, claim: Claim) -> None: ...
    async def expire(self, upload_id: UploadId) -> None:
        """Nobody may write to it any more; it is swept when the lease of whoever writes now is over."""
        ...

    async def sweep(self, upload_id: UploadId) -> None:
        """Note that its objects are deleted."""
        ...


OpenUploads = Callable[[OrganizationId], AbstractAsyncContextManager[UploadTables]]


class Uploads:
    def __init__(
        self,
        *,
        open_uploads: OpenUploads,
        store: ObjectStore,
        caps: UploadCaps,
        clock: Clock,
        entropy: Entropy,
        now_s: Callable[[], float],
        part_bytes: int = PART_BYTES,
    ) -> None:
        """`now_s` is a monotonic clock."""
        self._open = open_uploads
        self._store = store
        self._caps = caps
        self._clock = clock
        self._entropy = entropy
        self._now_s = now_s
        self._part_bytes = part_bytes
        self._writers: Counter[OrganizationId] = Counter()

    @property
    def max_bytes(self) -> int:
        return self._caps.max_bytes

    @property
    def part_bytes(self) -> int:
        return self._part_bytes

    async def begin(self, caller: Caller, *, size_bytes: int, metadata: str) -> Upload:
        """Raises TooLong, Unacceptable, Conflict where the organization has as much as it may."""
        self._check_size(size_bytes)
        told, now = read_metadata(metadata), self._clock()
        upload = Upload(
            upload_id=UploadId(random_id("upl", self._entropy(6))),
            organization_id=caller.organization_id,
            name=told.get("filename", told.get("name", "")),
            content_type=told.get("filetype", told.get("type", "")),
            metadata=metadata,
            size_bytes=size_bytes,
            created_at=now,
            expires_at=now + timedelta(seconds=self._caps.unfinished_s),
        )
        async with self._open(caller.organization_id) as tables:
            await tables.lock_uploads()
            self._check_room(await tables.held(), size_bytes=size_bytes)
            await tables.add(upload)
        metrics.uploads.labels("begun").inc()
        return upload

    async def upload(self, caller: Caller, upload_id: UploadId) -> Upload:
        """Raises NotFound, Gone."""
        async with self._open(caller.organization_id) as tables:
            return await _found(tables, upload_id)

    async def end(self, caller: Caller, upload_id: UploadId) -> None:
        """Have it deleted, whole or not. Raises NotFound, Gone."""
        async with self._open(caller.organization_id) as tables:
            await _found(tables, upload_id)
            await tables.expire(upload_id)
        metrics.uploads.labels("ended").inc()

    async def receive(
        self,
        caller: Caller,
        upload_id: UploadId,
        *,
        offset_bytes: int,
        announced_bytes: int | None,
        body: AsyncIterator[bytes],
        checksum: Checksum | None = None,
    ) -> Upload:
        """Store what comes, part by part; what was stored counts, also when the rest does not come.

        Raises NotFound, Gone, Conflict (another offset), Locked, TooLong, ChecksumWrong, BodyBroken, WritersBusy.
        """
        upload = await self.upload(caller, upload_id)
        _check_offset(upload, offset_bytes)
        if announced_bytes == 0:
            return upload
        if (announced_bytes or 1) > upload.left_bytes:
            raise TooLong(f"only {upload.left_bytes} bytes of this upload are left")
        with self._writing(caller.organization_id):
            async with self._claimed(caller.organization_id, upload_id, offset_bytes=offset_bytes) as claim:
                writer = _Writer(
                    claim,
                    open_uploads=self._open,
                    store=self._store,
                    caps=self._caps,
                    now_s=self._now_s,
                    part_bytes=self._part_bytes,
                )
                await (writer.take(body) if checksum is None else writer.take_checked(body, checksum))
                return writer.upload

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes < 1:
            raise Unacceptable("the file is empty", field="Upload-Length")
        if size_bytes > self._caps.max_bytes:
            raise TooLong(f"a file may have {self._caps.max_bytes} bytes at most")

    def _check_room(self, held: Held, *, size_bytes: int) -> None:
        if held.unfinished >= self._caps.unfinished:
            raise Conflict(f"{held.unfinished} uploads are unfinished: finish one, or delete it")
        if held.size_bytes + size_bytes > self._caps.total_bytes:
            raise Conflict(
                f"your uploads may have {self._caps.total_bytes} bytes in all, "
                f"and have {held.size_bytes}: delete some"
            )

    @contextmanager
    def _writing(self, organization_id: OrganizationId) -> Iterator[None]:
        """A share of this process for one organization: each writer holds a part in memory."""
        if self._writers.total() >= WRITERS or self._writers[organization_id] >= WRITERS_OF_ONE:
            raise WritersBusy(f"{self._writers[organization_id]} of {self._writers.total()} writers")
        self._writers[organization_id] += 1
        try:
            yield
        finally:
            self._writers[organization_id] -= 1
            self._writers += Counter()  # drops those who have none

    @asynccontextmanager
    async def _claimed(
        self, organization_id: OrganizationId, upload_id: UploadId, *, offset_bytes: int
    ) -> AsyncIterator[Claim]:
        async with self._open(organization_id) as tables:
            await _found(tables, upload_id)
            claim = await tables.claim(upload_id, lease_s=LEASE_S, keep_s=self._caps.unfinished_s)
            if claim is None:
                raise _locked()
            _check_offset(claim.upload, offset_bytes)
        try:
            yield claim
        finally:
            await self._release(claim)

    async def _release(self, claim: Claim) -> None:
        try:
            async with self._open(claim.upload.organization_id) as tables:
                await tables.release(claim)
        except DatabaseUnavailable as error:
            log.warning("upload_lease_runs_out", upload_id=claim.upload.upload_id, reason=str(error))


class _Writer:
    """Writes one request's bytes; `upload` is how far that came."""

    def __init__(
        self,
        claim: Claim,
        *,
        open_uploads: OpenUploads,
        store: ObjectStore,
        caps: UploadCaps,
        now_s: Callable[[], float],
        part_bytes: int,
    ) -> None:
        self._claim = claim
        self._open = open_uploads
        self._store = store
        self._caps = caps
        self._now_s = now_s
        self._part_bytes = part_bytes
        self._renewed_at_s = now_s()
        self._parts = claim.parts
        self._pending = bytearray()
        self.upload = claim.upload

    async def take(self, body: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in body:
                self._accept(chunk)
                await self._keep_full_parts()
                await self._renew_in_time()
        except BodyBroken:
            if len(self._pending) >= LEAST_TAIL_BYTES:
                await self._keep(len(self._pending))
            raise
        if self._pending:
            await self._keep(len(self._pending))

    async def take_checked(self, body: AsyncIterator[bytes], checksum: Checksum) -> None:
        """All or nothing: what broke off, or is not what was meant, leaves no trace."""
        async for chunk in body:
            self._accept(chunk)
            if len(self._pending) > self._part_bytes:
                raise TooLong(f"a chunk with a checksum may have {self._part_bytes} bytes at most")
            await self._renew_in_time()
        if not await asyncio.to_thread(checksum.fits, bytes(self._pending)):
            raise ChecksumWrong("the chunk does not fit its checksum")
        if self._pending:
            await self._keep(len(self._pending))

    def _accept(self, chunk: bytes) -> None:
        if len(self._pending) + len(chunk) > self.upload.left_bytes:
            raise TooLong(f"only {self.upload.left_bytes} bytes of this upload are left")
        self._pending += chunk

    async def _keep_full_parts(self) -> None:
        while len(self._pending) >= self._part_bytes:
            await self._keep(self._part_bytes)

    async def _renew_in_time(self) -> None:
        if self._now_s() - self._renewed_at_s >= RENEW_S:
            await self._renew()

    async def _renew(self) -> None:
        async with self._open(self.upload.organization_id) as tables:
            if not await tables.renew(self._claim, lease_s=LEASE_S, keep_s=self._caps.unfinished_s):
                raise _locked()
        self._renewed_at_s = self._now_s()

    async def _keep(self, size_bytes: int) -> None:
        """Store the first bytes that are pending, and count them. The lease outlasts the storing."""
        if self._parts >= MAX_PARTS:
            raise TooLong(f"an upload may come in {MAX_PARTS} parts: send longer chunks")
        await self._renew()
        with memoryview(self._pending) as pending:
            body = bytes(pending[:size_bytes])
        part = await self._store_part(body)
        is_last = part.size_bytes == self.upload.left_bytes
        if is_last:
            await self._store_manifest(part)
        await self._count(part, is_last=is_last)
        del self._pending[:size_bytes]

    async def _store_part(self, body: bytes) -> Part:
        sha256 = await asyncio.to_thread(_digest, body)
        part = Part(offset_bytes=self.upload.offset_bytes, size_bytes=len(body), sha256=sha256)
        key = keys.upload_part(
            self.upload.organization_id, self.upload.upload_id, offset=part.offset_bytes, sha256=sha256
        )
        await _in_time(self._store.put(key, body), key=key)
        return part

    async def _store_manifest(self, last: Part) -> None:
        async with self._open(self.upload.organization_id) as tables:
            earlier = await tables.parts(self.upload.upload_id)
        key = keys.upload_manifest(self.upload.organization_id, self.upload.upload_id)
        await _in_time(self._store.put(key, manifest(self.upload, (*earlier, last))), key=key)

    async def _count(self, part: Part, *, is_last: bool) -> None:
        finished_s = self._caps.finished_s if is_last else None
        async with self._open(self.upload.organization_id) as tables:
            if not await tables.advance(self._claim, part, finished_s=finished_s):
                raise _locked()
            found = await tables.find(self.upload.upload_id)
        self._parts += 1
        self.upload = found or replace(self.upload, offset_bytes=self.upload.offset_bytes + part.size_bytes)
        metrics.uploaded_bytes.inc(part.size_bytes)
        if is_last:
            metrics.uploads.labels("complete").inc()
            log.info("upload_complete", upload_id=self.upload.upload_id, size_bytes=self.upload.size_bytes)


class UploadSweep:
    """Deletes what has expired: the objects first, then the rows, some days after."""

    def __init__(
        self,
        *,
        open_uploads: OpenUploads,
        expired: Callable[[int], Awaitable[tuple[tuple[OrganizationId, UploadId], ...]]],
        forget: Callable[[int, int], Awaitable[int]],
        store: ObjectStore,
    ) -> None:
        """`expired` lists uploads of all organizations, `forget` deletes rows swept so many days ago."""
        self._open = open_uploads
        self._expired = expired
        self._forget = forget
        self._store = store

    async def turn(self) -> bool:
        """Answers whether more may be left."""
        expired = await self._expired(SWEPT_AT_ONCE)
        for organization_id, upload_id in expired:
            await self._store.delete_prefix(keys.upload_prefix(organization_id, upload_id))
            async with self._open(organization_id) as tables:
                await tables.sweep(upload_id)
            metrics.uploads.labels("swept").inc()
        forgotten = await self._forget(KEEP_TOMBSTONES_DAYS, FORGOTTEN_AT_ONCE)
        return len(expired) == SWEPT_AT_ONCE or forgotten == FORGOTTEN_AT_ONCE


async def _found(tables: UploadTables, upload_id: UploadId) -> Upload:
    upload = await tables.find(upload_id)
    if upload is None:
        raise NotFound("Upload not found")
    if await tables.is_gone(upload_id):
        raise Gone("The upload has expired, or was deleted: begin a new one")
    return upload


def _check_offset(upload: Upload, offset_bytes: int) -> None:
    if offset_bytes != upload.offset_bytes:
        raise Conflict(f"{upload.offset_bytes} bytes are stored: go on at this offset, not at {offset_bytes}")


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def _in_time(work: Awaitable[Stored], *, key: str) -> Stored:
    try:
        async with asyncio.timeout(PUT_WITHIN_S):
            return await work
    except TimeoutError as error:
        raise StoreUnavailable(f"object {key} was not stored within {PUT_WITHIN_S:g} s") from error


def _locked() -> Locked:
    return Locked("another request writes to this upload: ask for its offset, and go on from there")
