"""Webhook endpoints of an organization: made, listed, taken away."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.domain.endpoint import check_endpoint_url, sealing_context, subscribed_types
from gateway.domain.events_feed import PublicEventType
from gateway.domain.refusals import NotFound
from gateway.domain.source import display_form
from gateway.domain.submission import NewEndpoint, endpoint_changed
from gateway.domain.webhook_secret import webhook_secret
from gateway.workflow.accounts import Entropy
from gateway.workflow.authentication import Caller
from shared.addresses import HostPort
from shared.clock import Clock
from shared.events import Event
from shared.ids import EndpointId, OrganizationId, StreamId, random_id
from shared.keyring import Keyring


@dataclass(frozen=True, kw_only=True)
class EndpointView:
    """An endpoint as its owner sees it: without secret, and without the query of its address."""

    endpoint_id: EndpointId
    display_url: str
    event_types: tuple[str, ...]
    description: str
    active: bool
    stream_id: StreamId | None
    created_at: datetime
    updated_at: datetime


class EndpointTables(Protocol):
    """One transaction of one organization."""

    async def add_endpoint(self, endpoint: NewEndpoint) -> None: ...
    async def endpoints(self) -> tuple[EndpointView, ...]: ...
    async def endpoint(self, endpoint_id: EndpointId) -> EndpointView | None: ...
    async def deactivate_endpoint(self, endpoint_id: EndpointId, *, at: datetime) -> NewEndpoint | None:
        """The endpoint in its next, inactive version; None when there is none that is active."""
        ...

    async def emit(self, *events: Event) -> None: ...


OpenEndpoints = Callable[[OrganizationId], AbstractAsyncContextManager[EndpointTables]]


@dataclass(frozen=True)
class CreatedEndpoint:
    """A new endpoint. `secret` is shown this once."""

    view: EndpointView
    secret: str


class Endpoints:
    def __init__(
        self,
        *,
        open_endpoints: OpenEndpoints,
        keyring: Keyring,
        clock: Clock,
        entropy: Entropy,
        allowed: frozenset[HostPort],
    ) -> None:
        self._open = open_endpoints
        self._keyring = keyring
        self._clock = clock
        self._entropy = entropy
        self._allowed = allowed

    async def create(
        self, caller: Caller, *, url: str, event_types: tuple[PublicEventType, ...] | None, description: str
    ) -> CreatedEndpoint:
        """Raises Unacceptable for an address that is not public https (or on the allow-list)."""
        check_endpoint_url(url, allowed=self._allowed)
        secret = webhook_secret(self._entropy(32))
        endpoint = self._sealed(caller, url=url, secret=secret, types=event_types, description=description)
        async with self._open(caller.organization_id) as tables:
            await tables.add_endpoint(endpoint)
            await tables.emit(endpoint_changed(endpoint, at=endpoint.created_at))
        return CreatedEndpoint(_view(endpoint), secret)

    def _sealed(
        self,
        caller: Caller,
        *,
        url: str,
        secret: str,
        types: tuple[PublicEventType, ...] | None,
        description: str,
    ) -> NewEndpoint:
        endpoint_id = EndpointId(random_id("whk", self._entropy(6)))
        context = sealing_context(endpoint_id)
        return NewEndpoint(
            endpoint_id=endpoint_id,
            organization_id=caller.organization_id,
            sealed_url=self._keyring.encrypt(url, context=context),
            display_url=display_form(url),
            sealed_secrets=(self._keyring.encrypt(secret, context=context),),
            event_types=subscribed_types(types),
            created_at=self._clock(),
            description=description,
        )

    async def endpoints(self, caller: Caller) -> tuple[EndpointView, ...]:
        async with self._open(caller.organization_id) as tables:
            return await tables.endpoints()

    async def endpoint(self, caller: Caller, endpoint_id: EndpointId) -> EndpointView:
        async with self._open(caller.organization_id) as tables:
            found = await tables.endpoint(endpoint_id)
        if found is None:
            raise _no_endpoint()
        return found

    async def delete(self, caller: Caller, endpoint_id: EndpointId) -> None:
        """Nothing more is sent there. Raises NotFound."""
        now = self._clock()
        async with self._open(caller.organization_id) as tables:
            last = await tables.deactivate_endpoint(endpoint_id, at=now)
            if last is None:
                raise _no_endpoint()
            await tables.emit(endpoint_changed(last, at=now))


def _view(endpoint: NewEndpoint) -> EndpointView:
    return EndpointView(
        endpoint_id=endpoint.endpoint_id,
        display_url=endpoint.display_url,
        event_types=endpoint.event_types,
        description=endpoint.description,
        active=endpoint.active,
        stream_id=endpoint.stream_id,
        created_at=endpoint.created_at,
        updated_at=endpoint.created_at,
    )


def _no_endpoint() -> NotFound:
    return NotFound("Webhook not found")
