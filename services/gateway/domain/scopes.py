"""What an API key may do, and what a new organization's first key may do by plan."""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    STREAMS_READ = "streams:read"
    STREAMS_WRITE = "streams:write"
    HIGHLIGHTS_READ = "highlights:read"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    CONNECTIONS_WRITE = "connections:write"
    KEYS_WRITE = "keys:write"


ALL_SCOPES = tuple(Scope)


def owner_scopes(plan: str) -> tuple[Scope, ...]:
    """Scopes of the first key. Every plan has all of them today; what a plan limits is amounts."""
    del plan
    return ALL_SCOPES


def known_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Stored names as scopes; names that this version does not know grant nothing."""
    known = {scope.value: scope for scope in Scope}
    return frozenset(known[name] for name in names if name in known)
