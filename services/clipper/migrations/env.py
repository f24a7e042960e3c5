"""Alembic's entry for the clipper's own schema and history."""

from shared.migrate import run_migrations

run_migrations()
