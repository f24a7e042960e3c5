"""A moment: one or more candidates that saw the same thing, with one score and one peak.

Scores are not smoothed here: the strongest candidate's score and peak stand unchanged through every merge.
"""

from selector.domain.inputs import CandidateArrived
from shared.events import Part
from shared.ids import CandidateId, HighlightId, StreamId, highlight_id
from shared.profile import ClipRules, SelectionRules


class Member(Part):
    """A candidate of the moment, and how many ledger lines it has."""

    candidate_id: CandidateId
    score: float
    lines: int = 1


class Clip(Part):
    """The boundaries that were published last."""

    start_us: int
    end_us: int


class Moment(Part):
    """A kept moment. Its first member is the anchor, which fixes the highlight's id for ever."""

    highlight_id: HighlightId
    members: tuple[Member, ...]
    start_us: int
    end_us: int
    peak_us: int
    score: float
    confidence: float
    scores: dict[str, float]
    title: str
    description: str
    reason: str
    tags: tuple[str, ...]
    provider: str
    override: bool = False
    revision: int = 0
    published_revision: int | None = None
    clip: Clip | None = None

    @property
    def anchor(self) -> CandidateId:
        return self.members[0].candidate_id

    @property
    def pending(self) -> bool:
        return self.published_revision is None

    @property
    def unpublished(self) -> bool:
        """Whether the moment, or a newer revision of it, has yet to be told."""
        return self.published_revision != self.revision


def of_candidate(candidate: CandidateArrived, *, stream_id: StreamId, score: float) -> Moment:
    """A moment with a single member."""
    return Moment(
        highlight_id=highlight_id(stream_id, candidate.candidate_id),
        members=(Member(candidate_id=candidate.candidate_id, score=score),),
        start_us=candidate.start_us,
        end_us=candidate.end_us,
        peak_us=candidate.peak_us,
        score=score,
        confidence=candidate.confidence,
        scores=candidate.scores,
        title=candidate.title,
        description=candidate.description,
        reason=candidate.reason,
        tags=candidate.tags,
        provider=candidate.provider,
    )


def gap_us(one: Moment, other: Moment) -> int:
    """Media time between two spans; negative is the length that they share."""
    return max(one.start_us, other.start_us) - min(one.end_us, other.end_us)


def is_same_moment(one: Moment, other: Moment, *, rules: SelectionRules, clip: ClipRules) -> bool:
    """Whether two spans overlap or touch, and one clip can hold both.

    Without the second condition a lively hour would chain into a single moment: overlapping spans may grow to the
    longest clip, spans that only lie side by side to the wanted one.
    """
    apart_us = gap_us(one, other)
    union_us = max(one.end_us, other.end_us) - min(one.start_us, other.start_us)
    return apart_us <= rules.merge_gap_us and union_us <= (
        clip.maximum_us if apart_us < 0 else clip.target_us
    )


def share_a_peak(one: Moment, other: Moment) -> bool:
    """Whether the peak of one lies within the other."""
    return one.start_us <= other.peak_us <= one.end_us or other.start_us <= one.peak_us <= other.end_us


def merged(moment: Moment, newcomer: Moment) -> Moment:
    """The union of both spans under the moment's id; everything else is that of the stronger one.

    A moment that was already published gets its next revision.
    """
    strongest = newcomer if newcomer.score > moment.score else moment
    revision = moment.revision if moment.published_revision is None else moment.published_revision + 1
    return moment.model_copy(
        update={
            "members": (*moment.members, *newcomer.members),
            "start_us": min(moment.start_us, newcomer.start_us),
            "end_us": max(moment.end_us, newcomer.end_us),
            "peak_us": strongest.peak_us,
            "score": strongest.score,
            "confidence": strongest.confidence,
            "scores": strongest.scores,
            "title": strongest.title,
            "description": strongest.description,
            "reason": strongest.reason,
            "tags": tuple(dict.fromkeys((*moment.tags, *newcomer.tags))),
            "provider": strongest.provider,
            "revision": revision,
        }
    )


def adds_nothing(moment: Moment, newcomer: Moment) -> bool:
    """Whether the published clip already shows all of the newcomer."""
    clip = moment.clip
    return clip is not None and clip.start_us <= newcomer.start_us and newcomer.end_us <= clip.end_us
