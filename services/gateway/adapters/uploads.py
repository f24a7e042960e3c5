"""Uploads in PostgreSQL: rows, parts, and the lease of the request that writes."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.adapters import tables as t
from gateway.adapters.transactions import Tables
from gateway.domain.uploads import Part, Upload, UploadId
from gateway.workflow.uploads import Claim, Held
from shared.database import Database
from shared.ids import OrganizationId

KEPT_FOR_STREAM = timedelta(days=7)
_UPLOAD = t.uploads.c
_PART = t.upload_parts.c
# Not `now()`: a transaction that began before another one deleted the upload must see that it is gone.
_NOW = func.clock_timestamp()
_COLUMNS = (
    _UPLOAD.upload_id,
    _UPLOAD.organization_id,
    _UPLOAD.name,
    _UPLOAD.content_type,
    _UPLOAD.upload_metadata.label("metadata"),
    _UPLOAD.size_bytes,
    _UPLOAD.offset_bytes,
    _UPLOAD.created_at,
    _UPLOAD.expires_at,
    _UPLOAD.completed_at,
)
_IS_FREE = or_(_UPLOAD.lease_until.is_(None), _UPLOAD.lease_until < _NOW)


class UploadRows(Tables):
    async def lock_uploads(self) -> None:
        name = f"uploads|{self._organization_id}"
        await self._execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

    async def held(self) -> Held:
        unfinished = func.count().filter(_UPLOAD.completed_at.is_(None))
        statement = select(
            unfinished.label("unfinished"), func.coalesce(func.sum(_UPLOAD.size_bytes), 0).label("size_bytes")
        ).where(_UPLOAD.organization_id == self._organization_id, _UPLOAD.expires_at > _NOW)
        row = (await self._execute(statement)).one()
        return Held(unfinished=row.unfinished, size_bytes=int(row.size_bytes))

    async def add(self, upload: Upload) -> None:
        values: dict[str, Any] = {**asdict(upload), "updated_at": upload.created_at}
        values["upload_metadata"] = values.pop("metadata")
        await self._execute(insert(t.uploads).values(values))

    async def find(self, upload_id: UploadId) -> Upload | None:
        row = (await self._execute(select(*_COLUMNS).where(_UPLOAD.upload_id == upload_id))).first()
        return Upload(**row._mapping) if row else None

    async def is_gone(self, upload_id: UploadId) -> bool:
        statement = select(_UPLOAD.expires_at <= _NOW).where(_UPLOAD.upload_id == upload_id)
        return bool((await self._execute(statement)).scalar_one())

    async def claim(self, upload_id: UploadId, *, lease_s: float, keep_s: float) -> Claim | None:
        statement = (
            update(t.uploads)
            .where(
                _UPLOAD.upload_id == upload_id,
                _UPLOAD.completed_at.is_(None),
                _UPLOAD.expires_at > _NOW,
                _IS_FREE,
            )
            .values(fence=_UPLOAD.fence + 1, **_held_until(lease_s, keep_s))
            .returning(*_COLUMNS, _UPLOAD.fence)
        )
        row = (await self._execute(statement)).first()
        if row is None:
            return None
        values = dict(row._mapping)
        fence = values.pop("fence")
        counted = select(func.count()).select_from(t.upload_parts).where(_PART.upload_id == upload_id)
        parts = (await self._execute(counted)).scalar_one()
        return Claim(upload=Upload(**values), fence=fence, parts=parts)

    async def renew(self, claim: Claim, *, lease_s: float, keep_s: float) -> bool:
        statement = update(t.uploads).where(*_is_held(claim)).values(**_held_until(lease_s, keep_s))
        return (await self._execute(statement)).rowcount == 1

    async def parts(self, upload_id: UploadId) -> tuple[Part, ...]:
        statement = (
            select(_PART.offset_bytes, _PART.size_bytes, _PART.sha256)
            .where(_PART.upload_id == upload_id)
            .order_by(_PART.offset_bytes)
        )
        return tuple(Part(**row._mapping) for row in (await self._execute(statement)).all())

    async def advance(self, claim: Claim, part: Part, *, finished_s: float | None) -> bool:
        values: dict[str, Any] = {"offset_bytes": part.offset_bytes + part.size_bytes, "updated_at": _NOW}
        if finished_s is not None:
            values |= {"completed_at": _NOW, "expires_at": _NOW + timedelta(seconds=finished_s)}
        statement = (
            update(t.uploads)
            .where(*_is_held(claim), _UPLOAD.offset_bytes == part.offset_bytes)
            .values(**values)
        )
        if (await self._execute(statement)).rowcount != 1:
            return False
        place = {"upload_id": claim.upload.upload_id, "organization_id": self._organization_id}
        await self._execute(insert(t.upload_parts).values({**place, **asdict(part)}))
        return True

    async def release(self, claim: Claim) -> None:
        await self._execute(
            update(t.uploads)
            .where(_UPLOAD.upload_id == claim.upload.upload_id, _UPLOAD.fence == claim.fence)
            .values(lease_until=None)
        )

    async def expire(self, upload_id: UploadId) -> None:
        """Whoever writes at this moment commits nothing more, but may still be storing until its lease is over."""
        await self._execute(
            update(t.uploads)
            .where(_UPLOAD.upload_id == upload_id)
            .values(expires_at=_NOW, fence=_UPLOAD.fence + 1, updated_at=_NOW)
        )

    async def sweep(self, upload_id: UploadId) -> None:
        await self._execute(
            update(t.uploads).where(_UPLOAD.upload_id == upload_id).values(swept_at=_NOW, updated_at=_NOW)
        )


def _held_until(lease_s: float, keep_s: float) -> dict[str, Any]:
    return {
        "lease_until": _NOW + timedelta(seconds=lease_s),
        "expires_at": _NOW + timedelta(seconds=keep_s),
        "updated_at": _NOW,
    }


def _is_held(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return (
        _UPLOAD.upload_id == claim.upload.upload_id,
        _UPLOAD.fence == claim.fence,
        _UPLOAD.lease_until > _NOW,
    )


async def keep_for_stream(connection: AsyncConnection, upload_id: str) -> bool:
    """Keep a whole upload for as long as a stream may read it; False when there is none."""
    statement = (
        update(t.uploads)
        .where(_UPLOAD.upload_id == upload_id, _UPLOAD.completed_at.is_not(None), _UPLOAD.expires_at > _NOW)
        .values(used_at=_NOW, expires_at=func.greatest(_UPLOAD.expires_at, _NOW + KEPT_FOR_STREAM))
    )
    return (await connection.execute(statement)).rowcount == 1


class ExpiredUploads:
    """Those of all organizations, by functions of the schema's owner."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def listed(self, at_most: int) -> tuple[tuple[OrganizationId, UploadId], ...]:
        async with self._database.transaction() as session:
            connection = await session.connection()
            rows = await connection.execute(
                text("SELECT organization_id, upload_id FROM expired_uploads(:at_most)"), {"at_most": at_most}
            )
            return tuple((OrganizationId(row.organization_id), UploadId(row.upload_id)) for row in rows)

    async def forget(self, days: int, at_most: int) -> int:
        async with self._database.transaction() as session:
            connection = await session.connection()
            found = await connection.execute(
                text("SELECT forget_uploads(:days, :at_most)"), {"days": days, "at_most": at_most}
            )
            return int(found.scalar_one())
