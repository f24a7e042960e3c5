"""The two connections of a service: one only consumes, one only publishes, so that a blocked publish stops no ack.

Every event that leaves a service leaves through `Publisher`: persistent, mandatory, confirmed.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog
from aio_pika.abc import HeadersType
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError
from aiormq.exceptions import AMQPError as WireError
from faststream.exceptions import IncorrectState
from faststream.rabbit import Channel, RabbitBroker

from shared import topology, trace
from shared.contract import UnknownEvent, routing_key, spec_of
from shared.errors import RetryableError
from shared.outbox import Outgoing

log = structlog.get_logger()

HEARTBEAT_S = 5
RECONNECT_S = 1.0
PUBLISH_TIMEOUT_S = 5.0
# FastStream's own word, IncorrectState, is for a broker that was never reached since the start.
_AWAY = (AMQPError, WireError, ChannelInvalidStateError, ConnectionError, TimeoutError, IncorrectState)


class BrokerUnavailable(RetryableError):
    """The broker did not confirm the message: it is away, blocked, or has no queue for it."""

    code = "broker_unavailable"


class EventRefused(BrokerUnavailable):
    """The broker is there, but has no queue or no room for this event: others may well get through."""


def _with_heartbeat(url: str) -> str:
    """The address with our liveness settings; what else it says (certificates, say) stays."""
    parts = urlsplit(url)
    ours = {"heartbeat": HEARTBEAT_S, "reconnect_interval": RECONNECT_S, "fail_fast": "0"}
    return urlunsplit(parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | ours)))


def consume_broker(url: str, *, graceful_timeout_s: float) -> RabbitBroker:
    return RabbitBroker(
        _with_heartbeat(url),
        fail_fast=False,
        reconnect_interval=RECONNECT_S,
        graceful_timeout=graceful_timeout_s,
        apply_types=False,
        logger=None,
    )


def publish_broker(url: str, *, on_doubt: Callable[..., None] | None = None) -> RabbitBroker:
    """`on_doubt` is called when the connection was lost and when it is back: the broker may be another one."""
    callbacks = () if on_doubt is None else (on_doubt,)
    return RabbitBroker(
        _with_heartbeat(url),
        fail_fast=False,
        reconnect_interval=RECONNECT_S,
        default_channel=Channel(publisher_confirms=True, on_return_raises=True),
        on_close=callbacks,
        on_reconnected=callbacks,
        apply_types=False,
        logger=None,
    )


class Publisher:
    """Publishes outbox rows over the publish-only connection."""

    def __init__(self, broker: RabbitBroker) -> None:
        self._broker = broker

    async def publish(self, row: Outgoing) -> None:
        """Return when the broker has confirmed. Raises BrokerUnavailable, after which it may have arrived."""
        headers: HeadersType = {trace.HEADER: row.traceparent} if row.traceparent else {}
        with _refusals(row.event_name):
            spec = spec_of(row.event_name)
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                await self._broker.publish(
                    row.body.encode(),
                    exchange=topology.exchange(spec.exchange),
                    routing_key=routing_key(row.event_name, row.lane),
                    mandatory=True,
                    persist=True,
                    message_id=row.event_id,
                    message_type=row.event_name,
                    content_type="application/json",
                    headers=headers,
                )

    async def keep(self, body: bytes, *, queue: str, within_s: float) -> None:
        """Put what is no event into one queue, as safely. Raises BrokerUnavailable, after which it may be there."""
        with _refusals(queue):
            async with asyncio.timeout(within_s):
                await self._broker.publish(
                    body,
                    routing_key=queue,
                    mandatory=True,
                    persist=True,
                    content_type="application/octet-stream",
                )


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Say whether the broker is away, or only has no queue or no room for this message."""
    try:
        yield
    except (DeliveryError, UnknownEvent) as error:
        raise EventRefused(f"{what}: {type(error).__name__}: {error}") from error
    except _AWAY as error:
        raise BrokerUnavailable(f"{what}: {type(error).__name__}: {error}") from error
