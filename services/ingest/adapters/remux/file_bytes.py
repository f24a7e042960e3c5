"""The bytes of a file that lies elsewhere, read from any place in it: by ranges over HTTP, in one go where a server
knows no ranges, or from the parts of an upload. Nothing is kept but a few blocks.

Every failure is a `FetchFailed`. What the bytes mean is not known here.
"""

import asyncio
import hashlib
import json
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Protocol

from ingest.domain.actions import FailureKind, FetchFailure
from ingest.workflow.ports import FetchFailed
from shared import keys
from shared.errors import PermanentError, PipelineError
from shared.http_client import HttpTimeout, Limits, Response, Streamed, TooLarge
from shared.ids import OrganizationId
from shared.object_store import ObjectMissing, ObjectStore, StoreUnavailable

BLOCK_BYTES: Final = 1024 * 1024
KEPT_BLOCKS: Final = 6
AHEAD_BLOCKS: Final = 2
TRIES: Final = 4
FIRST_PAUSE_S: Final = 0.25
BLOCK_LIMITS: Final = Limits(max_bytes=BLOCK_BYTES, total_s=20.0, first_byte_s=8.0)
# A reader that is held back by the analysis may take the whole day over one answer.
STREAM_LIMITS: Final = Limits(max_bytes=2**40, total_s=86_400.0, first_byte_s=15.0, min_bytes_per_s=0)
PART_READ_BYTES: Final = 4 * 1024 * 1024
_TRANSIENT: Final = frozenset({408, 425, 429})
_STATUSES: Final = {
    401: "it demands a login (HTTP 401)",
    403: "it denies access (HTTP 403)",
    404: "the file is not there (HTTP 404)",
    410: "the file is gone (HTTP 410)",
    416: "it is empty",
}
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


class FileHttp(Protocol):
    """The part of `SafeHttpClient` that reads files; errors as there."""

    async def get(
        self,
        url: str,
        *,
        limits: Limits,
        headers: Mapping[str, str] | None = None,
        byte_range: tuple[int, int] | None = None,
    ) -> Response: ...

    def stream(
        self, url: str, *, limits: Limits, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Streamed]: ...


class FileBytes(Protocol):
    """An opened file. `size_bytes` is None where nobody says; without `is_seekable` it is read from its start."""

    @property
    def size_bytes(self) -> int | None: ...

    @property
    def is_seekable(self) -> bool: ...

    def read(self, offset: int) -> AsyncGenerator[bytes, None]:
        """From `offset` to the end. Raises FetchFailed."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class _Version:
    """What tells that it is still the same file; edges of a CDN may differ in one of the two marks."""

    size_bytes: int
    etag: str | None
    modified: str | None

    def is_same(self, other: "_Version") -> bool:
        if self.size_bytes != other.size_bytes:
            return False
        return self.etag == other.etag or (self.modified is not None and self.modified == other.modified)


async def open_http_file(http: FileHttp, url: str, *, headers: Mapping[str, str]) -> FileBytes:
    """The file at `url`, by ranges where its server knows them. Raises FetchFailed."""
    try:
        first = await _get_block(http, url, headers, index=0)
    except TooLarge:
        return StreamedFile(http, url, headers=headers)
    if first.status == 206:
        return RangedFile(http, url, headers=headers, first=first)
    return WholeFile(first.body)


class RangedFile:
    """Blocks of one mebibyte: the next ones are fetched while one is read, the last ones are remembered."""

    is_seekable = True

    def __init__(self, http: FileHttp, url: str, *, headers: Mapping[str, str], first: Response) -> None:
        self._http = http
        self._url = url
        self._headers = headers
        self._version = _version(first)
        self._blocks: OrderedDict[int, asyncio.Task[bytes]] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        return self._version.size_bytes

    async def read(self, offset: int) -> AsyncGenerator[bytes, None]:
        while offset < self.size_bytes:
            index, skipped = divmod(offset, BLOCK_BYTES)
            block = await self._block(index)
            yield block[skipped:]
            offset = (index + 1) * BLOCK_BYTES

    async def close(self) -> None:
        tasks = tuple(self._blocks.values())
        self._blocks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _block(self, index: int) -> bytes:
        for each in range(index, index + AHEAD_BLOCKS):
            if each * BLOCK_BYTES < self.size_bytes:
                self._begin(each)
        try:
            return await asyncio.shield(self._blocks[index])
        except FetchFailed:
            self._blocks.pop(index, None)
            raise

    def _begin(self, index: int) -> None:
        if index in self._blocks:
            self._blocks.move_to_end(index)
            return
        task = asyncio.create_task(self._fetch(index))
        task.add_done_callback(_retrieved)
        self._blocks[index] = task
        if len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)[1].cancel()

    async def _fetch(self, index: int) -> bytes:
        try:
            answer = await _get_block(self._http, self._url, self._headers, index=index)
        except TooLarge as error:
            raise _changed() from error
        if answer.status != 206 or not _version(answer).is_same(self._version):
            raise _changed()
        if not _begins_at(answer, index * BLOCK_BYTES):
            raise _failed(FailureKind.CORRUPT, "its server answers with another range than was asked for")
        expected = min(BLOCK_BYTES, self.size_bytes - index * BLOCK_BYTES)
        if len(answer.body) != expected:
            raise _failed(FailureKind.CORRUPT, f"{len(answer.body)} bytes of {expected}")
        return answer.body


class WholeFile:
    """A file that came whole with the first answer."""

    is_seekable = True

    def __init__(self, body: bytes) -> None:
        self._body = body

    @property
    def size_bytes(self) -> int:
        return len(self._body)

    async def read(self, offset: int) -> AsyncGenerator[bytes, None]:
        for start in range(offset, len(self._body), BLOCK_BYTES):
            yield self._body[start : start + BLOCK_BYTES]

    async def close(self) -> None:
        """Nothing is held."""


class StreamedFile:
    """A file whose server knows no ranges; each reading begins at its start."""

    is_seekable = False
    size_bytes = None

    def __init__(self, http: FileHttp, url: str, *, headers: Mapping[str, str]) -> None:
        self._http = http
        self._url = url
        self._headers = headers

    async def read(self, offset: int) -> AsyncGenerator[bytes, None]:
        try:
            async with self._http.stream(self._url, limits=STREAM_LIMITS, headers=self._headers) as answer:
                _check_status(answer.status)
                async for chunk in answer.chunks:
                    yield chunk[offset:]
                    offset = max(0, offset - len(chunk))
        except PipelineError as error:
            raise _as_failed(error) from error

    async def close(self) -> None:
        """A reading ends with its reader."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Bytes of an upload that lie in one object."""

    key: str
    size_bytes: int
    sha256: str


class UploadedFile:
    """The parts of an upload, as its manifest lists them; what is read from its beginning is compared with its hash."""

    is_seekable = True

    def __init__(self, store: ObjectStore, parts: tuple[_Part, ...]) -> None:
        self._store = store
        self._parts = parts
        self._ends = tuple(accumulate(part.size_bytes for part in parts))

    @property
    def size_bytes(self) -> int:
        return self._ends[-1] if self._ends else 0

    async def read(self, offset: int) -> AsyncGenerator[bytes, None]:
        first = bisect_right(self._ends, offset)
        skipped = offset - (self._ends[first - 1] if first else 0)
        for part in self._parts[first:]:
            async with aclosing(self._read_part(part, skipped)) as chunks:
                async for chunk in chunks:
                    yield chunk
            skipped = 0

    async def close(self) -> None:
        """Nothing is held."""

    async def _read_part(self, part: _Part, skipped: int) -> AsyncGenerator[bytes, None]:
        """The last chunk comes only where the whole part is what was uploaded."""
        digest, is_whole, start = hashlib.sha256(), skipped == 0, skipped
        while start < part.size_bytes:
            chunk = await _stored(self._store, part.key, start, min(start + PART_READ_BYTES, part.size_bytes))
            if not chunk:
                raise _failed(FailureKind.REFUSED, "a part of the upload is incomplete")
            start += len(chunk)
            await asyncio.to_thread(digest.update, chunk)
            if is_whole and start == part.size_bytes and digest.hexdigest() != part.sha256:
                raise _failed(FailureKind.REFUSED, "a part of the upload is not what was uploaded")
            yield chunk


async def open_upload(store: ObjectStore, *, organization_id: OrganizationId, upload_id: str) -> UploadedFile:
    """The uploaded file. Raises FetchFailed."""
    text = await _stored(store, keys.upload_manifest(organization_id, upload_id), 0, PART_READ_BYTES)
    try:
        listed = [
            (int(part["offset"]), int(part["size_bytes"]), str(part["sha256"]))
            for part in json.loads(text)["parts"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise _failed(FailureKind.REFUSED, "the list of the upload's parts cannot be read") from error
    listed.sort()
    ends = tuple(accumulate(size for _, size, _ in listed))
    if any(size <= 0 for _, size, _ in listed) or [0, *ends[:-1]] != [offset for offset, _, _ in listed]:
        raise _failed(FailureKind.REFUSED, "the upload has a hole")
    parts = tuple(
        _Part(
            key=keys.upload_part(organization_id, upload_id, offset=offset, sha256=sha256),
            size_bytes=size,
            sha256=sha256,
        )
        for offset, size, sha256 in listed
    )
    return UploadedFile(store, parts)


async def _stored(store: ObjectStore, key: str, start: int, end: int) -> bytes:
    try:
        return await store.get_range(key, start, end)
    except ObjectMissing as error:
        raise _failed(FailureKind.REFUSED, "the upload is not there, or no longer") from error
    except StoreUnavailable as error:
        raise _failed(FailureKind.NETWORK, str(error)) from error


async def _get_block(http: FileHttp, url: str, headers: Mapping[str, str], *, index: int) -> Response:
    """Raises FetchFailed, and TooLarge where the server sends more than was asked for."""
    wanted = (index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES - 1)
    for left in reversed(range(TRIES)):
        try:
            return await _get_once(http, url, headers, wanted=wanted)
        except FetchFailed as failed:
            if not left or not _is_transient(failed.failure):
                raise
        await asyncio.sleep(FIRST_PAUSE_S * 2.0 ** (TRIES - 1 - left))
    raise AssertionError("the last try returns or raises")


async def _get_once(
    http: FileHttp, url: str, headers: Mapping[str, str], *, wanted: tuple[int, int]
) -> Response:
    try:
        answer = await http.get(url, limits=BLOCK_LIMITS, headers=headers, byte_range=wanted)
    except TooLarge:
        raise
    except PipelineError as error:
        raise _as_failed(error) from error
    _check_status(answer.status)
    return answer


def _check_status(status: int) -> None:
    """Raises FetchFailed: for good, where asking again would not help."""
    if status in (200, 206):
        return
    if status >= 500 or status in _TRANSIENT:
        raise FetchFailed(FetchFailure(kind=FailureKind.STATUS, status=status))
    raise _failed(FailureKind.REFUSED, _STATUSES.get(status, f"its server answers with HTTP {status}"))


async def read_head(file: FileBytes, size_bytes: int) -> bytes:
    """The first bytes, fewer where there are fewer. Raises FetchFailed."""
    head = b""
    async with aclosing(file.read(0)) as chunks:
        async for chunk in chunks:
            head += chunk
            if len(head) >= size_bytes:
                break
    return head[:size_bytes]


def _is_transient(failure: FetchFailure) -> bool:
    if failure.kind is FailureKind.STATUS:
        return failure.status >= 500 or failure.status in _TRANSIENT
    return failure.kind is not FailureKind.REFUSED


def _begins_at(answer: Response, offset: int) -> bool:
    stated = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "").strip())
    return stated is not None and int(stated[1]) == offset


def _version(answer: Response) -> _Version:
    stated = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "").strip())
    if stated is None:
        raise _failed(FailureKind.REFUSED, "its server answers to ranges without saying how long the file is")
    return _Version(
        size_bytes=int(stated[3]),
        etag=answer.headers.get("etag"),
        modified=answer.headers.get("last-modified"),
    )


def _changed() -> FetchFailed:
    return _failed(FailureKind.REFUSED, "the file changed while it was read")


def _as_failed(error: PipelineError) -> FetchFailed:
    if isinstance(error, FetchFailed):
        return error
    if isinstance(error, PermanentError):
        return _failed(FailureKind.REFUSED, str(error))
    kind = FailureKind.TIMEOUT if isinstance(error, HttpTimeout) else FailureKind.NETWORK
    return _failed(kind, str(error))


def _failed(kind: FailureKind, detail: str) -> FetchFailed:
    return FetchFailed(FetchFailure(kind=kind, detail=detail))


def _retrieved(task: "asyncio.Task[bytes]") -> None:
    """A block that was fetched ahead may fail unread; asking for it again tells."""
    with suppress(asyncio.CancelledError):
        task.exception()
