"""Verifies the two signatures on our webhooks, as a customer's own code would; pure, no HTTP and no clock.

`X-TLDR-Signature` is keyed by the whole secret text. Standard Webhooks (https://www.standardwebhooks.com)
is keyed by the bytes that the base64 part after `whsec_` stands for.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

TLDR_HEADER = "X-TLDR-Signature"
ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
STANDARD_HEADER = "webhook-signature"
SECRET_PREFIX = "whsec_"
TOLERANCE_S = 300


@dataclass(frozen=True)
class Verdict:
    """Whether a signature holds, and in words why not."""

    ok: bool
    fault: str = ""


def tldr_signature(secret: str, *, body: bytes) -> str:
    """Return the value of `X-TLDR-Signature` over the raw body."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def standard_signature(secret: str, *, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return one entry of `webhook-signature`; raises ValueError if the secret is not `whsec_` + base64."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    digest = hmac.new(_standard_key(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def verify_tldr(headers: Mapping[str, str], *, body: bytes, secrets: Sequence[str]) -> Verdict:
    """Check `X-TLDR-Signature` against any of `secrets` (two are valid while a secret is rotated)."""
    given = _lowered(headers).get(TLDR_HEADER.lower(), "")
    if not given:
        return Verdict(ok=False, fault=f"{TLDR_HEADER} is missing")
    if any(_same(given, tldr_signature(secret, body=body)) for secret in secrets):
        return Verdict(ok=True)
    return Verdict(ok=False, fault=f"{TLDR_HEADER} matches no known secret")


def verify_standard(
    headers: Mapping[str, str],
    *,
    body: bytes,
    secrets: Sequence[str],
    now: datetime,
    tolerance_s: float = TOLERANCE_S,
) -> Verdict:
    """Check the three Standard Webhooks headers against any of `secrets`, at the aware time `now`.

    Raises ValueError if one of the secrets is not `whsec_` + base64.
    """
    lowered = _lowered(headers)
    missing = [name for name in (ID_HEADER, TIMESTAMP_HEADER, STANDARD_HEADER) if not lowered.get(name)]
    if missing:
        return Verdict(ok=False, fault=f"{', '.join(missing)} missing")
    age = _verify_age(lowered[TIMESTAMP_HEADER], now=now, tolerance_s=tolerance_s)
    if not age.ok:
        return age
    sign = partial(
        standard_signature,
        message_id=lowered[ID_HEADER],
        timestamp_s=int(lowered[TIMESTAMP_HEADER]),
        body=body,
    )
    return _verify_any(lowered[STANDARD_HEADER].split(" "), expected=tuple(map(sign, secrets)))


def _verify_age(sent: str, *, now: datetime, tolerance_s: float) -> Verdict:
    if not (sent.isascii() and sent.isdigit()):
        return Verdict(ok=False, fault=f"{TIMESTAMP_HEADER} is not a number of seconds: {sent!r}")
    age_s = now.timestamp() - int(sent)
    if abs(age_s) > tolerance_s:
        return Verdict(ok=False, fault=f"{TIMESTAMP_HEADER} is {age_s:.0f} s old, allowed {tolerance_s:.0f}")
    return Verdict(ok=True)


def _verify_any(given: Sequence[str], *, expected: Sequence[str]) -> Verdict:
    if any(_same(signature, wanted) for wanted in expected for signature in given):
        return Verdict(ok=True)
    return Verdict(ok=False, fault=f"{STANDARD_HEADER} matches no known secret")


def _standard_key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX) + "==")
    except binascii.Error as error:
        raise ValueError(f"a secret must be {SECRET_PREFIX} and base64") from error
    if not key:
        raise ValueError("a secret must not be empty")
    return key


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
