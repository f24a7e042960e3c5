"""Object stores for tests: a folder with a clock that stands still, and S3 on the server of the session."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from localcluster.s3 import REGION, S3Server
from shared.object_places import Buckets
from shared.object_store import FolderObjectStore, ObjectStore, Stored
from shared.s3_store import READ_TIMEOUT_S, S3Access, S3ObjectStore, open_s3

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def folder_store(root: Path) -> FolderObjectStore:
    return FolderObjectStore(
        root, public_base_url="http://gateway", signing_secret="secret", clock=lambda: NOW
    )


@asynccontextmanager
async def s3_store(
    server: S3Server,
    *,
    endpoint_url: str | None = None,
    public_endpoint_url: str | None = None,
    prefix: str = "",
    dedicated: Mapping[str, str] = MappingProxyType({}),
    bucket: str | None = None,
    read_timeout_s: float = READ_TIMEOUT_S,
) -> AsyncIterator[S3ObjectStore]:
    """A store in a new bucket (or the one named). `endpoint_url` leads to the server by another way."""
    access = S3Access(
        region=REGION,
        endpoint_url=endpoint_url or server.url,
        public_endpoint_url=public_endpoint_url,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        read_timeout_s=read_timeout_s,
    )
    shared = bucket or new_bucket(server)
    async with open_s3(access, Buckets(shared=shared, prefix=prefix, dedicated=dedicated)) as store:
        yield store


def in_bucket(store: S3ObjectStore, bucket: str) -> S3ObjectStore:
    """The same connections, for another bucket: opening a client takes longer than most tests."""
    return S3ObjectStore(store._client, signer=store._signer, buckets=Buckets(shared=bucket))


def new_bucket(server: S3Server) -> str:
    return server.add_bucket(f"bucket-{secrets.token_hex(6)}")


def stored(key: str, body: bytes) -> Stored:
    return Stored(key=key, size_bytes=len(body), sha256=hashlib.sha256(body).hexdigest())


async def keys(store: ObjectStore, prefix: str) -> list[str]:
    return [key async for key in store.list(prefix)]
