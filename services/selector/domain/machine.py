"""The fold: one input at a time into the state of one run, and what comes out of it.

Windows are consumed sealed and strictly in index order, so the outcome does not depend on the order of arrival.
No clock: time is the media time of consumed windows, and the deadline of a window arrives as an input.
"""

from selector.domain import boundaries, ledger, moment, rules
from selector.domain.archive import Stretch
from selector.domain.classification import reason_of, type_of
from selector.domain.inputs import (
    CandidateArrived,
    Closed,
    GapReported,
    Input,
    RunEnded,
    WindowInput,
)
from selector.domain.moment import Clip, Moment
from selector.domain.outputs import HighlightDecided, Noted, Output, SelectionFinal, Standing
from selector.domain.state import Counts, State, forgotten
from selector.domain.window import OpenWindow, add_to
from shared.errors import PermanentError
from shared.events import FinalHighlight, Verdict
from shared.ids import Position, StreamId, window_id
from shared.profile import Profile, combined_score

SCORE_DIGITS = 6
Step = tuple[State, tuple[Output, ...]]


class ForeignWindows(PermanentError):
    """A run ended with windows that are not those of indexes 0 to n − 1 at revision 0."""

    code = "foreign_windows"


def opened(stream_id: StreamId, *, run: int) -> State:
    """The state before the first input of a run."""
    return State(stream_id=stream_id, run=run)


def apply(state: State, given: Input, *, profile: Profile) -> Step:
    """One input into the state: the new state and all that comes out, in order.

    Raises ForeignWindows when a run's end names windows that cannot be its own.
    """
    refusal = _refusal(state, given)
    if refusal is not None:
        return state, (refusal,)
    match given:
        case Closed():
            return _closed(state), ()
        case GapReported():
            return state, ()
        case RunEnded():
            state = state.changed(expected=_window_count(state, given))
        case WindowInput():
            state = state.changed(windows=add_to(state.windows, given))
    return advanced(state, profile=profile)


# -- taking in ---------------------------------------------------------------------------------------


def _refusal(state: State, given: Input) -> Noted | None:
    """Why the input changes nothing, if so."""
    name = type(given).__name__
    if state.closed:
        return Noted(reason="closed", detail=f"{name} after stream.closed")
    if isinstance(given, Closed):
        return None
    if given.run != state.run:
        return Noted(reason="foreign_run", detail=f"{name} of run {given.run} in run {state.run}")
    if state.finished:
        return Noted(reason="finished", detail=f"{name} after the selection closed")
    return _refused_window(state, given) if isinstance(given, WindowInput) else None


def _refused_window(state: State, given: WindowInput) -> Noted | None:
    place = f"{type(given).__name__} of window {given.run}.{given.index}.{given.revision}"
    if given.revision:
        return Noted(reason="repair", detail=f"{place}: only what fills a gap is selected from later")
    if given.index < state.consumed:
        return Noted(reason="late", detail=f"{place}, and {state.consumed} windows are consumed")
    return None


def _window_count(state: State, ended: RunEnded) -> int:
    named = set(ended.windows)
    own = {window_id(state.stream_id, Position(state.run, index)) for index in range(len(named))}
    if named != own:
        raise ForeignWindows(
            f"{state.stream_id} run {state.run}: {len(named - own)} windows are not of this run"
        )
    return len(named)


def _closed(state: State) -> State:
    """A tombstone: only the identity and what was final stay."""
    return State(
        stream_id=state.stream_id, run=state.run, final=state.final, consumed=state.consumed, closed=True
    )


# -- consuming ---------------------------------------------------------------------------------------


def advanced(state: State, *, profile: Profile) -> Step:
    """Consume every window whose turn has come, and finish when the last one is done."""
    outputs: tuple[Output, ...] = ()
    while (window := state.next_window) is not None and window.sealed:
        state, more = _consumed(state, window, profile=profile)
        outputs = (*outputs, *more)
    if state.expected is not None and state.consumed >= state.expected:
        state, more = _finished(state, profile=profile)
        outputs = (*outputs, *more)
    return state, outputs


def _consumed(state: State, window: OpenWindow, *, profile: Profile) -> Step:
    state, judged = _judged_all(_passed(state, window), window, profile=profile)
    state, published = _published_due(state, profile=profile)
    return forgotten(state, profile=profile), (*_strays(window), *judged, *published)


def _passed(state: State, window: OpenWindow) -> State:
    """The state behind the window: counted, its media archived, the watermark at its end."""
    state = state.changed(
        consumed=window.index + 1,
        windows=tuple(each for each in state.windows if each.index > window.index),
        counts=_counted(state.counts, window),
    )
    if window.offered is None:
        return state
    archive = state.archive.with_segments(window.offered.segments)
    start_us, end_us = window.offered.start_us, window.offered.end_us
    points_us = window.verdict.snap_points_us if window.verdict else ()
    return state.changed(
        archive=archive.with_snap_points(tuple(each for each in points_us if start_us <= each <= end_us)),
        watermark_us=max(state.watermark_us, end_us),
        frontier_us=max(state.frontier_us, start_us),
    )


def _counted(counts: Counts, window: OpenWindow) -> Counts:
    verdict, reason = window.outcome
    if verdict is Verdict.ANALYSED:
        return counts.model_copy(update={"analysed": counts.analysed + 1})
    if verdict is Verdict.SKIPPED:
        return counts.model_copy(update={"skipped": counts.skipped + 1})
    first = counts.failure_reason if counts.failed else reason
    return counts.model_copy(update={"failed": counts.failed + 1, "failure_reason": first})


def _strays(window: OpenWindow) -> tuple[Noted, ...]:
    return tuple(
        Noted(reason="unnamed", detail=f"candidate {each.candidate_id} is not named by its window's verdict")
        for each in window.strays
    )


# -- judging -----------------------------------------------------------------------------------------


def _judged_all(state: State, window: OpenWindow, *, profile: Profile) -> Step:
    """The window's candidates, strongest first, so that within a window nobody is kept only to be replaced."""
    scored = [(_score(each, profile), each) for each in window.named_candidates]
    outputs: tuple[Output, ...] = ()
    for score, candidate in sorted(scored, key=_strongest_first):
        state, more = _judged(state, candidate, window, score=score, profile=profile)
        outputs = (*outputs, *more)
    return state, outputs


def _score(candidate: CandidateArrived, profile: Profile) -> float:
    """Rounded, so that eight dimensions of 0.7 reach a threshold of 0.7."""
    return round(combined_score(profile, candidate.scores), SCORE_DIGITS)


def _strongest_first(scored: tuple[float, CandidateArrived]) -> tuple[float, int, str]:
    score, candidate = scored
    return -score, candidate.peak_us, candidate.candidate_id


def _judged(
    state: State, candidate: CandidateArrived, window: OpenWindow, *, score: float, profile: Profile
) -> Step:
    finding = _unfit(state, candidate, window, score=score, profile=profile)
    if finding is not None:
        return state, (ledger.rejected(candidate.candidate_id, finding, score=score),)
    newcomer = moment.of_candidate(candidate, stream_id=state.stream_id, score=score)
    return _merged(state, newcomer, profile=profile) or _contested(state, newcomer, profile=profile)


def _unfit(
    state: State, candidate: CandidateArrived, window: OpenWindow, *, score: float, profile: Profile
) -> rules.Finding | None:
    """The first rule on the candidate alone that turns it away."""
    verdict, reason = window.outcome
    if verdict is not Verdict.ANALYSED or window.offered is None:
        return rules.window_failed(verdict, reason=reason)
    span = {"start_us": window.offered.start_us, "end_us": window.offered.end_us}
    return (
        rules.outside_window(candidate, **span)
        or rules.outside_archive(candidate, archive=state.archive)
        or rules.below_threshold(score, profile=profile)
    )


def _merged(state: State, newcomer: Moment, *, profile: Profile) -> Step | None:
    """The newcomer merged into the moment that it shares most time with; None where there is none."""
    hosts = tuple(each for each in state.moments if _may_host(each, newcomer, state, profile))
    if not hosts:
        return _known_already(state, newcomer)
    host = min(hosts, key=lambda each: (moment.gap_us(each, newcomer), each.start_us, each.highlight_id))
    if moment.adds_nothing(host, newcomer):
        return state, (ledger.merged(newcomer, host, host),)
    scene = _scene(state, profile).without((host,))
    after = rules.after_merge(host, moment.merged(host, newcomer), scene=scene)
    return None if after is None else (state.with_moment(after), (ledger.merged(newcomer, host, after),))


def _may_host(host: Moment, newcomer: Moment, state: State, profile: Profile) -> bool:
    """The same moment, and in the same unbroken stretch: no clip crosses a hole."""
    if not moment.is_same_moment(host, newcomer, rules=profile.selection, clip=profile.clip):
        return False
    stretch = _stretch(state, host)
    if stretch is None or (
        state.is_repair and not stretch.start_us <= host.start_us < host.end_us <= stretch.end_us
    ):
        return False  # a repair holds only a part of it, and would cut off the rest
    return stretch == _stretch(state, newcomer)


def _known_already(state: State, newcomer: Moment) -> Step | None:
    """In a repair: the same moment stands, cut from media that the repair does not hold; it is not told twice."""
    published = (each for each in state.moments if state.is_repair and each.published_revision is not None)
    same = next((each for each in published if moment.share_a_peak(each, newcomer)), None)
    return None if same is None else (state, (ledger.merged(newcomer, same, same),))


def _contested(state: State, newcomer: Moment, *, profile: Profile) -> Step:
    ruling = rules.contest(newcomer, scene=_scene(state, profile))
    if ruling.rejection is not None:
        return state, (ledger.rejected(newcomer.anchor, ruling.rejection, score=newcomer.score),)
    kept = newcomer.model_copy(update={"override": bool(ruling.overridden)})
    state = state.without_moments(tuple(leaving for leaving, _ in ruling.leaving)).with_moment(kept)
    lines = [line for leaving, finding in ruling.leaving for line in ledger.replaced(leaving, kept, finding)]
    return state, (*lines, ledger.accepted(kept, ruling.overridden, threshold=profile.thresholds.standard))


def _scene(state: State, profile: Profile) -> rules.Scene:
    return rules.Scene(held=state.moments, total=state.total, profile=profile)


# -- publishing --------------------------------------------------------------------------------------


def _published_due(state: State, *, profile: Profile) -> Step:
    """Publish the moments whose delay has passed and whose media is there."""
    due = tuple(each for each in state.moments if each.unpublished and _is_due(each, state, profile))
    return _published_all(state, due, profile=profile)


def _is_due(each: Moment, state: State, profile: Profile) -> bool:
    """The delay counts from the moment's end; a stretch that has ended will not bring more."""
    if state.watermark_us < each.end_us + profile.selection.pending_us:
        return False
    stretch = _stretch(state, each)
    needed_us = max(
        boundaries.wanted(each, rules=profile.clip).end_us, each.end_us + profile.clip.lead_out_us
    )
    return stretch is None or not stretch.open_ended or stretch.end_us >= needed_us


def _stretch(state: State, each: Moment) -> Stretch | None:
    return state.archive.stretch_of(start_us=each.start_us, end_us=each.end_us, peak_us=each.peak_us)


def _published_all(state: State, due: tuple[Moment, ...], *, profile: Profile) -> Step:
    outputs: tuple[Output, ...] = ()
    for each in due:
        state, more = _published(state, each, profile=profile)
        outputs = (*outputs, *more)
    return state, outputs


def _published(state: State, each: Moment, *, profile: Profile) -> Step:
    clip = _clip(state, each, profile)
    counted, line = ledger.published(each)
    published = counted.model_copy(update={"published_revision": each.revision, "clip": clip})
    pair = FinalHighlight(highlight_id=each.highlight_id, revision=each.revision)
    others = tuple(known for known in state.final if known.highlight_id != each.highlight_id)
    state = state.with_moment(published).changed(final=(*others, pair))
    return state, (line, _decided(published, clip, state, profile), Standing(moment=published))


def _clip(state: State, each: Moment, profile: Profile) -> Clip:
    stretch = _stretch(state, each)
    assert stretch is not None, f"{each.highlight_id}: its media was forgotten"
    points_us = state.archive.snap_points_us
    return boundaries.cut(each, stretch=stretch, snap_points_us=points_us, rules=profile.clip)


def _decided(each: Moment, clip: Clip, state: State, profile: Profile) -> HighlightDecided:
    return HighlightDecided(
        highlight_id=each.highlight_id,
        revision=each.revision,
        start_us=clip.start_us,
        end_us=clip.end_us,
        peak_us=each.peak_us,
        score=each.score,
        confidence=each.confidence,
        scores=each.scores,
        type=type_of(each, profile=profile),
        title=each.title,
        description=each.description,
        reason=reason_of(each, profile=profile),
        tags=each.tags,
        provider=each.provider,
        segments=state.archive.covering(clip.start_us, clip.end_us),
    )


def _finished(state: State, *, profile: Profile) -> Step:
    """Nothing more will come: publish what is pending, then close the selection."""
    due = tuple(each for each in state.moments if each.unpublished)
    state, outputs = _published_all(state, due, profile=profile)
    final = SelectionFinal(
        final=state.final,
        windows_analysed=state.counts.analysed,
        windows_skipped=state.counts.skipped,
        windows_failed=state.counts.failed,
        failure_reason=state.counts.failure_reason,
    )
    rest = State(
        stream_id=state.stream_id,
        run=state.run,
        consumed=state.consumed,
        expected=state.expected,
        watermark_us=state.watermark_us,
        final=state.final,
        counts=state.counts,
        finished=True,
        is_repair=state.is_repair,
        repairs=state.repairs,
    )
    return rest, (*outputs, final)
