"""Gaps that a recording fills."""

revision = "0005_repairs"
down_revision = "0004_leases"


def upgrade() -> None:
    """Filled with the code that needs it."""
