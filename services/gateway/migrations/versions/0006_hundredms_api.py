"""Credentials of 100ms' API, and what was found with them."""

revision = "0006_hundredms_api"
down_revision = "0005_uploads"


def upgrade() -> None:
    """Filled with the code that needs it."""
