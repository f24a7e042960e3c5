"""PostgreSQL access: one engine for each service, transactions that carry the tenant, one error for *not there*.

What is stored is the business of the services; the tables that all of them have stand in `migrations.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.errors import RetryableError
from shared.ids import OrganizationId

STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 5_000
CONNECT_TIMEOUT_S = 5.0
# Classes of SQLSTATE that another try may cure: connection, transaction rollback, resources, intervention, system.
_PASSING_CLASSES = ("08", "40", "53", "55", "57", "58")
# The server is still a standby (a failover is under way), or ended a transaction that stood still.
_PASSING_STATES = ("25006", "25P03")


class DatabaseUnavailable(RetryableError):
    """PostgreSQL cannot be reached, is shutting down, or asks for the transaction to be run again."""

    code: ClassVar[str] = "database_unavailable"


def _is_passing(error: DBAPIError) -> bool:
    """Whether the fault is the server's or the connection's, and not the statement's. Never judged by words."""
    cause = error.orig.__cause__ if error.orig else None
    state = getattr(cause, "sqlstate", None) or ""
    if state:
        return state[:2] in _PASSING_CLASSES or state in _PASSING_STATES
    lost = isinstance(cause, asyncpg.InterfaceError | OSError) and not isinstance(cause, ValueError)
    return lost or error.connection_invalidated


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise DatabaseUnavailable for faults that pass; all others (a broken constraint, say) stay as they are."""
    try:
        yield
    except DBAPIError as error:
        if _is_passing(error):
            raise DatabaseUnavailable(f"PostgreSQL: {error.orig}") from error
        raise
    except PoolTimeout as error:
        raise DatabaseUnavailable("PostgreSQL: no connection of the pool became free") from error
    except (asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable(f"PostgreSQL: {error}") from error


@contextmanager
def _connecting() -> Iterator[None]:
    """While a connection is opened, and only then, an error of the network is PostgreSQL's; so is a refusal."""
    try:
        yield
    except (OSError, TimeoutError, DBAPIError, asyncpg.PostgresError) as error:
        raise DatabaseUnavailable(f"PostgreSQL: {type(error).__name__}: {error}") from error


def _require_open(connection: Any, _record: object, _proxy: object) -> None:
    """Let the pool replace a connection that the server has closed, as it does when it stops.

    asyncpg knows that by itself. The pool's own ping would ask the server in three round trips for each transaction,
    and see no more than that: a server that vanished without a word is found out by the first statement either way.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def asyncpg_url(url: str) -> str:
    """The address as SQLAlchemy's asyncpg dialect wants it; `sslmode`, as libpq calls it, is `ssl` there."""
    scheme, rest = url.split("://", 1)
    if scheme not in ("postgresql", "postgres", "postgresql+asyncpg"):
        raise ValueError(f"not a PostgreSQL address: {scheme}://…")
    address, _, query = rest.partition("?")
    options = [("ssl" if name == "sslmode" else name, value) for name, value in parse_qsl(query)]
    return f"postgresql+asyncpg://{address}" + (f"?{urlencode(options)}" if options else "")


class Database:
    """The engine of one service. Its tables are found through the search path, which names its one schema."""

    def __init__(
        self,
        url: str,
        *,
        schema: str,
        pool_size: int = 5,
        max_overflow: int = 0,
        read_only: bool = False,
    ) -> None:
        """With `read_only` PostgreSQL refuses every write."""
        self.url = url
        self.schema = schema
        self.engine: AsyncEngine = create_async_engine(
            asyncpg_url(url),
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_timeout=10,
            hide_parameters=True,
            connect_args={
                "timeout": CONNECT_TIMEOUT_S,
                "server_settings": {
                    "search_path": schema,
                    "application_name": f"tldr-{schema}",
                    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                    "lock_timeout": str(LOCK_TIMEOUT_MS),
                    "idle_in_transaction_session_timeout": "60000",
                    "timezone": "UTC",
                    **({"default_transaction_read_only": "on"} if read_only else {}),
                },
            },
        )
        event.listen(self.engine.sync_engine, "checkout", _require_open)
        self._autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._sessions = async_sessionmaker(self.engine, class_=AsyncSession, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self, organization_id: OrganizationId | None = None) -> AsyncIterator[AsyncSession]:
        """One transaction, committed at the end of the block.

        With an organization, row-level security shows and takes only that tenant's rows; without one it shows
        none of them. Raises DatabaseUnavailable, also at commit; what else the block raises stays as it is.
        """
        with translated_errors():
            async with self._sessions() as session, session.begin():
                with _connecting():
                    await session.connection()
                if organization_id is not None:
                    await set_tenant(session, organization_id)
                yield session

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        """A connection of no tenant on which each statement stands alone: without BEGIN and COMMIT around it.

        Two round trips less, for the one statement that every request needs. Raises DatabaseUnavailable.
        """
        with translated_errors():
            async with AsyncExitStack() as stack:
                with _connecting():
                    connection = await stack.enter_async_context(self._autocommit.connect())
                yield connection

    async def ping(self) -> None:
        async with self.transaction() as session:
            await session.connection()

    async def wait_until_available(self, *, pause_s: float = 0.5) -> None:
        """Return when a transaction succeeds; the only end of this wait is success or cancellation."""
        while True:
            try:
                await self.ping()
            except DatabaseUnavailable:
                await asyncio.sleep(pause_s)
            else:
                return

    async def close(self) -> None:
        await self.engine.dispose()


async def set_tenant(session: AsyncSession, organization_id: OrganizationId) -> None:
    """Bind the rest of the transaction to one tenant; the setting ends with the transaction."""
    connection = await session.connection()
    await connection.execute(
        text("SELECT set_config('app.organization_id', :organization_id, true)"),
        {"organization_id": organization_id},
    )
