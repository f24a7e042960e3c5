"""Rate limits: the counts, one function that takes from several budgets or from none, and limits of one's own."""

from alembic import op

from shared.migrations import create_definer_function

revision = "0003_rate_limits"
down_revision = "0002_hundredms_checks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE organizations ADD COLUMN rate_limit integer CHECK (rate_limit > 0)")
    op.execute("ALTER TABLE api_keys ADD COLUMN rate_limit integer CHECK (rate_limit > 0)")
    op.execute(_TABLE)
    op.execute(_TAKE)
    # Beside find_api_key: replicas of the version before still call that one.
    create_definer_function(
        "find_caller(wanted text)",
        returns=(
            "TABLE (organization_id text, secret_hash text, scopes text[], expires_at timestamptz, "
            "revoked_at timestamptz, rate_limit integer, plan text, organization_rate_limit integer, "
            "suspended boolean)"
        ),
        body=_FIND_CALLER,
        volatile=False,
    )


_FIND_CALLER = """
SELECT k.organization_id, k.secret_hash, k.scopes, k.expires_at, k.revoked_at, k.rate_limit,
       o.plan, o.rate_limit, o.suspended
FROM api_keys k JOIN organizations o USING (organization_id) WHERE k.key_id = wanted
"""

# Unlogged: no write-ahead log and no wait for the disk at each request. After a crash the counts begin at zero.
# A row is updated at every request; free space in its page keeps the new version there and out of the index.
_TABLE = """
CREATE UNLOGGED TABLE rate_limits (
    subject text NOT NULL,
    window_ms bigint NOT NULL,
    started_ms bigint NOT NULL,
    previous bigint NOT NULL,
    current bigint NOT NULL,
    PRIMARY KEY (subject)
) WITH (fillfactor = 50)
"""

# The first round reads without locks: a budget that is used up now stays so for all who come at the same time, so
# a refusal needs no lock and writes nothing. Only the second round, under locks in the given order, may accept.
_TAKE = """
CREATE FUNCTION take_rate_limits(subjects text[], limits bigint[], windows_ms bigint[])
RETURNS TABLE (allowed boolean, now_ms bigint, previous bigint[], current bigint[], elapsed_ms bigint[])
LANGUAGE plpgsql AS $body$
DECLARE
    started bigint[]; before bigint[]; since bigint[]; elapsed bigint[]; passed bigint; found_row record;
BEGIN
    FOR attempt IN 1..2 LOOP
        IF attempt = 2 THEN
            FOR i IN 1..cardinality(subjects) LOOP
                LOOP
                    PERFORM 1 FROM rate_limits r WHERE r.subject = subjects[i] FOR UPDATE;
                    EXIT WHEN FOUND;
                    INSERT INTO rate_limits VALUES (subjects[i], windows_ms[i], 0, 0, 0) ON CONFLICT DO NOTHING;
                END LOOP;
            END LOOP;
        END IF;
        now_ms := floor(extract(epoch FROM clock_timestamp()) * 1000);
        allowed := true;
        FOR i IN 1..cardinality(subjects) LOOP
            SELECT * INTO found_row FROM rate_limits r WHERE r.subject = subjects[i];
            passed := greatest(0, now_ms - coalesce(found_row.started_ms, 0)) / windows_ms[i];
            IF passed > 1 THEN
                started[i] := now_ms;
                before[i] := 0;
                since[i] := 0;
            ELSIF passed = 1 THEN
                started[i] := found_row.started_ms + windows_ms[i];
                before[i] := found_row.current;
                since[i] := 0;
            ELSE
                started[i] := found_row.started_ms;
                before[i] := found_row.previous;
                since[i] := found_row.current;
            END IF;
            elapsed[i] := greatest(0, now_ms - started[i]);
            allowed := allowed
                AND before[i] * (windows_ms[i] - elapsed[i]) / windows_ms[i] + since[i] < limits[i];
        END LOOP;
        EXIT WHEN NOT allowed;
    END LOOP;
    IF allowed THEN
        FOR i IN 1..cardinality(subjects) LOOP
            since[i] := since[i] + 1;
            UPDATE rate_limits r
                SET window_ms = windows_ms[i], started_ms = started[i], previous = before[i], current = since[i]
                WHERE r.subject = subjects[i];
        END LOOP;
    END IF;
    previous := before;
    current := since;
    elapsed_ms := elapsed;
    RETURN NEXT;
END
$body$
"""
