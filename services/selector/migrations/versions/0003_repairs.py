"""What came after the end of a run."""

revision = "0003_repairs"
down_revision = "0002_traceparent"


def upgrade() -> None:
    """Filled with the code that needs it."""
