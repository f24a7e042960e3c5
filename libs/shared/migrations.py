"""Building blocks for the services' migrations: messaging tables, row-level security, definer functions.

Each service has one schema and one Alembic history; these functions run inside its migrations, as its owner.
"""

from alembic import op

INBOX_KEEP_DAYS = 8
OUTBOX_KEEP_DAYS = 4
AHEAD_DAYS = 2
LEFTOVERS_AT_ONCE = 100_000


def create_messaging_tables() -> None:
    """Inbox and outbox (both partitioned by day), the broker epoch, and `maintain_partitions()`."""
    op.execute("CREATE SEQUENCE outbox_seq")
    for statement in (_INBOX, _INBOX_DUE, _INBOX_PARKED, _OUTBOX, _OUTBOX_PENDING, _OUTBOX_PUBLISHED, _EPOCH):
        op.execute(statement)
    for table in ("inbox", "outbox"):
        op.execute(f"CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT")
    op.execute("INSERT INTO broker_epoch (id, epoch) VALUES (1, NULL)")
    schema = op.get_context().version_table_schema
    op.execute(
        _MAINTAIN.format(
            schema=schema,
            ahead=AHEAD_DAYS,
            inbox_days=INBOX_KEEP_DAYS,
            outbox_days=OUTBOX_KEEP_DAYS,
            leftovers=LEFTOVERS_AT_ONCE,
        )
    )
    op.execute("SELECT maintain_partitions()")


def create_closed_streams_table() -> None:
    """The tombstones of `shared.closures`."""
    op.execute(
        "CREATE TABLE closed_streams (stream_id text PRIMARY KEY, organization_id text NOT NULL, "
        "cause text NOT NULL, closed_at timestamptz NOT NULL DEFAULT now())"
    )
    protect("closed_streams")


def protect(table: str) -> None:
    """Show and take only rows of the transaction's tenant; the owner (definer functions) sees all."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} USING ({_TENANT}) WITH CHECK ({_TENANT})")
    op.execute(f"CREATE POLICY owner ON {table} TO CURRENT_USER USING (true) WITH CHECK (true)")


def create_definer_function(signature: str, *, returns: str, body: str, volatile: bool = True) -> None:
    """A narrow function that runs as the owner, for what must be looked up before the tenant is known."""
    schema = op.get_context().version_table_schema
    kind = "VOLATILE" if volatile else "STABLE"
    op.execute(
        f"CREATE FUNCTION {signature} RETURNS {returns} LANGUAGE sql {kind} SECURITY DEFINER "
        f"SET search_path = {schema}, pg_temp AS $body$ {body} $body$"
    )
    op.execute(f"REVOKE ALL ON FUNCTION {signature.split('(', maxsplit=1)[0]} FROM PUBLIC")


_TENANT = "organization_id = NULLIF(current_setting('app.organization_id', true), '')"

_INBOX = """
CREATE TABLE inbox (
    event_id uuid NOT NULL,
    event_name text NOT NULL,
    day date NOT NULL,
    lane text NOT NULL,
    organization_id text,
    stream_id text,
    payload text,
    traceparent text,
    state text NOT NULL CHECK (state IN ('received', 'done', 'retry', 'parked')),
    attempt integer NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    due_at timestamptz,
    code text,
    reason text,
    received_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (event_name, event_id, day)
) PARTITION BY RANGE (day)
"""
_INBOX_DUE = "CREATE INDEX inbox_unfinished ON inbox (received_at) WHERE state IN ('received', 'retry')"
_INBOX_PARKED = "CREATE INDEX inbox_parked ON inbox (received_at) WHERE state = 'parked'"
_OUTBOX = """
CREATE TABLE outbox (
    seq bigint NOT NULL DEFAULT nextval('outbox_seq'),
    event_id uuid NOT NULL,
    event_name text NOT NULL,
    day date NOT NULL,
    lane text NOT NULL,
    organization_id text,
    stream_id text,
    body text NOT NULL,
    traceparent text,
    created_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    PRIMARY KEY (event_id, day)
) PARTITION BY RANGE (day)
"""
_OUTBOX_PENDING = "CREATE INDEX outbox_pending ON outbox (seq) WHERE published_at IS NULL"
_OUTBOX_PUBLISHED = "CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL"
_EPOCH = "CREATE TABLE broker_epoch (id integer PRIMARY KEY, epoch text)"

# Partitions that hold unfinished or parked work are kept, however old they are. The default partition takes the
# days that have no partition (late, or far ahead by a wrong clock); what is finished there is deleted by age.
_MAINTAIN = """
CREATE FUNCTION maintain_partitions() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = {schema}, pg_temp AS $body$
DECLARE
    parent text; from_day date; part record; keep integer; busy boolean;
    unfinished text; parked text; finished text;  -- each as its partial index says it: a partition is big
BEGIN
    FOREACH parent IN ARRAY ARRAY['inbox', 'outbox'] LOOP
        FOR from_day IN SELECT (now() AT TIME ZONE 'UTC')::date + n FROM generate_series(0, {ahead}) AS n LOOP
            BEGIN
                EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                    parent || '_' || to_char(from_day, 'YYYYMMDD'), parent, from_day, from_day + 1);
            EXCEPTION WHEN check_violation THEN
                RAISE NOTICE 'rows of % stay in the default partition', from_day;
            END;
        END LOOP;
        IF parent = 'inbox' THEN
            keep := {inbox_days};
            unfinished := 'state IN (''received'', ''retry'')';
            parked := 'state = ''parked''';
            finished := 'state = ''done'' AND finished_at';
        ELSE
            keep := {outbox_days};
            unfinished := 'published_at IS NULL';
            parked := 'false';
            finished := 'published_at';
        END IF;
        EXECUTE format('DELETE FROM %1$I WHERE ctid = ANY(ARRAY(SELECT ctid FROM %1$I '
            'WHERE %2$s < now() - make_interval(days => %3$s) LIMIT {leftovers}))',
            parent || '_rest', finished, keep);
        FOR part IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                    WHERE i.inhparent = parent::regclass AND c.relname ~ '_[0-9]{{8}}$' LOOP
            IF to_date(right(part.relname, 8), 'YYYYMMDD') < (now() AT TIME ZONE 'UTC')::date - keep THEN
                EXECUTE format('SELECT EXISTS (SELECT 1 FROM %1$I WHERE %2$s) '
                    'OR EXISTS (SELECT 1 FROM %1$I WHERE %3$s)', part.relname, unfinished, parked) INTO busy;
                IF NOT busy THEN
                    EXECUTE format('DROP TABLE %I', part.relname);
                END IF;
            END IF;
        END LOOP;
    END LOOP;
END
$body$
"""
