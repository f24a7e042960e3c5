"""Claims for tests: an endpoint with one readable secret, and a delivery to it."""

from dataclasses import replace
from typing import Any

from notifier.domain.delivery import Claim, Endpoint
from shared.ids import DeliveryId, EndpointId, OrganizationId, PublicEventId, StreamId
from shared.keyring import Keyring, generate_key

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENDPOINT_ID = EndpointId("whk_0123456789ab")
URL = "https://customer.example/webhooks"
KEYRING = Keyring([generate_key()])


def sealed(plain: str, *, endpoint_id: str = ENDPOINT_ID) -> str:
    return KEYRING.encrypt(plain, context=f"endpoint:{endpoint_id}")


def endpoint(**changes: Any) -> Endpoint:
    made = Endpoint(
        endpoint_id=ENDPOINT_ID,
        version=1,
        sealed_url=sealed(URL),
        sealed_secrets=(sealed(SECRET),),
        max_attempts=11,
        failing=False,
        refusal=None,
    )
    return replace(made, **changes)


def claim(**changes: Any) -> Claim:
    made = Claim(
        delivery_id=DeliveryId("whd_000000000000000000000001"),
        organization_id=OrganizationId("org_0123456789ab"),
        stream_id=StreamId("str_0123456789ab"),
        public_event_id=PublicEventId("evt_000000000000000000000001"),
        type="highlight.created",
        body='{"id": "evt_1", "type":"highlight.created",  "title": "Tor für Köln ⚽"}',
        attempts=0,
        fence=1,
        traceparent=None,
        endpoint=endpoint(),
    )
    return replace(made, **changes)
