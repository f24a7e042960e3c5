"""Signatures of webhooks, held against the reference implementation of Standard Webhooks."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from sandbox.signatures import standard_signature, tldr_signature, verify_standard, verify_tldr

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
OTHER = "whsec_" + base64.b64encode(b"another secret of 24 bytes").decode()
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BODY = b'{"type":"highlight.ready"}'


def standard_headers(*signatures: str, sent_at: datetime = NOW) -> dict[str, str]:
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(sent_at.timestamp())),
        "Webhook-Signature": " ".join(signatures),
    }


def signed(secret: str, *, body: bytes = BODY, sent_at: datetime = NOW) -> str:
    return standard_signature(secret, message_id="msg_1", timestamp_s=int(sent_at.timestamp()), body=body)


@given(key=st.binary(min_size=1, max_size=64), message_id=st.text(max_size=20), text=st.text(max_size=200))
def test_the_standard_signature_is_that_of_the_reference_implementation(
    key: bytes, message_id: str, text: str
) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()

    ours = standard_signature(
        secret, message_id=message_id, timestamp_s=int(NOW.timestamp()), body=text.encode()
    )

    assert ours == Webhook(secret).sign(msg_id=message_id, timestamp=NOW, data=text)


def test_our_signature_satisfies_the_reference_verifier() -> None:
    now = datetime.now(UTC)
    headers = standard_headers(signed(SECRET, sent_at=now), sent_at=now)

    assert Webhook(SECRET).verify(BODY, headers) == {"type": "highlight.ready"}


def test_the_tldr_signature_is_keyed_by_the_whole_secret_text() -> None:
    header = "sha256=" + hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()

    assert tldr_signature(SECRET, body=BODY) == header
    assert verify_tldr({"x-tldr-signature": header}, body=BODY, secrets=[OTHER, SECRET]).ok


@pytest.mark.parametrize(
    ("header", "body", "fault"),
    [
        ("", BODY, "X-TLDR-Signature is missing"),
        (tldr_signature(OTHER, body=BODY), BODY, "X-TLDR-Signature matches no known secret"),
        (tldr_signature(SECRET, body=BODY), BODY + b" ", "X-TLDR-Signature matches no known secret"),
        (tldr_signature(SECRET, body=BODY)[7:], BODY, "X-TLDR-Signature matches no known secret"),
        ("sha256=é", BODY, "X-TLDR-Signature matches no known secret"),
    ],
)
def test_a_wrong_tldr_signature_is_refused_with_the_reason(header: str, body: bytes, fault: str) -> None:
    verdict = verify_tldr({"X-TLDR-Signature": header}, body=body, secrets=[SECRET])

    assert (verdict.ok, verdict.fault) == (False, fault)


def test_one_of_several_signatures_is_enough_during_a_rotation() -> None:
    headers = standard_headers("v1a,unknown", signed(OTHER), signed(SECRET))

    verdicts = [verify_standard(headers, body=BODY, secrets=[s], now=NOW).ok for s in (SECRET, OTHER)]

    assert verdicts == [True, True]


@pytest.mark.parametrize(
    ("age_s", "expected"), [(0, True), (299, True), (301, False), (-299, True), (-301, False)]
)
def test_a_timestamp_may_be_five_minutes_away(age_s: int, expected: bool) -> None:
    sent_at = NOW - timedelta(seconds=age_s)
    headers = standard_headers(signed(SECRET, sent_at=sent_at), sent_at=sent_at)

    assert verify_standard(headers, body=BODY, secrets=[SECRET], now=NOW).ok is expected


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"Webhook-Id": "msg_2"}, "webhook-signature matches no known secret"),
        ({"Webhook-Id": ""}, "webhook-id missing"),
        ({"Webhook-Timestamp": "soon"}, "webhook-timestamp is not a number of seconds: 'soon'"),
        ({"Webhook-Signature": "v1,AAAA"}, "webhook-signature matches no known secret"),
    ],
)
def test_wrong_standard_headers_are_refused_with_the_reason(changes: dict[str, str], fault: str) -> None:
    headers = standard_headers(signed(SECRET)) | changes

    verdict = verify_standard(headers, body=BODY, secrets=[SECRET], now=NOW)

    assert (verdict.ok, verdict.fault) == (False, fault)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_a"])
def test_a_secret_that_is_no_base64_is_an_error(secret: str) -> None:
    with pytest.raises(ValueError, match="secret must"):
        standard_signature(secret, message_id="m", timestamp_s=0, body=BODY)
