"""Alembic's entry for the selector's own schema and history."""

from shared.migrate import run_migrations

run_migrations()
