"""What the selection machine puts out: ledger lines, highlights, the end of the selection, and notes for the log."""

from dataclasses import dataclass
from typing import Literal

from selector.domain.moment import Moment
from shared.events import Decision, FinalHighlight, SegmentRef
from shared.ids import CandidateId, HighlightId


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One line of the ledger. `bound` is the number that the rule compared with, in the rule's own unit."""

    candidate_id: CandidateId
    ordinal: int
    decision: Decision
    rule: str
    score: float
    bound: float | None = None
    against: CandidateId | HighlightId | None = None
    highlight_id: HighlightId | None = None
    explanation: str = ""


@dataclass(frozen=True, kw_only=True)
class HighlightDecided:
    """A highlight with its boundaries: revision 0 confirms it, a higher one revises it."""

    highlight_id: HighlightId
    revision: int
    start_us: int
    end_us: int
    peak_us: int
    score: float
    confidence: float
    scores: dict[str, float]
    type: str
    title: str
    description: str
    reason: str
    tags: tuple[str, ...]
    provider: str
    segments: tuple[SegmentRef, ...]


@dataclass(frozen=True, kw_only=True)
class SelectionFinal:
    """Every window of the run is judged; these highlights, at these revisions, are final.

    `revision` counts the windows that repairs have added since the end.
    """

    final: tuple[FinalHighlight, ...]
    windows_analysed: int
    windows_skipped: int
    windows_failed: int
    failure_reason: str
    revision: int = 0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A moment as it was published last: what comes after the end of the run is judged against it."""

    moment: Moment


@dataclass(frozen=True, kw_only=True)
class Noted:
    """An input that changed nothing, and why: for log and metric, never part of the outcome."""

    reason: Literal["late", "repair", "foreign_run", "unnamed", "closed", "finished"]
    detail: str


Output = Judged | HighlightDecided | SelectionFinal | Standing | Noted
