"""Stretches that are archived and not analysed."""

revision = "0003_annotations"
down_revision = "0002_traceparent"


def upgrade() -> None:
    """Filled with the code that needs it."""
