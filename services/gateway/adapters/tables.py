"""The gateway's tables as SQLModel classes, and as plain tables for the statements of the hot paths.

The migrations make them; a test compares the two. What is stored when is decided by the other adapters.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Index, MetaData, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

_OWN_METADATA = MetaData()
_EMPTY_OBJECT = {"server_default": text("'{}'::jsonb")}
_EMPTY_LIST = {"server_default": text("'[]'::jsonb")}
_EMPTY_ARRAY = {"server_default": text("'{}'::text[]")}
_ZERO = {"server_default": text("0")}
_FALSE = {"server_default": text("false")}
_NOW = {"server_default": text("now()")}


class Base(SQLModel, registry=registry(metadata=_OWN_METADATA)):
    """Keeps the gateway's tables apart from those of other services in one process."""


def _at(*, default: bool = False, **more: Any) -> Any:
    if default:
        return Field(default=None, sa_type=DateTime(timezone=True), sa_column_kwargs=_NOW, **more)
    return Field(sa_type=DateTime(timezone=True), **more)


def _maybe_at() -> Any:
    return Field(default=None, nullable=True, sa_type=DateTime(timezone=True))


def _json(**more: Any) -> Any:
    return Field(sa_type=JSONB(none_as_null=True), **more)


def _big(**more: Any) -> Any:
    return Field(sa_type=BigInteger, **more)


# -- accounts ----------------------------------------------------------------------------------------


class Organization(Base, table=True):
    __tablename__ = "organizations"

    organization_id: str = Field(primary_key=True, sa_type=Text)
    name: str = Field(sa_type=Text)
    plan: str = Field(default="starter", sa_type=Text, sa_column_kwargs={"server_default": "starter"})
    suspended: bool = Field(default=False, sa_column_kwargs=_FALSE)
    version: int = Field(default=1, sa_column_kwargs={"server_default": text("1")})
    rate_limit: int | None = None
    sealed_signing_secret: str = Field(sa_type=Text)
    created_at: datetime = _at(default=True)


class User(Base, table=True):
    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("email"),)

    user_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text, foreign_key="organizations.organization_id")
    email: str = Field(sa_type=Text)
    password_hash: str = Field(sa_type=Text)
    role: str = Field(default="owner", sa_type=Text, sa_column_kwargs={"server_default": "owner"})
    created_at: datetime = _at(default=True)


class ApiKey(Base, table=True):
    __tablename__ = "api_keys"
    __table_args__ = (Index("api_keys_of_organization", "organization_id", "created_at"),)

    key_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text, foreign_key="organizations.organization_id")
    name: str = Field(sa_type=Text)
    secret_hash: str = Field(sa_type=Text)
    scopes: list[str] = Field(sa_type=ARRAY(Text))
    created_at: datetime = _at(default=True)
    expires_at: datetime | None = _maybe_at()
    revoked_at: datetime | None = _maybe_at()
    rate_limit: int | None = None


class IdempotencyKey(Base, table=True):
    """An answer kept for a customer who sends the same request twice, written with the request's effect."""

    __tablename__ = "idempotency_keys"

    organization_id: str = Field(primary_key=True, sa_type=Text)
    route: str = Field(primary_key=True, sa_type=Text)
    key: str = Field(primary_key=True, sa_type=Text)
    request_sha256: str = Field(sa_type=Text)
    answer: str = Field(sa_type=Text)
    created_at: datetime = _at(default=True)


# -- 100ms -------------------------------------------------------------------------------------------


class HundredmsConnection(Base, table=True):
    __tablename__ = "hundredms_connections"
    __table_args__ = (
        Index("hundredms_connections_by_secret", "secret_hashes", postgresql_using="gin"),
        Index(
            "hundredms_connections_due",
            "api_due_at",
            postgresql_where=text("sealed_api_credentials IS NOT NULL"),
        ),
    )

    connection_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text, foreign_key="organizations.organization_id")
    name: str = Field(sa_type=Text)
    secret_header: str = Field(
        default="X-TLDR-Secret", sa_type=Text, sa_column_kwargs={"server_default": "X-TLDR-Secret"}
    )
    secret_hashes: list[str] = Field(sa_type=ARRAY(Text))
    options: dict[str, Any] = _json(default_factory=dict, sa_column_kwargs=_EMPTY_OBJECT)
    created_at: datetime = _at(default=True)
    disabled_at: datetime | None = _maybe_at()
    previous_secret_until: datetime | None = _maybe_at()
    check_secret: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    check_signature: bool = Field(default=False, sa_column_kwargs=_FALSE)
    check_network: bool = Field(default=False, sa_column_kwargs=_FALSE)
    sealed_hmac_secrets: list[str] = Field(
        default_factory=list, sa_type=ARRAY(Text), sa_column_kwargs=_EMPTY_ARRAY
    )
    previous_hmac_secret_until: datetime | None = _maybe_at()
    networks: list[str] = Field(default_factory=list, sa_type=ARRAY(Text), sa_column_kwargs=_EMPTY_ARRAY)
    updated_at: datetime = _at(default=True)
    sealed_api_credentials: str | None = Field(default=None, sa_type=Text)
    api_due_at: datetime | None = _maybe_at()
    api_failures: int = Field(default=0, sa_column_kwargs=_ZERO)
    api_checked_at: datetime | None = _maybe_at()
    api_error: str | None = Field(default=None, sa_type=Text)


class HundredmsEvent(Base, table=True):
    __tablename__ = "hundredms_events"

    connection_id: str = Field(primary_key=True, sa_type=Text)
    account_id: str = Field(primary_key=True, sa_type=Text)
    event_id: str = Field(primary_key=True, sa_type=Text)
    type: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    sealed_payload: str = Field(sa_type=Text)
    received_at: datetime = _at(default=True)
    handled_at: datetime | None = _maybe_at()
    note: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})


class HundredmsStop(Base, table=True):
    """A stop that came before its start: a tombstone."""

    __tablename__ = "hundredms_stops"

    connection_id: str = Field(primary_key=True, sa_type=Text)
    beam_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    reason: str = Field(sa_type=Text)
    stopped_at: datetime = _at(default=True)
    room_id: str | None = Field(default=None, sa_type=Text)
    session_id: str | None = Field(default=None, sa_type=Text)
    source_started_at: datetime | None = _maybe_at()
    source_stopped_at: datetime | None = _maybe_at()


class HundredmsStream(Base, table=True):
    """What tells a live stream of 100ms from all others: webhooks and the API have different ids for it."""

    __tablename__ = "hundredms_streams"
    __table_args__ = (
        UniqueConstraint("connection_id", "beam_id"),
        UniqueConstraint("connection_id", "live_id"),
        Index("hundredms_streams_of_room", "organization_id", "room_id"),
        Index("hundredms_streams_of_beam", "organization_id", "beam_id"),
    )

    stream_id: str = Field(primary_key=True, sa_type=Text)
    connection_id: str = Field(sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    room_id: str = Field(sa_type=Text)
    session_id: str = Field(sa_type=Text)
    url_key: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    beam_id: str | None = Field(default=None, sa_type=Text)
    live_id: str | None = Field(default=None, sa_type=Text)
    started_at: datetime | None = _maybe_at()
    stopped_at: datetime | None = _maybe_at()
    absences: int = Field(default=0, sa_column_kwargs=_ZERO)
    created_at: datetime = _at(default=True)


class HundredmsRecording(Base, table=True):
    """A recording that is to be offered for repair, and its chat; `due_at` is schedule and lease in one."""

    __tablename__ = "hundredms_recordings"
    __table_args__ = (
        Index("hundredms_recordings_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("hundredms_recordings_by_age", "received_at"),
    )

    connection_id: str = Field(primary_key=True, sa_type=Text)
    recording_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    beam_id: str = Field(sa_type=Text)
    sealed_details: str = Field(sa_type=Text)
    received_at: datetime = _at(default=True)
    due_at: datetime | None = Field(
        default=None, nullable=True, sa_type=DateTime(timezone=True), sa_column_kwargs=_NOW
    )
    attempts: int = Field(default=0, sa_column_kwargs=_ZERO)
    offered_at: datetime | None = _maybe_at()
    chat_messages: int = Field(default=0, sa_column_kwargs=_ZERO)
    chat_done_at: datetime | None = _maybe_at()
    note: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})


# -- uploads -----------------------------------------------------------------------------------------


class Upload(Base, table=True):
    """A file on its way in, or whole. `fence` counts its writers; `lease_until` bounds the one that writes now."""

    __tablename__ = "uploads"
    __table_args__ = (
        Index("uploads_of_organization", "organization_id", "created_at"),
        Index("uploads_by_expiry", "expires_at"),
    )

    upload_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    name: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    content_type: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    upload_metadata: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    size_bytes: int = _big()
    offset_bytes: int = _big(default=0, sa_column_kwargs=_ZERO)
    fence: int = _big(default=0, sa_column_kwargs=_ZERO)
    lease_until: datetime | None = _maybe_at()
    created_at: datetime = _at(default=True)
    updated_at: datetime = _at(default=True)
    expires_at: datetime = _at()
    completed_at: datetime | None = _maybe_at()
    used_at: datetime | None = _maybe_at()
    swept_at: datetime | None = _maybe_at()


class UploadPart(Base, table=True):
    __tablename__ = "upload_parts"

    upload_id: str = Field(primary_key=True, sa_type=Text)
    offset_bytes: int = _big(primary_key=True)
    organization_id: str = Field(sa_type=Text)
    size_bytes: int = _big()
    sha256: str = Field(sa_type=Text)


# -- streams and what is projected from events -------------------------------------------------------


class Stream(Base, table=True):
    __tablename__ = "streams"
    __table_args__ = (
        UniqueConstraint("connection_id", "external_id"),
        Index("streams_of_organization", "organization_id", text("created_at DESC"), "stream_id"),
        Index("streams_by_status", "status", "deadline_at"),
        Index("streams_by_external_id", "external_id"),
    )

    stream_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    run: int = Field(default=0, sa_column_kwargs=_ZERO)
    lane: str = Field(default="live", sa_type=Text, sa_column_kwargs={"server_default": "live"})
    connection_id: str | None = Field(default=None, sa_type=Text)
    external_id: str | None = Field(default=None, sa_type=Text)
    platform: str = Field(sa_type=Text)
    sealed_source_url: str = Field(sa_type=Text)
    display_url: str = Field(sa_type=Text)
    sealed_headers: str | None = Field(default=None, sa_type=Text)
    title: str | None = Field(default=None, sa_type=Text)
    options: dict[str, Any] = _json(default_factory=dict, sa_column_kwargs=_EMPTY_OBJECT)
    # `metadata` as an attribute is taken by SQLAlchemy; the column and the API keep the name.
    meta: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSONB, sa_column_kwargs={"name": "metadata", **_EMPTY_OBJECT}
    )
    profile_key: str = Field(sa_type=Text)
    status: str = Field(default="pending", sa_type=Text, sa_column_kwargs={"server_default": "pending"})
    partial: bool = Field(default=False, sa_column_kwargs=_FALSE)
    cause: str | None = Field(default=None, sa_type=Text)
    error: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = _at(default=True)
    updated_at: datetime = _at(default=True)
    started_at: datetime | None = _maybe_at()
    ended_at: datetime | None = _maybe_at()
    completed_at: datetime | None = _maybe_at()
    stop_requested_at: datetime | None = _maybe_at()
    deadline_at: datetime = _at()
    next_sequence: int = _big(default=1, sa_column_kwargs={"server_default": text("1")})
    offered_us: int = _big(default=0, sa_column_kwargs=_ZERO)
    media_duration_us: int = _big(default=0, sa_column_kwargs=_ZERO)
    ended: dict[str, Any] | None = _json(default=None, nullable=True)
    selection: dict[str, Any] | None = _json(default=None, nullable=True)
    source_kind: str = Field(default="hls", sa_type=Text, sa_column_kwargs={"server_default": "hls"})
    source_check: dict[str, Any] | None = _json(default=None, nullable=True)
    channel_name: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    game_name: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    source_started_at: datetime | None = _maybe_at()
    source_end: str | None = Field(default=None, sa_type=Text)
    source_failed: bool = Field(default=False, sa_column_kwargs=_FALSE)


class Window(Base, table=True):
    """`segment.ready` and `segment.analyzed` each bring their columns, in any order."""

    __tablename__ = "windows"

    stream_id: str = Field(primary_key=True, sa_type=Text)
    run: int = Field(primary_key=True)
    index: int = Field(primary_key=True)
    organization_id: str = Field(sa_type=Text)
    window_id: str = Field(sa_type=Text)
    revision: int = Field(default=0, sa_column_kwargs=_ZERO)
    start_us: int = _big()
    end_us: int = _big()
    ready_at: datetime | None = _maybe_at()
    verdict: str | None = Field(default=None, sa_type=Text)
    reason: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    provider: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    model: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    degraded: bool = Field(default=False, sa_column_kwargs=_FALSE)
    input_tokens: int = _big(default=0, sa_column_kwargs=_ZERO)
    output_tokens: int = _big(default=0, sa_column_kwargs=_ZERO)
    cost_microusd: int = _big(default=0, sa_column_kwargs=_ZERO)
    analyzed_at: datetime | None = _maybe_at()
    stretches: list[Any] = _json(default_factory=list, sa_column_kwargs=_EMPTY_LIST)


class Gap(Base, table=True):
    __tablename__ = "gaps"

    stream_id: str = Field(primary_key=True, sa_type=Text)
    run: int = Field(primary_key=True)
    index: int = Field(primary_key=True)
    organization_id: str = Field(sa_type=Text)
    from_us: int = _big()
    to_us: int = _big()
    cause: str = Field(sa_type=Text)
    epoch: int = _big()
    from_sequence: int = _big()
    to_sequence: int = _big()


class Stall(Base, table=True):
    __tablename__ = "stalls"

    stream_id: str = Field(primary_key=True, sa_type=Text)
    run: int = Field(primary_key=True)
    index: int = Field(primary_key=True)
    organization_id: str = Field(sa_type=Text)
    at_us: int = _big()
    cause: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    stalled_at: datetime | None = _maybe_at()
    resumed_at: datetime | None = _maybe_at()


class Annotation(Base, table=True):
    """Archived media that stands in no window: an advertisement, or a slate."""

    __tablename__ = "annotations"

    stream_id: str = Field(primary_key=True, sa_type=Text)
    run: int = Field(primary_key=True)
    index: int = Field(primary_key=True)
    organization_id: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    from_us: int = _big()
    to_us: int = _big()
    detail: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})


class Repair(Base, table=True):
    """What became of a gap when a recording was there: the newest attempt."""

    __tablename__ = "repairs"

    stream_id: str = Field(primary_key=True, sa_type=Text)
    run: int = Field(primary_key=True)
    gap_index: int = Field(primary_key=True)
    organization_id: str = Field(sa_type=Text)
    revision: int
    outcome: str = Field(sa_type=Text)
    from_us: int = _big()
    to_us: int = _big()
    windows: list[str] = Field(default_factory=list, sa_type=ARRAY(Text), sa_column_kwargs=_EMPTY_ARRAY)
    reason: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    repaired_at: datetime = _at()


class Signal(Base, table=True):
    """`number` counts the signals of a stream from 1, as they came in: it is the cursor of the list."""

    __tablename__ = "signals"
    __table_args__ = (UniqueConstraint("event_id"),)

    stream_id: str = Field(primary_key=True, sa_type=Text)
    number: int = _big(primary_key=True)
    event_id: UUID
    organization_id: str = Field(sa_type=Text)
    run: int
    kind: str = Field(sa_type=Text)
    at_us: int | None = _big(default=None, nullable=True)
    wall_at: datetime | None = _maybe_at()
    duration_us: int = _big()
    weight: float
    text: str = Field(sa_type=Text)
    origin: str = Field(sa_type=Text)
    external_id: str = Field(sa_type=Text)
    author: str = Field(sa_type=Text)
    occurred_at: datetime = _at()


class SignalCount(Base, table=True):
    """How many signals a stream has had, kept or not."""

    __tablename__ = "signal_counts"

    stream_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    seen: int = _big()


class Candidate(Base, table=True):
    __tablename__ = "candidates"
    __table_args__ = (Index("candidates_of_stream", "stream_id", "run", "index"),)

    candidate_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    stream_id: str = Field(sa_type=Text)
    run: int
    index: int
    revision: int = Field(default=0, sa_column_kwargs=_ZERO)
    body: dict[str, Any] = _json()


class Judgement(Base, table=True):
    __tablename__ = "judgements"
    __table_args__ = (Index("judgements_of_stream", "stream_id"),)

    candidate_id: str = Field(primary_key=True, sa_type=Text)
    ordinal: int = Field(primary_key=True)
    organization_id: str = Field(sa_type=Text)
    stream_id: str = Field(sa_type=Text)
    decision: str = Field(sa_type=Text)
    rule: str = Field(sa_type=Text)
    score: float
    bound: float | None = None
    against: str | None = Field(default=None, sa_type=Text)
    highlight_id: str | None = Field(default=None, sa_type=Text)
    explanation: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    judged_at: datetime = _at()


class Highlight(Base, table=True):
    __tablename__ = "highlights"
    __table_args__ = (Index("highlights_of_stream", "stream_id", "start_us", "highlight_id"),)

    highlight_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    stream_id: str = Field(sa_type=Text)
    run: int
    revision: int
    start_us: int = _big()
    end_us: int = _big()
    peak_us: int = _big()
    score: float
    confidence: float
    scores: dict[str, Any] = _json(default_factory=dict, sa_column_kwargs=_EMPTY_OBJECT)
    type: str = Field(sa_type=Text)
    title: str = Field(sa_type=Text)
    description: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    reason: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    tags: list[Any] = _json(default_factory=list, sa_column_kwargs=_EMPTY_LIST)
    provider: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    segments: list[Any] = _json(default_factory=list, sa_column_kwargs=_EMPTY_LIST)
    retracted: bool = Field(default=False, sa_column_kwargs=_FALSE)
    created_at: datetime = _at(default=True)
    updated_at: datetime = _at(default=True)


class Clip(Base, table=True):
    """May arrive before its highlight."""

    __tablename__ = "clips"
    __table_args__ = (Index("clips_of_stream", "stream_id"),)

    highlight_id: str = Field(primary_key=True, sa_type=Text)
    revision: int = Field(primary_key=True)
    organization_id: str = Field(sa_type=Text)
    stream_id: str = Field(sa_type=Text)
    status: str = Field(sa_type=Text)
    video_key: str | None = Field(default=None, sa_type=Text)
    thumbnail_key: str | None = Field(default=None, sa_type=Text)
    start_us: int | None = _big(default=None, nullable=True)
    duration_us: int | None = _big(default=None, nullable=True)
    size_bytes: int | None = _big(default=None, nullable=True)
    width: int | None = None
    height: int | None = None
    code: str | None = Field(default=None, sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    finished_at: datetime = _at()


# -- webhooks out ------------------------------------------------------------------------------------


class Endpoint(Base, table=True):
    __tablename__ = "endpoints"
    __table_args__ = (
        Index("endpoints_of_organization", "organization_id", "created_at"),
        Index("endpoints_of_stream", "stream_id"),
    )

    endpoint_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    stream_id: str | None = Field(default=None, sa_type=Text)
    version: int = Field(default=1, sa_column_kwargs={"server_default": text("1")})
    sealed_url: str = Field(sa_type=Text)
    display_url: str = Field(sa_type=Text)
    sealed_secrets: list[str] = _json()
    event_types: list[str] = _json()
    description: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    active: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    max_attempts: int = Field(default=11, sa_column_kwargs={"server_default": text("11")})
    created_at: datetime = _at(default=True)
    updated_at: datetime = _at(default=True)


class PublicEvent(Base, table=True):
    """`body` holds the exact JSON that is signed and sent."""

    __tablename__ = "public_events"
    __table_args__ = (
        UniqueConstraint("stream_id", "sequence"),
        Index("public_events_of_organization", "organization_id", "created_at", "public_event_id"),
    )

    public_event_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    stream_id: str = Field(sa_type=Text)
    sequence: int = _big()
    type: str = Field(sa_type=Text)
    body: str = Field(sa_type=Text)
    created_at: datetime = _at(default=True)


class Delivery(Base, table=True):
    __tablename__ = "deliveries"
    __table_args__ = (
        Index("deliveries_of_event", "public_event_id"),
        Index("deliveries_of_endpoint", "endpoint_id", "stream_id"),
    )

    delivery_id: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    endpoint_id: str = Field(sa_type=Text)
    public_event_id: str = Field(sa_type=Text)
    stream_id: str | None = Field(default=None, sa_type=Text)
    outcome: str | None = Field(default=None, sa_type=Text)
    attempts: int = Field(default=0, sa_column_kwargs=_ZERO)
    status: int | None = None
    error: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": ""})
    created_at: datetime = _at(default=True)
    finished_at: datetime | None = _maybe_at()


class Parked(Base, table=True):
    """Work that some service gave up."""

    __tablename__ = "parked"
    __table_args__ = (Index("parked_of_stream", "stream_id"),)

    event_id: str = Field(primary_key=True, sa_type=Text)
    service: str = Field(primary_key=True, sa_type=Text)
    organization_id: str = Field(sa_type=Text)
    stream_id: str | None = Field(default=None, sa_type=Text)
    event_name: str = Field(sa_type=Text)
    code: str = Field(sa_type=Text)
    reason: str = Field(sa_type=Text)
    parked_at: datetime = _at(default=True)


metadata = _OWN_METADATA


def _table(name: str) -> Table:
    return metadata.tables[name]


organizations = _table("organizations")
users = _table("users")
api_keys = _table("api_keys")
idempotency_keys = _table("idempotency_keys")
hundredms_connections = _table("hundredms_connections")
hundredms_events = _table("hundredms_events")
hundredms_stops = _table("hundredms_stops")
hundredms_streams = _table("hundredms_streams")
hundredms_recordings = _table("hundredms_recordings")
uploads = _table("uploads")
upload_parts = _table("upload_parts")
streams = _table("streams")
windows = _table("windows")
gaps = _table("gaps")
stalls = _table("stalls")
annotations = _table("annotations")
repairs = _table("repairs")
signals = _table("signals")
signal_counts = _table("signal_counts")
candidates = _table("candidates")
judgements = _table("judgements")
highlights = _table("highlights")
clips = _table("clips")
endpoints = _table("endpoints")
public_events = _table("public_events")
deliveries = _table("deliveries")
parked = _table("parked")
