"""The one place that turns errors into *try again later* or *park*, for the two shapes of handler.

A *state* handler runs in one transaction with its inbox row and its events. A *work* handler runs outside any
transaction under a leased inbox row, and returns events that one short, fenced transaction writes.
Handlers hold no `try`: whatever they raise arrives here.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import structlog
from opentelemetry.trace import SpanKind
from pydantic import ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from shared import inbox, metrics, trace
from shared.cancellation import is_meant_for_us
from shared.closures import Closures
from shared.contract import Service
from shared.database import Database, DatabaseUnavailable, set_tenant
from shared.errors import PermanentError, PipelineError, RetryableError
from shared.events import Event, Lane, MessageParked, StreamClosed, StreamEvent
from shared.ids import OrganizationId, StreamId, event_id
from shared.inbox import Claim, Delivery, Failure
from shared.logs import bound
from shared.outbox import Outbox
from shared.slots import Slots

log = structlog.get_logger()

MAX_ATTEMPTS = 5
RETRY_DELAYS_S = (1.0, 5.0, 20.0, 60.0)
JITTER = 0.2
# How often a database that is there may refuse a state handler's transaction before its row is postponed.
MAX_REFUSALS = 5
REFUSAL_PAUSE_S = 0.2
UNWRITABLE_PAUSE_S = 5.0
HEARTBEAT_S = 5.0
# A quarter of the broker's time-out for consumers, after which it would give the job to somebody else, for ever.
WORK_DEADLINE_S = 450.0
MAX_REASON = 1000


@dataclass(frozen=True)
class UnitOfWork:
    """What a state handler works in: the tenant's transaction, and the outbox that commits with it."""

    session: AsyncSession
    outbox: Outbox

    async def emit(self, *events: Event) -> None:
        await self.outbox.emit(self.session, events)


StateHandler = Callable[[Any, UnitOfWork], Awaitable[None]]
WorkHandler = Callable[[Any], Awaitable[Sequence[Event]]]
GiveUp = Callable[[Any, PipelineError], Sequence[Event]]


@dataclass(frozen=True)
class Subscription:
    """How one service handles one event: exactly one of `state` and `work` is given."""

    model: type[Event]
    state: StateHandler | None = None
    work: WorkHandler | None = None
    give_up: GiveUp | None = None


class Unexpected(RetryableError):
    """A bug: an error of neither family. It is tried again, because the next version may cure it."""

    code = "unexpected_error"

    @classmethod
    def of(cls, error: Exception) -> "Unexpected":
        """The bug as one of ours, with the notes that it gathered on its way (a stage, say)."""
        known = cls(f"{type(error).__name__}: {error}")
        known.__cause__ = error
        for note in getattr(error, "__notes__", ()):
            known.add_note(note)
        return known


class Unparsable(PermanentError):
    """The payload is not the event that its routing key names."""

    code = "unparsable"


class LeaseLost(RetryableError):
    """Somebody else holds the row by now; whatever was computed here is thrown away."""

    code = "lease_lost"


class Middleware:
    """Runs deliveries of one service through their handlers and leaves each inbox row in a told state."""

    def __init__(
        self,
        *,
        service: Service,
        database: Database,
        outbox: Outbox,
        work_concurrency: int,
        closures: Closures | None = None,
    ) -> None:
        """With `closures`, events of a closed stream are noted as done and reach no handler."""
        self.service = service
        self._closures = closures
        self._database = database
        self._outbox = outbox
        self._slots = Slots(work_concurrency)

    async def handle(self, subscription: Subscription, delivery: Delivery) -> None:
        """Return when the delivery may be acknowledged: its outcome is then durable.

        While the database is away this waits, so that nothing is acknowledged that was not written.
        """
        began = perf_counter()
        with (
            trace.span(
                f"process {delivery.event_name}",
                parent=delivery.traceparent,
                kind=SpanKind.CONSUMER,
                attributes=self._described(delivery),
            ),
            bound(stream_id=delivery.stream_id, organization_id=delivery.organization_id),
        ):
            outcome = await self._until_durable(subscription, delivery)
            trace.annotate({"tldr.outcome": outcome})
        metrics.messages.labels(self.service, delivery.event_name, outcome).inc()
        metrics.handling_s.labels(self.service, delivery.event_name).observe(perf_counter() - began)

    def _described(self, delivery: Delivery) -> dict[str, trace.Value]:
        return {
            "messaging.system": "rabbitmq",
            "messaging.operation.type": "process",
            "messaging.destination.name": f"{delivery.event_name}.{delivery.lane}",
            "messaging.consumer.group.name": self.service,
            "messaging.message.id": str(delivery.event_id),
            "tldr.event": delivery.event_name,
            "tldr.organization_id": delivery.organization_id,
            "tldr.stream_id": delivery.stream_id,
        }

    async def _until_durable(self, subscription: Subscription, delivery: Delivery) -> str:
        while True:
            try:
                return await self._attempt(subscription, delivery)
            except DatabaseUnavailable as error:
                log.warning("database_away", event_name=delivery.event_name, error=str(error))
                await asyncio.sleep(REFUSAL_PAUSE_S)
                await self._database.wait_until_available()
            except Exception as error:
                log.exception("outcome_not_written", event_name=delivery.event_name)
                if await self._set_aside(delivery, error):
                    return "parked"
                await asyncio.sleep(UNWRITABLE_PAUSE_S)

    async def _set_aside(self, delivery: Delivery, error: Exception) -> bool:
        """Park a row whose outcome cannot be written (odd ids, a bug in `give_up`) with as little as possible.

        An exception that got past here would leave the message unacknowledged, and its prefetch slot with it.
        """
        bare = replace(delivery, organization_id=None, stream_id=None, traceparent=None)
        failure = Failure(attempt=0, code=Unexpected.code, reason=_reason(Unexpected.of(error)))
        try:
            async with self._database.transaction() as session:
                await inbox.park(await session.connection(), bare, failure)
        except Exception:
            log.exception("not_even_parked", event_name=delivery.event_name)
            return False
        return True

    async def _attempt(self, subscription: Subscription, delivery: Delivery) -> str:
        if subscription.work is not None:
            async with self._slots.held(Lane(delivery.lane)):
                return await self._work(subscription, delivery)
        return await self._state(subscription, delivery)

    # -- state ---------------------------------------------------------------------------------------

    async def _state(self, subscription: Subscription, delivery: Delivery) -> str:
        refused: Exception | None = None
        for _ in range(MAX_REFUSALS):
            try:
                return await self._state_transaction(subscription, delivery)
            except DatabaseUnavailable as error:
                refused = error
            except Exception as error:
                return await self._state_failed(subscription, delivery, error)
            await asyncio.sleep(REFUSAL_PAUSE_S)
            await self._database.ping()  # raises in an outage, which is waited for and never counted
        assert refused is not None
        return await self._state_failed(subscription, delivery, refused)

    async def _state_failed(self, subscription: Subscription, delivery: Delivery, error: Exception) -> str:
        async with self._database.transaction() as session:
            failed = await inbox.attempts_of(await session.connection(), delivery)
        if failed is None:
            return "duplicate"
        return await self._failed(subscription, delivery, error, attempt=failed + 1, fence=None)

    async def _state_transaction(self, subscription: Subscription, delivery: Delivery) -> str:
        assert subscription.state is not None
        event = _parse(subscription, delivery)
        async with self._database.transaction() as session:
            if not await inbox.record_done(await session.connection(), delivery):
                return "duplicate"
            await set_tenant(session, event.organization_id)
            if await self._is_closed(session, event):
                return "closed"
            await subscription.state(event, UnitOfWork(session, self._outbox))
        self._outbox.wake.set()
        return "done"

    async def _is_closed(self, session: AsyncSession, event: Event) -> bool:
        if self._closures is None or not isinstance(event, StreamEvent) or isinstance(event, StreamClosed):
            return False
        return await self._closures.is_closed(session, event.stream_id)

    # -- work ----------------------------------------------------------------------------------------

    async def _work(self, subscription: Subscription, delivery: Delivery) -> str:
        async with self._database.transaction() as session:
            held = await inbox.claim(await session.connection(), delivery)
        if held is None:
            return "duplicate"
        trace.annotate({"tldr.attempt": held.attempt})
        try:
            return await self._claimed(subscription, held)
        except asyncio.CancelledError:
            await asyncio.shield(self._release(held))
            raise
        except LeaseLost:
            log.warning("lease_lost", event_name=delivery.event_name)
            return "lease_lost"
        except Exception as error:
            return await self._failed(subscription, delivery, error, attempt=held.attempt, fence=held.fence)

    async def _claimed(self, subscription: Subscription, held: Claim) -> str:
        assert subscription.work is not None
        if held.attempt > MAX_ATTEMPTS:
            raise Unexpected(f"given up after {MAX_ATTEMPTS} attempts that did not end")
        event = _parse(subscription, held.delivery)
        results = () if await self._is_over(event) else await self._compute(subscription.work, event, held)
        async with self._database.transaction() as session:
            if not await inbox.finish(await session.connection(), held):
                raise LeaseLost(f"{held.delivery.event_id}: fence {held.fence} is not the row's")
            await self._outbox.emit(session, results)
        self._outbox.wake.set()
        return "done"

    async def _is_over(self, event: Event) -> bool:
        async with self._database.transaction(event.organization_id) as session:
            return await self._is_closed(session, event)

    async def _compute(self, work: WorkHandler, event: Event, held: Claim) -> Sequence[Event]:
        heartbeat = asyncio.create_task(self._keep_lease(held))
        try:
            async with asyncio.timeout(WORK_DEADLINE_S):
                return await work(event)
        except asyncio.CancelledError as error:
            if is_meant_for_us():
                raise
            raise Unexpected("the work was cancelled from within") from error
        finally:
            heartbeat.cancel()

    async def _keep_lease(self, held: Claim) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                async with self._database.transaction() as session:
                    await inbox.extend(await session.connection(), held)
            except DatabaseUnavailable as error:
                log.warning("lease_not_extended", error=str(error))

    async def _release(self, held: Claim) -> None:
        try:
            async with self._database.transaction() as session:
                await inbox.release(await session.connection(), held)
        except DatabaseUnavailable as error:
            log.warning("lease_not_released", error=str(error))

    # -- what the broker gave up on --------------------------------------------------------------------

    async def rescue(self, delivery: Delivery) -> None:
        """Make a dead-lettered message due in the inbox: the broker's verdict is not the end of it."""
        failure = Failure(attempt=0, code="dead_lettered", reason="the broker gave the message up")
        while not await self._rescued(delivery, failure):
            await self._database.wait_until_available()
        metrics.messages.labels(self.service, delivery.event_name, "rescued").inc()

    async def _rescued(self, delivery: Delivery, failure: Failure) -> bool:
        try:
            async with self._database.transaction() as session:
                await inbox.postpone(await session.connection(), delivery, failure, delay_s=0)
        except DatabaseUnavailable as error:
            log.warning("database_away", event_name=delivery.event_name, error=str(error))
            return False
        return True

    # -- errors --------------------------------------------------------------------------------------

    async def _failed(
        self,
        subscription: Subscription,
        delivery: Delivery,
        error: Exception,
        *,
        attempt: int,
        fence: int | None,
    ) -> str:
        """Try again later, or park. What the database refused is never counted: no message is to blame for it."""
        known = _in_a_family(error, delivery)
        counted = attempt - 1 if isinstance(known, DatabaseUnavailable) else attempt
        trace.fail(known.code)
        trace.annotate({"tldr.attempt": attempt})
        failure = Failure(attempt=counted, code=known.code, reason=_reason(known), fence=fence)
        if isinstance(known, RetryableError) and counted < MAX_ATTEMPTS:
            return await self._postpone(delivery, failure, known)
        return await self._park(subscription, delivery, failure, known)

    async def _postpone(self, delivery: Delivery, failure: Failure, error: RetryableError) -> str:
        delay_s = retry_delay_s(failure.attempt, hint_s=error.retry_after_s, spread=random.random())  # noqa: S311
        async with self._database.transaction() as session:
            await inbox.postpone(await session.connection(), delivery, failure, delay_s=delay_s)
        log.warning(
            "will_retry", code=failure.code, reason=failure.reason, attempt=failure.attempt, in_s=delay_s
        )
        return "retry"

    async def _park(
        self, subscription: Subscription, delivery: Delivery, failure: Failure, error: PipelineError
    ) -> str:
        async with self._database.transaction() as session:
            if not await inbox.park(await session.connection(), delivery, failure):
                return "lease_lost"
            await self._outbox.emit(session, self._consequences(subscription, delivery, _tellable(error)))
        self._outbox.wake.set()
        log.error("parked", event_name=delivery.event_name, code=failure.code, reason=failure.reason)
        return "parked"

    def _consequences(
        self, subscription: Subscription, delivery: Delivery, error: PipelineError
    ) -> Sequence[Event]:
        """What the world is told: the handler's own terminal events, or that a message was parked."""
        if subscription.give_up is not None and not isinstance(error, Unparsable):
            try:
                return subscription.give_up(_parse(subscription, delivery), error)
            except Exception:
                log.exception("give_up_failed", event_name=delivery.event_name)
        if delivery.organization_id is None or delivery.event_name == MessageParked.name:
            return ()
        return (self._parked(delivery, error),)

    def _parked(self, delivery: Delivery, error: PipelineError) -> MessageParked:
        assert delivery.organization_id is not None
        return MessageParked(
            event_id=event_id(str(delivery.event_id), MessageParked.name, self.service),
            organization_id=OrganizationId(delivery.organization_id),
            occurred_at=datetime.now(UTC),
            lane=Lane(delivery.lane),
            service=self.service,
            event_name=delivery.event_name,
            parked_event_id=delivery.event_id,
            stream_id=StreamId(delivery.stream_id) if delivery.stream_id else None,
            code=error.code,
            reason=_reason(error),
        )


def retry_delay_s(attempt: int, *, hint_s: float | None, spread: float) -> float:
    """Seconds until the next attempt: the schedule or the error's own hint, ±20 % by `spread` in [0, 1]."""
    planned = RETRY_DELAYS_S[min(max(attempt, 1), len(RETRY_DELAYS_S)) - 1]
    return max(planned, hint_s or 0.0) * (1 - JITTER + 2 * JITTER * spread)


def _in_a_family(error: Exception, delivery: Delivery) -> PipelineError:
    if isinstance(error, PipelineError):
        return error
    log.error("unexpected_error", event_name=delivery.event_name, exc_info=error)
    return Unexpected.of(error)


def _tellable(error: PipelineError) -> PipelineError:
    """What the stream's owner may read: of a bug its kind, but not its words, which hold paths and statements."""
    if not isinstance(error, Unexpected) or error.__cause__ is None:
        return error
    told = Unexpected(type(error.__cause__).__name__)
    for note in getattr(error, "__notes__", ()):
        told.add_note(note)
    return told


def _reason(error: PipelineError) -> str:
    """The error's words without what PostgreSQL stores in no text: NUL and lone surrogates."""
    words = str(error).encode("utf-8", errors="replace").decode("utf-8")
    return words.replace("\x00", "\ufffd")[:MAX_REASON]


def _parse(subscription: Subscription, delivery: Delivery) -> Event:
    try:
        return subscription.model.model_validate_json(delivery.payload)
    except ValidationError as error:
        raise Unparsable(f"{delivery.event_name}: {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"


def delivery_of(model: type[Event], body: bytes, *, lane: Lane, traceparent: str | None) -> Delivery:
    """The delivery for a message's bytes. What cannot be parsed gets an id from its bytes, and is parked later."""
    payload = body.decode("utf-8", errors="replace").replace("\x00", "\ufffd")
    try:
        event = model.model_validate_json(payload)
    except ValidationError:
        event_key, day = event_id("unparsable", model.name, payload), datetime.now(UTC).date()
        return Delivery(event_key, model.name, day, lane.value, None, None, payload, traceparent)
    return Delivery(
        event_id=event.event_id,
        event_name=model.name,
        day=event.occurred_at.date(),
        lane=lane.value,
        organization_id=event.organization_id,
        stream_id=getattr(event, "stream_id", None),
        payload=payload,
        traceparent=traceparent,
    )
