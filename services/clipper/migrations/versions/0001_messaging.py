"""Inbox and outbox: the clipper keeps no state of its own."""

from alembic import op
from shared.migrations import create_messaging_tables, protect

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_messaging_tables()
    op.execute(
        "CREATE TABLE closed_streams (stream_id text PRIMARY KEY, organization_id text NOT NULL, "
        "cause text NOT NULL, closed_at timestamptz NOT NULL DEFAULT now())"
    )
    protect("closed_streams")
