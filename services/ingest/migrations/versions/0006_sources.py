"""What sources other than HLS must remember."""

revision = "0006_sources"
down_revision = "0005_repairs"


def upgrade() -> None:
    """Filled with the code that needs it."""
