"""Endpoints, deliveries, their log; two functions that look beyond one tenant, and two that go tenant by tenant."""

from alembic import op

from shared.migrations import create_definer_function, create_messaging_tables, protect

revision = "0001"
down_revision = None

_ENDPOINTS = """
CREATE TABLE endpoints (
    endpoint_id text PRIMARY KEY,
    organization_id text NOT NULL,
    version integer NOT NULL,
    active boolean NOT NULL,
    sealed_url text NOT NULL,
    sealed_secrets text[] NOT NULL,
    max_attempts integer NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    paused_until timestamptz,
    refusal text,
    updated_at timestamptz NOT NULL DEFAULT now()
)
"""
_DELIVERIES = """
CREATE TABLE deliveries (
    delivery_id text PRIMARY KEY,
    organization_id text NOT NULL,
    stream_id text NOT NULL,
    endpoint_id text NOT NULL,
    endpoint_version integer NOT NULL,
    public_event_id text NOT NULL,
    type text NOT NULL,
    sequence bigint NOT NULL,
    follows text,
    body text NOT NULL,
    traceparent text,
    state text NOT NULL CHECK (state IN ('pending', 'delivered', 'failed', 'disabled')),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    lease_until timestamptz,
    fence bigint NOT NULL DEFAULT 0,
    status integer,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
)
"""
_ATTEMPTS = """
CREATE TABLE attempts (
    delivery_id text NOT NULL,
    fence bigint NOT NULL,
    organization_id text NOT NULL,
    endpoint_id text NOT NULL,
    attempt integer NOT NULL,
    at timestamptz NOT NULL,
    duration_ms integer NOT NULL,
    status integer,
    code text,
    reason text,
    answer text NOT NULL,
    PRIMARY KEY (delivery_id, fence)
)
"""
_INDEXES = (
    "CREATE INDEX deliveries_untried ON deliveries (endpoint_id, stream_id, sequence)"
    " WHERE state = 'pending' AND attempts = 0",
    "CREATE INDEX deliveries_tried ON deliveries (endpoint_id, due_at)"
    " WHERE state = 'pending' AND attempts > 0",
    "CREATE INDEX deliveries_waiting ON deliveries (follows) WHERE state = 'pending' AND attempts = 0",
    "CREATE INDEX deliveries_leased ON deliveries (lease_until) WHERE lease_until IS NOT NULL",
    "CREATE INDEX deliveries_finished ON deliveries (finished_at) WHERE finished_at IS NOT NULL",
)

# What may be sent now, for all tenants; only ids leave the function.
# heads: of each stream and endpoint the earliest notification that was never tried (skip scan), so the first
# attempt of one comes after the first attempt of those before it. A suspect endpoint (failing, or slow right
# now) gets one slot, and all suspects together get `suspect_slots`: the rest stays free for the healthy.
# `LIMIT 16` is the most that `endpoint_slots` may be; as a constant it lets the planner count on few rows, and
# `LIMIT 1` keeps it at the primary key of endpoints.
_CLAIM = """
WITH RECURSIVE heads AS (
    (SELECT delivery_id, endpoint_id, stream_id, endpoint_version, due_at
     FROM deliveries WHERE state = 'pending' AND attempts = 0
     ORDER BY endpoint_id, stream_id, sequence LIMIT 1)
    UNION ALL
    SELECT following.* FROM heads AS head CROSS JOIN LATERAL
        (SELECT delivery_id, endpoint_id, stream_id, endpoint_version, due_at
         FROM deliveries WHERE state = 'pending' AND attempts = 0
           AND (endpoint_id, stream_id) > (head.endpoint_id, head.stream_id)
         ORDER BY endpoint_id, stream_id, sequence LIMIT 1) AS following
), retrying AS (
    (SELECT endpoint_id FROM deliveries WHERE state = 'pending' AND attempts > 0
     ORDER BY endpoint_id LIMIT 1)
    UNION ALL
    SELECT following.endpoint_id FROM retrying AS one CROSS JOIN LATERAL
        (SELECT endpoint_id FROM deliveries
         WHERE state = 'pending' AND attempts > 0 AND endpoint_id > one.endpoint_id
         ORDER BY endpoint_id LIMIT 1) AS following
), retries AS (
    SELECT due.* FROM retrying CROSS JOIN LATERAL
        (SELECT delivery_id, endpoint_id, endpoint_version, due_at FROM deliveries
         WHERE endpoint_id = retrying.endpoint_id AND state = 'pending' AND attempts > 0 AND due_at <= now()
         ORDER BY due_at LIMIT 16) AS due
), flights AS (
    SELECT endpoint_id, count(*) AS busy,
           bool_or(lease_until < now() + make_interval(secs => lease_s - slow_s)) AS slow
    FROM deliveries WHERE lease_until > now() GROUP BY endpoint_id
), due AS (
    SELECT delivery_id, endpoint_id, endpoint_version, due_at FROM heads WHERE due_at <= now()
    UNION ALL SELECT delivery_id, endpoint_id, endpoint_version, due_at FROM retries
), standing AS (
    SELECT concerned.endpoint_id, version, active AND refusal IS NULL AS open, paused_until, failures,
           coalesce(busy, 0) AS busy, failures > 0 OR coalesce(slow, false) AS suspect
    FROM (SELECT endpoint_id FROM due UNION SELECT endpoint_id FROM flights) AS concerned
    CROSS JOIN LATERAL (SELECT * FROM endpoints WHERE endpoint_id = concerned.endpoint_id LIMIT 1) AS known
    LEFT JOIN flights ON flights.endpoint_id = concerned.endpoint_id
), ranked AS (
    SELECT delivery_id, due_at, open AND suspect AS suspect,
           busy + row_number() OVER (PARTITION BY endpoint_id ORDER BY due_at, delivery_id) AS slot,
           CASE WHEN NOT open THEN endpoint_slots
                WHEN paused_until > now() THEN 0
                WHEN suspect THEN 1
                ELSE endpoint_slots END AS slots
    FROM due JOIN standing USING (endpoint_id) WHERE version >= endpoint_version
), allowed AS (
    SELECT delivery_id, due_at, suspect,
           row_number() OVER (PARTITION BY suspect ORDER BY due_at, delivery_id) AS place
    FROM ranked WHERE slot <= slots
), picked AS (
    SELECT delivery_id FROM allowed
    WHERE NOT suspect
       OR place <= suspect_slots - (SELECT coalesce(sum(busy), 0) FROM standing WHERE suspect)
    ORDER BY due_at, delivery_id LIMIT at_most
), held AS (
    SELECT delivery_id FROM deliveries
    WHERE delivery_id IN (SELECT delivery_id FROM picked) AND state = 'pending' AND due_at <= now()
    FOR UPDATE SKIP LOCKED
)
UPDATE deliveries AS claimed
SET fence = claimed.fence + 1, lease_until = now() + make_interval(secs => lease_s),
    due_at = now() + make_interval(secs => lease_s)
FROM held WHERE claimed.delivery_id = held.delivery_id
RETURNING claimed.delivery_id, claimed.organization_id
"""
_FORGET = """
WITH old AS (
    SELECT delivery_id FROM deliveries WHERE finished_at < now() - make_interval(days => keep_days)
    LIMIT at_most FOR UPDATE SKIP LOCKED
), log AS (
    DELETE FROM attempts USING old WHERE attempts.delivery_id = old.delivery_id
), gone AS (
    DELETE FROM deliveries USING old WHERE deliveries.delivery_id = old.delivery_id RETURNING 1
)
SELECT count(*)::integer FROM gone
"""

# The next two run with the caller's rights: row-level security holds for each tenant in turn. They spare a batch
# over many tenants two round trips for each. `own` is the tenant's part of the argument, an object by tenant.
_TENANT_LOOP = """
CREATE FUNCTION {signature} LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = {schema}, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
    tenant text; own jsonb; own_ids text[];
BEGIN
    FOR tenant, own IN SELECT key, value FROM jsonb_each(by_tenant) LOOP
        PERFORM set_config('app.organization_id', tenant, true);
        own_ids := ARRAY(SELECT one ->> 'delivery_id' FROM jsonb_array_elements(own) AS one);
        RETURN QUERY {query};
    END LOOP;
    PERFORM set_config('app.organization_id', '', true);
END
$body$
"""
_READ_SIGNATURE = """read_deliveries(by_tenant jsonb) RETURNS TABLE (
    delivery_id text, organization_id text, stream_id text, public_event_id text, type text, body text,
    attempts integer, fence bigint, traceparent text, endpoint_id text, version integer, sealed_url text,
    sealed_secrets text[], max_attempts integer, failures integer, active boolean, refusal text)"""
_READ = """
    SELECT d.delivery_id, d.organization_id, d.stream_id, d.public_event_id, d.type, d.body, d.attempts, d.fence,
           d.traceparent, e.endpoint_id, e.version, e.sealed_url, e.sealed_secrets, e.max_attempts, e.failures,
           e.active, e.refusal
    FROM deliveries AS d JOIN endpoints AS e USING (endpoint_id)
    WHERE d.delivery_id = ANY(own_ids) ORDER BY d.created_at, d.sequence
"""
_FINISH_SIGNATURE = "finish_deliveries(by_tenant jsonb) RETURNS TABLE (delivery_id text)"
# An attempt is on record even when its lease was lost; what becomes of the delivery is the holder's to say.
_FINISH = """
    WITH result AS (
        SELECT * FROM jsonb_to_recordset(own) AS one (
            delivery_id text, fence bigint, organization_id text, endpoint_id text, state text,
            attempts integer, delay_s double precision, code text, reason text, at timestamptz,
            duration_ms integer, status integer, answer text)
    ), logged AS (
        INSERT INTO attempts (delivery_id, fence, organization_id, endpoint_id, attempt, at, duration_ms,
                              status, code, reason, answer)
        SELECT delivery_id, fence, organization_id, endpoint_id, attempts, at, duration_ms, status, code,
               reason, answer
        FROM result WHERE at IS NOT NULL
        ON CONFLICT DO NOTHING
    )
    UPDATE deliveries AS d
    SET state = r.state, attempts = r.attempts, lease_until = NULL,
        due_at = now() + make_interval(secs => r.delay_s),
        status = coalesce(r.status, d.status), error = concat_ws(': ', r.code, r.reason),
        finished_at = CASE WHEN r.state = 'pending' THEN NULL ELSE now() END
    FROM result AS r
    WHERE d.delivery_id = ANY(own_ids)
      AND d.delivery_id = r.delivery_id AND d.fence = r.fence AND d.state = 'pending'
    RETURNING d.delivery_id
"""


def _create_tenant_loop(signature: str, query: str) -> None:
    schema = op.get_context().version_table_schema
    op.execute(_TENANT_LOOP.format(signature=signature, query=query, schema=schema))
    op.execute(f"REVOKE ALL ON FUNCTION {signature.split('(', maxsplit=1)[0]} FROM PUBLIC")


def upgrade() -> None:
    create_messaging_tables()
    for statement in (_ENDPOINTS, _DELIVERIES, _ATTEMPTS, *_INDEXES):
        op.execute(statement)
    for table in ("endpoints", "deliveries", "attempts"):
        protect(table)
    create_definer_function(
        "claim_deliveries(at_most integer, endpoint_slots integer, suspect_slots integer,"
        " lease_s double precision, slow_s double precision)",
        returns="TABLE (delivery_id text, organization_id text)",
        body=_CLAIM,
    )
    create_definer_function(
        "forget_deliveries(keep_days integer, at_most integer)", returns="integer", body=_FORGET
    )
    _create_tenant_loop(_READ_SIGNATURE, _READ)
    _create_tenant_loop(_FINISH_SIGNATURE, _FINISH)
