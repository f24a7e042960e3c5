"""One row for each run that is being judged, with the deadline of the window that it waits for."""

from alembic import op

from shared.migrations import (
    create_closed_streams_table,
    create_definer_function,
    create_messaging_tables,
    protect,
)

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_messaging_tables()
    create_closed_streams_table()
    op.execute(
        """
        CREATE TABLE runs (
            stream_id text NOT NULL,
            run integer NOT NULL,
            organization_id text NOT NULL,
            lane text NOT NULL,
            profile_key text,
            state jsonb NOT NULL,
            offered_at jsonb NOT NULL DEFAULT '{}',
            blocked_on integer,
            due_at timestamptz,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (stream_id, run)
        )
        """
    )
    op.execute("CREATE INDEX runs_due ON runs (due_at) WHERE due_at IS NOT NULL")
    protect("runs")
    create_definer_function(
        "due_runs(at_most integer)",
        returns="TABLE (organization_id text, stream_id text, run integer, blocked_on integer)",
        body="SELECT r.organization_id, r.stream_id, r.run, r.blocked_on FROM runs r "
        "WHERE r.due_at <= now() ORDER BY r.due_at LIMIT at_most",
        volatile=False,
    )
