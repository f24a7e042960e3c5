"""Followed streams know the trace that they belong to."""

from alembic import op

revision = "0002_traceparent"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE followed ADD COLUMN traceparent text")
