"""Rows that the gateway's events leave: endpoints and deliveries, in the tenant's transaction."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import event as session_events
from sqlalchemy import text

from shared.events import EndpointChanged, NotificationRequested
from shared.middleware import UnitOfWork

# Events overtake one another on their way: so long a notification waits for the one that it follows.
ORDER_PATIENCE_S = 5.0


class PostgresIntake:
    """`on_commit` is called after each commit that may have made a delivery due."""

    def __init__(self, *, on_commit: Callable[[], None]) -> None:
        self._on_commit = on_commit

    async def keep_endpoint(self, event: EndpointChanged, unit: UnitOfWork) -> None:
        connection = await unit.session.connection()
        kept = await connection.execute(
            _KEEP_ENDPOINT,
            {
                "endpoint_id": event.endpoint_id,
                "organization_id": event.organization_id,
                "version": event.version,
                "active": event.active,
                "sealed_url": event.sealed_url,
                "sealed_secrets": list(event.sealed_secrets),
                "max_attempts": event.max_attempts,
            },
        )
        if kept.rowcount and not event.active:
            await connection.execute(_HASTEN, {"endpoint_id": event.endpoint_id})
        self._wake_after_commit(unit)

    async def keep_notification(
        self, event: NotificationRequested, unit: UnitOfWork, *, traceparent: str | None
    ) -> None:
        connection = await unit.session.connection()
        await connection.execute(
            _KEEP_NOTIFICATION,
            {
                "delivery_id": event.delivery_id,
                "organization_id": event.organization_id,
                "stream_id": event.stream_id,
                "endpoint_id": event.endpoint_id,
                "endpoint_version": event.endpoint_version,
                "public_event_id": event.public_event_id,
                "type": event.type,
                "sequence": event.sequence,
                "follows": event.follows,
                "patience_s": ORDER_PATIENCE_S,
                "body": event.body,
                "traceparent": traceparent,
            },
        )
        await connection.execute(_RELEASE_FOLLOWER, {"delivery_id": event.delivery_id})
        self._wake_after_commit(unit)

    def _wake_after_commit(self, unit: UnitOfWork) -> None:
        def wake(_session: Any) -> None:
            self._on_commit()

        session_events.listen(unit.session.sync_session, "after_commit", wake, once=True)


_KEEP_ENDPOINT = text(
    """
    INSERT INTO endpoints AS kept
        (endpoint_id, organization_id, version, active, sealed_url, sealed_secrets, max_attempts)
    VALUES (:endpoint_id, :organization_id, :version, :active, :sealed_url, CAST(:sealed_secrets AS text[]),
            :max_attempts)
    ON CONFLICT (endpoint_id) DO UPDATE
    SET version = excluded.version, active = excluded.active, sealed_url = excluded.sealed_url,
        sealed_secrets = excluded.sealed_secrets, max_attempts = excluded.max_attempts,
        failures = 0, failing_since = NULL, paused_until = NULL, refusal = NULL, updated_at = now()
    WHERE kept.version < excluded.version
    """
)
# Deliveries to an endpoint that is off end at once, instead of at their next slot; the untried are due anyway.
_HASTEN = text(
    """
    UPDATE deliveries SET due_at = now()
    WHERE endpoint_id = :endpoint_id AND state = 'pending' AND attempts > 0 AND lease_until IS NULL
    """
)
_KEEP_NOTIFICATION = text(
    """
    INSERT INTO deliveries
        (delivery_id, organization_id, stream_id, endpoint_id, endpoint_version, public_event_id, type,
         sequence, follows, body, traceparent, state, due_at)
    VALUES (:delivery_id, :organization_id, :stream_id, :endpoint_id, :endpoint_version, :public_event_id,
            :type, :sequence, :follows, :body, :traceparent, 'pending',
            CASE WHEN CAST(:follows AS text) IS NULL
                   OR EXISTS (SELECT 1 FROM deliveries WHERE delivery_id = :follows)
                 THEN now() ELSE now() + make_interval(secs => :patience_s) END)
    ON CONFLICT (delivery_id) DO NOTHING
    """
)
_RELEASE_FOLLOWER = text(
    """
    UPDATE deliveries SET due_at = now()
    WHERE follows = :delivery_id AND state = 'pending' AND attempts = 0 AND lease_until IS NULL AND due_at > now()
    """
)
