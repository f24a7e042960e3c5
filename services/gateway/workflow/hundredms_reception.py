"""100ms: a webhook is answered once it is durable, in PostgreSQL or, while that is away, in a queue of the broker.

100ms gives an event up after 14 s, so the database gets one second to answer; what is kept is handled by `Backlog`.
"""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from json import dumps, loads
from typing import ClassVar, Protocol

import structlog

from gateway.domain.hundredms_connection import Webhook
from gateway.workflow.hundredms import Hundredms
from gateway.workflow.hundredms_gate import Gate
from shared import metrics
from shared.clock import Clock
from shared.errors import PermanentError, RetryableError
from shared.ids import ConnectionId
from shared.keyring import Keyring

log = structlog.get_logger()

DATABASE_WITHIN_S = 1.0
PATIENCE_S = 4.0  # more, where the broker is away as well
CONTEXT = "hundredms.kept"
MAX_HEADERS = 60
MAX_HEADER_CHARACTERS = 1_000
BATCH = 50
MAX_ATTEMPTS = 5


class DatabaseSlow(RetryableError):
    """PostgreSQL did not answer in time; it may still do what it was asked."""

    code: ClassVar[str] = "database_slow"


class KeptWebhooks(Protocol):
    """The durable queue. Raises RetryableError while the broker is away or the queue is full."""

    async def keep(self, sealed: str) -> None:
        """Return when the broker has confirmed."""
        ...

    async def oldest(self) -> str | None:
        """The oldest webhook that is kept; the same one until it is `done`."""
        ...

    async def done(self) -> None: ...


class Reception:
    """The front door."""

    def __init__(
        self,
        *,
        gate: Gate,
        hundredms: Hundredms,
        kept: KeptWebhooks,
        keyring: Keyring,
        clock: Clock,
        within_s: float = DATABASE_WITHIN_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._gate = gate
        self._hundredms = hundredms
        self._kept = kept
        self._keyring = keyring
        self._clock = clock
        self._within_s = within_s
        self._patience_s = patience_s
        self._attempts: set[asyncio.Task[None]] = set()

    async def receive(
        self, connection_id: ConnectionId | None, *, headers: Mapping[str, str], body: bytes, peer: str
    ) -> None:
        """Return when the webhook is durable. Raises Refused, or RetryableError where nothing could keep it."""
        webhook = Webhook(
            connection_id=connection_id, headers=headers, body=body, peer=peer, received_at=self._clock()
        )
        attempt = self._attempt(webhook)
        try:
            await self._outcome(attempt, within_s=self._within_s)
        except RetryableError as error:
            self._gate.refuse_if_known(webhook)
            await self._keep_or_wait(webhook, attempt, reason=error)

    async def _handle(self, webhook: Webhook) -> None:
        connection = await self._gate.admit(webhook)
        await self._hundredms.receive(connection, webhook)

    def _attempt(self, webhook: Webhook) -> "asyncio.Task[None]":
        """Not under `asyncio.timeout`: to undo a transaction takes an answer too, so a late one ends by itself."""
        task = asyncio.create_task(self._handle(webhook))
        self._attempts.add(task)
        task.add_done_callback(self._forget)
        return task

    async def _outcome(self, attempt: "asyncio.Task[None]", *, within_s: float) -> None:
        await asyncio.wait({attempt}, timeout=within_s)
        if not attempt.done():
            raise DatabaseSlow(f"PostgreSQL did not answer within {within_s:g} s")
        attempt.result()

    async def _keep_or_wait(
        self, webhook: Webhook, attempt: "asyncio.Task[None]", *, reason: RetryableError
    ) -> None:
        """Where the broker cannot keep it either, a database that is only slow may still take it."""
        try:
            await self._keep(webhook, reason=reason)
        except RetryableError as error:
            if not isinstance(reason, DatabaseSlow):
                raise
            log.warning("hundredms_webhook_waits", reason=f"{error.code}: {error}")
            await self._outcome(attempt, within_s=self._patience_s)
        finally:
            attempt.cancel()

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._attempts.discard(task)
        if not task.cancelled():
            task.exception()

    async def _keep(self, webhook: Webhook, *, reason: RetryableError) -> None:
        try:
            await self._kept.keep(_sealed(webhook, self._keyring))
        except RetryableError:
            metrics.hundredms_kept.labels("not_kept").inc()
            raise
        metrics.hundredms_kept.labels("kept").inc()
        log.warning("hundredms_webhook_kept", reason=f"{reason.code}: {reason}")


OpenTurn = Callable[[], AbstractAsyncContextManager[bool]]


class Backlog:
    """Handles what was kept, oldest first, one at a time over all replicas; a failure leaves it where it is."""

    def __init__(
        self, *, turns: OpenTurn, kept: KeptWebhooks, gate: Gate, hundredms: Hundredms, keyring: Keyring
    ) -> None:
        self._turns = turns
        self._kept = kept
        self._gate = gate
        self._hundredms = hundredms
        self._keyring = keyring
        self._attempts = 0

    async def turn(self) -> bool:
        """True when more may wait. The turn is a lock in PostgreSQL, so it also tells that PostgreSQL is there."""
        async with self._turns() as ours:
            if not ours:
                return False
            for _ in range(BATCH):
                sealed = await self._kept.oldest()
                if sealed is None:
                    return False
                await self._settle(sealed)
        return True

    async def _settle(self, sealed: str) -> None:
        self._attempts += 1
        if self._attempts > MAX_ATTEMPTS:
            await self._end("given_up", reason=f"{MAX_ATTEMPTS} attempts did not end")
            return
        try:
            await self._handle(_unsealed(sealed, self._keyring))
        except RetryableError:
            self._attempts -= 1  # what is away does not speak against the webhook
            raise
        except PermanentError as error:
            await self._end("dropped", reason=f"{error.code}: {error}")
        else:
            await self._end("handled", reason="")

    async def _handle(self, webhook: Webhook) -> None:
        connection = await self._gate.admit(webhook, at=webhook.received_at)
        await self._hundredms.receive(connection, webhook)

    async def _end(self, outcome: str, *, reason: str) -> None:
        await self._kept.done()
        self._attempts = 0
        metrics.hundredms_kept.labels(outcome).inc()
        if reason:
            log.error("hundredms_kept_webhook_lost", outcome=outcome, reason=reason)


def _sealed(webhook: Webhook, keyring: Keyring) -> str:
    """All of it under the keyring: a header is a secret, and addresses in the body may hold signatures."""
    headers = [
        (name, value) for name, value in webhook.headers.items() if len(value) <= MAX_HEADER_CHARACTERS
    ]
    plain = {
        "connection_id": webhook.connection_id,
        "headers": dict(headers[:MAX_HEADERS]),
        "body": b64encode(webhook.body).decode(),
        "peer": webhook.peer,
        "received_at": webhook.received_at.isoformat(),
    }
    return keyring.encrypt(dumps(plain), context=CONTEXT)


def _unsealed(sealed: str, keyring: Keyring) -> Webhook:
    """Raises SecretUnreadable."""
    plain = loads(keyring.decrypt(sealed, context=CONTEXT))
    connection_id = plain["connection_id"]
    return Webhook(
        connection_id=None if connection_id is None else ConnectionId(connection_id),
        headers=plain["headers"],
        body=b64decode(plain["body"]),
        peer=plain["peer"],
        received_at=datetime.fromisoformat(plain["received_at"]),
    )
