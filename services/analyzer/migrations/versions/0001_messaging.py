"""Inbox, outbox and tombstones: the analyzer keeps no other state."""

from shared.migrations import create_closed_streams_table, create_messaging_tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_messaging_tables()
    create_closed_streams_table()
