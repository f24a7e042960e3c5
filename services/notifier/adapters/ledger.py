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
            rows = (await connection.execute(_CLAIM, {"at_most": at_most, **self._slots})).all()
            ids: dict[OrganizationId, list[str]] = defaultdict(list)
            for row in rows:
                ids[OrganizationId(row.organization_id)].append(row.delivery_id)
            claims: list[Claim] = []
            for organization_id, delivery_ids in ids.items():
                await set_tenant(session, organization_id)
                read = await connection.execute(_READ, {"delivery_ids": delivery_ids})
                claims.extend(map(_claim, read))
        return tuple(claims)

    async def record(self, results: Sequence[Result]) -> None:
        """Write each tenant's results under its own name; what ended is reported in the same transaction."""
        reports: list[DeliveryFinished] = []
        async with self._database.transaction() as session:
            connection = await session.connection()
            for organization_id, own in _by_organization(results).items():
                await set_tenant(session, organization_id)
                ended = _ended(own, written=await _finish(connection, own))
                await _record_health(connection, [result for result in own if _touches_health(result)])
                if ended:
                    reports.append(report_of(ended, organization_id=organization_id, at=self._clock()))
            await self._outbox.emit(session, reports)
        self._outbox.wake.set()

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


async def _finish(connection: AsyncConnection, results: Sequence[Result]) -> frozenset[str]:
    """Log the attempts and write the states; answers the deliveries whose lease was still ours."""
    parameters = {
        "rows": json.dumps([_line(result) for result in results]),
        "delivery_ids": [result.claim.delivery_id for result in results],
    }
    rows = await connection.execute(_FINISH, parameters)
    return frozenset(row.delivery_id for row in rows)


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
_READ = text(
    """
    SELECT d.delivery_id, d.organization_id, d.stream_id, d.public_event_id, d.type, d.body, d.attempts, d.fence,
           d.traceparent, e.endpoint_id, e.version, e.sealed_url, e.sealed_secrets, e.max_attempts, e.failures,
           e.active, e.refusal
    FROM deliveries AS d JOIN endpoints AS e USING (endpoint_id)
    WHERE d.delivery_id = ANY(CAST(:delivery_ids AS text[])) ORDER BY d.created_at, d.sequence
    """
)
# An attempt is on record even when its lease was lost; what becomes of the delivery is the holder's to say.
_FINISH = text(
    """
    WITH result AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS one (
            delivery_id text, fence bigint, organization_id text, endpoint_id text, state text,
            attempts integer, delay_s double precision, code text, reason text, at timestamptz,
            duration_ms integer, status integer, answer text)
    ), logged AS (
        INSERT INTO attempts (delivery_id, fence, organization_id, endpoint_id, attempt, at, duration_ms,
                              status, code, reason, answer)
        SELECT delivery_id, fence, organization_id, endpoint_id, attempts, at, duration_ms, status, code,
               reason, answer
        FROM result WHERE at IS NOT NULL
        ON CONFLICT DO NOTHING
    )
    UPDATE deliveries AS d
    SET state = r.state, attempts = r.attempts, lease_until = NULL,
        due_at = now() + make_interval(secs => r.delay_s),
        status = coalesce(r.status, d.status), error = concat_ws(': ', r.code, r.reason),
        finished_at = CASE WHEN r.state = 'pending' THEN NULL ELSE now() END
    FROM result AS r
    WHERE d.delivery_id = ANY(CAST(:delivery_ids AS text[]))
      AND d.delivery_id = r.delivery_id AND d.fence = r.fence AND d.state = 'pending'
    RETURNING d.delivery_id
    """
)
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
