"""Followed streams, their segments, windows and gaps; leases, which hold ids only and cross tenants."""

from alembic import op

from shared.migrations import create_closed_streams_table, create_messaging_tables, protect

revision = "0001"
down_revision = None

_FOLLOWED = """
CREATE TABLE followed (
    stream_id text PRIMARY KEY,
    organization_id text NOT NULL,
    run integer NOT NULL,
    lane text NOT NULL,
    profile_key text NOT NULL,
    source jsonb NOT NULL,
    state text NOT NULL CHECK (state IN ('following', 'ended', 'closed')),
    cause text,
    progress jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
)
"""
# An offline may come before its online, so it stands by itself.
_OFFLINES = """
CREATE TABLE offlines (
    stream_id text NOT NULL,
    run integer NOT NULL,
    organization_id text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream_id, run)
)
"""
_LEASES = """
CREATE TABLE leases (
    stream_id text PRIMARY KEY,
    organization_id text NOT NULL,
    run integer NOT NULL,
    owner text,
    lease_until timestamptz NOT NULL DEFAULT now(),
    fence bigint NOT NULL DEFAULT 0,
    is_offline boolean NOT NULL DEFAULT false,
    analysed_windows integer NOT NULL DEFAULT 0
)
"""
_SEGMENTS = """
CREATE TABLE segments (
    stream_id text NOT NULL,
    run integer NOT NULL,
    epoch integer NOT NULL,
    sequence bigint NOT NULL,
    organization_id text NOT NULL,
    position integer NOT NULL,
    start_us bigint NOT NULL,
    duration_us bigint NOT NULL,
    wall_at timestamptz,
    key text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    container text NOT NULL,
    init_key text,
    discontinuity boolean NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream_id, run, epoch, sequence)
)
"""
_WINDOWS = """
CREATE TABLE windows (
    stream_id text NOT NULL,
    run integer NOT NULL,
    index integer NOT NULL,
    organization_id text NOT NULL,
    window_id text NOT NULL,
    first_position integer NOT NULL,
    last_position integer NOT NULL,
    start_us bigint NOT NULL,
    end_us bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream_id, run, index)
)
"""
_GAPS = """
CREATE TABLE gaps (
    stream_id text NOT NULL,
    run integer NOT NULL,
    index integer NOT NULL,
    organization_id text NOT NULL,
    epoch integer NOT NULL,
    from_sequence bigint NOT NULL,
    to_sequence bigint NOT NULL,
    start_us bigint NOT NULL,
    duration_us bigint NOT NULL,
    cause text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream_id, run, index)
)
"""
_INDEXES = (
    "CREATE SEQUENCE lease_fence",
    "CREATE UNIQUE INDEX segments_position ON segments (stream_id, run, position)",
    "CREATE INDEX leases_until ON leases (lease_until)",
)
_TENANT_TABLES = ("followed", "offlines", "segments", "windows", "gaps")


def upgrade() -> None:
    create_messaging_tables()
    create_closed_streams_table()
    for statement in (_FOLLOWED, _OFFLINES, _LEASES, _SEGMENTS, _WINDOWS, _GAPS, *_INDEXES):
        op.execute(statement)
    for table in _TENANT_TABLES:
        protect(table)
