"""What customers see: the public objects with their descriptions, and how they are built from what is stored.

Times are float seconds here and integer microseconds everywhere else. URLs are never stored: the builders get
a callable that turns an object key into one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from gateway.domain.completion import MAX_ERROR, RunFacts, grave_parked
from gateway.domain.coverage import coverage_pct, outside, union_us
from gateway.domain.reachability import NOT_CHECKED, SourceCheck
from gateway.domain.stream_status import StreamRecord, StreamStatus, is_terminal
from shared.ids import HighlightId, StreamId

ClipStatus = Literal["pending", "ready", "failed"]
VideoType = Literal["mp4", "hls"]
UrlOf = Callable[[str], str]


# -- what is stored ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HighlightRecord:
    """One row of the highlights table. Media times are microseconds; scores lie in [0, 1]."""

    highlight_id: HighlightId
    stream_id: StreamId
    revision: int
    start_us: int
    end_us: int
    peak_us: int
    score: float
    confidence: float
    scores: Mapping[str, float] = field(default_factory=dict)
    type: str
    title: str
    description: str = ""
    reason: str = ""
    tags: tuple[str, ...] = ()
    provider: str = ""
    retracted: bool = False
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """The outcome for one revision of a highlight: keys where it is ready, code and reason where not."""

    highlight_id: HighlightId
    revision: int
    ready: bool
    video_key: str | None = None
    thumbnail_key: str | None = None
    duration_us: int | None = None
    code: str | None = None
    reason: str | None = None


# -- what is shown -------------------------------------------------------------------------------------


class PublicPart(BaseModel):
    model_config = ConfigDict(frozen=True)


class PublicProgress(PublicPart):
    """How far the analysis of a stream is."""

    processed_duration: float = Field(description="Seconds of media that were analysed.")
    offered_duration: float = Field(
        description="Seconds of media that the source has offered so far, without advertisements and slates."
    )
    coverage_pct: float | None = Field(
        description="Analysed of offered media in percent; null while nothing was offered."
    )
    windows_analyzed: int = Field(description="Analysis windows that were judged.")
    windows_failed: int = Field(description="Analysis windows that could not be judged.")
    windows_skipped: int = Field(description="Analysis windows passed over on purpose, with a reason.")
    highlights_found: int = Field(description="Confirmed highlights, without retracted ones.")
    gaps: int = Field(
        description="Stretches of media that the source offered and that could not be had, also not later."
    )
    stalled: bool = Field(description="Whether the source brings nothing new just now.")
    degraded: bool = Field(
        description="Whether any window was judged by less than its quality tier promises."
    )


class PublicStream(PublicPart):
    """A stream that we follow, or followed."""

    id: str = Field(description="`str_` and 12 hexadecimal digits.")
    job_id: str = Field(description="The same as `id`.")
    status: StreamStatus = Field(
        description="`pending` until media flows, then `processing`; `completed`, `error` and `cancelled` are final. "
        "Whatever was archived in part ends as `completed` with `partial`."
    )
    partial: bool = Field(description="Whether the result is not whole; `cause` and `error` say why.")
    cause: str | None = Field(description="A stable word for why the stream is partial, failed or cancelled.")
    source_url: str = Field(description="Where the media comes from, without user, query and fragment.")
    platform: str = Field(description="Kind of source.")
    title: str | None = Field(description="The title that was given.")
    options: dict[str, Any] = Field(description="The options in effect, with all defaults filled in.")
    metadata: dict[str, Any] = Field(description="What was given at submission, unchanged.")
    created_at: AwareDatetime = Field(description="When the stream was accepted.")
    updated_at: AwareDatetime = Field(description="When anything last changed.")
    started_at: AwareDatetime | None = Field(description="When the first media was archived.")
    completed_at: AwareDatetime | None = Field(description="When the stream reached its final status.")
    duration: float = Field(description="Seconds of media on the stream's clock so far.")
    progress: PublicProgress
    error: str | None = Field(description="What went wrong and what can be done, in one or more sentences.")
    source_end: str | None = Field(
        default=None,
        description="Why the stream ended, in its platform's words, where it told: `client request`, for instance.",
    )
    external_id: str | None = Field(default=None, description="The id that the stream has elsewhere.")
    source_kind: str = Field(
        default="hls",
        description="How the media is read: `hls`, `file`, `rtmp`, `rtsp`, `srt`, `twitch`, `youtube` or `upload`.",
    )
    source_check: SourceCheck = Field(
        default=NOT_CHECKED, description="What was found when the source was looked at, once, at submission."
    )
    channel_name: str = Field(default="", description="The channel on its platform, where there is one.")
    game_name: str = Field(default="", description="What is played, as the platform told at submission.")
    source_started_at: AwareDatetime | None = Field(
        default=None, description="When the platform says that the stream began."
    )


class PublicHighlight(PublicPart):
    """A moment worth sharing, and its clip."""

    id: str
    stream_id: str
    title: str
    description: str
    video_url: str | None = Field(
        description="Signed address of the MP4 clip; null until it is ready. In `highlight.detected`, which comes "
        "before the clip, it is `playback_url`."
    )
    video_type: VideoType | None = Field(description="What `video_url` leads to; null where there is none.")
    playback_url: str = Field(
        description="Signed address of an HLS playlist (`application/vnd.apple.mpegurl`) that plays the moment at "
        "once, also before there is a clip, for as long as the media is kept. It starts exactly at `start_s`, "
        "and ends with the segment in which `end_s` lies."
    )
    thumbnail_url: str | None = Field(description="Signed address of the picture at the peak.")
    clip_status: ClipStatus = Field(description="Whether the clip can be fetched.")
    clip_error: str | None = Field(description="Why there is no clip, where it failed.")
    duration: float = Field(description="Length of the clip in seconds.")
    timestamp: float = Field(description="Seconds from the start of the stream; the same as `start_s`.")
    start_s: float = Field(description="Where the moment begins, in seconds from the start of the stream.")
    end_s: float = Field(description="Where the moment ends.")
    peak_s: float = Field(description="The instant to look at; the thumbnail shows it.")
    confidence_score: float = Field(ge=0, le=1, description="How sure the analysis is of its scores.")
    score: float = Field(ge=0, le=1, description="Weighted score that the selection acted on.")
    scores: dict[str, float] = Field(description="Score of each dimension of the profile that could be seen.")
    type: str = Field(description="Type of moment, as the profile names it.")
    reason: str = Field(description="Why this was chosen, in words and numbers.")
    tags: list[str] = Field(description="Tags of the moment, then `options.custom_tags`.")
    metadata: dict[str, Any] = Field(description="The metadata of the stream.")
    revision: int = Field(description="Rises when boundaries or texts change.")
    created_at: AwareDatetime = Field(description="When the highlight was confirmed.")


class PublicEvent(PublicPart):
    """One thing that happened, the same in webhooks, in the event stream and in the list of events."""

    id: str = Field(description="`evt_` and 24 hexadecimal digits; the same however often it is delivered.")
    type: str = Field(description="What happened, such as `highlight.created`.")
    created: AwareDatetime = Field(description="When it was noted.")
    sequence: int = Field(description="Counts the events of a stream from 1, without holes.")
    stream_id: str
    data: dict[str, Any] = Field(description="The highlight for `highlight.*`, the stream for `stream.*`.")


# -- how one becomes the other -------------------------------------------------------------------------


def seconds(amount_us: int) -> float:
    return amount_us / 1_000_000


def public_progress(stream: StreamRecord, facts: RunFacts) -> PublicProgress:
    offered_us = offered_of(stream, facts)
    analysed = outside(facts.analysed, facts.excluded)
    return PublicProgress(
        processed_duration=seconds(min(union_us(analysed), offered_us)),
        offered_duration=seconds(offered_us),
        coverage_pct=coverage_pct(analysed, offered_us=offered_us),
        windows_analyzed=facts.windows_analysed,
        windows_failed=_failed_windows(stream, facts),
        windows_skipped=facts.windows_skipped,
        highlights_found=len(facts.highlights.keys() - facts.retracted),
        gaps=facts.gaps,
        stalled=facts.stalled and stream.ended is None and not is_terminal(stream.status),
        degraded=facts.degraded,
    )


def offered_of(stream: StreamRecord, facts: RunFacts) -> int:
    """Microseconds of media that were to be analysed: what the source offered without advertising and slates."""
    if stream.ended is not None:
        return max(0, stream.ended.offered_us - stream.ended.excluded_us)
    return max(0, stream.offered_us - union_us(facts.excluded))


def _failed_windows(stream: StreamRecord, facts: RunFacts) -> int:
    """The selector also counts windows whose verdict never came."""
    return max(facts.windows_failed, stream.selection.windows_failed if stream.selection else 0)


def public_stream(stream: StreamRecord, facts: RunFacts) -> PublicStream:
    return PublicStream(
        id=stream.stream_id,
        job_id=stream.stream_id,
        status=stream.status,
        partial=stream.partial,
        cause=stream.cause,
        source_url=stream.display_url,
        platform=stream.platform,
        title=stream.title,
        options=dict(stream.options),
        metadata=dict(stream.metadata),
        created_at=stream.created_at,
        updated_at=stream.updated_at,
        started_at=stream.started_at,
        completed_at=stream.completed_at,
        duration=seconds(stream.ended.media_duration_us if stream.ended else stream.media_duration_us),
        progress=public_progress(stream, facts),
        error=stream.error if is_terminal(stream.status) else _trouble_so_far(facts),
        source_end=stream.source_end,
        external_id=stream.external_id,
        source_kind=stream.source_kind,
        source_check=SourceCheck.model_validate(stream.source_check) if stream.source_check else NOT_CHECKED,
        channel_name=stream.channel_name,
        game_name=stream.game_name,
        source_started_at=stream.source_started_at,
    )


def _trouble_so_far(facts: RunFacts) -> str | None:
    """A stream that still runs tells at once what was given up; the final text comes with its end."""
    parked = grave_parked(facts)
    if not parked:
        return None
    return f"{parked[0].service} gave up one {parked[0].event_name}: {parked[0].reason}"[:MAX_ERROR]


def shown_clip(highlight: HighlightRecord, clips: Iterable[ClipRecord]) -> ClipRecord | None:
    """The newest ready clip that is not ahead of the highlight; a clip ahead waits for its revision's text."""
    ready = (clip for clip in clips if clip.ready and clip.revision <= highlight.revision)
    return max(ready, key=lambda clip: clip.revision, default=None)


def clip_keys(highlight: HighlightRecord, clips: Iterable[ClipRecord]) -> tuple[str, ...]:
    """The object keys that `public_highlight` will ask URLs for."""
    shown = shown_clip(highlight, clips)
    keys = (shown.video_key, shown.thumbnail_key) if shown else ()
    return tuple(key for key in keys if key is not None)


def public_highlight(
    highlight: HighlightRecord,
    *,
    clips: Sequence[ClipRecord],
    custom_tags: Iterable[str],
    metadata: Mapping[str, Any],
    url_of: UrlOf,
    playback_url: str,
) -> PublicHighlight:
    """`clips` are all outcomes of this highlight; `url_of` is asked for the keys of `clip_keys` only."""
    shown = shown_clip(highlight, clips)
    failure = None if shown else _failure(highlight, clips)
    video_url = url_of(shown.video_key) if shown and shown.video_key else None
    length_us = (shown.duration_us if shown else None) or highlight.end_us - highlight.start_us
    return PublicHighlight(
        id=highlight.highlight_id,
        stream_id=highlight.stream_id,
        title=highlight.title,
        description=highlight.description,
        video_url=video_url,
        video_type="mp4" if video_url else None,
        playback_url=playback_url,
        thumbnail_url=url_of(shown.thumbnail_key) if shown and shown.thumbnail_key else None,
        clip_status="ready" if shown else "failed" if failure else "pending",
        clip_error=failure,
        duration=seconds(length_us),
        timestamp=seconds(highlight.start_us),
        start_s=seconds(highlight.start_us),
        end_s=seconds(highlight.end_us),
        peak_s=seconds(highlight.peak_us),
        confidence_score=highlight.confidence,
        score=highlight.score,
        scores=dict(highlight.scores),
        type=highlight.type,
        reason=highlight.reason,
        tags=list(dict.fromkeys((*highlight.tags, *custom_tags))),
        metadata=dict(metadata),
        revision=highlight.revision,
        created_at=highlight.created_at,
    )


def playable_at_once(highlight: PublicHighlight) -> PublicHighlight:
    """As `highlight.detected` shows it: the playlist stands in for a clip that is still to be cut."""
    if highlight.video_url is not None:
        return highlight
    return highlight.model_copy(update={"video_url": highlight.playback_url, "video_type": "hls"})


def _failure(highlight: HighlightRecord, clips: Iterable[ClipRecord]) -> str | None:
    """Why the highlight's own revision has no clip; None while it is still being cut."""
    for clip in clips:
        if clip.revision == highlight.revision and not clip.ready:
            return clip.reason or clip.code or "the clip could not be cut"
    return None


def custom_tags_of(stream: StreamRecord) -> tuple[str, ...]:
    return tuple(str(tag) for tag in stream.options.get("custom_tags") or ())
