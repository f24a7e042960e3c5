"""100ms connections: made, seen, changed, their secrets rotated, taken away. A secret is shown once."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from json import dumps
from typing import Any, ClassVar, Protocol

from gateway.domain.hundredms_connection import (
    Checks,
    NewConnection,
    check_checks,
    check_connection_options,
    check_hmac_secret,
    check_secret,
    check_secret_header,
    generated_secret,
    secret_hash,
)
from gateway.domain.hundredms_networks import read_networks
from gateway.domain.hundredms_token import ApiCredentials, check_credentials
from gateway.domain.refusals import Conflict, NotFound, Unacceptable
from gateway.domain.stream_options import StreamOptions
from gateway.workflow.accounts import Entropy
from gateway.workflow.authentication import Caller
from gateway.workflow.hundredms import connection_context
from shared.clock import Clock
from shared.ids import ConnectionId, OrganizationId, random_id
from shared.keyring import Keyring

# Lists show all of them, and all that share a secret are read for a webhook on the bare address.
MAX_CONNECTIONS = 100


class TooManyConnections(Conflict):
    """The organization has as many connections as it may have."""

    code: ClassVar[str] = "too_many_connections"


@dataclass(frozen=True, kw_only=True)
class ConnectionView:
    """A connection as its owner sees it. `previous_…_until`: until when the secret before is taken as well.

    `api_checked_at` is when 100ms' API answered last, `api_error` why it has not since.
    """

    connection_id: ConnectionId
    name: str
    secret_header: str
    options: dict[str, Any]
    checks: Checks
    networks: tuple[str, ...]
    has_hmac_secret: bool
    previous_secret_until: datetime | None
    previous_hmac_secret_until: datetime | None
    created_at: datetime
    updated_at: datetime
    has_api_credentials: bool = False
    api_checked_at: datetime | None = None
    api_error: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConnectionRequest:
    """A connection as it is asked for; secrets that are absent are made."""

    name: str
    secret_header: str
    options: StreamOptions
    checks: Checks
    networks: tuple[str, ...]
    secret: str | None = None
    hmac_secret: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConnectionPatch:
    """What shall change; None leaves a thing as it is."""

    name: str | None = None
    options: StreamOptions | None = None
    secret: bool | None = None
    signature: bool | None = None
    network: bool | None = None
    networks: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ConnectionChange:
    """The changeable part of a connection, as it shall be."""

    name: str
    options: dict[str, Any]
    checks: Checks
    networks: tuple[str, ...]


class ConnectionTables(Protocol):
    """One transaction of one organization. What is not there, or was deleted, is None or False."""

    async def add_connection(self, connection: NewConnection) -> None: ...
    async def connections(self) -> tuple[ConnectionView, ...]: ...
    async def connection(self, connection_id: ConnectionId) -> ConnectionView | None: ...
    async def hold_connection(self, connection_id: ConnectionId) -> ConnectionView | None:
        """As `connection`, held against other changes until the transaction ends."""
        ...

    async def change_connection(
        self, connection_id: ConnectionId, change: ConnectionChange, *, at: datetime
    ) -> ConnectionView | None: ...
    async def rotate_secret(
        self, connection_id: ConnectionId, secret_hash: str, *, overlap_s: int, at: datetime
    ) -> ConnectionView | None:
        """The newest one until now stays live for `overlap_s` more seconds of the database's clock."""
        ...

    async def rotate_hmac_secret(
        self, connection_id: ConnectionId, sealed: str, *, overlap_s: int, at: datetime
    ) -> ConnectionView | None:
        """As `rotate_secret`."""
        ...

    async def set_api_credentials(
        self, connection_id: ConnectionId, sealed: str | None, *, at: datetime
    ) -> ConnectionView | None:
        """Put these in place of what was there; None takes them away."""
        ...

    async def delete_connection(self, connection_id: ConnectionId, *, at: datetime) -> bool: ...


OpenConnections = Callable[[OrganizationId], AbstractAsyncContextManager[ConnectionTables]]


@dataclass(frozen=True)
class CreatedConnection:
    """A new connection with its secrets, which are shown this once; without HMAC there is none."""

    view: ConnectionView
    secret: str
    hmac_secret: str | None


@dataclass(frozen=True)
class RotatedSecret:
    """The new secret, shown this once."""

    view: ConnectionView
    secret: str


class HundredmsConnections:
    def __init__(
        self,
        *,
        open_connections: OpenConnections,
        keyring: Keyring,
        clock: Clock,
        entropy: Entropy,
        on_change: Callable[[ConnectionId], None],
    ) -> None:
        """`on_change` is called after each change has been committed."""
        self._open = open_connections
        self._on_change = on_change
        self._keyring = keyring
        self._clock = clock
        self._entropy = entropy

    async def connect(self, caller: Caller, request: ConnectionRequest) -> CreatedConnection:
        """A connection with given or generated secrets. Raises Unacceptable, TooManyConnections."""
        networks = read_networks(request.networks)
        check_connection_options(request.options)
        check_secret_header(request.secret_header)
        check_checks(request.checks, networks=networks)
        secret = self._secret(request.secret)
        connection_id = ConnectionId(random_id("con", self._entropy(6)))
        hmac_secret = self._hmac_secret(request)
        connection = NewConnection(
            connection_id=connection_id,
            organization_id=caller.organization_id,
            name=request.name,
            secret_header=request.secret_header,
            secret_hashes=(secret_hash(secret),),
            options=_stored(request.options),
            created_at=self._clock(),
            checks=request.checks,
            sealed_hmac_secrets=(self._sealed(hmac_secret, connection_id),) if hmac_secret else (),
            networks=networks,
        )
        async with self._open(caller.organization_id) as tables:
            if len(await tables.connections()) >= MAX_CONNECTIONS:
                raise TooManyConnections(
                    f"An organization may have {MAX_CONNECTIONS} connections: delete one"
                )
            await tables.add_connection(connection)
        return CreatedConnection(_view(connection), secret, hmac_secret)

    async def connections(self, caller: Caller) -> tuple[ConnectionView, ...]:
        async with self._open(caller.organization_id) as tables:
            return await tables.connections()

    async def connection(self, caller: Caller, connection_id: ConnectionId) -> ConnectionView:
        """Raises NotFound."""
        async with self._open(caller.organization_id) as tables:
            return _found(await tables.connection(connection_id))

    async def change(
        self, caller: Caller, connection_id: ConnectionId, patch: ConnectionPatch
    ) -> ConnectionView:
        """Raises NotFound, and Unacceptable for checks that cannot be made."""
        async with self._open(caller.organization_id) as tables:
            change = _changed(_found(await tables.hold_connection(connection_id)), patch)
            view = _found(await tables.change_connection(connection_id, change, at=self._clock()))
        self._on_change(connection_id)
        return view

    async def rotate_secret(
        self, caller: Caller, connection_id: ConnectionId, *, secret: str | None, overlap_s: int
    ) -> RotatedSecret:
        """A new header secret. Raises NotFound, Unacceptable."""
        chosen = self._secret(secret)
        async with self._open(caller.organization_id) as tables:
            view = await tables.rotate_secret(
                connection_id, secret_hash(chosen), overlap_s=overlap_s, at=self._clock()
            )
            rotated = RotatedSecret(_found(view), chosen)
        self._on_change(connection_id)
        return rotated

    async def rotate_hmac_secret(
        self, caller: Caller, connection_id: ConnectionId, *, secret: str | None, overlap_s: int
    ) -> RotatedSecret:
        """A first or a new HMAC secret. Raises NotFound, Unacceptable."""
        if secret is not None:
            check_hmac_secret(secret, field="secret")
        chosen = secret or generated_secret(self._entropy(32))
        sealed = self._sealed(chosen, connection_id)
        async with self._open(caller.organization_id) as tables:
            view = await tables.rotate_hmac_secret(
                connection_id, sealed, overlap_s=overlap_s, at=self._clock()
            )
            rotated = RotatedSecret(_found(view), chosen)
        self._on_change(connection_id)
        return rotated

    async def set_api_credentials(
        self, caller: Caller, connection_id: ConnectionId, credentials: ApiCredentials
    ) -> ConnectionView:
        """First or new credentials of 100ms' API; those before are used no more. Raises NotFound, Unacceptable."""
        check_credentials(credentials)
        sealed = self._sealed(dumps(asdict(credentials)), connection_id)
        async with self._open(caller.organization_id) as tables:
            return _found(await tables.set_api_credentials(connection_id, sealed, at=self._clock()))

    async def drop_api_credentials(self, caller: Caller, connection_id: ConnectionId) -> ConnectionView:
        """The API is asked no more; webhooks go on. Raises NotFound."""
        async with self._open(caller.organization_id) as tables:
            return _found(await tables.set_api_credentials(connection_id, None, at=self._clock()))

    async def delete(self, caller: Caller, connection_id: ConnectionId) -> None:
        """Nothing more is let in by it; streams that it started go on. Raises NotFound."""
        async with self._open(caller.organization_id) as tables:
            if not await tables.delete_connection(connection_id, at=self._clock()):
                raise _no_connection()
        self._on_change(connection_id)

    def _secret(self, given: str | None) -> str:
        if given is not None:
            check_secret(given)
        return given or generated_secret(self._entropy(32))

    def _hmac_secret(self, request: ConnectionRequest) -> str | None:
        if request.hmac_secret is not None:
            check_hmac_secret(request.hmac_secret, field="hmac_secret")
            return request.hmac_secret
        return generated_secret(self._entropy(32)) if request.checks.signature else None

    def _sealed(self, secret: str, connection_id: ConnectionId) -> str:
        return self._keyring.encrypt(secret, context=connection_context(connection_id))


def _changed(view: ConnectionView, patch: ConnectionPatch) -> ConnectionChange:
    checks = Checks(
        secret=view.checks.secret if patch.secret is None else patch.secret,
        signature=view.checks.signature if patch.signature is None else patch.signature,
        network=view.checks.network if patch.network is None else patch.network,
    )
    networks = view.networks if patch.networks is None else read_networks(patch.networks)
    check_checks(checks, networks=networks)
    if checks.signature and not view.has_hmac_secret:
        raise Unacceptable("Give the connection an HMAC secret first", field="checks.signature")
    if patch.options is not None:
        check_connection_options(patch.options)
    return ConnectionChange(
        name=patch.name or view.name,
        options=view.options if patch.options is None else _stored(patch.options),
        checks=checks,
        networks=networks,
    )


def _stored(options: StreamOptions) -> dict[str, Any]:
    return {**options.effective(), "metadata": options.metadata}


def _view(connection: NewConnection) -> ConnectionView:
    return ConnectionView(
        connection_id=connection.connection_id,
        name=connection.name,
        secret_header=connection.secret_header,
        options=connection.options,
        checks=connection.checks,
        networks=connection.networks,
        has_hmac_secret=bool(connection.sealed_hmac_secrets),
        previous_secret_until=None,
        previous_hmac_secret_until=None,
        created_at=connection.created_at,
        updated_at=connection.created_at,
    )


def _found(view: ConnectionView | None) -> ConnectionView:
    if view is None:
        raise _no_connection()
    return view


def _no_connection() -> NotFound:
    return NotFound("Connection not found")
