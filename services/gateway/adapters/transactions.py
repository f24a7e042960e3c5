"""Transactions of one organization, in the shape that each use case needs; what they emit is relayed at once."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import CursorResult, Executable
from sqlmodel.ext.asyncio.session import AsyncSession

from gateway.workflow.reads import FoundT, Reader
from shared.database import Database
from shared.events import Event
from shared.ids import OrganizationId
from shared.outbox import Outbox


class Tables:
    """What all statements of one transaction share: connection, organization, outbox."""

    def __init__(self, session: AsyncSession, outbox: Outbox, organization_id: OrganizationId) -> None:
        self._session = session
        self._outbox = outbox
        self._organization_id = organization_id

    async def emit(self, *events: Event) -> None:
        await self._outbox.emit(self._session, events)

    async def _execute(self, statement: Executable) -> CursorResult[Any]:
        connection = await self._session.connection()
        return await connection.execute(statement)


TablesT = TypeVar("TablesT", bound=Tables)


def opener(
    bind: Callable[[AsyncSession, Outbox, OrganizationId], TablesT], *, database: Database, outbox: Outbox
) -> Callable[[OrganizationId], AbstractAsyncContextManager[TablesT]]:
    """A function that opens a transaction of an organization and binds tables to it."""

    @asynccontextmanager
    async def open_tables(organization_id: OrganizationId) -> AsyncIterator[TablesT]:
        async with database.transaction(organization_id) as session:
            yield bind(session, outbox, organization_id)
        outbox.wake.set()

    return open_tables


def reader(
    bind: Callable[[AsyncSession, Outbox, OrganizationId], TablesT], *, database: Database, outbox: Outbox
) -> Reader[TablesT]:
    """As `opener`, for what only reads: afterwards there is nothing to relay."""

    async def read(organization_id: OrganizationId, look: Callable[[TablesT], Awaitable[FoundT]]) -> FoundT:
        async with database.transaction(organization_id) as session:
            return await look(bind(session, outbox, organization_id))

    return read
