"""Events with sensible contents for tests; each builder takes the fields that the test is about."""

from datetime import UTC, datetime
from typing import Any

from shared.events import (
    CandidateScored,
    HighlightConfirmed,
    Lane,
    SegmentAnalyzed,
    SegmentReady,
    SegmentRef,
    StreamEnded,
    StreamOnline,
)
from shared.ids import HighlightId, OrganizationId, Position, StreamId, candidate_id, event_id, window_id
from shared.profile import Profile

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
STREAM = StreamId("str_0123456789ab")
ORGANIZATION = OrganizationId("org_0123456789ab")
PROFILE_KEY = "profiles/test.json"


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


def stream_online(**changes: Any) -> StreamOnline:
    fields = {
        **_envelope(StreamOnline.name),
        "source": {"sealed_url": "sealed", "display_url": "https://cdn.example.com/master.m3u8"},
        "profile_key": PROFILE_KEY,
    }
    return StreamOnline.model_validate(fields | changes)


def segment_ready(index: int, **changes: Any) -> SegmentReady:
    """Windows of 20 s every 16 s over segments of 2 s."""
    first = index * 8
    fields = {
        **_envelope(SegmentReady.name, Position(0, index)),
        "run": 0,
        "index": index,
        "start_us": first * 2_000_000,
        "end_us": (first + 10) * 2_000_000,
        "profile_key": PROFILE_KEY,
        "segments": tuple(segment_ref(n, start_us=n * 2_000_000) for n in range(first, first + 10)),
    }
    return SegmentReady.model_validate(fields | changes)


def candidate_scored(index: int, *, peak_s: float, score: float = 0.8, ordinal: int = 0) -> CandidateScored:
    position = Position(0, index)
    return CandidateScored.model_validate(
        {
            **_envelope(CandidateScored.name, position, ordinal),
            "candidate_id": candidate_id(STREAM, position, ordinal),
            "window_id": window_id(STREAM, position),
            "run": 0,
            "index": index,
            "profile_key": PROFILE_KEY,
            "start_us": int((peak_s - 2) * 1e6),
            "end_us": int((peak_s + 2) * 1e6),
            "peak_us": int(peak_s * 1e6),
            "scores": {"visual_spectacle": score},
            "confidence": 0.7,
            "title": f"Moment number {index} {ordinal}",
            "provider": "signals",
        }
    )


def segment_analyzed(index: int, *, candidates: int = 0, **changes: Any) -> SegmentAnalyzed:
    position = Position(0, index)
    fields = {
        **_envelope(SegmentAnalyzed.name, position),
        "window_id": window_id(STREAM, position),
        "run": 0,
        "index": index,
        "profile_key": PROFILE_KEY,
        "start_us": index * 16_000_000,
        "end_us": index * 16_000_000 + 20_000_000,
        "verdict": "analysed",
        "candidates": tuple(candidate_id(STREAM, position, n) for n in range(candidates)),
        "provider": "signals",
    }
    return SegmentAnalyzed.model_validate(fields | changes)


def stream_ended(windows: int, **changes: Any) -> StreamEnded:
    length_us = (windows * 8 + 2) * 2_000_000
    fields = {
        **_envelope(StreamEnded.name, 0),
        "run": 0,
        "cause": "endlist",
        "windows": tuple(window_id(STREAM, Position(0, n)) for n in range(windows)),
        "media_duration_us": length_us,
        "offered_us": length_us,
        "segments": windows * 8 + 2,
    }
    return StreamEnded.model_validate(fields | changes)


def profile(**changes: Any) -> Profile:
    fields = {
        "name": "test",
        "dimensions": ({"name": "visual_spectacle", "definition": "Visual excitement", "weight": 1.0},),
    }
    return Profile.model_validate(fields | changes)


def _envelope(name: str, *parts: Position | int) -> dict[str, Any]:
    return {
        "event_id": event_id(STREAM, name, *parts),
        "organization_id": ORGANIZATION,
        "stream_id": STREAM,
        "occurred_at": NOW,
        "lane": Lane.LIVE,
    }
