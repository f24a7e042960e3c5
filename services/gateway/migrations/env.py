"""Alembic's entry into the gateway's history."""

from gateway.adapters.tables import metadata
from shared.migrate import run_migrations

run_migrations(metadata)
