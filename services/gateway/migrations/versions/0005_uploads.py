"""Files that customers upload, and what is known of a stream's source beside its address."""

from alembic import op

from shared.migrations import create_definer_function, protect

revision = "0005_uploads"
down_revision = "0004_forget_webhooks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in (_UPLOADS, _BY_ORGANIZATION, _BY_EXPIRY, _PARTS, _STREAMS):
        op.execute(statement)
    protect("uploads")
    protect("upload_parts")
    create_definer_function(
        "expired_uploads(at_most integer)",
        returns="TABLE (organization_id text, upload_id text)",
        body=_EXPIRED,
        volatile=False,
    )
    create_definer_function("forget_uploads(days integer, at_most integer)", returns="bigint", body=_FORGET)


_UPLOADS = """
CREATE TABLE uploads (
    upload_id text NOT NULL,
    organization_id text NOT NULL,
    name text DEFAULT '' NOT NULL,
    content_type text DEFAULT '' NOT NULL,
    upload_metadata text DEFAULT '' NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    offset_bytes bigint DEFAULT 0 NOT NULL CHECK (offset_bytes BETWEEN 0 AND size_bytes),
    fence bigint DEFAULT 0 NOT NULL,
    lease_until timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    expires_at timestamptz NOT NULL,
    completed_at timestamptz,
    used_at timestamptz,
    swept_at timestamptz,
    PRIMARY KEY (upload_id)
)
"""
_BY_ORGANIZATION = "CREATE INDEX uploads_of_organization ON uploads (organization_id, created_at)"
_BY_EXPIRY = "CREATE INDEX uploads_by_expiry ON uploads (expires_at)"
_PARTS = """
CREATE TABLE upload_parts (
    upload_id text NOT NULL,
    offset_bytes bigint NOT NULL,
    organization_id text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    PRIMARY KEY (upload_id, offset_bytes)
)
"""
_STREAMS = """
ALTER TABLE streams
    ADD COLUMN source_kind text DEFAULT 'hls' NOT NULL,
    ADD COLUMN source_check jsonb,
    ADD COLUMN channel_name text DEFAULT '' NOT NULL,
    ADD COLUMN game_name text DEFAULT '' NOT NULL
"""
# Their objects are deleted before the row says so: whoever dies in between leaves the upload on this list.
_EXPIRED = """
SELECT u.organization_id, u.upload_id FROM uploads u
WHERE u.expires_at < now() AND u.swept_at IS NULL AND (u.lease_until IS NULL OR u.lease_until < now())
ORDER BY u.expires_at LIMIT at_most
"""
_FORGET = """
WITH old AS (
    SELECT u.upload_id FROM uploads u
    WHERE u.swept_at < now() - make_interval(days => days) LIMIT at_most
), parts AS (
    DELETE FROM upload_parts p USING old WHERE p.upload_id = old.upload_id
), gone AS (
    DELETE FROM uploads u USING old WHERE u.upload_id = old.upload_id RETURNING u.upload_id
)
SELECT count(*) FROM gone
"""
