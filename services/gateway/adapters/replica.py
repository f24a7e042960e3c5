"""Reads from a replica of the database, for a limited time; its faults are not the caller's."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import ProgrammingError

from gateway.workflow.reads import FoundT, Reader, ReplicaUnavailable
from shared.database import DatabaseUnavailable
from shared.ids import OrganizationId

TablesT = TypeVar("TablesT")


class ReplicaReader(Generic[TablesT]):
    """Raises ReplicaUnavailable after `patience_s`, and where a table or a right has not reached the replica yet."""

    def __init__(self, read: Reader[TablesT], *, patience_s: float) -> None:
        self._read = read
        self._patience_s = patience_s
        self._attempts: set[asyncio.Task[Any]] = set()

    async def __call__(
        self, organization_id: OrganizationId, look: Callable[[TablesT], Awaitable[FoundT]]
    ) -> FoundT:
        attempt = asyncio.create_task(self._answer(organization_id, look))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._forget)
        # Not under `asyncio.timeout`: to undo a transaction takes an answer too, so a late one ends by itself.
        try:
            await asyncio.wait({attempt}, timeout=self._patience_s)
            if attempt.done():
                return attempt.result()
        finally:
            attempt.cancel()
        raise ReplicaUnavailable(f"no answer within {self._patience_s:g} s")

    async def _answer(
        self, organization_id: OrganizationId, look: Callable[[TablesT], Awaitable[FoundT]]
    ) -> FoundT:
        try:
            return await self._read(organization_id, look)
        except DatabaseUnavailable as error:
            raise ReplicaUnavailable(str(error)) from error
        except ProgrammingError as error:
            raise ReplicaUnavailable(f"{error.orig}") from error

    def _forget(self, attempt: "asyncio.Task[Any]") -> None:
        self._attempts.discard(attempt)
        if not attempt.cancelled():
            attempt.exception()
