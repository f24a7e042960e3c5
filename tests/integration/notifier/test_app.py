"""The whole service as its composition root builds it, between a real broker, its database and a customer."""

from pathlib import Path

from faststream.rabbit import RabbitBroker
from pydantic import SecretStr

from notifier.app import build
from notifier.settings import NotifierSettings
from sandbox.receiver import WebhookReceiver
from shared import topology
from shared.contract import consumed_by, routing_key, spec_of
from shared.events import Event
from shared.keyring import Keyring, generate_key
from shared.runtime import running
from tests.integration.notifier.conftest import SECRET, Customers


def settings(database_url: str, rabbitmq_url: str, folder: Path, *, key: str, allow: str) -> NotifierSettings:
    return NotifierSettings(
        database_url=SecretStr(database_url),
        rabbitmq_url=SecretStr(rabbitmq_url),
        ops_port=0,
        object_store_folder=str(folder),
        url_signing_secret=SecretStr("0123456789abcdef0123456789abcdef"),
        secrets_keyring=SecretStr(key),
        outbound_allow=allow,
        graceful_timeout_s=5,
    )


async def publish(broker: RabbitBroker, event: Event) -> None:
    await broker.publish(
        event.model_dump_json().encode(),
        exchange=topology.exchange(spec_of(event.name).exchange),
        routing_key=routing_key(event.name, event.lane),
        persist=True,
    )


async def test_events_from_the_broker_reach_the_customer_and_the_service_ends_in_order(
    service_database_url: str, queues: str, tmp_path: Path
) -> None:
    key = generate_key()
    customers = Customers(Keyring([key]))
    async with WebhookReceiver(secrets=[SECRET]) as receiver:
        allow = receiver.base_url.removeprefix("http://")
        configured = settings(service_database_url, queues, tmp_path, key=key, allow=allow)
        async with (
            build(configured) as application,
            running(application),
            RabbitBroker(queues, logger=None) as gateway,
        ):
            await publish(gateway, customers.notification())
            await publish(gateway, customers.endpoint(receiver.url))
            received = await receiver.wait_for(lambda _one: True, timeout_s=20)
    assert received.verified, received.fault


async def test_the_service_handles_every_event_that_the_contract_sends_it(
    service_database_url: str, tmp_path: Path
) -> None:
    configured = settings(
        service_database_url, "amqp://nowhere.invalid/", tmp_path, key=generate_key(), allow=""
    )
    async with build(configured) as application:
        handled = set(application.foundation.consumer.subscriptions)
    assert handled == {spec.name for spec in consumed_by("notifier")}
