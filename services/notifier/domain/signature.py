"""The headers of a webhook: our own signature over the raw body, and those of Standard Webhooks 1.0 beside it.

`X-TLDR-Signature` is keyed by the whole secret text, the standard one by the bytes that its base64 part means.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from notifier.domain.delivery import Claim
from shared.errors import PermanentError

USER_AGENT = "TLDR-Highlight-Webhooks/1.0"
SECRET_PREFIX = "whsec_"  # noqa: S105


class SecretMalformed(PermanentError):
    """A secret is not `whsec_` and base64, or there is none."""

    code: ClassVar[str] = "secret_malformed"


def signed_headers(claim: Claim, *, body: bytes, secrets: Sequence[str], at: datetime) -> Mapping[str, str]:
    """All headers but the trace's; `secrets` newest first, `at` is the time of this attempt.

    `webhook-id` stays the same over retries, so that receivers can tell a repetition. Raises SecretMalformed.
    """
    if not secrets:
        raise SecretMalformed(f"{claim.endpoint.endpoint_id} has no secret to sign with")
    seconds = int(at.timestamp())
    signatures = [
        standard_signature(secret, message_id=claim.public_event_id, seconds=seconds, body=body)
        for secret in secrets
    ]
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "X-TLDR-Signature": tldr_signature(secrets[0], body=body),
        "X-TLDR-Timestamp": str(seconds),
        "X-TLDR-Event": claim.type,
        "X-TLDR-Delivery": claim.delivery_id,
        "webhook-id": claim.public_event_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(signatures),
    }


def tldr_signature(secret: str, *, body: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def standard_signature(secret: str, *, message_id: str, seconds: int, body: bytes) -> str:
    """One entry of `webhook-signature`. Raises SecretMalformed."""
    signed = f"{message_id}.{seconds}.".encode() + body
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")


def _key(secret: str) -> bytes:
    text = secret.removeprefix(SECRET_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SecretMalformed("a secret of the endpoint is not whsec_ and base64") from error
    if not key:
        raise SecretMalformed("a secret of the endpoint is empty")
    return key
