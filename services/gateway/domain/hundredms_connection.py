"""A connection to 100ms: the secret that its webhooks carry in a header, and the options of its streams.

Secrets are long and random, so their plain SHA-256 is stored; two may be live while one is rotated.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from gateway.domain.refusals import Unacceptable
from gateway.domain.stream_options import StreamOptions
from shared.ids import ConnectionId, OrganizationId

DEFAULT_SECRET_HEADER = "X-TLDR-Secret"  # noqa: S105  the header's name, not a secret
# What proxies and HTTP clients consume, rewrite or set themselves: a secret there would not arrive, or would change
# how the request is read. `Authorization` is made to carry a secret from end to end, so it may be chosen.
_TAKEN_HEADERS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-real-ip",
    }
)
MIN_SECRET = 16
MAX_SECRET = 200
_MAX_PRESENTED = 40


@dataclass(frozen=True, kw_only=True)
class Connection:
    """What authentication and the start of a stream need."""

    connection_id: ConnectionId
    organization_id: OrganizationId
    secret_header: str
    secret_hashes: tuple[str, ...]
    options: dict[str, Any]
    live: bool


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


def generated_secret(entropy: bytes) -> str:
    return urlsafe_b64encode(entropy).decode().rstrip("=")


def secret_hash(secret: str) -> str:
    """64 hex digits."""
    return sha256(secret.encode()).hexdigest()


def presented_hashes(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Hashes of all header values that could be a secret, to find the connection by."""
    long_enough = [value for value in headers.values() if MIN_SECRET <= len(value) <= MAX_SECRET]
    return tuple(dict.fromkeys(secret_hash(value) for value in long_enough[:_MAX_PRESENTED]))


def connection_of(candidates: Iterable[Connection], *, headers: Mapping[str, str]) -> Connection | None:
    """The live candidate whose own header carries one of its secrets; header names in any case."""
    lower = {name.lower(): value for name, value in headers.items()}
    opened = [each for each in candidates if each.live and _opens(each, lower)]
    return opened[0] if len(opened) == 1 else None


def _opens(connection: Connection, headers: Mapping[str, str]) -> bool:
    given = secret_hash(headers.get(connection.secret_header.lower(), ""))
    return any(hmac.compare_digest(given, stored) for stored in connection.secret_hashes)


def check_secret(secret: str) -> None:
    """Raise Unacceptable for a secret that would not arrive in a header as it was given here."""
    if not all("!" <= character <= "~" for character in secret):
        raise Unacceptable("The secret must be of visible ASCII characters, without spaces", field="secret")


def check_secret_header(name: str) -> None:
    """Raise Unacceptable for a header that has a meaning of its own on the way."""
    if name.lower() in _TAKEN_HEADERS:
        raise Unacceptable(f"{name} has a meaning of its own in HTTP: choose another", field="secret_header")


def check_connection_options(options: StreamOptions) -> None:
    """Raise Unacceptable for options that hold secrets or addresses: they have places of their own."""
    if options.custom_headers:
        raise Unacceptable("A connection takes no custom_headers", field="options.custom_headers")
    if options.webhook_url is not None:
        raise Unacceptable("Register an endpoint with POST /webhooks instead", field="options.webhook_url")
