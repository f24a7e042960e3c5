"""Builds inputs and moments for the selector's tests. Times are given in seconds."""

from selector.domain.inputs import CandidateArrived, Input, RunEnded, VerdictArrived, WindowOffered
from selector.domain.machine import apply, opened
from selector.domain.moment import Moment, of_candidate
from selector.domain.outputs import HighlightDecided, Judged, Noted, Output, SelectionFinal
from selector.domain.state import State
from shared.events import SegmentRef, Verdict
from shared.ids import CandidateId, Position, StreamId, candidate_id, window_id
from shared.profile import ClipRules, Dimension, HighlightType, Profile, SelectionRules, Thresholds

STREAM = StreamId("str_0123456789ab")
SEGMENT_S = 2
WINDOW_S = 20
STEP_S = 16


def us(seconds: float) -> int:
    return round(seconds * 1_000_000)


def profile(
    *,
    selection: SelectionRules | None = None,
    clip: ClipRules | None = None,
    thresholds: Thresholds | None = None,
    types: tuple[HighlightType, ...] = (),
) -> Profile:
    return Profile(
        name="test",
        dimensions=(
            Dimension(name="audio", definition="loudness", weight=0.5),
            Dimension(name="motion", definition="movement", weight=0.5),
        ),
        selection=selection or SelectionRules(),
        clip=clip or ClipRules(),
        thresholds=thresholds or Thresholds(),
        types=types,
    )


def segment(
    start_s: float, *, duration_s: float = SEGMENT_S, epoch: int = 0, cut: bool = False
) -> SegmentRef:
    return SegmentRef(
        key=f"archive/{epoch}/{us(start_s)}",
        epoch=epoch,
        sequence=us(start_s),
        start_us=us(start_s),
        duration_us=us(duration_s),
        size_bytes=1000,
        sha256="0" * 64,
        discontinuity=cut,
    )


def segments(start_s: int, end_s: int) -> tuple[SegmentRef, ...]:
    return tuple(segment(at_s) for at_s in range(start_s, end_s, SEGMENT_S))


def window(index: int, *, start_s: int | None = None, end_s: int | None = None) -> WindowOffered:
    """By default windows of 20 s every 16 s, as ingest makes them of 2 s segments."""
    begins_s = index * STEP_S if start_s is None else start_s
    ends_s = begins_s + WINDOW_S if end_s is None else end_s
    return WindowOffered(
        run=0, index=index, start_us=us(begins_s), end_us=us(ends_s), segments=segments(begins_s, ends_s)
    )


def candidate(
    index: int,
    peak_s: float,
    *,
    score: float = 0.8,
    ordinal: int = 0,
    start_s: float | None = None,
    end_s: float | None = None,
    title: str | None = None,
    tags: tuple[str, ...] = (),
) -> CandidateArrived:
    """Titles differ unless given, so that only nearness makes candidates alike."""
    return CandidateArrived(
        run=0,
        index=index,
        candidate_id=candidate_id(STREAM, Position(0, index), ordinal),
        start_us=us(peak_s - 1 if start_s is None else start_s),
        end_us=us(peak_s + 1 if end_s is None else end_s),
        peak_us=us(peak_s),
        scores={"audio": score, "motion": score},
        confidence=0.9,
        title=f"w{index}n{ordinal}" if title is None else title,
        reason="It got loud.",
        tags=tags,
        provider="signals",
    )


def verdict(
    index: int,
    candidates: tuple[CandidateArrived, ...] = (),
    *,
    outcome: Verdict = Verdict.ANALYSED,
    reason: str = "",
    snaps_s: tuple[float, ...] = (),
) -> VerdictArrived:
    return VerdictArrived(
        run=0,
        index=index,
        verdict=outcome,
        reason=reason,
        candidates=tuple(each.candidate_id for each in candidates),
        snap_points_us=tuple(us(each) for each in snaps_s),
    )


def ended(count: int) -> RunEnded:
    return RunEnded(run=0, windows=tuple(window_id(STREAM, Position(0, index)) for index in range(count)))


def whole_run(count: int, candidates: tuple[CandidateArrived, ...]) -> tuple[Input, ...]:
    """All inputs of a run of `count` default windows, in flow order."""
    inputs: list[Input] = []
    for index in range(count):
        own = tuple(each for each in candidates if each.index == index)
        inputs.extend((window(index), *own, verdict(index, own)))
    return (*inputs, ended(count))


def fold(
    inputs: tuple[Input, ...], profile: Profile, state: State | None = None
) -> tuple[State, list[Output]]:
    state = opened(STREAM, run=0) if state is None else state
    outputs: list[Output] = []
    for given in inputs:
        state, more = apply(state, given, profile=profile)
        outputs.extend(more)
    return state, outputs


def moment(
    peak_s: float,
    *,
    score: float = 0.8,
    title: str = "",
    confirmed: bool = False,
    override: bool = False,
    start_s: float | None = None,
    end_s: float | None = None,
) -> Moment:
    made = of_candidate(
        candidate(0, peak_s, score=score, ordinal=us(peak_s), title=title, start_s=start_s, end_s=end_s),
        stream_id=STREAM,
        score=score,
    )
    return made.model_copy(update={"published_revision": 0 if confirmed else None, "override": override})


def highlights(outputs: list[Output]) -> list[HighlightDecided]:
    return [each for each in outputs if isinstance(each, HighlightDecided)]


def ledger_of(outputs: list[Output], of: CandidateId | None = None) -> list[Judged]:
    return [each for each in outputs if isinstance(each, Judged) and (of is None or each.candidate_id == of)]


def rules_of(outputs: list[Output], given: CandidateArrived) -> list[str]:
    return [line.rule for line in ledger_of(outputs, given.candidate_id)]


def final_of(outputs: list[Output]) -> list[SelectionFinal]:
    return [each for each in outputs if isinstance(each, SelectionFinal)]


def notes(outputs: list[Output]) -> list[str]:
    return [each.reason for each in outputs if isinstance(each, Noted)]


def outcome(outputs: list[Output]) -> list[Output]:
    return [each for each in outputs if not isinstance(each, Noted)]
