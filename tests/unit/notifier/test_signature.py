"""Our headers, checked by others' code: the `standardwebhooks` package and the receiver of the first customer."""

import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from notifier.domain.signature import SecretMalformed, signed_headers
from tests.fakes.notifier.claims import SECRET, claim

OLD_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
CLAIM = claim()
BODY = CLAIM.body.encode()


def test_the_first_customers_receiver_verifies_the_raw_body() -> None:
    headers = signed_headers(CLAIM, body=BODY, secrets=[SECRET], at=datetime.now(UTC))
    expected = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
    assert headers["X-TLDR-Signature"] == f"sha256={expected}"


def test_the_standard_webhooks_package_verifies_the_same_bytes() -> None:
    headers = signed_headers(CLAIM, body=BODY, secrets=[SECRET], at=datetime.now(UTC))
    verified = Webhook(SECRET).verify(BODY, dict(headers))
    assert verified["type"] == "highlight.created"


def test_while_a_secret_is_rotated_both_verify_and_the_newest_keys_our_own_header() -> None:
    headers = signed_headers(CLAIM, body=BODY, secrets=[SECRET, OLD_SECRET], at=datetime.now(UTC))
    for secret in (SECRET, OLD_SECRET):
        Webhook(secret).verify(BODY, dict(headers))
    expected = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
    assert headers["X-TLDR-Signature"] == f"sha256={expected}"


def test_a_retry_keeps_the_webhook_id_and_signs_a_fresh_timestamp() -> None:
    times = [datetime(2026, 11, 20, 12, minute, tzinfo=UTC) for minute in (0, 5)]
    first, second = (signed_headers(CLAIM, body=BODY, secrets=[SECRET], at=at) for at in times)
    assert first["webhook-id"] == second["webhook-id"] == CLAIM.public_event_id
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 300
    assert first["webhook-signature"] != second["webhook-signature"]
    assert first["X-TLDR-Signature"] == second["X-TLDR-Signature"]


def test_event_and_delivery_stand_in_the_headers() -> None:
    headers = signed_headers(CLAIM, body=BODY, secrets=[SECRET], at=datetime.now(UTC))
    assert headers["X-TLDR-Event"] == "highlight.created"
    assert headers["X-TLDR-Delivery"] == CLAIM.delivery_id
    assert headers["X-TLDR-Timestamp"] == headers["webhook-timestamp"]
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == "TLDR-Highlight-Webhooks/1.0"


@pytest.mark.parametrize("secrets", [(), ("whsec_",), ("whsec_not base64!",), (SECRET, "whsec_ä")])
def test_a_secret_that_cannot_sign_is_told(secrets: tuple[str, ...]) -> None:
    with pytest.raises(SecretMalformed):
        signed_headers(CLAIM, body=BODY, secrets=secrets, at=datetime.now(UTC))
