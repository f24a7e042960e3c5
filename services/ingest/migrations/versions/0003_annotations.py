"""Stretches that are archived and not analysed."""

from alembic import op

from shared.migrations import protect

revision = "0003_annotations"
down_revision = "0002_traceparent"

_ANNOTATIONS = """
CREATE TABLE annotations (
    stream_id text NOT NULL,
    run integer NOT NULL,
    index integer NOT NULL,
    organization_id text NOT NULL,
    kind text NOT NULL,
    from_us bigint NOT NULL,
    to_us bigint NOT NULL,
    detail text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream_id, run, index)
)
"""


def upgrade() -> None:
    op.execute(_ANNOTATIONS)
    protect("annotations")
