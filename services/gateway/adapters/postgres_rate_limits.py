"""Counts of the rate limits in PostgreSQL: one call for a request, under row locks and the database's clock."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from gateway.domain.rate_limit import Budget, Count, Taken
from gateway.workflow.rate_limits import LimiterUnavailable
from shared.database import Database, DatabaseUnavailable

PRUNED_AT_ONCE = 10_000


class PostgresRateLimits:
    name = "postgresql"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, budgets: Sequence[Budget]) -> Taken:
        wanted = {
            "subjects": [budget.name for budget in budgets],
            "limits": [budget.limit for budget in budgets],
            "windows_ms": [budget.window_s * 1000 for budget in budgets],
        }
        with _unavailable():
            async with self._database.autocommit() as connection:
                row = (await connection.execute(_TAKE, wanted)).one()
        counts = zip(row.previous, row.current, row.elapsed_ms, strict=True)
        return Taken(row.allowed, tuple(Count(*count) for count in counts), row.now_ms)

    async def prune(self) -> bool:
        """Forget who made no request for two windows, and what a wrong clock wrote; True when more may be left."""
        with _unavailable():
            async with self._database.autocommit() as connection:
                return (
                    await connection.execute(_PRUNE, {"at_most": PRUNED_AT_ONCE})
                ).rowcount >= PRUNED_AT_ONCE

    async def aclose(self) -> None:
        """The connections belong to the service's pool."""


@contextmanager
def _unavailable() -> Iterator[None]:
    """Whatever is wrong with the counts is no reason to refuse a request."""
    try:
        yield
    except (DatabaseUnavailable, SQLAlchemyError) as error:
        raise LimiterUnavailable(f"{type(error).__name__}: {error}") from error


_TAKE = text("SELECT * FROM take_rate_limits(:subjects, :limits, :windows_ms)")
# Rows that a request holds are left for the next turn: pruning waits for nobody and so never deadlocks.
# A window that begins in the far future was begun by a clock that was wrong; its subject would be refused till then.
_PRUNE = text(
    "DELETE FROM rate_limits WHERE subject IN (SELECT subject FROM rate_limits "
    "WHERE floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint "
    "NOT BETWEEN started_ms - window_ms AND started_ms + 2 * window_ms "
    "LIMIT :at_most FOR UPDATE SKIP LOCKED)"
)
