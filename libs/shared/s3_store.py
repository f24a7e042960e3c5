"""The object store in S3, or in a server that speaks its language; each call is tried once (`patient_store` repeats).

A call whose answer was lost is simply repeated: writes replace, or (`put_once`) find their own bytes. Each body goes
with its MD5, which the server checks, and its SHA-256 stays with the object as metadata, which every reader checks.
Only the composition imports this, and only where S3 is configured: the SDK takes its time to load.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import structlog
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session

from shared.cancellation import in_thread
from shared.object_places import Buckets, Place
from shared.object_store import (
    ObjectMissing,
    Stored,
    StoreUnavailable,
    check_folder,
    check_key,
    check_prefix,
    content_type_of,
    replacing,
    require_same,
    stored_as,
)
from shared.s3_faults import KeyTaken, RangeBeyondEnd, Unsupported, fault_of_batch, store_faults
from shared.s3_upload import (
    MULTIPART_BYTES,
    SHA256,
    StoredOtherwise,
    Upload,
    call_deadline,
    check_etag,
    digests_of,
)

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 3.0
# The longest silence between two bytes; a live stream's spool waits for this three times before it takes over.
READ_TIMEOUT_S = 10.0
CONNECTIONS = 32
CHUNK_BYTES = 1 << 20
# What signature version 4 allows.
LONGEST_LINK_S = 7 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Access:
    """How S3 is reached. Without an access key the SDK looks for credentials itself: environment, profile, role.

    `public_endpoint_url` is the host that signed URLs name; it must hand on path, query and `Host` as they come.
    """

    region: str
    endpoint_url: str | None = None
    public_endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    read_timeout_s: float = READ_TIMEOUT_S


@asynccontextmanager
async def open_s3(access: S3Access, buckets: Buckets) -> AsyncIterator["S3ObjectStore"]:
    """The store, with its connections, which are closed at the end; nothing is connected before the first call."""
    session = get_session()
    session.register("before-sign.s3.DeleteObjects", _add_md5)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_client(session, access, access.endpoint_url))
        signer = client
        if access.public_endpoint_url:
            signer = await stack.enter_async_context(_client(session, access, access.public_endpoint_url))
        yield S3ObjectStore(client, signer=signer, buckets=buckets)


def _client(session: AioSession, access: S3Access, endpoint_url: str | None) -> Any:
    return session.create_client(
        "s3",
        region_name=access.region,
        endpoint_url=endpoint_url,
        aws_access_key_id=access.access_key_id,
        aws_secret_access_key=access.secret_access_key,
        config=_configuration(read_timeout_s=access.read_timeout_s, is_path_style=endpoint_url is not None),
    )


def _add_md5(request: Any, **_event: object) -> None:
    """The SDK sends the newer checksums alone, and older servers refuse what has no MD5."""
    request.headers["Content-MD5"] = digests_of(request.body).md5_base64


def _configuration(*, read_timeout_s: float, is_path_style: bool) -> AioConfig:
    """The SDK's own checksums and body signatures are left out: other servers refuse some, and all block the loop.

    Addressed otherwise than by path, URLs must name the region's host, which only the style `virtual` makes sure of:
    the global host redirects, and a signature does not survive that.
    """
    return AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": "path" if is_path_style else "virtual", "payload_signing_enabled": False},
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    """An object on its way; `sha256` is empty when another program wrote it."""

    body: Any
    sha256: str


class S3ObjectStore:
    """An ObjectStore in S3: one bucket, or several (`shared.object_places`)."""

    def __init__(self, client: Any, *, signer: Any, buckets: Buckets) -> None:
        """Two clients of the SDK: one that calls, one that only signs, for the host that customers reach."""
        self._client = client
        self._signer = signer
        self._buckets = buckets
        self._knows_conditions = True

    async def put(self, key: str, body: bytes, *, content_type: str | None = None) -> Stored:
        return await self._put(key, body, content_type)

    async def put_once(
        self, key: str, body: bytes, *, content_type: str | None = None, sha256: str | None = None
    ) -> Stored:
        """Where the server knows no conditions, two writers at the same instant may both win; log and ADR 0018."""
        if not self._knows_conditions:
            return await self._put_where_none_is(key, body, content_type)
        try:
            return await self._put(key, body, content_type, IfNoneMatch="*")
        except StoredOtherwise:  # what we have just made is ours to put right
            return await self._put(key, body, content_type)
        except KeyTaken:
            return require_same(await asyncio.to_thread(stored_as, key, body), await self.head(key))
        except Unsupported:
            log.warning("object_store_knows_no_conditional_writes")
            self._knows_conditions = False
            return await self._put_where_none_is(key, body, content_type)

    async def _put_where_none_is(self, key: str, body: bytes, content_type: str | None) -> Stored:
        found = await self.head(key)
        if found is None:
            return await self._put(key, body, content_type)
        return require_same(await asyncio.to_thread(stored_as, key, body), found)

    async def _put(self, key: str, body: bytes, content_type: str | None, **condition: str) -> Stored:
        digests = await asyncio.to_thread(digests_of, body)
        with store_faults(key):
            async with call_deadline(len(body)):
                answer = await self._client.put_object(
                    **self._at(key),
                    Body=body,
                    ContentMD5=digests.md5_base64,
                    ContentType=content_type or content_type_of(key),
                    Metadata={SHA256: digests.sha256},
                    **condition,
                )
        check_etag(answer, digests, subject=key)
        return Stored(key=key, size_bytes=len(body), sha256=digests.sha256)

    async def put_file(self, key: str, path: Path, *, content_type: str | None = None) -> Stored:
        place = self._at(key)
        with store_faults(key):
            size_bytes = (await asyncio.to_thread(path.stat)).st_size
            if size_bytes > MULTIPART_BYTES:
                upload = Upload(self._client, place, key=key, path=path, size_bytes=size_bytes)
                return await upload.send(content_type or content_type_of(key))
            body = await asyncio.to_thread(path.read_bytes)
        return await self.put(key, body, content_type=content_type)

    async def get(self, key: str) -> bytes:
        async with self._opened(key) as answer:
            body: bytes = await answer.body.read()
        _check_content(key, await asyncio.to_thread(_sha256, body), answer)
        return body

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        if not 0 <= start <= end:
            raise ValueError(f"{start}..{end} is not a range")
        if start == end:
            return await self._nothing_of(key)
        try:
            async with self._opened(key, Range=f"bytes={start}-{end - 1}") as answer:
                body: bytes = await answer.body.read()
        except RangeBeyondEnd:
            return b""
        return body

    async def get_file(self, key: str, path: Path) -> Stored:
        async with self._opened(key) as answer, _written(path) as target:
            digest, size_bytes = hashlib.sha256(), 0
            while chunk := await answer.body.read(CHUNK_BYTES):
                await in_thread(_append, target, digest, chunk)
                size_bytes += len(chunk)
            _check_content(key, digest.hexdigest(), answer)
        return Stored(key=key, size_bytes=size_bytes, sha256=digest.hexdigest())

    async def head(self, key: str) -> Stored | None:
        place = self._at(key)
        try:
            with store_faults(key):
                async with call_deadline(0):
                    answer = await self._client.head_object(**place)
            sha256 = answer["Metadata"].get(SHA256) or await self._hash(key)
        except ObjectMissing:
            return None
        return Stored(key=key, size_bytes=answer["ContentLength"], sha256=sha256)

    async def list(self, prefix: str) -> AsyncIterator[str]:
        places = self._buckets.places(check_prefix(prefix))
        async for key in _merged([self._keys(place) for place in places]):
            yield key

    async def delete(self, key: str) -> None:
        with store_faults(key):
            async with call_deadline(0):
                await self._client.delete_object(**self._at(key))

    async def delete_prefix(self, prefix: str) -> int:
        deleted = 0
        for place in self._buckets.places(check_folder(prefix)):
            async for names in self._pages(place):
                await self._delete_all(place.bucket, names)
                deleted += len(names)
        return deleted

    async def signed_url(self, key: str, *, expires_s: int) -> str:
        lifetime_s = min(expires_s, LONGEST_LINK_S)
        with store_faults(key):
            url: str = await self._signer.generate_presigned_url(
                "get_object", Params=self._at(key), ExpiresIn=lifetime_s
            )
        return url

    def _at(self, key: str) -> dict[str, str]:
        place = self._buckets.place(check_key(key))
        return {"Bucket": place.bucket, "Key": place.name}

    @asynccontextmanager
    async def _opened(self, key: str, **request: str) -> AsyncIterator[_Answer]:
        place = self._at(key)
        with store_faults(key):
            async with call_deadline(0) as deadline:
                answer = await self._client.get_object(**place, **request)
                deadline.extend(answer["ContentLength"])
                async with answer["Body"] as body:
                    yield _Answer(body, answer["Metadata"].get(SHA256, ""))

    async def _nothing_of(self, key: str) -> bytes:
        """An empty range of an object, which must be there all the same."""
        if await self.head(key) is None:
            raise ObjectMissing(f"no object {key}")
        return b""

    async def _hash(self, key: str) -> str:
        """The hash of an object that another program wrote."""
        digest = hashlib.sha256()
        async with self._opened(key) as answer:
            while chunk := await answer.body.read(CHUNK_BYTES):
                await asyncio.to_thread(digest.update, chunk)
        return digest.hexdigest()

    async def _keys(self, place: Place) -> AsyncIterator[str]:
        async for names in self._pages(place):
            for name in names:
                key = self._buckets.key_in(Place(place.bucket, name))
                if key is not None and not key.endswith("/"):  # the mark of a folder, made by a console
                    yield key

    async def _pages(self, place: Place) -> AsyncIterator[tuple[str, ...]]:
        """Names in ascending order, up to a thousand at a time."""
        more: dict[str, str] = {}
        while True:
            with store_faults(place.name):
                async with call_deadline(0):
                    page = await self._client.list_objects_v2(Bucket=place.bucket, Prefix=place.name, **more)
            if names := tuple(each["Key"] for each in page.get("Contents", ())):
                yield names
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def _delete_all(self, bucket: str, names: tuple[str, ...]) -> None:
        request = {"Objects": [{"Key": name} for name in names], "Quiet": True}
        with store_faults(names[0]):
            async with call_deadline(0):
                answer = await self._client.delete_objects(Bucket=bucket, Delete=request)
        if failures := answer.get("Errors"):
            raise fault_of_batch(failures, names[0])


@asynccontextmanager
async def _written(path: Path) -> AsyncIterator[IO[bytes]]:
    """As `replacing`, with everything that touches the disk in threads; a cancelled caller leaves nothing behind."""
    file = replacing(path)
    try:
        yield await in_thread(file.__enter__)
    except BaseException as error:
        await in_thread(file.__exit__, type(error), error, error.__traceback__)
        raise
    await in_thread(file.__exit__, None, None, None)


def _append(target: IO[bytes], digest: "hashlib._Hash", chunk: bytes) -> None:
    target.write(chunk)
    digest.update(chunk)


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _check_content(key: str, sha256: str, answer: _Answer) -> None:
    if answer.sha256 and answer.sha256 != sha256:
        raise StoreUnavailable(f"object {key} did not arrive as it was stored")


async def _merged(listings: list[AsyncIterator[str]]) -> AsyncIterator[str]:
    """Several ascending listings as one."""
    waiting = [(key, listing) for listing in listings if (key := await anext(listing, None)) is not None]
    while waiting:
        at = min(range(len(waiting)), key=lambda n: waiting[n][0])
        key, listing = waiting[at]
        yield key
        following = await anext(listing, None)
        if following is None:
            del waiting[at]
        else:
            waiting[at] = (following, listing)
