"""What an API key may do, and what a new organization's first key may do by plan."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType


class Scope(StrEnum):
    STREAMS_READ = "streams:read"
    STREAMS_WRITE = "streams:write"
    HIGHLIGHTS_READ = "highlights:read"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    CONNECTIONS_READ = "connections:read"
    CONNECTIONS_WRITE = "connections:write"
    KEYS_WRITE = "keys:write"


ALL_SCOPES = tuple(Scope)
# Keys from before there was a scope for reading read with the one for writing.
_IMPLIED: Mapping[Scope, Scope] = MappingProxyType({Scope.CONNECTIONS_WRITE: Scope.CONNECTIONS_READ})


def owner_scopes(plan: str) -> tuple[Scope, ...]:
    """Scopes of the first key. Every plan has all of them today; what a plan limits is amounts."""
    del plan
    return ALL_SCOPES


def known_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Stored names as scopes, with those that they imply; names that this version does not know grant nothing."""
    known = {scope.value: scope for scope in Scope}
    named = {known[name] for name in names if name in known}
    return frozenset(named | {_IMPLIED[scope] for scope in named if scope in _IMPLIED})
