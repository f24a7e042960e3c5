"""What the timeline shows beside windows, gaps and stalls: signals, annotations, repairs, and stretches of media."""

from alembic import op

from shared.migrations import protect

revision = "0007_timeline"
down_revision = "0006_hundredms_api"

_TABLES = (
    """
    CREATE TABLE signals (
        event_id uuid NOT NULL,
        organization_id text NOT NULL,
        stream_id text NOT NULL,
        number bigint NOT NULL,
        run integer NOT NULL,
        kind text NOT NULL,
        at_us bigint,
        wall_at timestamptz,
        duration_us bigint NOT NULL,
        weight double precision NOT NULL,
        text text NOT NULL,
        origin text NOT NULL,
        external_id text NOT NULL,
        author text NOT NULL,
        occurred_at timestamptz NOT NULL,
        PRIMARY KEY (stream_id, number),
        UNIQUE (event_id)
    )
    """,
    """
    CREATE TABLE signal_counts (
        stream_id text NOT NULL,
        organization_id text NOT NULL,
        seen bigint NOT NULL,
        PRIMARY KEY (stream_id)
    )
    """,
    """
    CREATE TABLE annotations (
        stream_id text NOT NULL,
        run integer NOT NULL,
        index integer NOT NULL,
        organization_id text NOT NULL,
        kind text NOT NULL,
        from_us bigint NOT NULL,
        to_us bigint NOT NULL,
        detail text DEFAULT '' NOT NULL,
        PRIMARY KEY (stream_id, run, index)
    )
    """,
    """
    CREATE TABLE repairs (
        stream_id text NOT NULL,
        run integer NOT NULL,
        gap_index integer NOT NULL,
        organization_id text NOT NULL,
        revision integer NOT NULL,
        outcome text NOT NULL,
        from_us bigint NOT NULL,
        to_us bigint NOT NULL,
        windows text[] DEFAULT '{}'::text[] NOT NULL,
        reason text DEFAULT '' NOT NULL,
        repaired_at timestamptz NOT NULL,
        PRIMARY KEY (stream_id, run, gap_index)
    )
    """,
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    for table in ("signals", "signal_counts", "annotations", "repairs"):
        protect(table)
    op.execute("ALTER TABLE windows ADD COLUMN stretches jsonb DEFAULT '[]'::jsonb NOT NULL")
