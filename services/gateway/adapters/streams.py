"""Streams as customers and 100ms announce them, and their endpoints, in PostgreSQL."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select, update
from sqlalchemy.dialects.postgresql import insert

from gateway.adapters import tables as t
from gateway.adapters.transactions import Tables
from gateway.adapters.uploads import keep_for_stream
from gateway.domain.submission import NewEndpoint, NewStream, StreamPlace
from gateway.workflow.streams import KeptAnswer, RequestKey
from shared.events import Lane
from shared.ids import OrganizationId, StreamId

KEEP_ANSWERS = timedelta(hours=24)
_STREAM = t.streams.c


class StreamRows(Tables):
    async def add_stream(self, stream: NewStream) -> bool:
        values: dict[Any, Any] = {
            **asdict(stream),
            "lane": stream.lane.value,
            "source_kind": stream.source_kind.value,
            "source_check": stream.source_check.model_dump(mode="json"),
            "updated_at": stream.created_at,
        }
        statement = (
            insert(t.streams)
            .values(values)
            .on_conflict_do_nothing(index_elements=[_STREAM.connection_id, _STREAM.external_id])
        )
        return (await self._execute(statement)).rowcount == 1

    async def add_endpoint(self, endpoint: NewEndpoint) -> None:
        values = {
            **asdict(endpoint),
            "sealed_secrets": list(endpoint.sealed_secrets),
            "event_types": [kind.value for kind in endpoint.event_types],
            "updated_at": endpoint.created_at,
        }
        await self._execute(insert(t.endpoints).values(values))

    async def signing_secret(self) -> str:
        found = t.organizations.c
        statement = select(found.sealed_signing_secret).where(found.organization_id == self._organization_id)
        return str((await self._execute(statement)).scalar_one())

    async def find_stream(self, stream_id: StreamId) -> StreamPlace | None:
        return await self._find(_STREAM.stream_id == stream_id)

    async def request_stop(self, stream_id: StreamId, *, at: datetime) -> None:
        await self._execute(
            update(t.streams)
            .where(_STREAM.stream_id == stream_id, _STREAM.stop_requested_at.is_(None))
            .values(stop_requested_at=at, updated_at=at)
        )

    async def use_upload(self, upload_id: str) -> bool:
        return await keep_for_stream(await self._session.connection(), upload_id)

    async def recall(self, *, route: str, key: str) -> KeptAnswer | None:
        kept = t.idempotency_keys.c
        statement = select(kept.request_sha256, kept.answer, kept.created_at).where(
            kept.route == route, kept.key == key, kept.created_at >= func.now() - KEEP_ANSWERS
        )
        row = (await self._execute(statement)).first()
        if row is None:
            return None
        return KeptAnswer(
            route=route, key=RequestKey(key, row.request_sha256), answer=row.answer, at=row.created_at
        )

    async def remember(self, answer: KeptAnswer) -> KeptAnswer:
        if (await self._execute(_keep(answer, self._organization_id))).rowcount == 1:
            return answer
        kept = t.idempotency_keys.c
        found = await self._execute(
            select(kept.request_sha256, kept.answer, kept.created_at).where(
                kept.route == answer.route, kept.key == answer.key.key
            )
        )
        row = found.one()
        key = RequestKey(answer.key.key, row.request_sha256)
        return KeptAnswer(route=answer.route, key=key, answer=row.answer, at=row.created_at)

    async def _find(self, *conditions: ColumnElement[bool]) -> StreamPlace | None:
        statement = (
            select(
                _STREAM.stream_id,
                _STREAM.organization_id,
                _STREAM.run,
                _STREAM.lane,
                _STREAM.status,
                _STREAM.stop_requested_at,
                _STREAM.platform,
            )
            .where(*conditions)
            .with_for_update()
        )
        row = (await self._execute(statement)).first()
        return _place(row) if row else None


def _place(row: Row[Any]) -> StreamPlace:
    values: Mapping[Any, Any] = row._mapping
    return StreamPlace(**{**values, "lane": Lane(values["lane"])})


def _keep(answer: KeptAnswer, organization_id: OrganizationId) -> Any:
    """Insert the answer; one that is older than a day gives way. Another request with this key waits here."""
    values = {
        "organization_id": organization_id,
        "route": answer.route,
        "key": answer.key.key,
        "request_sha256": answer.key.request_sha256,
        "answer": answer.answer,
        "created_at": answer.at,
    }
    statement = insert(t.idempotency_keys).values(values)
    return statement.on_conflict_do_update(
        index_elements=["organization_id", "route", "key"],
        set_={name: values[name] for name in ("request_sha256", "answer", "created_at")},
        where=t.idempotency_keys.c.created_at < answer.at - KEEP_ANSWERS,
    )
