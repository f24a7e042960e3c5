"""The deliveries in PostgreSQL: claimed for all tenants by a definer function, read and written tenant by tenant."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from notifier.domain.delivery import Claim, Endpoint, Result, State
from notifier.domain.health import Health, health_after
from notifier.domain.report import report_of
from shared.clock import Clock
from shared.database import Database, set_tenant
from shared.events import DeliveryFinished
from shared.ids import DeliveryId, EndpointId, OrganizationId, PublicEventId, StreamId
from shared.outbox import Outbox

# Longer than the 15 s that one attempt may take.
LEASE_S = 20.0
# An endpoint that has not answered for this long gets no second attempt beside the first.
SLOW_S = 1.0
FORGET_BATCH = 500


class PostgresLedger:
    def __init__(
        self,
        database: Database,
        *,
        outbox: Outbox,
        clock: Clock,
        endpoint_concurrency: int,
        suspect_concurrency: int,
    ) -> None:
        """`suspect_concurrency` bounds the attempts to all failing or slow endpoints together."""
        self._database = database
        self._outbox = outbox
        self._clock = clock
        self._slots = {
            "endpoint_slots": endpoint_concurrency,
            "suspect_slots": suspect_concurrency,
            "lease_s": LEASE_S,
            "slow_s": SLOW_S,
        }

    async def claim(self, *, at_most: int) -> tuple[Claim, ...]:
        """Take leases on what is due and allowed, and read it, each tenant's rows under its own name."""
        async with self._database.transaction() as session:
            connection = await session.connection()
            taken = (await connection.execute(_CLAIM, {"at_most": at_most, **self._slots})).all()
            if not taken:
                return ()
            keys = [(row.organization_id, {"delivery_id": row.delivery_id}) for row in taken]
            rows = await connection.execute(_READ, {"by_tenant": _by_tenant(keys)})
            return tuple(map(_claim, rows))

    async def record(self, results: Sequence[Result]) -> None:
        """Write each tenant's results under its own name; what ended is reported in the same transaction."""
        if not results:
            return
        lines = [(result.claim.organization_id, _line(result)) for result in results]
        async with self._database.transaction() as session:
            connection = await session.connection()
            rows = await connection.execute(_FINISH, {"by_tenant": _by_tenant(lines)})
            ended = _ended(results, written=frozenset(row.delivery_id for row in rows))
            touching = _by_organization(result for result in results if _touches_health(result))
            for organization_id in sorted(touching):
                await set_tenant(session, organization_id)
                await _record_health(connection, touching[organization_id])
            await self._outbox.emit(session, self._reports(ended))
        self._outbox.wake.set()

    def _reports(self, ended: Sequence[Result]) -> list[DeliveryFinished]:
        at = self._clock()
        return [
            report_of(own, organization_id=organization_id, at=at)
            for organization_id, own in _by_organization(ended).items()
        ]

    async def release(self, claims: Sequence[Claim]) -> None:
        by_organization: dict[OrganizationId, list[dict[str, Any]]] = defaultdict(list)
        for claim in claims:
            key = {"delivery_id": claim.delivery_id, "fence": claim.fence}
            by_organization[claim.organization_id].append(key)
        async with self._database.transaction() as session:
            connection = await session.connection()
            for organization_id, keys in by_organization.items():
                await set_tenant(session, organization_id)
                await connection.execute(_RELEASE, keys)

    async def forget(self, *, keep_days: int) -> bool:
        parameters = {"keep_days": keep_days, "at_most": FORGET_BATCH}
        async with self._database.transaction() as session:
            connection = await session.connection()
            forgotten = (await connection.execute(_FORGET, parameters)).scalar_one()
        return int(forgotten) == FORGET_BATCH


def _ended(results: Sequence[Result], *, written: frozenset[str]) -> list[Result]:
    return [
        result
        for result in results
        if result.claim.delivery_id in written and result.verdict.state is not State.PENDING
    ]


async def _record_health(connection: AsyncConnection, results: Sequence[Result]) -> None:
    by_endpoint: dict[EndpointId, list[Result]] = defaultdict(list)
    for result in results:
        by_endpoint[result.claim.endpoint.endpoint_id].append(result)
    for endpoint_id in sorted(by_endpoint):  # one order for all replicas, so that none waits in a circle
        await _fold_health(connection, endpoint_id, by_endpoint[endpoint_id])


async def _fold_health(
    connection: AsyncConnection, endpoint_id: EndpointId, results: Sequence[Result]
) -> None:
    key = {"endpoint_id": endpoint_id}
    row = (await connection.execute(_HEALTH, key)).first()
    if row is None:
        return
    before = Health(failures=row.failures, failing_since=row.failing_since, refusal=row.refusal)
    after = health_after(
        before, results=[one for one in results if one.claim.endpoint.version == row.version]
    )
    if after == before:
        return
    await connection.execute(_KEEP_HEALTH, {**key, **_health_parameters(after)})
    if after.refusal is not None:
        await connection.execute(_HASTEN, key)


def _health_parameters(health: Health) -> Mapping[str, Any]:
    return {
        "failures": health.failures,
        "failing_since": health.failing_since,
        "pause_s": health.pause_s,
        "refusal": health.refusal,
    }


def _touches_health(result: Result) -> bool:
    """A success of an endpoint that was healthy when the delivery was claimed changes nothing."""
    if result.attempt is None:
        return False
    return result.verdict.state is not State.DELIVERED or result.claim.endpoint.failing


def _by_tenant(rows: Iterable[tuple[OrganizationId, Mapping[str, Any]]]) -> str:
    """JSON: for each tenant the list of its rows."""
    grouped: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for organization_id, row in rows:
        grouped[organization_id].append(row)
    return json.dumps(grouped)


def _by_organization(results: Iterable[Result]) -> Mapping[OrganizationId, list[Result]]:
    grouped: dict[OrganizationId, list[Result]] = defaultdict(list)
    for result in results:
        grouped[result.claim.organization_id].append(result)
    return grouped


def _line(result: Result) -> dict[str, Any]:
    """One result as the columns that `_FINISH` writes."""
    claim, verdict, attempt = result.claim, result.verdict, result.attempt
    return {
        "delivery_id": claim.delivery_id,
        "fence": claim.fence,
        "organization_id": claim.organization_id,
        "endpoint_id": claim.endpoint.endpoint_id,
        "state": verdict.state.value,
        "attempts": result.attempts,
        "delay_s": verdict.delay_s,
        "code": verdict.code or None,
        "reason": verdict.reason or None,
        "at": attempt.at.isoformat() if attempt else None,
        "duration_ms": attempt.duration_ms if attempt else None,
        "status": attempt.status if attempt else None,
        "answer": attempt.text if attempt else "",
    }


def _claim(row: Row[Any]) -> Claim:
    endpoint = Endpoint(
        endpoint_id=EndpointId(row.endpoint_id),
        version=row.version,
        sealed_url=row.sealed_url,
        sealed_secrets=tuple(row.sealed_secrets),
        max_attempts=row.max_attempts,
        failing=row.failures > 0,
        refusal=row.refusal if row.active else "the endpoint is switched off",
    )
    return Claim(
        delivery_id=DeliveryId(row.delivery_id),
        organization_id=OrganizationId(row.organization_id),
        stream_id=StreamId(row.stream_id),
        public_event_id=PublicEventId(row.public_event_id),
        type=row.type,
        body=row.body,
        attempts=row.attempts,
        fence=row.fence,
        traceparent=row.traceparent,
        endpoint=endpoint,
    )


_CLAIM = text(
    """
    SELECT delivery_id, organization_id
    FROM claim_deliveries(CAST(:at_most AS integer), CAST(:endpoint_slots AS integer),
                          CAST(:suspect_slots AS integer), :lease_s, :slow_s)
    """
)
_READ = text("SELECT * FROM read_deliveries(CAST(:by_tenant AS jsonb))")
_FINISH = text("SELECT delivery_id FROM finish_deliveries(CAST(:by_tenant AS jsonb))")
_RELEASE = text(
    """
    UPDATE deliveries SET due_at = now(), lease_until = NULL
    WHERE delivery_id = :delivery_id AND fence = :fence AND state = 'pending'
    """
)
_HEALTH = text(
    "SELECT version, failures, failing_since, refusal FROM endpoints WHERE endpoint_id = :endpoint_id FOR UPDATE"
)
_KEEP_HEALTH = text(
    """
    UPDATE endpoints
    SET failures = :failures, failing_since = :failing_since, refusal = :refusal,
        paused_until = CASE WHEN CAST(:pause_s AS double precision) > 0
                            THEN now() + make_interval(secs => CAST(:pause_s AS double precision)) END
    WHERE endpoint_id = :endpoint_id
    """
)
# What still waits for its next slot ends at once; what was never tried is due anyway.
_HASTEN = text(
    """
    UPDATE deliveries SET due_at = now()
    WHERE endpoint_id = :endpoint_id AND state = 'pending' AND attempts > 0 AND lease_until IS NULL
    """
)
_FORGET = text("SELECT forget_deliveries(CAST(:keep_days AS integer), CAST(:at_most AS integer))")
