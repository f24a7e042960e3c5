"""A connection to 100ms: which checks its webhooks must pass, and the options of its streams.

Header secrets are long and random, so their plain SHA-256 is stored; HMAC secrets are needed again and are sealed.
Of each kind two may be live while one is rotated.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

from gateway.domain.hundredms_networks import holds
from gateway.domain.hundredms_signature import SIGNATURE_HEADER, is_signed
from gateway.domain.refusals import Unacceptable
from gateway.domain.stream_options import StreamOptions
from shared.ids import ConnectionId, OrganizationId

DEFAULT_SECRET_HEADER = "X-TLDR-Secret"  # noqa: S105  the header's name, not a secret
# What proxies and HTTP clients consume, rewrite or set themselves: a secret there would not arrive, would change how
# the request is read, or would be what every sender says, so that one tenant could claim the webhooks of others on
# the bare address. `Authorization` is made to carry a secret from end to end, so it may be chosen.
_TAKEN_HEADERS = frozenset(
    {
        *("baggage", "cache-control", "connection", "content-encoding", "content-length", "content-type"),
        *("cookie", "date", "dnt", "expect", "forwarded", "from", "host", "keep-alive", "origin", "pragma"),
        *("priority", "proxy-authenticate", "proxy-authorization", "proxy-connection", "range", "referer"),
        *("te", "traceparent", "tracestate", "trailer", "transfer-encoding", "true-client-ip", "upgrade"),
        *(
            "user-agent",
            "via",
            "x-100ms-signature",
            "x-client-ip",
            "x-correlation-id",
            "x-real-ip",
            "x-request-id",
            "x-request-start",
            "x-scheme",
        ),
    }
)
_TAKEN_PREFIXES = (
    *("accept", "cdn-", "cf-", "cloudfront-", "fastly-", "if-", "sec-", "x-amz", "x-appengine-", "x-azure-"),
    *("x-b3-", "x-cloud-", "x-envoy-", "x-forwarded-", "x-original-"),
)
MIN_SECRET = 16
MIN_HMAC_SECRET = 8  # 100ms may have made it
MAX_SECRET = 200
_MAX_PRESENTED = 40


@dataclass(frozen=True)
class Checks:
    """What a webhook must show. Secret or signature is always among them: an address alone proves nothing."""

    secret: bool = True
    signature: bool = False
    network: bool = False


class Fault(StrEnum):
    """Why a webhook is not let in. Senders are told apart from the rest only NETWORK, and only with a right secret."""

    UNKNOWN = "unknown_connection"
    SECRET = "wrong_secret"  # noqa: S105  a reason, not a secret
    SIGNATURE = "wrong_signature"
    NETWORK = "foreign_address"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """What authentication and the start of a stream need; only secrets that are live now."""

    connection_id: ConnectionId
    organization_id: OrganizationId
    secret_header: str
    secret_hashes: tuple[str, ...]
    options: dict[str, Any]
    live: bool
    checks: Checks = Checks()
    sealed_hmac_secrets: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NewConnection:
    """One row of `hundredms_connections`."""

    connection_id: ConnectionId
    organization_id: OrganizationId
    name: str
    secret_header: str
    secret_hashes: tuple[str, ...]
    options: dict[str, Any]
    created_at: datetime
    checks: Checks = Checks()
    sealed_hmac_secrets: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """One request as it came in. `connection_id` is None on the bare address; `peer` is the sender's address."""

    connection_id: ConnectionId | None
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    peer: str
    received_at: datetime


def generated_secret(entropy: bytes) -> str:
    return urlsafe_b64encode(entropy).decode().rstrip("=")


def secret_hash(secret: str) -> str:
    """64 hex digits."""
    return sha256(secret.encode()).hexdigest()


def presented_hashes(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Hashes of all header values that could be a secret, to find the connection by."""
    long_enough = [
        value
        for name, value in headers.items()
        if MIN_SECRET <= len(value) <= MAX_SECRET and not _is_taken(name)
    ]
    return tuple(dict.fromkeys(secret_hash(value) for value in long_enough[:_MAX_PRESENTED]))


def connection_of(candidates: Iterable[Connection], *, headers: Mapping[str, str]) -> Connection | None:
    """The live candidate whose own header carries one of its secrets; one that two connections share opens neither."""
    opened = [each for each in candidates if each.live and carries_secret(each, headers)]
    return opened[0] if len(opened) == 1 else None


def fault_of(connection: Connection, webhook: Webhook, *, hmac_secrets: Iterable[str]) -> Fault | None:
    """The first check that the webhook fails; the address comes last: only who has a secret is told of it."""
    checks = connection.checks
    if not connection.live or not (checks.secret or checks.signature):
        return Fault.UNKNOWN
    if checks.secret and not carries_secret(connection, webhook.headers):
        return Fault.SECRET
    signature = _lower(webhook.headers).get(SIGNATURE_HEADER, "")
    if checks.signature and not is_signed(webhook.body, signature=signature, secrets=hmac_secrets):
        return Fault.SIGNATURE
    if checks.network and not holds(connection.networks, webhook.peer):
        return Fault.NETWORK
    return None


def carries_secret(connection: Connection, headers: Mapping[str, str]) -> bool:
    """Whether the connection's own header, in any spelling of its name, carries a live secret; in constant time."""
    given = secret_hash(_lower(headers).get(connection.secret_header.lower(), ""))
    matches = [hmac.compare_digest(given, stored) for stored in connection.secret_hashes]
    return any(matches)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def check_secret(secret: str) -> None:
    """Raise Unacceptable for a secret that would not arrive in a header as it was given here."""
    if not all("!" <= character <= "~" for character in secret):
        raise Unacceptable("The secret must be of visible ASCII characters, without spaces", field="secret")


def check_checks(checks: Checks, *, networks: tuple[str, ...]) -> None:
    """Raise Unacceptable for checks that would let everybody in, or nobody."""
    if not (checks.secret or checks.signature):
        raise Unacceptable("Keep the secret or the signature: an address proves nothing", field="checks")
    if checks.network and not networks:
        raise Unacceptable("List the networks before you check them", field="networks")


def check_hmac_secret(secret: str, *, field: str) -> None:
    """Raise Unacceptable for a key that nobody could have typed: it would never make the same signature."""
    if not secret.isprintable():
        raise Unacceptable("The secret must be of printable characters", field=field)


def check_secret_header(name: str) -> None:
    """Raise Unacceptable for a header that has a meaning of its own on the way."""
    if _is_taken(name):
        raise Unacceptable(f"{name} has a meaning of its own in HTTP: choose another", field="secret_header")


def _is_taken(name: str) -> bool:
    return name.lower() in _TAKEN_HEADERS or name.lower().startswith(_TAKEN_PREFIXES)


def check_connection_options(options: StreamOptions) -> None:
    """Raise Unacceptable for options that hold secrets or addresses: they have places of their own."""
    if options.custom_headers:
        raise Unacceptable("A connection takes no custom_headers", field="options.custom_headers")
    if options.webhook_url is not None:
        raise Unacceptable("Register an endpoint with POST /webhooks instead", field="options.webhook_url")
