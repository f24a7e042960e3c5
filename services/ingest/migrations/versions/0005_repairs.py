"""Recordings that may fill gaps, and what became of each gap; jobs hold ids only and cross tenants."""

from alembic import op

from shared.migrations import create_definer_function, protect

revision = "0005_repairs"
down_revision = "0004_leases"

_RECORDINGS = """
CREATE TABLE recordings (
    stream_id text NOT NULL,
    run integer NOT NULL,
    recording_id text NOT NULL,
    organization_id text NOT NULL,
    lane text NOT NULL,
    sealed_url text NOT NULL,
    started_at timestamptz NOT NULL,
    duration_us bigint NOT NULL,
    expires_at timestamptz,
    traceparent text,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream_id, run, recording_id)
)
"""
_REPAIRS = """
CREATE TABLE repairs (
    stream_id text NOT NULL,
    run integer NOT NULL,
    gap_index integer NOT NULL,
    revision integer NOT NULL,
    organization_id text NOT NULL,
    recording_id text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('repaired', 'partly', 'failed')),
    from_us bigint NOT NULL,
    to_us bigint NOT NULL,
    segments jsonb NOT NULL,
    windows text[] NOT NULL,
    reason text NOT NULL,
    repaired_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream_id, run, gap_index, revision)
)
"""
_JOBS = """
CREATE TABLE repair_jobs (
    stream_id text NOT NULL,
    run integer NOT NULL,
    recording_id text NOT NULL,
    organization_id text NOT NULL,
    due_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    owner text,
    lease_until timestamptz NOT NULL DEFAULT now(),
    fence bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (stream_id, run, recording_id)
)
"""
# A run is repaired when it is over: only then are its gaps known, and no follower writes beside us.
_CLAIM = """
UPDATE repair_jobs SET owner = claimant, fence = nextval('lease_fence'), attempts = attempts + 1,
    lease_until = now() + make_interval(secs => lease_s)
WHERE (stream_id, run, recording_id) IN (
    SELECT j.stream_id, j.run, j.recording_id
    FROM repair_jobs j JOIN followed f ON f.stream_id = j.stream_id
    WHERE j.due_at <= now() AND (j.owner IS NULL OR j.lease_until < now())
      AND (f.run > j.run OR (f.run = j.run AND f.state <> 'following'))
    ORDER BY j.due_at LIMIT at_most FOR UPDATE OF j SKIP LOCKED
)
RETURNING stream_id, organization_id, run, recording_id, fence, attempts
"""


def upgrade() -> None:
    for statement in (_RECORDINGS, _REPAIRS, _JOBS):
        op.execute(statement)
    op.execute("CREATE INDEX repair_jobs_due ON repair_jobs (due_at)")
    protect("recordings")
    protect("repairs")
    create_definer_function(
        "claim_repairs(claimant text, at_most integer, lease_s double precision)",
        returns="TABLE (stream_id text, organization_id text, run integer, recording_id text, fence bigint, "
        "attempts integer)",
        body=_CLAIM,
    )
