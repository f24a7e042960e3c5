"""What 100ms told is kept for a while only: indexes by age, and one function that forgets it for all tenants."""

from alembic import op

from shared.migrations import create_definer_function

revision = "0004_forget_webhooks"
down_revision = "0003_rate_limits"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX hundredms_events_by_age ON hundredms_events (received_at)")
    op.execute("CREATE INDEX hundredms_stops_by_age ON hundredms_stops (stopped_at)")
    for name, table, at in (
        ("forget_hundredms_events", "hundredms_events", "received_at"),
        ("forget_hundredms_stops", "hundredms_stops", "stopped_at"),
    ):
        create_definer_function(
            f"{name}(days integer, at_most integer)",
            returns="bigint",
            body=_FORGET.format(table=table, at=at),
        )


# The oldest first. Rows that somebody holds are left for the next time.
_FORGET = """
WITH gone AS (
    DELETE FROM {table} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {table} WHERE {at} < now() - make_interval(days => days)
        ORDER BY {at} LIMIT at_most FOR UPDATE SKIP LOCKED
    )) RETURNING 1
)
SELECT count(*) FROM gone
"""
