"""What goes up to S3: digests that the server checks, deadlines, and big files in parts, a few at a time."""

import asyncio
import hashlib
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from shared.errors import PipelineError
from shared.object_store import Stored, StoreUnavailable
from shared.s3_faults import UploadMissing, store_faults

log = structlog.get_logger()

SHA256 = "sha256"  # name of the metadata
MULTIPART_BYTES = 16 << 20
PART_BYTES = 8 << 20
PARTS_AT_ONCE = 3
MAX_PARTS = 10_000
READ_BYTES = 1 << 20
# A call may take this long, and longer by the time that its body takes at the slowest useful rate.
CALL_DEADLINE_S = 20.0
SLOWEST_BYTES_PER_S = 256 << 10
ABORT_ATTEMPTS = 3
ABORT_DEADLINE_S = 5.0
ABORT_PAUSE_S = 0.2
_KEYED_ENCRYPTION = ("aws:kms", "aws:kms:dsse")


class Deadline:
    """When the call that runs inside is given up."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout

    def extend(self, size_bytes: int) -> None:
        """Leave time for a body that turned out to be this long."""
        until = self._timeout.when()
        assert until is not None
        self._timeout.reschedule(until + size_bytes / SLOWEST_BYTES_PER_S)


@asynccontextmanager
async def call_deadline(size_bytes: int) -> AsyncIterator[Deadline]:
    """Raises TimeoutError when what runs inside takes longer than a body of this size may; a drip ends here."""
    async with asyncio.timeout(CALL_DEADLINE_S) as timeout:
        deadline = Deadline(timeout)
        deadline.extend(size_bytes)
        yield deadline


class StoredOtherwise(StoreUnavailable):
    """The server says that it stored other bytes than were sent."""


@dataclass(frozen=True, slots=True)
class Digests:
    """Of one body; MD5 because S3 checks a body by nothing else that all servers know."""

    md5: bytes
    sha256: str

    @property
    def md5_base64(self) -> str:
        return b64encode(self.md5).decode()


def digests_of(body: bytes) -> Digests:
    md5 = hashlib.md5(body, usedforsecurity=False).digest()
    return Digests(md5=md5, sha256=hashlib.sha256(body).hexdigest())


def check_etag(answer: Mapping[str, Any], digests: Digests, *, subject: str) -> None:
    """Raises StoredOtherwise.

    Under encryption with a customer's key an ETag is no MD5; then the server's own check of Content-MD5 must do.
    """
    if answer.get("ServerSideEncryption") in _KEYED_ENCRYPTION or answer.get("SSECustomerAlgorithm"):
        return
    etag = str(answer.get("ETag", "")).strip('"').lower()
    if etag and etag != digests.md5.hex():
        raise StoredOtherwise(f"object {subject} was not stored as it was sent")


class Upload:
    """One file in parts; a few parts are in memory at once, and none is left behind when it fails."""

    def __init__(
        self, client: Any, place: Mapping[str, str], *, key: str, path: Path, size_bytes: int
    ) -> None:
        self._client = client
        self._place = dict(place)
        self._key = key
        self._path = path
        self._size_bytes = size_bytes
        self._part_bytes = max(PART_BYTES, -(-size_bytes // MAX_PARTS))

    async def send(self, content_type: str) -> Stored:
        """Raises StoreUnavailable."""
        sha256 = await asyncio.to_thread(_hash_file, self._path)
        async with call_deadline(0):
            created = await self._client.create_multipart_upload(
                **self._place, ContentType=content_type, Metadata={SHA256: sha256}
            )
        await self._complete_or_abort(created["UploadId"])
        return Stored(key=self._key, size_bytes=self._size_bytes, sha256=sha256)

    async def _complete_or_abort(self, upload_id: str) -> None:
        upload = {**self._place, "UploadId": upload_id}
        try:
            parts = await self._send_parts(upload)
            async with call_deadline(self._size_bytes):
                await self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            await asyncio.shield(self._abort(upload))
            raise

    async def _send_parts(self, upload: Mapping[str, str]) -> list[dict[str, Any]]:
        numbers = iter(range(1, -(-self._size_bytes // self._part_bytes) + 1))
        try:
            async with asyncio.TaskGroup() as group:
                lanes = [group.create_task(self._send_some(upload, numbers)) for _ in range(PARTS_AT_ONCE)]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return sorted((part for lane in lanes for part in lane.result()), key=lambda part: part["PartNumber"])

    async def _send_some(self, upload: Mapping[str, str], numbers: Iterator[int]) -> list[dict[str, Any]]:
        return [await self._send_part(upload, number) for number in numbers]

    async def _send_part(self, upload: Mapping[str, str], number: int) -> dict[str, Any]:
        body, digests = await asyncio.to_thread(self._read_part, number)
        with store_faults(self._key):
            async with call_deadline(len(body)):
                answer = await self._client.upload_part(
                    **upload, PartNumber=number, Body=body, ContentMD5=digests.md5_base64
                )
        check_etag(answer, digests, subject=self._key)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _read_part(self, number: int) -> tuple[bytes, Digests]:
        with self._path.open("rb") as source:
            body = os.pread(source.fileno(), self._part_bytes, (number - 1) * self._part_bytes)
        return body, digests_of(body)

    async def _abort(self, upload: Mapping[str, str]) -> None:
        """A part still on its way can make this fail, so it is tried again; a lifecycle rule takes the rest."""
        for _ in range(ABORT_ATTEMPTS):
            if await self._is_aborted(upload):
                return
            await asyncio.sleep(ABORT_PAUSE_S)
        log.warning("multipart_upload_left", key=self._key, upload_id=upload["UploadId"])

    async def _is_aborted(self, upload: Mapping[str, str]) -> bool:
        try:
            with store_faults(self._key):
                async with asyncio.timeout(ABORT_DEADLINE_S):
                    await self._client.abort_multipart_upload(**upload)
        except UploadMissing:  # completed, and only the answer was lost
            return True
        except PipelineError:
            return False
        return True


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
