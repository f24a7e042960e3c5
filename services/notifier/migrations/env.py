"""Alembic's entry to the notifier's history."""

from shared.migrate import run_migrations

run_migrations()
