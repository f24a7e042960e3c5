"""Files that customers upload."""

revision = "0005_uploads"
down_revision = "0004_forget_webhooks"


def upgrade() -> None:
    """Filled with the code that needs it."""
