"""Credentials of 100ms' API, what tells one of its live streams from another, and recordings; expand-only."""

from alembic import op

from shared.migrations import create_definer_function, protect

revision = "0006_hundredms_api"
down_revision = "0005_uploads"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in (_CONNECTIONS, _CONNECTIONS_DUE, _STOPS, _STREAMS, *_NEW_TABLES, _KNOWN_BEFORE):
        op.execute(statement)
    for table in ("hundredms_streams", "hundredms_recordings"):
        protect(table)
    create_definer_function(
        "claim_hundredms_api(at_most integer, pause_s double precision)",
        returns=(
            "TABLE (connection_id text, organization_id text, sealed_api_credentials text, options jsonb, "
            "api_failures integer)"
        ),
        body=_CLAIM_API,
    )
    create_definer_function(
        "claim_hundredms_recordings(at_most integer, lease_s double precision)",
        returns="TABLE (connection_id text, recording_id text, organization_id text)",
        body=_CLAIM_RECORDINGS,
    )
    create_definer_function(
        "forget_hundredms_recordings(days integer, at_most integer)",
        returns="bigint",
        body=_FORGET_RECORDINGS,
    )


# `api_due_at` is the schedule and the lease in one: who moves it on asks the API, and nobody else until then.
_CONNECTIONS = """
ALTER TABLE hundredms_connections
    ADD COLUMN sealed_api_credentials text,
    ADD COLUMN api_due_at timestamptz,
    ADD COLUMN api_failures integer DEFAULT 0 NOT NULL,
    ADD COLUMN api_checked_at timestamptz,
    ADD COLUMN api_error text
"""
_CONNECTIONS_DUE = """
CREATE INDEX hundredms_connections_due ON hundredms_connections (api_due_at)
WHERE sealed_api_credentials IS NOT NULL
"""

_STOPS = """
ALTER TABLE hundredms_stops
    ADD COLUMN room_id text,
    ADD COLUMN session_id text,
    ADD COLUMN source_started_at timestamptz,
    ADD COLUMN source_stopped_at timestamptz
"""

_STREAMS = """
ALTER TABLE streams
    ADD COLUMN source_started_at timestamptz,
    ADD COLUMN source_end text,
    ADD COLUMN source_failed boolean DEFAULT false NOT NULL
"""

_NEW_TABLES = (
    """
    CREATE TABLE hundredms_streams (
        stream_id text NOT NULL,
        connection_id text NOT NULL,
        organization_id text NOT NULL,
        room_id text NOT NULL,
        session_id text NOT NULL,
        url_key text DEFAULT '' NOT NULL,
        beam_id text,
        live_id text,
        started_at timestamptz,
        stopped_at timestamptz,
        absences integer DEFAULT 0 NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        PRIMARY KEY (stream_id),
        UNIQUE (connection_id, beam_id),
        UNIQUE (connection_id, live_id)
    )
    """,
    "CREATE INDEX hundredms_streams_of_room ON hundredms_streams (organization_id, room_id)",
    "CREATE INDEX hundredms_streams_of_beam ON hundredms_streams (organization_id, beam_id)",
    """
    CREATE TABLE hundredms_recordings (
        connection_id text NOT NULL,
        recording_id text NOT NULL,
        organization_id text NOT NULL,
        beam_id text NOT NULL,
        sealed_details text NOT NULL,
        received_at timestamptz DEFAULT now() NOT NULL,
        due_at timestamptz DEFAULT now(),
        attempts integer DEFAULT 0 NOT NULL,
        offered_at timestamptz,
        chat_messages integer DEFAULT 0 NOT NULL,
        chat_done_at timestamptz,
        note text DEFAULT '' NOT NULL,
        PRIMARY KEY (connection_id, recording_id)
    )
    """,
    "CREATE INDEX hundredms_recordings_due ON hundredms_recordings (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX hundredms_recordings_by_age ON hundredms_recordings (received_at)",
)

# Streams that webhooks started before this release; their addresses are sealed, so the key stays empty.
_KNOWN_BEFORE = """
INSERT INTO hundredms_streams
    (stream_id, connection_id, organization_id, room_id, session_id, beam_id, stopped_at, created_at)
SELECT stream_id, connection_id, organization_id, coalesce(metadata->>'room_id', ''),
       coalesce(metadata->>'session_id', ''), external_id, coalesce(stop_requested_at, completed_at), created_at
FROM streams WHERE connection_id IS NOT NULL
"""

_CLAIM_API = """
UPDATE hundredms_connections SET api_due_at = now() + make_interval(secs => pause_s)
WHERE connection_id = ANY (ARRAY(
    SELECT c.connection_id FROM hundredms_connections c
    WHERE c.sealed_api_credentials IS NOT NULL AND c.disabled_at IS NULL AND c.api_due_at <= now()
      AND NOT (SELECT o.suspended FROM organizations o WHERE o.organization_id = c.organization_id)
    ORDER BY c.api_due_at LIMIT at_most FOR UPDATE SKIP LOCKED
))
RETURNING connection_id, organization_id, sealed_api_credentials, options, api_failures
"""

_CLAIM_RECORDINGS = """
UPDATE hundredms_recordings AS r
SET due_at = now() + make_interval(secs => lease_s)
FROM (
    SELECT c.connection_id, c.recording_id FROM hundredms_recordings c
    WHERE c.due_at <= now() ORDER BY c.due_at LIMIT at_most FOR UPDATE SKIP LOCKED
) AS found
WHERE r.connection_id = found.connection_id AND r.recording_id = found.recording_id
RETURNING r.connection_id, r.recording_id, r.organization_id
"""

_FORGET_RECORDINGS = """
WITH gone AS (
    DELETE FROM hundredms_recordings WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM hundredms_recordings WHERE received_at < now() - make_interval(days => days)
        ORDER BY received_at LIMIT at_most FOR UPDATE SKIP LOCKED
    )) RETURNING 1
)
SELECT count(*) FROM gone
"""
