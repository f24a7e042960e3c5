"""Checks of 100ms connections: HMAC, networks, and second secrets that end by the database's clock.

Gateways of the release before see the columns and functions of 0001 as they were.
"""

from alembic import op

from shared.migrations import create_definer_function

revision = "0002_hundredms_checks"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(_COLUMNS)
    for name, condition in (
        ("hundredms_connection(wanted text, moment timestamptz)", "c.connection_id = wanted"),
        ("hundredms_connections_by_secret(wanted text[], moment timestamptz)", "c.secret_hashes && wanted"),
    ):
        create_definer_function(
            name, returns=f"TABLE ({_RETURNS})", body=f"{_FIND} WHERE {condition}", volatile=False
        )


_COLUMNS = """
ALTER TABLE hundredms_connections
    ADD COLUMN previous_secret_until timestamptz,
    ADD COLUMN check_secret boolean DEFAULT true NOT NULL,
    ADD COLUMN check_signature boolean DEFAULT false NOT NULL,
    ADD COLUMN check_network boolean DEFAULT false NOT NULL,
    ADD COLUMN sealed_hmac_secrets text[] DEFAULT '{}'::text[] NOT NULL,
    ADD COLUMN previous_hmac_secret_until timestamptz,
    ADD COLUMN networks text[] DEFAULT '{}'::text[] NOT NULL,
    ADD COLUMN updated_at timestamptz DEFAULT now() NOT NULL
"""

_RETURNS = """
    connection_id text, organization_id text, secret_header text, secret_hashes text[],
    sealed_hmac_secrets text[], check_secret boolean, check_signature boolean, check_network boolean,
    networks text[], options jsonb, disabled_at timestamptz, suspended boolean
"""

# Newest first. A webhook that was kept while the database was away is judged by the moment it came in.
_FIND = """
SELECT c.connection_id, c.organization_id, c.secret_header,
       CASE WHEN c.previous_secret_until <= coalesce(moment, now()) THEN c.secret_hashes[1:1]
            ELSE c.secret_hashes END,
       CASE WHEN c.previous_hmac_secret_until <= coalesce(moment, now()) THEN c.sealed_hmac_secrets[1:1]
            ELSE c.sealed_hmac_secrets END,
       c.check_secret, c.check_signature, c.check_network, c.networks, c.options, c.disabled_at, o.suspended
FROM hundredms_connections c JOIN organizations o USING (organization_id)
"""
