"""The inbox: one row for each (event, service), `received → done | retry | parked`; the row is the retry queue.

Pure SQL on a given connection. Who decides between retry and parking is `middleware.py`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

LEASE_S = 20
KEEP_DAYS = 8


@dataclass(frozen=True)
class Delivery:
    """One event as it reached this service, from the broker or from its own inbox row."""

    event_id: UUID
    event_name: str
    day: date
    lane: str
    organization_id: str | None
    stream_id: str | None
    payload: str
    traceparent: str | None


@dataclass(frozen=True)
class Claim:
    """A held row: `fence` must still be the row's own when the result is written."""

    delivery: Delivery
    attempt: int
    fence: int


def _parameters(delivery: Delivery) -> dict[str, Any]:
    return {
        "event_id": delivery.event_id,
        "event_name": delivery.event_name,
        "day": delivery.day,
        "lane": delivery.lane,
        "organization_id": delivery.organization_id,
        "stream_id": delivery.stream_id,
        "payload": delivery.payload,
        "traceparent": delivery.traceparent,
    }


async def record_done(connection: AsyncConnection, delivery: Delivery) -> bool:
    """Note that a *state* handler's effect is part of this transaction. False: it was handled before."""
    row = (await connection.execute(_DONE, _parameters(delivery) | {"payload": None})).first()
    return row is not None


async def claim(connection: AsyncConnection, delivery: Delivery, *, lease_s: float = LEASE_S) -> Claim | None:
    """Take the row of a *work* handler. None: done, parked, not due, or held by somebody else."""
    row = (await connection.execute(_CLAIM, _parameters(delivery) | {"lease_s": lease_s})).first()
    return Claim(delivery, attempt=row.attempt, fence=row.fence) if row else None


async def extend(connection: AsyncConnection, held: Claim, *, lease_s: float = LEASE_S) -> bool:
    result = await connection.execute(
        _EXTEND, _key(held.delivery) | {"fence": held.fence, "lease_s": lease_s}
    )
    return result.rowcount == 1


async def finish(connection: AsyncConnection, held: Claim) -> bool:
    """Close the row under its fence. False: the lease was lost, so nothing of the result may be written."""
    result = await connection.execute(_FINISH, _key(held.delivery) | {"fence": held.fence})
    return result.rowcount == 1


async def release(connection: AsyncConnection, held: Claim) -> None:
    """Give the row back at once, without counting the attempt: the process is about to stop."""
    await connection.execute(_RELEASE, _key(held.delivery) | {"fence": held.fence})


@dataclass(frozen=True)
class Failure:
    """Why a row is not done. `fence` is None where no lease was held."""

    attempt: int
    code: str
    reason: str
    fence: int | None = None

    def parameters(self) -> dict[str, Any]:
        return {"attempt": self.attempt, "code": self.code, "reason": self.reason, "held_fence": self.fence}


async def postpone(
    connection: AsyncConnection, delivery: Delivery, failure: Failure, *, delay_s: float
) -> bool:
    """Make the row due again after the delay. False: it is done, or held by somebody else by now."""
    parameters = _parameters(delivery) | failure.parameters() | {"delay_s": delay_s}
    return (await connection.execute(_POSTPONE, parameters)).first() is not None


async def park(connection: AsyncConnection, delivery: Delivery, failure: Failure) -> bool:
    """Give up on the row, for a person to look at and to drive again. False as in `postpone`."""
    parameters = _parameters(delivery) | failure.parameters()
    return (await connection.execute(_PARK, parameters)).first() is not None


async def attempts_of(connection: AsyncConnection, delivery: Delivery) -> int | None:
    """Attempts that failed so far. None: another delivery of the event has settled this round already."""
    row = (await connection.execute(_ATTEMPTS, _key(delivery))).first()
    if row is None:
        return 0
    return None if row.settled else int(row.attempt)


async def take_due(
    connection: AsyncConnection, *, limit: int, event_names: Collection[str] | None = None
) -> tuple[Delivery, ...]:
    """Rows (of these events, or of all) whose retry is due or whose lease ran out, oldest first."""
    names = None if event_names is None else list(event_names)
    found = await connection.execute(_DUE, {"limit": limit, "event_names": names})
    return tuple(_delivery(row) for row in found)


async def redrive(connection: AsyncConnection, *, event_name: str | None = None) -> int:
    """Make parked rows due again, all or those of one event; attempts count from zero."""
    return (await connection.execute(_REDRIVE, {"event_name": event_name})).rowcount


async def count_parked(connection: AsyncConnection) -> int:
    return int(
        (await connection.execute(text("SELECT count(*) FROM inbox WHERE state = 'parked'"))).scalar_one()
    )


def _key(delivery: Delivery) -> dict[str, Any]:
    return {"event_id": delivery.event_id, "event_name": delivery.event_name, "day": delivery.day}


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        event_id=row.event_id,
        event_name=row.event_name,
        day=row.day,
        lane=row.lane,
        organization_id=row.organization_id,
        stream_id=row.stream_id,
        payload=row.payload,
        traceparent=row.traceparent,
    )


_COLUMNS = "event_id, event_name, day, lane, organization_id, stream_id, payload, traceparent"
_VALUES = ":event_id, :event_name, :day, :lane, :organization_id, :stream_id, :payload, :traceparent"
_ROW = "event_id = :event_id AND event_name = :event_name AND day = :day"

# A retry row that a sweeper hands in is closed by the same statement that guards against a second delivery.
_DONE = text(
    f"""
    INSERT INTO inbox AS row ({_COLUMNS}, state, finished_at) VALUES ({_VALUES}, 'done', now())
    ON CONFLICT (event_name, event_id, day) DO UPDATE
    SET state = 'done', payload = NULL, finished_at = now(), due_at = NULL, lease_until = NULL
    WHERE (row.state = 'retry' AND row.due_at <= now())
       OR (row.state = 'received' AND row.lease_until < now())
    RETURNING row.event_id
    """  # noqa: S608
)
_CLAIM = text(
    f"""
    INSERT INTO inbox AS row ({_COLUMNS}, state, attempt, fence, lease_until)
    VALUES ({_VALUES}, 'received', 1, 1, now() + make_interval(secs => :lease_s))
    ON CONFLICT (event_name, event_id, day) DO UPDATE
    SET state = 'received', attempt = row.attempt + 1, fence = row.fence + 1, due_at = NULL,
        lease_until = now() + make_interval(secs => :lease_s)
    WHERE (row.state = 'retry' AND row.due_at <= now())
       OR (row.state = 'received' AND row.lease_until < now())
    RETURNING row.attempt, row.fence
    """  # noqa: S608
)
_EXTEND = text(
    f"""
    UPDATE inbox SET lease_until = now() + make_interval(secs => :lease_s)
    WHERE {_ROW} AND state = 'received' AND fence = :fence
    """  # noqa: S608
)
_FINISH = text(
    f"""
    UPDATE inbox SET state = 'done', payload = NULL, finished_at = now(), lease_until = NULL
    WHERE {_ROW} AND state = 'received' AND fence = :fence
    """  # noqa: S608
)
_RELEASE = text(
    f"""
    UPDATE inbox SET lease_until = now(), attempt = attempt - 1
    WHERE {_ROW} AND state = 'received' AND fence = :fence
    """  # noqa: S608
)
_POSTPONE = text(
    f"""
    INSERT INTO inbox AS row ({_COLUMNS}, state, attempt, due_at, code, reason)
    VALUES ({_VALUES}, 'retry', :attempt, now() + make_interval(secs => :delay_s), :code, :reason)
    ON CONFLICT (event_name, event_id, day) DO UPDATE
    SET state = 'retry', attempt = :attempt, due_at = now() + make_interval(secs => :delay_s),
        lease_until = NULL, code = :code, reason = :reason
    WHERE row.state <> 'done' AND (CAST(:held_fence AS bigint) IS NULL OR row.fence = :held_fence)
    RETURNING row.event_id
    """  # noqa: S608
)
_PARK = text(
    f"""
    INSERT INTO inbox AS row ({_COLUMNS}, state, attempt, code, reason, finished_at)
    VALUES ({_VALUES}, 'parked', :attempt, :code, :reason, now())
    ON CONFLICT (event_name, event_id, day) DO UPDATE
    SET state = 'parked', attempt = :attempt, due_at = NULL, lease_until = NULL, code = :code,
        reason = :reason, finished_at = now()
    WHERE row.state <> 'done' AND (CAST(:held_fence AS bigint) IS NULL OR row.fence = :held_fence)
    RETURNING row.event_id
    """  # noqa: S608
)
_ATTEMPTS = text(
    f"SELECT attempt, state IN ('done', 'parked') OR due_at > now() AS settled FROM inbox WHERE {_ROW}"  # noqa: S608
)
_DUE = text(
    f"""
    SELECT {_COLUMNS} FROM inbox
    WHERE ((state = 'retry' AND due_at <= now()) OR (state = 'received' AND lease_until < now()))
      AND (CAST(:event_names AS text[]) IS NULL OR event_name = ANY(:event_names))
    ORDER BY received_at LIMIT :limit
    """  # noqa: S608
)
_REDRIVE = text(
    """
    UPDATE inbox SET state = 'retry', attempt = 0, due_at = now(), finished_at = NULL
    WHERE state = 'parked' AND payload IS NOT NULL
      AND (CAST(:event_name AS text) IS NULL OR event_name = :event_name)
    """
)
