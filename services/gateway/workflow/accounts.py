"""Registration of customers, and the API keys that they make and revoke."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from gateway.domain import api_key
from gateway.domain.account import check_password, normalised_email
from gateway.domain.api_key import ApiKeyText
from gateway.domain.rate_limit import Allowance, LimitPolicy
from gateway.domain.refusals import Conflict, Forbidden, NotFound, Unacceptable
from gateway.domain.scopes import Scope, owner_scopes
from gateway.domain.webhook_secret import webhook_secret
from gateway.workflow.authentication import Caller
from shared.clock import Clock
from shared.ids import ApiKeyId, OrganizationId, UserId, random_id
from shared.keyring import Keyring

Entropy = Callable[[int], bytes]
FIRST_PLAN = "starter"


class EmailTaken(Conflict):
    """An account with this address exists."""

    code = "email_taken"

    def __init__(self) -> None:
        super().__init__("An account with this email address already exists")


@dataclass(frozen=True, kw_only=True)
class NewOrganization:
    organization_id: OrganizationId
    name: str
    plan: str
    sealed_signing_secret: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class NewUser:
    user_id: UserId
    organization_id: OrganizationId
    email: str
    password_hash: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class NewApiKey:
    key_id: ApiKeyId
    organization_id: OrganizationId
    name: str
    secret_hash: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    rate_limit: int | None = None


class AccountTables(Protocol):
    """One transaction of one organization."""

    async def add_organization(self, organization: NewOrganization) -> None: ...
    async def add_user(self, user: NewUser) -> None:
        """Raises EmailTaken."""
        ...

    async def add_api_key(self, key: NewApiKey) -> None: ...
    async def revoke_api_key(self, key_id: ApiKeyId, *, at: datetime) -> bool:
        """False when the organization has no such key that is alive."""
        ...


OpenAccounts = Callable[[OrganizationId], AbstractAsyncContextManager[AccountTables]]


class Emails(Protocol):
    async def taken(self, email: str) -> bool: ...


class Passwords(Protocol):
    async def hash(self, password: str) -> str:
        """A slow, salted hash, made beside the event loop."""
        ...


@dataclass(frozen=True)
class Registered:
    """A new account. `api_key` is shown this once."""

    user: NewUser
    organization: NewOrganization
    api_key: ApiKeyText


@dataclass(frozen=True)
class IssuedKey:
    """A new key. `text` is shown this once; `rate_limit` is what it may do per hour, by itself or by its plan."""

    key: NewApiKey
    text: ApiKeyText
    rate_limit: int


class Accounts:
    def __init__(
        self,
        *,
        open_accounts: OpenAccounts,
        emails: Emails,
        passwords: Passwords,
        keyring: Keyring,
        clock: Clock,
        entropy: Entropy,
        limits: LimitPolicy,
    ) -> None:
        self._open = open_accounts
        self._emails = emails
        self._passwords = passwords
        self._keyring = keyring
        self._clock = clock
        self._entropy = entropy
        self._limits = limits

    async def register(self, *, email: str, password: str, company_name: str) -> Registered:
        """User, organization and first key in one transaction. Raises Unacceptable or EmailTaken."""
        address = normalised_email(email)
        check_password(password, email=address)
        if await self._emails.taken(address):
            raise EmailTaken
        organization = self._new_organization(company_name)
        user = NewUser(
            user_id=UserId(random_id("usr", self._entropy(6))),
            organization_id=organization.organization_id,
            email=address,
            password_hash=await self._passwords.hash(password),
            created_at=organization.created_at,
        )
        issued = self._new_key(
            organization.organization_id,
            name="first key",
            scopes=owner_scopes(organization.plan),
            allowance=Allowance(organization.plan, None, None),
        )
        async with self._open(organization.organization_id) as tables:
            await tables.add_organization(organization)
            await tables.add_user(user)
            await tables.add_api_key(issued.key)
        return Registered(user, organization, issued.text)

    async def issue_key(
        self,
        caller: Caller,
        *,
        name: str,
        scopes: tuple[Scope, ...],
        expires_at: datetime | None = None,
        rate_limit: int | None = None,
    ) -> IssuedKey:
        """A key with some of the caller's own scopes, and at most the caller's own limit.

        Raises Forbidden for other scopes, Unacceptable for the past and for a higher limit.
        """
        beyond = sorted(set(scopes) - caller.scopes)
        if beyond:
            raise Forbidden(f"Insufficient scope: this key cannot grant {', '.join(beyond)}")
        issued = self._new_key(
            caller.organization_id,
            name=name,
            scopes=scopes,
            expires_at=expires_at,
            allowance=self._granted(caller.allowance, rate_limit),
        )
        async with self._open(caller.organization_id) as tables:
            await tables.add_api_key(issued.key)
        return issued

    async def revoke_key(self, caller: Caller, key_id: ApiKeyId) -> None:
        """The key stops working with the next request. Raises NotFound."""
        async with self._open(caller.organization_id) as tables:
            if not await tables.revoke_api_key(key_id, at=self._clock()):
                raise NotFound("API key not found")

    def _granted(self, own: Allowance, wanted: int | None) -> Allowance:
        """The new key's allowance: what is wanted, else what limits the calling key."""
        at_most = self._limits.key_limit(own)
        if wanted is not None and wanted > at_most:
            raise Unacceptable(f"This key can grant at most {at_most} requests per hour", field="rate_limit")
        return own if wanted is None else replace(own, key=wanted)

    def _new_organization(self, name: str) -> NewOrganization:
        organization_id = OrganizationId(random_id("org", self._entropy(6)))
        return NewOrganization(
            organization_id=organization_id,
            name=name,
            plan=FIRST_PLAN,
            sealed_signing_secret=self._keyring.encrypt(
                webhook_secret(self._entropy(32)), context=signing_context(organization_id)
            ),
            created_at=self._clock(),
        )

    def _new_key(
        self,
        organization_id: OrganizationId,
        *,
        name: str,
        scopes: tuple[Scope, ...],
        allowance: Allowance,
        expires_at: datetime | None = None,
    ) -> IssuedKey:
        now = self._clock()
        text = api_key.mint(self._entropy(api_key.ENTROPY_BYTES))
        key = NewApiKey(
            key_id=text.key_id,
            organization_id=organization_id,
            name=name,
            secret_hash=text.secret_hash(),
            scopes=tuple(dict.fromkeys(scopes)),
            created_at=now,
            expires_at=None if expires_at is None else api_key.checked_expiry(expires_at, now=now),
            rate_limit=allowance.key,
        )
        return IssuedKey(key, text, self._limits.key_limit(allowance))


def signing_context(organization_id: OrganizationId) -> str:
    """What the organization's default webhook secret is sealed for."""
    return f"organization:{organization_id}"
