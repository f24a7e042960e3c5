"""An object store that tries again at once, briefly: a hiccup of the network must not cost a retry of the whole job.

This is the one owner of quick retries for object storage; adapters below it try once. What lasts longer than a
few seconds is raised, and becomes a due row in the inbox.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from shared.object_store import ObjectStore, Stored, StoreRefused, StoreUnavailable

ATTEMPTS = 3
LONGEST_WAIT_S = 1.0


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, StoreUnavailable) and not isinstance(error, StoreRefused)


class PatientObjectStore:
    """Wraps a store. Every call but `list` is safe to repeat: keys are deterministic, writes are atomic."""

    def __init__(self, store: ObjectStore, *, first_wait_s: float = 0.1) -> None:
        self._store = store
        self._first_wait_s = first_wait_s

    def _attempts(self, count: int = ATTEMPTS) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(count),
            wait=wait_random_exponential(multiplier=self._first_wait_s, max=LONGEST_WAIT_S),
            reraise=True,
        )

    async def put(self, key: str, body: bytes, *, content_type: str | None = None) -> Stored:
        return await self._attempts()(self._store.put, key, body, content_type=content_type)

    async def put_once(
        self, key: str, body: bytes, *, content_type: str | None = None, sha256: str | None = None
    ) -> Stored:
        put_once = partial(self._store.put_once, key, body, content_type=content_type, sha256=sha256)
        try:
            return await put_once()  # hundreds a second go this way, nearly all of them at once
        except StoreUnavailable as error:
            if not _may_pass(error):
                raise
        await asyncio.sleep(random.uniform(0, self._first_wait_s))  # noqa: S311
        return await self._attempts(ATTEMPTS - 1)(put_once)

    async def put_file(self, key: str, path: Path, *, content_type: str | None = None) -> Stored:
        return await self._attempts()(self._store.put_file, key, path, content_type=content_type)

    async def get(self, key: str) -> bytes:
        return await self._attempts()(self._store.get, key)

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        return await self._attempts()(self._store.get_range, key, start, end)

    async def get_file(self, key: str, path: Path) -> Stored:
        return await self._attempts()(self._store.get_file, key, path)

    async def head(self, key: str) -> Stored | None:
        return await self._attempts()(self._store.head, key)

    def list(self, prefix: str) -> AsyncIterator[str]:
        return self._store.list(prefix)

    async def delete(self, key: str) -> None:
        await self._attempts()(self._store.delete, key)

    async def delete_prefix(self, prefix: str) -> int:
        return await self._attempts()(self._store.delete_prefix, prefix)

    async def signed_url(self, key: str, *, expires_s: int) -> str:
        return await self._store.signed_url(key, expires_s=expires_s)
