"""Events with sensible contents for tests; each builder takes the fields that the test is about."""

from datetime import UTC, datetime
from typing import Any

from shared.events import HighlightConfirmed, Lane, SegmentRef
from shared.ids import HighlightId, OrganizationId, StreamId, event_id

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
STREAM = StreamId("str_0123456789ab")
ORGANIZATION = OrganizationId("org_0123456789ab")


def segment_ref(sequence: int, *, start_us: int, duration_us: int = 2_000_000, **changes: Any) -> SegmentRef:
    fields = {
        "key": f"archive/{ORGANIZATION}/{STREAM}/000/0000/{sequence:012d}-0000000000000000.ts",
        "epoch": 0,
        "sequence": sequence,
        "start_us": start_us,
        "duration_us": duration_us,
        "size_bytes": 1000,
        "sha256": "0" * 64,
    }
    return SegmentRef.model_validate(fields | changes)


def highlight_confirmed(**changes: Any) -> HighlightConfirmed:
    highlight = HighlightId("hl_0123456789abcdef01234567")
    fields = {
        "event_id": event_id(STREAM, HighlightConfirmed.name, highlight, 0),
        "organization_id": ORGANIZATION,
        "stream_id": STREAM,
        "occurred_at": datetime.now(UTC),
        "lane": Lane.LIVE,
        "highlight_id": highlight,
        "revision": 0,
        "run": 0,
        "profile_key": "profiles/0.json",
        "start_us": 2_000_000,
        "end_us": 12_000_000,
        "peak_us": 6_000_000,
        "score": 0.8,
        "confidence": 0.7,
        "scores": {"visual_spectacle": 0.8},
        "type": "highlight",
        "title": "A moment",
        "segments": tuple(segment_ref(n, start_us=n * 2_000_000) for n in range(8)),
    }
    return HighlightConfirmed.model_validate(fields | changes)
