"""What the selection machine takes in: frozen facts on one run of a stream, in any order and any number.

Most are the part of an event that selection needs (`of_event`); the shell makes `WindowExpired` and `WindowLost`.
"""

from pydantic import Field

from shared.events import (
    CandidateScored,
    MediaTime,
    Part,
    Score,
    SegmentAnalyzed,
    SegmentMissed,
    SegmentReady,
    SegmentRef,
    SegmentRepaired,
    StreamClosed,
    StreamEnded,
    StreamEvent,
    Verdict,
)
from shared.ids import CandidateId, WindowId


class RunInput(Part):
    run: int


class WindowInput(RunInput):
    """Something on one window; `revision` above 0 is a repair, and `index` then tells the gap."""

    index: int = Field(ge=0)
    revision: int = 0


class WindowOffered(WindowInput):
    """The window's media is archived."""

    start_us: MediaTime
    end_us: MediaTime
    segments: tuple[SegmentRef, ...] = Field(min_length=1)


class CandidateArrived(WindowInput):
    """A moment that a provider saw in the window."""

    candidate_id: CandidateId
    start_us: MediaTime
    end_us: MediaTime
    peak_us: MediaTime
    scores: dict[str, Score]
    confidence: Score
    title: str
    description: str = ""
    reason: str = ""
    tags: tuple[str, ...] = ()
    provider: str = ""


class VerdictArrived(WindowInput):
    """How the analysis of the window went, and which candidates belong to it."""

    verdict: Verdict
    reason: str = ""
    candidates: tuple[CandidateId, ...] = ()
    snap_points_us: tuple[MediaTime, ...] = ()


class WindowExpired(WindowInput):
    """The shell's deadline for an offered window has passed: unless it is complete by its turn, it has failed.

    It takes effect with the offer, so that the media is archived in whatever order the two arrive.
    """

    reason: str = "timeout"


class WindowLost(WindowInput):
    """The shell gave up on the window's offer: it has failed, and its media counts as a hole.

    The one input that is not neutral to order: an offer that arrives later is only noted.
    """

    reason: str = "lost"


class GapReported(RunInput):
    """Media that could not be had. Taken without effect: holes are read off the archived segments."""

    from_us: MediaTime
    to_us: MediaTime


class RepairEnded(RunInput):
    """The repair of a gap has exactly these windows; none where it failed."""

    gap_index: int = Field(ge=0)
    revision: int
    windows: tuple[WindowId, ...] = ()


class RunEnded(RunInput):
    """The run has exactly these windows."""

    windows: tuple[WindowId, ...]


class Closed(Part):
    """The stream is over for everybody: nothing more comes out."""


Input = (
    WindowOffered
    | CandidateArrived
    | VerdictArrived
    | WindowExpired
    | WindowLost
    | GapReported
    | RepairEnded
    | RunEnded
    | Closed
)

_INPUT_OF: dict[type[StreamEvent], type[Input]] = {
    SegmentReady: WindowOffered,
    CandidateScored: CandidateArrived,
    SegmentAnalyzed: VerdictArrived,
    SegmentMissed: GapReported,
    SegmentRepaired: RepairEnded,
    StreamEnded: RunEnded,
    StreamClosed: Closed,
}


def of_event(event: StreamEvent) -> Input:
    """The input that an event stands for; KeyError for an event that selection does not take."""
    return _INPUT_OF[type(event)].model_validate(event.model_dump())
