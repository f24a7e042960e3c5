"""The highlights of a run as they stand: what comes after its end is judged against them."""

from alembic import op

from shared.migrations import protect

revision = "0003_repairs"
down_revision = "0002_traceparent"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE standing (
            stream_id text NOT NULL,
            run integer NOT NULL,
            highlight_id text NOT NULL,
            organization_id text NOT NULL,
            moment jsonb NOT NULL,
            PRIMARY KEY (stream_id, run, highlight_id)
        )
        """
    )
    protect("standing")
