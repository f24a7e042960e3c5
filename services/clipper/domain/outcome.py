"""From a finished or failed cut to its event."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from shared import keys
from shared.events import ClipFailed, ClipReady, HighlightConfirmed, HighlightRevised, Rendition
from shared.ids import event_id

Highlight = HighlightConfirmed | HighlightRevised
Stage = Literal["fetch", "cut", "verify", "thumbnail", "store"]
STAGES: tuple[Stage, ...] = get_args(Stage)
REASON_MAX = 1000


@dataclass(frozen=True, slots=True)
class StoredClip:
    """A clip in the store: where it begins on the stream's clock, how long it is, and what was written."""

    video_key: str
    thumbnail_key: str
    start_us: int
    duration_us: int
    width: int
    height: int
    size_bytes: int
    sha256: str


def video_key(event: Highlight) -> str:
    return keys.clip_video(
        event.organization_id, event.stream_id, event.highlight_id, revision=event.revision
    )


def thumbnail_key(event: Highlight) -> str:
    return keys.clip_thumbnail(
        event.organization_id, event.stream_id, event.highlight_id, revision=event.revision
    )


def ready(event: Highlight, clip: StoredClip, *, occurred_at: datetime) -> ClipReady:
    """The clip can be fetched. The same highlight and revision give the same event id again."""
    original = Rendition(
        name="original",
        key=clip.video_key,
        width=clip.width,
        height=clip.height,
        size_bytes=clip.size_bytes,
    )
    return ClipReady(
        event_id=event_id(event.stream_id, ClipReady.name, event.highlight_id, event.revision),
        organization_id=event.organization_id,
        occurred_at=occurred_at,
        lane=event.lane,
        stream_id=event.stream_id,
        highlight_id=event.highlight_id,
        revision=event.revision,
        video_key=clip.video_key,
        thumbnail_key=clip.thumbnail_key,
        start_us=clip.start_us,
        duration_us=clip.duration_us,
        size_bytes=clip.size_bytes,
        sha256=clip.sha256,
        width=clip.width,
        height=clip.height,
        renditions=(original,),
    )


def failed(event: Highlight, *, stage: Stage, code: str, reason: str, occurred_at: datetime) -> ClipFailed:
    """The clip was given up, where and why."""
    return ClipFailed(
        event_id=event_id(event.stream_id, ClipFailed.name, event.highlight_id, event.revision),
        organization_id=event.organization_id,
        occurred_at=occurred_at,
        lane=event.lane,
        stream_id=event.stream_id,
        highlight_id=event.highlight_id,
        revision=event.revision,
        stage=stage,
        code=code,
        reason=reason[:REASON_MAX],
    )


def stage_in(notes: Sequence[str]) -> Stage:
    """The stage that an error's notes name; `cut` for one that broke off without a note."""
    return next((stage for stage in STAGES if stage in notes), "cut")
