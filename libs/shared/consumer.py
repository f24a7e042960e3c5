"""Subscriptions of one service: FastStream subscribers that hand each message to the middleware, then acknowledge."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import structlog
from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from faststream.rabbit.annotations import RabbitMessage

from shared import topology, trace
from shared.contract import Service, spec_of
from shared.events import Event, Lane
from shared.middleware import GiveUp, Middleware, StateHandler, Subscription, WorkHandler, delivery_of

log = structlog.get_logger()

EventT = TypeVar("EventT", bound=Event)


class ContractViolated(AssertionError):
    """A service subscribes to what the contract does not send it, or leaves out what it does."""


class Consumer:
    """What a service's `subscribers.py` registers its workflow with."""

    def __init__(
        self,
        *,
        service: Service,
        broker: RabbitBroker,
        middleware: Middleware,
        prefetch: int,
        work_prefetch: int,
    ) -> None:
        self.service = service
        self._broker = broker
        self._middleware = middleware
        self._prefetch = prefetch
        self._work_prefetch = work_prefetch
        self._subscriptions: dict[str, Subscription] = {}
        self._handling: set[asyncio.Task[object]] = set()

    @property
    def subscriptions(self) -> Mapping[str, Subscription]:
        return self._subscriptions

    def state(self, model: type[EventT], handler: StateHandler) -> None:
        """Handle the event in one transaction: inbox row, effect, and the events that `UnitOfWork.emit` adds."""
        self._add(Subscription(model, state=handler), prefetch=self._prefetch)

    def work(self, model: type[EventT], handler: WorkHandler, *, give_up: GiveUp) -> None:
        """Handle the event outside any transaction, under a lease; `give_up` says what is told at the end."""
        self._add(Subscription(model, work=handler, give_up=give_up), prefetch=self._work_prefetch)

    def _add(self, subscription: Subscription, *, prefetch: int) -> None:
        spec = spec_of(subscription.model.name)
        if self.service not in spec.consumers or spec.name in self._subscriptions:
            raise ContractViolated(f"{self.service} may not subscribe to {spec.name}, or does so twice")
        self._subscriptions[spec.name] = subscription
        for lane in Lane:
            self._subscribe(subscription, lane, prefetch=prefetch)

    def _subscribe(self, subscription: Subscription, lane: Lane, *, prefetch: int) -> None:
        async def on_message(message: RabbitMessage) -> None:
            traceparent = message.headers.get(trace.HEADER)
            delivery = delivery_of(
                subscription.model,
                message.body,
                lane=lane,
                traceparent=traceparent if isinstance(traceparent, str) else None,
            )
            with self._noted():
                await self._middleware.handle(subscription, delivery)
            await message.ack()

        spec = spec_of(subscription.model.name)
        self._broker.subscriber(
            topology.queue(self.service, spec, lane),
            topology.exchange(spec.exchange),
            channel=Channel(prefetch_count=prefetch),
            ack_policy=AckPolicy.MANUAL,
            decoder=_whole_message,
            no_reply=True,
            title=f"{self.service}:{spec.name}:{lane.value}",
        )(on_message)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Know which handlers are at work, whatever becomes of the connection that brought their messages."""
        task = asyncio.current_task()
        assert task is not None
        self._handling.add(task)
        try:
            yield
        finally:
            self._handling.discard(task)

    async def cut_short(self) -> None:
        """Cancel the handlers that are still at work, and return when they have given their rows back."""
        tasks = tuple(self._handling)
        for task in tasks:
            if not task.cancelling():  # a second cancellation would cut the giving back short as well
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def rescue_dead_letters(self) -> None:
        """Take what the broker gave up on into the inbox, so that a dead letter is never its only trace."""

        async def on_dead_letter(message: RabbitMessage) -> None:
            name, lane = _origin(message)
            subscription = self._subscriptions.get(name)
            if subscription is None:
                log.error("dead_letter_unknown", event_name=name)
            else:
                delivery = delivery_of(subscription.model, message.body, lane=lane, traceparent=None)
                await self._middleware.rescue(delivery)
            await message.ack()

        self._broker.subscriber(
            RabbitQueue(topology.dead_queue_name(self.service), queue_type=QueueType.QUORUM, declare=False),
            channel=Channel(prefetch_count=self._prefetch),
            ack_policy=AckPolicy.MANUAL,
            decoder=_whole_message,
            no_reply=True,
            title=f"{self.service}:dead",
        )(on_dead_letter)


def _origin(message: RabbitMessage) -> tuple[str, Lane]:
    """Event name and lane of a dead letter, from the queue that it died in: service.<event>.<lane>.v1."""
    parts = str(message.headers.get("x-first-death-queue", "")).split(".")
    lane = parts[-2] if len(parts) > 2 else ""
    return ".".join(parts[1:-2]), Lane(lane) if lane in {known.value for known in Lane} else Lane.LIVE


async def _whole_message(message: RabbitMessage) -> RabbitMessage:
    return message
