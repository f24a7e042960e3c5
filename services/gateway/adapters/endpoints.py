"""Webhook endpoints in PostgreSQL."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from gateway.adapters import tables as t
from gateway.adapters.streams import StreamRows
from gateway.domain.events_feed import PublicEventType
from gateway.domain.submission import NewEndpoint
from gateway.workflow.endpoints import EndpointView
from shared.ids import EndpointId

_ENDPOINT = t.endpoints.c
_SHOWN = (
    _ENDPOINT.endpoint_id,
    _ENDPOINT.display_url,
    _ENDPOINT.event_types,
    _ENDPOINT.description,
    _ENDPOINT.active,
    _ENDPOINT.stream_id,
    _ENDPOINT.created_at,
    _ENDPOINT.updated_at,
)
_STORED = (
    *_SHOWN[:-1],
    _ENDPOINT.organization_id,
    _ENDPOINT.version,
    _ENDPOINT.sealed_url,
    _ENDPOINT.sealed_secrets,
    _ENDPOINT.max_attempts,
)


class EndpointRows(StreamRows):
    async def endpoints(self) -> tuple[EndpointView, ...]:
        """The organization's own endpoints; those of single streams are shown by id only."""
        statement = (
            select(*_SHOWN)
            .where(_ENDPOINT.stream_id.is_(None), _ENDPOINT.active)
            .order_by(_ENDPOINT.created_at, _ENDPOINT.endpoint_id)
        )
        return tuple(_view(row) for row in (await self._execute(statement)).mappings())

    async def endpoint(self, endpoint_id: EndpointId) -> EndpointView | None:
        statement = select(*_SHOWN).where(_ENDPOINT.endpoint_id == endpoint_id, _ENDPOINT.active)
        row = (await self._execute(statement)).mappings().first()
        return _view(row) if row else None

    async def deactivate_endpoint(self, endpoint_id: EndpointId, *, at: datetime) -> NewEndpoint | None:
        statement = (
            update(t.endpoints)
            .where(_ENDPOINT.endpoint_id == endpoint_id, _ENDPOINT.active)
            .values(active=False, version=_ENDPOINT.version + 1, updated_at=at)
            .returning(*_STORED)
        )
        row = (await self._execute(statement)).mappings().first()
        return _stored(row) if row else None


def _view(row: Mapping[Any, Any]) -> EndpointView:
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    return EndpointView(**{**values, "event_types": tuple(values["event_types"])})


def _stored(row: Mapping[Any, Any]) -> NewEndpoint:
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    return NewEndpoint(
        **{
            **values,
            "sealed_secrets": tuple(values["sealed_secrets"]),
            "event_types": tuple(PublicEventType(name) for name in values["event_types"]),
        }
    )
