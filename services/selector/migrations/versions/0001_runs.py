"""One row for each run that is being judged, and the deadlines of its unsealed windows."""

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
    op.execute(
        """
        CREATE TABLE runs (
            stream_id text NOT NULL,
            run integer NOT NULL,
            organization_id text NOT NULL,
            state jsonb NOT NULL,
            closed boolean NOT NULL DEFAULT false,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (stream_id, run)
        )
        """
    )
    create_closed_streams_table()
    op.execute(
        """
        CREATE TABLE deadlines (
            stream_id text NOT NULL,
            run integer NOT NULL,
            index integer NOT NULL,
            revision integer NOT NULL,
            organization_id text NOT NULL,
            due_at timestamptz NOT NULL,
            PRIMARY KEY (stream_id, run, index, revision)
        )
        """
    )
    op.execute("CREATE INDEX deadlines_due ON deadlines (due_at)")
    for table in ("runs", "deadlines"):
        protect(table)
    create_definer_function(
        "due_windows(at_most integer)",
        returns="TABLE (stream_id text, run integer, index integer, revision integer, organization_id text)",
        body="SELECT d.stream_id, d.run, d.index, d.revision, d.organization_id FROM deadlines d "
        "WHERE d.due_at <= now() ORDER BY d.due_at LIMIT at_most",
        volatile=False,
    )
