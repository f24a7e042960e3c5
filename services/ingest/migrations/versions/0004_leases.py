"""How replicas share the streams."""

revision = "0004_leases"
down_revision = "0003_annotations"


def upgrade() -> None:
    """Filled with the code that needs it."""
