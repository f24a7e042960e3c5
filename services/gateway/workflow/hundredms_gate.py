"""100ms: which connection a webhook is let in by, as the database says, or as it said a short while ago."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from gateway.domain.hundredms_connection import (
    Connection,
    Fault,
    Webhook,
    connection_of,
    fault_of,
    presented_hashes,
)
from gateway.domain.refusals import Forbidden, Unauthenticated
from gateway.workflow.hundredms import connection_context
from shared import metrics
from shared.clock import Clock
from shared.ids import ConnectionId
from shared.keyring import Keyring

log = structlog.get_logger()

# How long what the database said last may refuse a webhook while the database is away.
REMEMBERED_FOR = timedelta(minutes=5)
MAX_REMEMBERED = 10_000


class Connections(Protocol):
    """Look-ups before the organization is known. Secrets that ended before `at` (absent: now) are left out."""

    async def find(
        self, connection_id: ConnectionId, *, at: datetime | None = None
    ) -> tuple[Connection, ...]: ...
    async def find_by_secret(
        self, hashes: tuple[str, ...], *, at: datetime | None = None
    ) -> tuple[Connection, ...]: ...


class Gate:
    """Answers for a connection that is not there are those for a wrong secret."""

    def __init__(self, *, connections: Connections, keyring: Keyring, clock: Clock) -> None:
        self._connections = connections
        self._keyring = keyring
        self._remembered = _Remembered(clock)

    async def admit(self, webhook: Webhook, *, at: datetime | None = None) -> Connection:
        """The connection whose checks it passes. Raises Unauthenticated, or Forbidden for its address."""
        if webhook.connection_id is None:
            candidates = await self._connections.find_by_secret(presented_hashes(webhook.headers), at=at)
        else:
            candidates = await self._connections.find(webhook.connection_id, at=at)
        if at is None:
            self._remembered.put(candidates)
        return self._judged(candidates, webhook)

    def refuse_if_known(self, webhook: Webhook) -> None:
        """Raise as `admit` would where a remembered connection speaks against it; else nothing is decided."""
        if webhook.connection_id is None and not presented_hashes(webhook.headers):
            raise _refusal(Fault.UNKNOWN)
        candidates = self._remembered.get(webhook)
        if candidates:
            self._judged(candidates, webhook)

    def forget(self, connection_id: ConnectionId) -> None:
        """The connection was changed here: what was remembered of it decides nothing more."""
        self._remembered.drop(connection_id)

    def _judged(self, candidates: tuple[Connection, ...], webhook: Webhook) -> Connection:
        connection = candidates[0] if candidates else None
        if webhook.connection_id is None:
            connection = connection_of(candidates, headers=webhook.headers)
        if connection is None:
            raise _refusal(Fault.UNKNOWN)
        fault = fault_of(connection, webhook, hmac_secrets=self._hmac_secrets(connection))
        if fault is not None:
            log.info("hundredms_refused", connection_id=connection.connection_id, reason=fault)
            raise _refusal(fault)
        return connection

    def _hmac_secrets(self, connection: Connection) -> tuple[str, ...]:
        if not connection.checks.signature:
            return ()
        context = connection_context(connection.connection_id)
        return tuple(self._keyring.decrypt(each, context=context) for each in connection.sealed_hmac_secrets)


def _refusal(fault: Fault) -> Unauthenticated | Forbidden:
    metrics.hundredms_refused.labels(fault).inc()
    if fault is Fault.NETWORK:
        return Forbidden("Webhooks of this connection are not taken from your address")
    return Unauthenticated("Invalid signature")


class _Remembered:
    """The connections that the database gave last, the newest few thousand of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._found: dict[ConnectionId, tuple[datetime, Connection]] = {}

    def put(self, connections: Iterable[Connection]) -> None:
        for each in connections:
            self._found.pop(each.connection_id, None)
            self._found[each.connection_id] = (self._clock(), each)
            if len(self._found) > MAX_REMEMBERED:
                del self._found[next(iter(self._found))]

    def drop(self, connection_id: ConnectionId) -> None:
        self._found.pop(connection_id, None)

    def get(self, webhook: Webhook) -> tuple[Connection, ...]:
        """The remembered connection of its path. By its secret alone nothing that is wrong is found."""
        if webhook.connection_id is None:
            return ()
        read_at, found = self._found.get(webhook.connection_id, (None, None))
        if read_at is None or found is None or self._clock() - read_at > REMEMBERED_FOR:
            return ()
        return (found,)
