"""Every event of the system in flow order: frozen, versioned by addition only, the same for all services.

Media times are integer microseconds since the stream's first segment; wall-clock times are aware UTC.
Who sends and who receives each event stands in `shared/contract.py`.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from shared.ids import (
    CandidateId,
    DeliveryId,
    EndpointId,
    HighlightId,
    OrganizationId,
    Position,
    PublicEventId,
    StreamId,
    WindowId,
)

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
MediaTime = Annotated[int, Field(ge=0, description="Microseconds since the stream's first segment.")]

Words = Annotated[str, AfterValidator(lambda text: text.replace("\x00", ""))]  # PostgreSQL stores no NUL


class Lane(StrEnum):
    """Live work never waits behind VOD: each lane has queues of its own."""

    LIVE = "live"
    VOD = "vod"


class Part(BaseModel):
    """A frozen piece of an event. Unknown keys are ignored: producers may be newer than consumers."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Event(Part):
    name: ClassVar[str]

    event_id: UUID
    organization_id: OrganizationId
    occurred_at: AwareDatetime
    lane: Lane = Lane.LIVE


class StreamEvent(Event):
    stream_id: StreamId


class Source(Part):
    """Where the media comes from. Address and headers may hold secrets, so they travel as ciphertext."""

    kind: Literal["hls", "file", "rtmp", "rtsp", "srt", "twitch", "youtube", "upload"] = "hls"
    sealed_url: str
    sealed_headers: str | None = None
    display_url: str = Field(description="The address without user, query and fragment, for people.")
    began_at: AwareDatetime | None = Field(
        default=None,
        description="When the source says that the stream began: at an address that serves one stream after the "
        "other, older media is another stream's.",
    )
    awaited_until: AwareDatetime | None = Field(
        default=None,
        description="Until when the source may not be there yet; without it, the patience of whoever follows holds.",
    )


class SegmentRef(Part):
    """One archived media segment, enough to fetch, order and cut it."""

    key: str
    epoch: int
    sequence: int
    start_us: MediaTime
    duration_us: Annotated[int, Field(gt=0)]
    size_bytes: int
    sha256: str
    container: Literal["mpegts", "fmp4"] = "mpegts"
    init_key: str | None = None
    discontinuity: bool = False
    wall_at: AwareDatetime | None = None


# -- the life of a stream ----------------------------------------------------------------------------


class StreamOnline(StreamEvent):
    """A stream was accepted and shall be followed."""

    name: ClassVar[str] = "stream.online"

    run: int = 0
    source: Source
    profile_key: str
    external_id: str | None = None
    platform: str = Field(default="custom", description="Kind of source, as the public API names it.")
    channel_name: Words = Field(default="", description="The channel on its platform, where there is one.")
    game_name: Words = Field(default="Unknown", description="What is played, as the platform tells it.")
    started_at: AwareDatetime | None = Field(
        default=None, description="When the source says that the stream began."
    )


class StreamOffline(StreamEvent):
    """The source will bring nothing more: drain, then end."""

    name: ClassVar[str] = "stream.offline"

    run: int = 0
    reason: Words
    platform: str = Field(default="custom", description="Kind of source, as the public API names it.")


class SignalReceived(StreamEvent):
    """Something beside the picture: chat, odds, bets, scores, timed metadata, captions."""

    name: ClassVar[str] = "signal.received"

    kind: Literal["chat", "odds", "bet", "score", "metadata", "caption", "custom"]
    at_us: MediaTime | None = None
    wall_at: AwareDatetime | None = None
    duration_us: int = 0
    weight: Score = 0.5
    text: Words = Field(default="", max_length=2000)
    run: int = 0
    origin: Literal["api", "playlist", "captions", "recording"] = Field(
        default="api", description="Who brought it: the customer, the stream itself, or its recording."
    )
    external_id: Words = Field(
        default="", max_length=200, description="What the origin calls it, where it has an id."
    )
    author: Words = Field(default="", max_length=200, description="Who wrote it, as a pseudonym.")


class StreamFlowing(StreamEvent):
    """The first segment of a run is archived: media flows, long before a window is whole."""

    name: ClassVar[str] = "stream.flowing"

    run: int
    at_us: MediaTime = Field(
        default=0, description="Where that segment begins; above 0 only where a gap came before it."
    )
    wall_at: AwareDatetime | None = None


class SegmentReady(StreamEvent):
    """An analysis window is archived and can be judged."""

    name: ClassVar[str] = "segment.ready"

    run: int
    index: int
    revision: int = 0
    start_us: MediaTime
    end_us: MediaTime
    wall_at: AwareDatetime | None = None
    profile_key: str
    segments: tuple[SegmentRef, ...] = Field(min_length=1)

    @property
    def position(self) -> Position:
        return Position(self.run, self.index, self.revision)


class SegmentMissed(StreamEvent):
    """A gap: media that the source offered, or should have, and that could not be had."""

    name: ClassVar[str] = "segment.missed"

    run: int
    index: int
    from_us: MediaTime
    to_us: MediaTime
    epoch: int
    from_sequence: int
    to_sequence: int
    cause: Words


class SegmentAnnotated(StreamEvent):
    """A stretch that is archived and stands in no analysis window: an advertisement, or a slate."""

    name: ClassVar[str] = "segment.annotated"

    run: int
    index: int
    kind: Literal["ad", "slate"]
    from_us: MediaTime
    to_us: MediaTime
    detail: Words = ""


class SegmentRepaired(StreamEvent):
    """What became of a gap when a recording of the stream was there."""

    name: ClassVar[str] = "segment.repaired"

    run: int
    gap_index: int
    revision: int = 1
    outcome: Literal["repaired", "partly", "failed"]
    from_us: MediaTime
    to_us: MediaTime
    windows: tuple[WindowId, ...] = Field(
        default=(),
        description="Neighbouring gaps are filled together: the first names all windows of the repair, "
        "the others those that hold a part of them.",
    )
    reason: Words = ""


class StreamStalled(StreamEvent):
    name: ClassVar[str] = "stream.stalled"

    run: int
    index: int
    at_us: MediaTime
    cause: Words


class StreamResumed(StreamEvent):
    name: ClassVar[str] = "stream.resumed"

    run: int
    index: int
    at_us: MediaTime


class StreamEnded(StreamEvent):
    """Ingest is done with a run: these windows exist, and no others will."""

    name: ClassVar[str] = "stream.ended"

    run: int
    cause: Words
    detail: Words = ""
    windows: tuple[WindowId, ...]
    gap_indexes: tuple[int, ...] = ()
    media_duration_us: MediaTime
    offered_us: MediaTime = Field(description="Archived media and gaps together.")
    segments: int
    excluded_us: MediaTime = Field(
        default=0, description="Archived media that no window holds, as it is advertising or a slate."
    )


class CandidateScored(StreamEvent):
    """A moment that a provider saw in one window, with its dimension scores."""

    name: ClassVar[str] = "candidate.scored"

    candidate_id: CandidateId
    window_id: WindowId
    run: int
    index: int
    revision: int = 0
    profile_key: str
    start_us: MediaTime
    end_us: MediaTime
    peak_us: MediaTime
    scores: dict[str, Score]
    confidence: Score
    title: Words = Field(max_length=500)
    description: Words = Field(default="", max_length=2000)
    reason: Words = Field(default="", max_length=2000)
    tags: tuple[Words, ...] = ()
    provider: str
    model: str = ""

    @property
    def position(self) -> Position:
        return Position(self.run, self.index, self.revision)


class Verdict(StrEnum):
    ANALYSED = "analysed"
    SKIPPED = "skipped"
    FAILED = "failed"


class SegmentAnalyzed(StreamEvent):
    """The verdict on one window. An error is `failed`, never a score of zero."""

    name: ClassVar[str] = "segment.analyzed"

    window_id: WindowId
    run: int
    index: int
    revision: int = 0
    profile_key: str
    start_us: MediaTime
    end_us: MediaTime
    verdict: Verdict
    reason: Words = ""
    candidates: tuple[CandidateId, ...] = ()
    snap_points_us: tuple[MediaTime, ...] = ()
    provider: str
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0
    cost_known: bool = Field(
        default=True,
        description="False where a price is unknown: the cost is then only what could be priced.",
    )
    thoughts_tokens: int = Field(default=0, description="A part of `output_tokens`.")
    input_tokens_by_modality: dict[str, int] = Field(
        default={}, description="VIDEO, AUDIO, TEXT: parts of `input_tokens`, as far as the provider told."
    )
    model_calls: int = Field(
        default=0, description="Calls of the model's API for this window, failed and repeated ones too."
    )
    degraded: bool = False

    @property
    def position(self) -> Position:
        return Position(self.run, self.index, self.revision)


class Decision(StrEnum):
    KEPT = "kept"
    REJECTED = "rejected"
    MERGED = "merged"


class CandidateJudged(StreamEvent):
    """One line of the ledger: what the selector decided on a candidate, by which rule, against what."""

    name: ClassVar[str] = "candidate.judged"

    candidate_id: CandidateId
    run: int
    ordinal: int = Field(description="Counts the judgements on this candidate from 0.")
    decision: Decision
    rule: str
    score: Score
    bound: float | None = Field(default=None, description="The number that the rule compared with.")
    against: CandidateId | HighlightId | None = None
    highlight_id: HighlightId | None = None
    explanation: Words = ""


class HighlightEvent(StreamEvent):
    highlight_id: HighlightId
    revision: int
    run: int
    profile_key: str
    start_us: MediaTime
    end_us: MediaTime
    peak_us: MediaTime
    score: Score
    confidence: Score
    scores: dict[str, Score]
    type: str
    title: Words
    description: Words = ""
    reason: Words = ""
    tags: tuple[Words, ...] = ()
    provider: str = ""
    segments: tuple[SegmentRef, ...] = Field(min_length=1)


class HighlightConfirmed(HighlightEvent):
    name: ClassVar[str] = "highlight.confirmed"


class HighlightRevised(HighlightEvent):
    name: ClassVar[str] = "highlight.revised"


class HighlightRetracted(StreamEvent):
    name: ClassVar[str] = "highlight.retracted"

    highlight_id: HighlightId
    revision: int
    reason: Words


class FinalHighlight(Part):
    highlight_id: HighlightId
    revision: int


class SelectionClosed(StreamEvent):
    """The selector has judged every window of a run; these highlights, at these revisions, are final."""

    name: ClassVar[str] = "selection.closed"

    run: int
    final: tuple[FinalHighlight, ...]
    windows_analysed: int
    windows_skipped: int
    windows_failed: int
    failure_reason: Words = ""
    revision: int = Field(
        default=0, description="Counts the repairs of the selection from 0: keep the highest."
    )


class Rendition(Part):
    name: str
    key: str
    width: int
    height: int
    size_bytes: int


class ClipReady(StreamEvent):
    name: ClassVar[str] = "clip.ready"

    highlight_id: HighlightId
    revision: int
    video_key: str
    thumbnail_key: str
    start_us: MediaTime
    duration_us: Annotated[int, Field(gt=0)]
    size_bytes: int
    sha256: str
    width: int
    height: int
    renditions: tuple[Rendition, ...] = ()


class ClipFailed(StreamEvent):
    name: ClassVar[str] = "clip.failed"

    highlight_id: HighlightId
    revision: int
    stage: Literal["fetch", "cut", "verify", "thumbnail", "store"]
    code: str
    reason: Words


class StreamClosed(StreamEvent):
    """The stream is over for everybody: stop its work; what arrives later resurrects nothing."""

    name: ClassVar[str] = "stream.closed"

    cause: Literal["stopped", "suspended", "watchdog", "completed"]
    detail: Words = ""


class StreamErased(StreamEvent):
    name: ClassVar[str] = "stream.erased"

    subject: str


class OrganizationChanged(Event):
    name: ClassVar[str] = "organization.changed"

    version: int
    plan: Literal["starter", "professional", "enterprise"]
    concurrent_streams: int
    bucket: str | None = None
    suspended: bool = False


class UsageRecorded(Event):
    name: ClassVar[str] = "usage.recorded"

    kind: str
    amount: int
    unit: str
    stream_id: StreamId | None = None


# -- internal exchange -------------------------------------------------------------------------------


class RecordingAvailable(StreamEvent):
    """A recording of a stream can be fetched; what the live stream lacked may be in it."""

    name: ClassVar[str] = "recording.available"

    run: int = 0
    recording_id: str
    sealed_url: str
    started_at: AwareDatetime
    duration_us: Annotated[int, Field(gt=0)]
    expires_at: AwareDatetime | None = None


class EndpointChanged(Event):
    """A customer's webhook endpoint, in the version that later notifications name."""

    name: ClassVar[str] = "endpoint.changed"

    endpoint_id: EndpointId
    version: int
    active: bool
    sealed_url: str
    sealed_secrets: tuple[str, ...] = Field(description="Newest first; all sign while a rotation lasts.")
    max_attempts: int = 11


class NotificationRequested(StreamEvent):
    """One public event for one endpoint. `body` holds the exact characters that are signed and sent."""

    name: ClassVar[str] = "notification.requested"

    delivery_id: DeliveryId
    endpoint_id: EndpointId
    endpoint_version: int
    public_event_id: PublicEventId
    type: str
    sequence: int
    body: str
    follows: DeliveryId | None = Field(
        default=None, description="The delivery of this stream to this endpoint that shall be tried before."
    )


class DeliveryResult(Part):
    delivery_id: DeliveryId
    endpoint_id: EndpointId
    outcome: Literal["delivered", "failed", "disabled"]
    attempts: int
    status: int | None = None
    error: Words = ""
    finished_at: AwareDatetime


class DeliveryFinished(Event):
    name: ClassVar[str] = "delivery.finished"

    results: tuple[DeliveryResult, ...] = Field(min_length=1)


class SelectionRequested(StreamEvent):
    """What would another profile have chosen? Answered by a replay of stored candidates."""

    name: ClassVar[str] = "selection.requested"

    request_id: str
    profile_key: str


class SelectionProposed(StreamEvent):
    name: ClassVar[str] = "selection.proposed"

    request_id: str
    final: tuple[FinalHighlight, ...]


class FeedbackGiven(StreamEvent):
    name: ClassVar[str] = "feedback.given"

    highlight_id: HighlightId
    verdict: Literal["good", "bad", "include", "exclude"]
    note: Words = ""


class ExportRequested(StreamEvent):
    name: ClassVar[str] = "export.requested"

    export_id: str
    highlights: tuple[FinalHighlight, ...]
    format: str


class ExportProgressed(StreamEvent):
    name: ClassVar[str] = "export.progressed"

    export_id: str
    done: int
    total: int


class ExportFinished(StreamEvent):
    name: ClassVar[str] = "export.finished"

    export_id: str
    key: str | None
    error: Words = ""


class ErasureDone(StreamEvent):
    name: ClassVar[str] = "erasure.done"

    service: str
    subject: str
    rows: int
    objects: int


class MessageParked(Event):
    """Work on one message was given up; the stream's owner must learn of it."""

    name: ClassVar[str] = "message.parked"

    service: str
    event_name: str
    parked_event_id: UUID
    stream_id: StreamId | None = None
    code: str
    reason: Words
