"""Accounts, 100ms connections, streams with their projections, endpoints with their deliveries."""

from alembic import op

from shared.migrations import create_definer_function, create_messaging_tables, protect

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    for table in _TENANT_TABLES:
        protect(table)
    _create_functions()
    create_messaging_tables()


def _create_functions() -> None:
    create_definer_function(
        "find_api_key(wanted text)",
        returns=(
            "TABLE (organization_id text, secret_hash text, scopes text[], expires_at timestamptz, "
            "revoked_at timestamptz, suspended boolean)"
        ),
        body=_FIND_API_KEY,
        volatile=False,
    )
    for name, condition in (
        ("find_connection(wanted text)", "c.connection_id = wanted"),
        ("find_connection_by_secret(wanted text[])", "c.secret_hashes && wanted"),
    ):
        create_definer_function(
            name,
            returns=(
                "TABLE (connection_id text, organization_id text, secret_header text, secret_hashes text[], "
                "options jsonb, disabled_at timestamptz, suspended boolean)"
            ),
            body=f"{_FIND_CONNECTION} WHERE {condition}",
            volatile=False,
        )
    create_definer_function(
        "streams_past_deadline(at_most integer)",
        returns="TABLE (stream_id text, organization_id text)",
        body=_STREAMS_PAST_DEADLINE,
        volatile=False,
    )
    create_definer_function(
        "email_taken(wanted text)",
        returns="boolean",
        body="SELECT EXISTS (SELECT 1 FROM users WHERE email = lower(wanted))",
        volatile=False,
    )


_TENANT_TABLES = (
    "organizations",
    "users",
    "api_keys",
    "idempotency_keys",
    "hundredms_connections",
    "hundredms_events",
    "hundredms_stops",
    "streams",
    "windows",
    "gaps",
    "stalls",
    "candidates",
    "judgements",
    "highlights",
    "clips",
    "endpoints",
    "public_events",
    "deliveries",
    "parked",
)

_FIND_API_KEY = """
SELECT k.organization_id, k.secret_hash, k.scopes, k.expires_at, k.revoked_at, o.suspended
FROM api_keys k JOIN organizations o USING (organization_id) WHERE k.key_id = wanted
"""

_FIND_CONNECTION = """
SELECT c.connection_id, c.organization_id, c.secret_header, c.secret_hashes, c.options, c.disabled_at,
       o.suspended
FROM hundredms_connections c JOIN organizations o USING (organization_id)
"""

_STREAMS_PAST_DEADLINE = """
SELECT stream_id, organization_id FROM streams
WHERE status IN ('pending', 'processing') AND deadline_at < now() ORDER BY deadline_at LIMIT at_most
"""

_TABLES = (
    """
    CREATE TABLE organizations (
        organization_id text NOT NULL,
        name text NOT NULL,
        plan text DEFAULT 'starter' NOT NULL,
        suspended boolean DEFAULT false NOT NULL,
        version integer DEFAULT 1 NOT NULL,
        sealed_signing_secret text NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        PRIMARY KEY (organization_id)
    )
    """,
    """
    CREATE TABLE users (
        user_id text NOT NULL,
        organization_id text NOT NULL,
        email text NOT NULL,
        password_hash text NOT NULL,
        role text DEFAULT 'owner' NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        PRIMARY KEY (user_id),
        UNIQUE (email),
        FOREIGN KEY (organization_id) REFERENCES organizations (organization_id)
    )
    """,
    """
    CREATE TABLE api_keys (
        key_id text NOT NULL,
        organization_id text NOT NULL,
        name text NOT NULL,
        secret_hash text NOT NULL,
        scopes text[] NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        expires_at timestamptz,
        revoked_at timestamptz,
        PRIMARY KEY (key_id),
        FOREIGN KEY (organization_id) REFERENCES organizations (organization_id)
    )
    """,
    "CREATE INDEX api_keys_of_organization ON api_keys (organization_id, created_at)",
    """
    CREATE TABLE idempotency_keys (
        organization_id text NOT NULL,
        route text NOT NULL,
        key text NOT NULL,
        request_sha256 text NOT NULL,
        answer text NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        PRIMARY KEY (organization_id, route, key)
    )
    """,
    """
    CREATE TABLE hundredms_connections (
        connection_id text NOT NULL,
        organization_id text NOT NULL,
        name text NOT NULL,
        secret_header text DEFAULT 'X-TLDR-Secret' NOT NULL,
        secret_hashes text[] NOT NULL,
        options jsonb DEFAULT '{}'::jsonb NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        disabled_at timestamptz,
        PRIMARY KEY (connection_id),
        FOREIGN KEY (organization_id) REFERENCES organizations (organization_id)
    )
    """,
    """
    CREATE TABLE hundredms_events (
        connection_id text NOT NULL,
        account_id text NOT NULL,
        event_id text NOT NULL,
        organization_id text NOT NULL,
        type text NOT NULL,
        sealed_payload text NOT NULL,
        received_at timestamptz DEFAULT now() NOT NULL,
        handled_at timestamptz,
        note text DEFAULT '' NOT NULL,
        PRIMARY KEY (connection_id, account_id, event_id, type)
    )
    """,
    """
    CREATE TABLE hundredms_stops (
        connection_id text NOT NULL,
        beam_id text NOT NULL,
        organization_id text NOT NULL,
        reason text NOT NULL,
        stopped_at timestamptz DEFAULT now() NOT NULL,
        PRIMARY KEY (connection_id, beam_id)
    )
    """,
    """
    CREATE TABLE streams (
        stream_id text NOT NULL,
        organization_id text NOT NULL,
        run integer DEFAULT 0 NOT NULL,
        lane text DEFAULT 'live' NOT NULL,
        connection_id text,
        external_id text,
        platform text NOT NULL,
        sealed_source_url text NOT NULL,
        display_url text NOT NULL,
        sealed_headers text,
        title text,
        options jsonb DEFAULT '{}'::jsonb NOT NULL,
        metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
        profile_key text NOT NULL,
        status text DEFAULT 'pending' NOT NULL,
        partial boolean DEFAULT false NOT NULL,
        cause text,
        error text,
        created_at timestamptz DEFAULT now() NOT NULL,
        updated_at timestamptz DEFAULT now() NOT NULL,
        started_at timestamptz,
        ended_at timestamptz,
        completed_at timestamptz,
        stop_requested_at timestamptz,
        deadline_at timestamptz NOT NULL,
        next_sequence bigint DEFAULT 1 NOT NULL,
        offered_us bigint DEFAULT 0 NOT NULL,
        media_duration_us bigint DEFAULT 0 NOT NULL,
        ended jsonb,
        selection jsonb,
        PRIMARY KEY (stream_id),
        UNIQUE (connection_id, external_id)
    )
    """,
    "CREATE INDEX streams_by_external_id ON streams (external_id)",
    "CREATE INDEX streams_by_status ON streams (status, deadline_at)",
    "CREATE INDEX streams_of_organization ON streams (organization_id, created_at DESC, stream_id)",
    """
    CREATE TABLE windows (
        stream_id text NOT NULL,
        run integer NOT NULL,
        index integer NOT NULL,
        organization_id text NOT NULL,
        window_id text NOT NULL,
        revision integer DEFAULT 0 NOT NULL,
        start_us bigint NOT NULL,
        end_us bigint NOT NULL,
        ready_at timestamptz,
        verdict text,
        reason text DEFAULT '' NOT NULL,
        provider text DEFAULT '' NOT NULL,
        model text DEFAULT '' NOT NULL,
        degraded boolean DEFAULT false NOT NULL,
        input_tokens bigint DEFAULT 0 NOT NULL,
        output_tokens bigint DEFAULT 0 NOT NULL,
        cost_microusd bigint DEFAULT 0 NOT NULL,
        analyzed_at timestamptz,
        PRIMARY KEY (stream_id, run, index)
    )
    """,
    """
    CREATE TABLE gaps (
        stream_id text NOT NULL,
        run integer NOT NULL,
        index integer NOT NULL,
        organization_id text NOT NULL,
        from_us bigint NOT NULL,
        to_us bigint NOT NULL,
        cause text NOT NULL,
        epoch bigint NOT NULL,
        from_sequence bigint NOT NULL,
        to_sequence bigint NOT NULL,
        PRIMARY KEY (stream_id, run, index)
    )
    """,
    """
    CREATE TABLE stalls (
        stream_id text NOT NULL,
        run integer NOT NULL,
        index integer NOT NULL,
        organization_id text NOT NULL,
        at_us bigint NOT NULL,
        cause text DEFAULT '' NOT NULL,
        stalled_at timestamptz,
        resumed_at timestamptz,
        PRIMARY KEY (stream_id, run, index)
    )
    """,
    """
    CREATE TABLE candidates (
        candidate_id text NOT NULL,
        organization_id text NOT NULL,
        stream_id text NOT NULL,
        run integer NOT NULL,
        index integer NOT NULL,
        revision integer DEFAULT 0 NOT NULL,
        body jsonb NOT NULL,
        PRIMARY KEY (candidate_id)
    )
    """,
    "CREATE INDEX candidates_of_stream ON candidates (stream_id, run, index)",
    """
    CREATE TABLE judgements (
        candidate_id text NOT NULL,
        ordinal integer NOT NULL,
        organization_id text NOT NULL,
        stream_id text NOT NULL,
        decision text NOT NULL,
        rule text NOT NULL,
        score double precision NOT NULL,
        bound double precision,
        against text,
        highlight_id text,
        explanation text DEFAULT '' NOT NULL,
        judged_at timestamptz NOT NULL,
        PRIMARY KEY (candidate_id, ordinal)
    )
    """,
    "CREATE INDEX judgements_of_stream ON judgements (stream_id)",
    """
    CREATE TABLE highlights (
        highlight_id text NOT NULL,
        organization_id text NOT NULL,
        stream_id text NOT NULL,
        run integer NOT NULL,
        revision integer NOT NULL,
        start_us bigint NOT NULL,
        end_us bigint NOT NULL,
        peak_us bigint NOT NULL,
        score double precision NOT NULL,
        confidence double precision NOT NULL,
        scores jsonb DEFAULT '{}'::jsonb NOT NULL,
        type text NOT NULL,
        title text NOT NULL,
        description text DEFAULT '' NOT NULL,
        reason text DEFAULT '' NOT NULL,
        tags jsonb DEFAULT '[]'::jsonb NOT NULL,
        provider text DEFAULT '' NOT NULL,
        segments jsonb DEFAULT '[]'::jsonb NOT NULL,
        retracted boolean DEFAULT false NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        updated_at timestamptz DEFAULT now() NOT NULL,
        PRIMARY KEY (highlight_id)
    )
    """,
    "CREATE INDEX highlights_of_stream ON highlights (stream_id, start_us, highlight_id)",
    """
    CREATE TABLE clips (
        highlight_id text NOT NULL,
        revision integer NOT NULL,
        organization_id text NOT NULL,
        stream_id text NOT NULL,
        status text NOT NULL,
        video_key text,
        thumbnail_key text,
        start_us bigint,
        duration_us bigint,
        size_bytes bigint,
        width integer,
        height integer,
        code text,
        reason text,
        finished_at timestamptz NOT NULL,
        PRIMARY KEY (highlight_id, revision)
    )
    """,
    "CREATE INDEX clips_of_stream ON clips (stream_id)",
    """
    CREATE TABLE endpoints (
        endpoint_id text NOT NULL,
        organization_id text NOT NULL,
        stream_id text,
        version integer DEFAULT 1 NOT NULL,
        sealed_url text NOT NULL,
        display_url text NOT NULL,
        sealed_secrets jsonb NOT NULL,
        event_types jsonb NOT NULL,
        description text DEFAULT '' NOT NULL,
        active boolean DEFAULT true NOT NULL,
        max_attempts integer DEFAULT 11 NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        updated_at timestamptz DEFAULT now() NOT NULL,
        PRIMARY KEY (endpoint_id)
    )
    """,
    "CREATE INDEX endpoints_of_organization ON endpoints (organization_id, created_at)",
    "CREATE INDEX endpoints_of_stream ON endpoints (stream_id)",
    """
    CREATE TABLE public_events (
        public_event_id text NOT NULL,
        organization_id text NOT NULL,
        stream_id text NOT NULL,
        sequence bigint NOT NULL,
        type text NOT NULL,
        body text NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        PRIMARY KEY (public_event_id),
        UNIQUE (stream_id, sequence)
    )
    """,
    "CREATE INDEX public_events_of_organization ON public_events (organization_id, created_at, public_event_id)",
    """
    CREATE TABLE deliveries (
        delivery_id text NOT NULL,
        organization_id text NOT NULL,
        endpoint_id text NOT NULL,
        public_event_id text NOT NULL,
        stream_id text,
        outcome text,
        attempts integer DEFAULT 0 NOT NULL,
        status integer,
        error text DEFAULT '' NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        finished_at timestamptz,
        PRIMARY KEY (delivery_id)
    )
    """,
    "CREATE INDEX deliveries_of_endpoint ON deliveries (endpoint_id, stream_id)",
    "CREATE INDEX deliveries_of_event ON deliveries (public_event_id)",
    """
    CREATE TABLE parked (
        event_id text NOT NULL,
        service text NOT NULL,
        organization_id text NOT NULL,
        stream_id text,
        event_name text NOT NULL,
        code text NOT NULL,
        reason text NOT NULL,
        parked_at timestamptz DEFAULT now() NOT NULL,
        PRIMARY KEY (event_id, service)
    )
    """,
    "CREATE INDEX parked_of_stream ON parked (stream_id)",
    "CREATE INDEX hundredms_connections_by_secret ON hundredms_connections USING gin (secret_hashes)",
)
