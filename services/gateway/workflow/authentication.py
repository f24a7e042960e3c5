"""Who calls: from an API key to its organization, its limits and its scopes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.domain import api_key
from gateway.domain.rate_limit import Allowance
from gateway.domain.refusals import Forbidden, Unauthenticated
from gateway.domain.scopes import Scope
from shared.clock import Clock
from shared.ids import ApiKeyId, OrganizationId


@dataclass(frozen=True)
class StoredKey:
    """An API key as it is stored, with the state of its organization."""

    organization_id: OrganizationId
    secret_hash: str
    scopes: frozenset[Scope]
    expires_at: datetime | None
    revoked_at: datetime | None
    allowance: Allowance
    suspended: bool

    def is_live(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True)
class Caller:
    """The organization that a request acts for, and what its key may do."""

    organization_id: OrganizationId
    key_id: ApiKeyId
    scopes: frozenset[Scope]
    allowance: Allowance
    suspended: bool

    def check(self, scope: Scope) -> None:
        """Raise Forbidden unless the caller may do this now."""
        if self.suspended:
            raise Forbidden("The organization is suspended")
        if scope not in self.scopes:
            raise Forbidden(f"Insufficient scope: {scope} is needed")


class StoredKeys(Protocol):
    async def find(self, key_id: ApiKeyId) -> StoredKey | None:
        """The key, whatever its organization; read anew each time, so that a revocation counts at once."""
        ...


class Authentication:
    def __init__(self, *, keys: StoredKeys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    async def identify(self, text: str | None) -> Caller:
        """The caller, if the key is genuine and alive. Raises Unauthenticated."""
        if not text:
            raise Unauthenticated("Missing API key")
        key = api_key.parse(text)
        stored = await self._keys.find(key.key_id) if key else None
        if key is None or stored is None or not api_key.matches(key, stored.secret_hash):
            raise Unauthenticated("Invalid API key")
        if not stored.is_live(self._clock()):
            raise Unauthenticated("Invalid API key")
        return Caller(
            stored.organization_id, key.key_id, stored.scopes, stored.allowance, suspended=stored.suspended
        )
