"""What the tracker tells its caller to do or to record, and the cursor from which another replica resumes.

Values only. Whatever must survive a crash carries the cursor that is right once it is committed.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from ingest.domain.ads import Ads, Exclusion
from ingest.domain.playlist import Segment
from ingest.domain.timeline import PlacedGap, PlacedSegment, Timeline

NOTHING_YET: Final = -1


class LossCause(StrEnum):
    """Why media is missing."""

    WINDOW_OVERRUN = "window_overrun"
    NOT_FOUND = "not_found"
    DENIED = "denied"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    NETWORK = "network"
    CORRUPT = "corrupt"
    REJECTED = "rejected"
    SOURCE_GAP = "source_gap"
    REFUSED_ADDRESS = "refused_address"
    UNSUPPORTED_ENCRYPTION = "unsupported_encryption"
    SOURCE_UNREACHABLE = "source_unreachable"


class EndCause(StrEnum):
    """Why the tracker is done."""

    ENDLIST = "endlist"
    STOPPED = "stopped"
    SOURCE_DEAD = "source_dead"
    SOURCE_UNREACHABLE = "source_unreachable"
    SOURCE_REFUSED = "source_refused"
    UNSUPPORTED_ENCRYPTION = "unsupported_encryption"


class SignalKind(StrEnum):
    """What a stream tells beside its picture, named as in `signal.received`."""

    METADATA = "metadata"
    CAPTION = "caption"
    CUSTOM = "custom"


class FailureKind(StrEnum):
    """What went wrong with a request, where the status alone does not say it."""

    STATUS = "status"
    TIMEOUT = "timeout"
    NETWORK = "network"
    CORRUPT = "corrupt"
    NOT_A_PLAYLIST = "not_a_playlist"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class FetchFailure:
    """A failed request. `REFUSED` (policy, size, scheme) is permanent; `status` is 0 where there was none."""

    kind: FailureKind
    status: int = 0
    detail: str = ""

    @property
    def label(self) -> str:
        """Short, for events and metrics: `http_404`, `timeout`."""
        return f"http_{self.status}" if self.kind is FailureKind.STATUS else str(self.kind)


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """The last committed place of a stream, enough to decide on from there as the former owner would have.

    `sequence` is that of the last segment or gap settled in `epoch` (-1: nothing joined yet), `identity` its
    URL path ("" after a gap), `endlist_sequence` the newest one under a seen ENDLIST (-1: not seen), `variant` the
    rendition that its numbers belong to ("" where there is only one).
    """

    epoch: int = 0
    sequence: int = NOTHING_YET
    joined: bool = False
    identity: str = ""
    date_time_end: datetime | None = None
    discontinuity_sequence: int = NOTHING_YET
    init_identity: str = ""
    endlist_sequence: int = NOTHING_YET
    stall_count: int = 0
    stalled: bool = False
    ended: str = ""
    variant: str = ""
    ads: Ads = field(default_factory=Ads)
    timeline: Timeline = field(default_factory=Timeline)

    def to_json(self) -> dict[str, Any]:
        """Primitives only; `from_json` reads them back."""
        plain = {name: getattr(self, name) for name in _PLAIN_FIELDS}
        end = self.date_time_end.isoformat() if self.date_time_end else None
        known = {"ads": self.ads.to_json()} if self.ads != Ads() else {}
        return {**plain, **known, "date_time_end": end, "timeline": self.timeline.to_json()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Cursor":
        """Inverse of `to_json`; fields that an older version did not write take their defaults."""
        plain = {name: document[name] for name in _PLAIN_FIELDS if name in document}
        end = document.get("date_time_end")
        return cls(
            **plain,
            date_time_end=datetime.fromisoformat(end) if end else None,
            ads=Ads.from_json(document["ads"]) if "ads" in document else Ads(),
            timeline=Timeline.from_json(document["timeline"]),
        )


_PLAIN_FIELDS: Final = (
    "epoch",
    "sequence",
    "joined",
    "identity",
    "discontinuity_sequence",
    "init_identity",
    "endlist_sequence",
    "stall_count",
    "stalled",
    "ended",
    "variant",
)


@dataclass(frozen=True, kw_only=True)
class FetchSegment:
    """Fetch `segment` (URL, key, init section, byte range stand in it) and report by (epoch, sequence).

    `deadline_s` (same clock as `now_s`) is when trying ends; the request itself needs a time-out of its own.
    """

    epoch: int
    segment: Segment
    attempt: int
    deadline_s: float

    @property
    def sequence(self) -> int:
        """Media sequence of the segment."""
        return self.segment.sequence


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The first playlist was read: worth saving, so that a crash before the first commit shows as a gap."""

    cursor: Cursor


@dataclass(frozen=True, kw_only=True)
class CommitSegment:
    """The next segment in order is stored: commit its row together with `cursor`.

    `excluded` says why no analysis window may hold it, where it is no programme.
    """

    epoch: int
    segment: Segment
    placed: PlacedSegment
    cursor: Cursor
    excluded: Exclusion | None = None

    @property
    def sequence(self) -> int:
        """Media sequence of the segment."""
        return self.segment.sequence


@dataclass(frozen=True, kw_only=True)
class SegmentLost:
    """Sequences `from_sequence` to `to_sequence` (both inside) could not be had: record it with `cursor`."""

    epoch: int
    from_sequence: int
    to_sequence: int
    cause: LossCause
    placed: PlacedGap
    cursor: Cursor

    @property
    def estimated_us(self) -> int:
        """Estimated length of what is missing."""
        return self.placed.duration_us


@dataclass(frozen=True, kw_only=True)
class SegmentUnwanted:
    """A segment that was asked for will come from another variant: forget what was fetched of it."""

    epoch: int
    sequence: int


@dataclass(frozen=True, kw_only=True)
class SignalSeen:
    """Something that the stream tells beside its picture; `at_us` is None where only the wall clock is known.

    `external_id` and `wall_at` name it: whoever reads it again tells the same.
    """

    kind: SignalKind
    external_id: str
    text: str
    at_us: int | None
    wall_at: datetime | None
    duration_us: int = 0


@dataclass(frozen=True, kw_only=True)
class UseOtherVariant:
    """This rendition cannot give what it lists: go on with the next best, or answer `on_no_other_variant`."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class ReloadMaster:
    """Ask the original address again for fresh URLs, then go on with the new media playlist."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class ReloadWithoutDelta:
    """The playlist was a delta update (EXT-X-SKIP), which we never ask for: load it without `_HLS_skip`."""


@dataclass(frozen=True, kw_only=True)
class Stalled:
    """No new segment for long; polling goes on. `index` counts stalls from 0."""

    index: int
    cause: str
    cursor: Cursor


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """New segments after a stall, named by the index of that stall."""

    index: int
    cursor: Cursor


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Nothing more will come: all that was listed is committed or reported lost."""

    cause: EndCause
    detail: str
    cursor: Cursor


@dataclass(frozen=True, kw_only=True)
class PollAgain:
    """Load the media playlist at `at_s` (same clock as `now_s`)."""

    at_s: float


Action = (
    Joined
    | CommitSegment
    | SegmentLost
    | SegmentUnwanted
    | SignalSeen
    | UseOtherVariant
    | ReloadMaster
    | ReloadWithoutDelta
    | Stalled
    | Resumed
    | Ended
    | PollAgain
)
