"""Organizations, users and API keys in PostgreSQL."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import insert, text, update
from sqlalchemy.exc import IntegrityError

from gateway.adapters import tables as t
from gateway.adapters.transactions import Tables
from gateway.domain.rate_limit import Allowance
from gateway.domain.scopes import known_scopes
from gateway.workflow.accounts import EmailTaken, NewApiKey, NewOrganization, NewUser
from gateway.workflow.authentication import StoredKey
from shared.database import Database
from shared.ids import ApiKeyId, OrganizationId


class AccountRows(Tables):
    async def add_organization(self, organization: NewOrganization) -> None:
        await self._execute(insert(t.organizations).values(asdict(organization)))

    async def add_user(self, user: NewUser) -> None:
        try:
            await self._execute(insert(t.users).values(asdict(user)))
        except IntegrityError as error:
            raise EmailTaken from error

    async def add_api_key(self, key: NewApiKey) -> None:
        scopes = [scope.value for scope in key.scopes]
        await self._execute(insert(t.api_keys).values({**asdict(key), "scopes": scopes}))

    async def revoke_api_key(self, key_id: ApiKeyId, *, at: datetime) -> bool:
        keys = t.api_keys.c
        statement = (
            update(t.api_keys).where(keys.key_id == key_id, keys.revoked_at.is_(None)).values(revoked_at=at)
        )
        return (await self._execute(statement)).rowcount == 1


class StoredEmails:
    """Looks across all organizations, through a function that tells nothing but yes or no."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def taken(self, email: str) -> bool:
        async with self._database.transaction() as session:
            connection = await session.connection()
            return bool((await connection.execute(_EMAIL_TAKEN, {"email": email})).scalar_one())


class StoredApiKeys:
    """Finds keys before the organization is known; nothing is cached, so a revocation counts at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, key_id: ApiKeyId) -> StoredKey | None:
        async with self._database.autocommit() as connection:
            row = (await connection.execute(_FIND_CALLER, {"key_id": key_id})).mappings().first()
        return _stored_key(row) if row else None


def _stored_key(row: Mapping[Any, Any]) -> StoredKey:
    return StoredKey(
        organization_id=OrganizationId(row["organization_id"]),
        secret_hash=row["secret_hash"],
        scopes=known_scopes(row["scopes"]),
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        allowance=Allowance(row["plan"], row["rate_limit"], row["organization_rate_limit"]),
        suspended=row["suspended"],
    )


_EMAIL_TAKEN = text("SELECT email_taken(:email)")
_FIND_CALLER = text("SELECT * FROM find_caller(:key_id)")
