"""100ms connections as their owners see and change them, in PostgreSQL; its clock ends what is rotated out."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Executable, Row, case, cast, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.types import Text

from gateway.adapters import tables as t
from gateway.adapters.transactions import Tables
from gateway.domain.hundredms_connection import Checks, NewConnection
from gateway.workflow.hundredms_connections import ConnectionChange, ConnectionView
from shared.ids import ConnectionId

_CONNECTION = t.hundredms_connections.c
_STRINGS = ARRAY(Text)


def _still(until: Any) -> Any:
    """The end of a second secret, as long as it is to come by the database's clock."""
    return case((until > func.now(), until))


_SHOWN = (
    _CONNECTION.connection_id,
    _CONNECTION.name,
    _CONNECTION.secret_header,
    _CONNECTION.options,
    _CONNECTION.check_secret,
    _CONNECTION.check_signature,
    _CONNECTION.check_network,
    _CONNECTION.networks,
    (func.cardinality(_CONNECTION.sealed_hmac_secrets) > 0).label("has_hmac_secret"),
    _still(_CONNECTION.previous_secret_until).label("previous_secret_until"),
    _still(_CONNECTION.previous_hmac_secret_until).label("previous_hmac_secret_until"),
    _CONNECTION.created_at,
    _CONNECTION.updated_at,
    _CONNECTION.sealed_api_credentials.is_not(None).label("has_api_credentials"),
    _CONNECTION.api_checked_at,
    _CONNECTION.api_error,
)


class ConnectionRows(Tables):
    """Only connections that were not deleted are seen."""

    async def add_connection(self, connection: NewConnection) -> None:
        values = {
            **asdict(connection),
            **_checks(connection.checks),
            "secret_hashes": list(connection.secret_hashes),
            "sealed_hmac_secrets": list(connection.sealed_hmac_secrets),
            "networks": list(connection.networks),
            "updated_at": connection.created_at,
        }
        del values["checks"]
        await self._execute(insert(t.hundredms_connections).values(values))

    async def connections(self) -> tuple[ConnectionView, ...]:
        statement = (
            select(*_SHOWN)
            .where(_CONNECTION.disabled_at.is_(None))
            .order_by(_CONNECTION.created_at, _CONNECTION.connection_id)
        )
        return tuple(_view(row) for row in await self._execute(statement))

    async def connection(self, connection_id: ConnectionId) -> ConnectionView | None:
        return await self._one(select(*_SHOWN).where(*_alive(connection_id)))

    async def hold_connection(self, connection_id: ConnectionId) -> ConnectionView | None:
        return await self._one(select(*_SHOWN).where(*_alive(connection_id)).with_for_update())

    async def change_connection(
        self, connection_id: ConnectionId, change: ConnectionChange, *, at: datetime
    ) -> ConnectionView | None:
        values = {
            "name": change.name,
            "options": change.options,
            "networks": list(change.networks),
            **_checks(change.checks),
        }
        return await self._update(connection_id, values, at=at)

    async def rotate_secret(
        self, connection_id: ConnectionId, secret_hash: str, *, overlap_s: int, at: datetime
    ) -> ConnectionView | None:
        values = {
            "secret_hashes": _followed(secret_hash, _CONNECTION.secret_hashes, overlap_s),
            "previous_secret_until": _until(_CONNECTION.secret_hashes, overlap_s),
        }
        return await self._update(connection_id, values, at=at)

    async def rotate_hmac_secret(
        self, connection_id: ConnectionId, sealed: str, *, overlap_s: int, at: datetime
    ) -> ConnectionView | None:
        values = {
            "sealed_hmac_secrets": _followed(sealed, _CONNECTION.sealed_hmac_secrets, overlap_s),
            "previous_hmac_secret_until": _until(_CONNECTION.sealed_hmac_secrets, overlap_s),
        }
        return await self._update(connection_id, values, at=at)

    async def set_api_credentials(
        self, connection_id: ConnectionId, sealed: str | None, *, at: datetime
    ) -> ConnectionView | None:
        values = {
            "sealed_api_credentials": sealed,
            "api_due_at": None if sealed is None else func.now(),
            "api_failures": 0,
            "api_checked_at": None,
            "api_error": None,
        }
        return await self._update(connection_id, values, at=at)

    async def delete_connection(self, connection_id: ConnectionId, *, at: datetime) -> bool:
        """Its secrets go at once; its row stays, since what it received points to it."""
        values = {
            "disabled_at": at,
            "secret_hashes": [],
            "sealed_hmac_secrets": [],
            "sealed_api_credentials": None,
        }
        return await self._update(connection_id, values, at=at) is not None

    async def _update(
        self, connection_id: ConnectionId, values: Mapping[str, Any], *, at: datetime
    ) -> ConnectionView | None:
        statement = (
            update(t.hundredms_connections)
            .where(*_alive(connection_id))
            .values(**values, updated_at=at)
            .returning(*_SHOWN)
        )
        return await self._one(statement)

    async def _one(self, statement: Executable) -> ConnectionView | None:
        row = (await self._execute(statement)).first()
        return _view(row) if row else None


def _alive(connection_id: ConnectionId) -> tuple[Any, ...]:
    return (_CONNECTION.connection_id == connection_id, _CONNECTION.disabled_at.is_(None))


def _checks(checks: Checks) -> dict[str, bool]:
    return {f"check_{name}": value for name, value in asdict(checks).items()}


def _followed(newest: str, stored: Any, overlap_s: int) -> Any:
    """The new secret and, where it may overlap, the newest of those that were there."""
    if overlap_s == 0:
        return [newest]
    return func.array_cat(cast(array([literal(newest)]), _STRINGS), stored[1:1])


def _until(stored: Any, overlap_s: int) -> Any:
    """When the older one ends; nothing where there is none."""
    if overlap_s == 0:
        return None
    until = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, overlap_s)
    return case((func.cardinality(stored) > 0, until))


def _view(row: Row[Any]) -> ConnectionView:
    values: dict[str, Any] = dict(row._mapping)
    checks = {name: values.pop(f"check_{name}") for name in ("secret", "signature", "network")}
    return ConnectionView(**{**values, "checks": Checks(**checks), "networks": tuple(values["networks"])})
