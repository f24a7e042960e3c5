"""How replicas share the streams: who is alive, the lane of each lease, and recordings that rest."""

from alembic import op

revision = "0004_leases"
down_revision = "0003_annotations"

# A lease until 'infinity' lasts for as long as its owner's row here is renewed.
_REPLICAS = """
CREATE TABLE replicas (
    owner text PRIMARY KEY,
    alive_until timestamptz NOT NULL,
    live_capacity integer NOT NULL,
    vod_capacity integer NOT NULL,
    joined_at timestamptz NOT NULL DEFAULT now()
)
"""
_LEASES = (
    "ALTER TABLE leases ADD COLUMN lane text NOT NULL DEFAULT 'live' CHECK (lane IN ('live', 'vod'))",
    "ALTER TABLE leases ADD COLUMN awaited_windows integer NOT NULL DEFAULT 0",
    "UPDATE leases SET lane = followed.lane FROM followed WHERE followed.stream_id = leases.stream_id",
    "CREATE INDEX leases_owner ON leases (owner)",
    "CREATE INDEX leases_lane ON leases (lane)",
)


def upgrade() -> None:
    for statement in (_REPLICAS, *_LEASES):
        op.execute(statement)
