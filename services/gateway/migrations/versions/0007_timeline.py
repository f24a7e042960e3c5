"""Signals, annotations and repairs."""

revision = "0007_timeline"
down_revision = "0006_hundredms_api"


def upgrade() -> None:
    """Filled with the code that needs it."""
