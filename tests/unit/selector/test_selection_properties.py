"""What holds for every run, in whatever order its inputs arrive."""

from collections import Counter
from dataclasses import dataclass
from itertools import combinations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selector.domain.archive import Archive
from selector.domain.inputs import CandidateArrived, Input, WindowExpired
from selector.domain.machine import apply, opened
from selector.domain.outputs import HighlightDecided, Output
from selector.domain.state import State
from shared.events import Decision, Verdict
from shared.ids import CandidateId, HighlightId
from shared.profile import ClipRules, Profile, SelectionRules
from tests.unit.selector.run_builder import (
    STREAM,
    candidate,
    ended,
    final_of,
    fold,
    highlights,
    ledger_of,
    outcome,
    profile,
    segments,
    us,
    verdict,
    window,
)

QUICK = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Run:
    inputs: tuple[Input, ...]
    candidates: tuple[CandidateArrived, ...]
    profile: Profile
    archive: Archive


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Rules tight enough that a dozen windows meet all of them."""
    selection = SelectionRules(
        limit_window_us=us(60),
        max_per_window=draw(st.integers(1, 3)),
        spacing_us=us(draw(st.sampled_from((0, 15, 30)))),
        pending_us=us(draw(st.sampled_from((0, 10, 30)))),
        max_highlights=draw(st.none() | st.integers(1, 5)),
    )
    clip = ClipRules(
        target_us=us(draw(st.sampled_from((10, 25)))), maximum_us=us(draw(st.sampled_from((25, 60))))
    )
    return profile(selection=selection, clip=clip)


@st.composite
def candidates_of(draw: st.DrawFn, index: int, start_s: int) -> tuple[CandidateArrived, ...]:
    """Up to three; now and then one reaches over its window's end or has its peak outside its span."""
    made = []
    for ordinal in range(draw(st.integers(0, 3))):
        begins_s = start_s + draw(st.integers(0, 16))
        length_s = draw(st.integers(1, min(8, start_s + 20 - begins_s)) | st.just(6))
        made.append(
            candidate(
                index,
                begins_s + draw(st.integers(0, length_s) | st.integers(0, length_s) | st.just(7)),
                start_s=begins_s,
                end_s=begins_s + length_s,
                ordinal=ordinal,
                score=draw(st.sampled_from((0.5, 0.7, 0.72, 0.75, 0.8, 0.84, 0.88, 0.93, 0.97, 1.0))),
                title=draw(st.sampled_from(("ace", "clutch win", "a big fight", "", "x", "y", "z"))),
            )
        )
    return tuple(made)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Windows as ingest makes them, now and then behind a gap; some fail, are skipped or expire."""
    inputs: list[Input] = []
    made: list[CandidateArrived] = []
    archive, start_s = Archive(), 0
    count = draw(st.integers(0, 10))
    for index in range(count):
        offered = window(index, start_s=start_s, end_s=start_s + 20)
        archive = archive.with_segments(segments(start_s, start_s + 20))
        fate = draw(st.sampled_from((*[Verdict.ANALYSED] * 6, Verdict.FAILED, Verdict.SKIPPED, "expired")))
        inputs.append(offered)
        if fate == "expired":
            inputs.append(WindowExpired(run=0, index=index))
        else:
            own = draw(candidates_of(index, start_s)) if fate is Verdict.ANALYSED else ()
            snaps_s = tuple(start_s + offset for offset in draw(st.sets(st.integers(0, 20), max_size=3)))
            inputs.extend((*own, verdict(index, own, outcome=Verdict(fate), snaps_s=snaps_s)))
            made.extend(own)
        start_s += 16 if draw(st.integers(0, 4)) else 50
    return Run((*inputs, ended(count)), tuple(made), draw(profiles()), archive)


def _all(run: Run) -> list[Output]:
    return outcome(fold(run.inputs, run.profile)[1])


def _latest(outputs: list[Output]) -> list[HighlightDecided]:
    return list({each.highlight_id: each for each in highlights(outputs)}.values())


def _overriding(outputs: list[Output]) -> set[HighlightId]:
    """Highlights that the ledger says were kept, or lifted by a merge, beyond the rules."""
    return {
        line.highlight_id
        for line in ledger_of(outputs)
        if line.highlight_id and (line.rule == "override" or "; exceptional" in line.explanation)
    }


@settings(QUICK, max_examples=250)
@given(run=runs(), data=st.data())
def test_order_and_multiplicity_of_arrival_change_nothing(run: Run, data: st.DataObject) -> None:
    repeated = [each for each in run.inputs for _ in range(data.draw(st.integers(1, 3)))]
    shuffled = data.draw(st.permutations(repeated))
    assert outcome(fold(tuple(shuffled), run.profile)[1]) == _all(run)


@QUICK
@given(run=runs())
def test_a_round_trip_of_the_state_after_every_input_changes_nothing(run: Run) -> None:
    state = opened(STREAM, run=0)
    outputs: list[Output] = []
    for given_input in run.inputs:
        state, more = apply(State.from_json(state.to_json()), given_input, profile=run.profile)
        assert State.from_json(state.to_json()) == state
        outputs.extend(more)
    assert outcome(outputs) == _all(run)


@QUICK
@given(run=runs())
def test_no_two_confirmed_peaks_are_closer_than_the_spacing_unless_by_override(run: Run) -> None:
    outputs = _all(run)
    free = _overriding(outputs)
    bound_us = run.profile.selection.spacing_us
    for one, other in combinations(_latest(outputs), 2):
        if not free & {one.highlight_id, other.highlight_id}:
            assert abs(one.peak_us - other.peak_us) >= bound_us


@QUICK
@given(run=runs())
def test_no_limit_window_holds_more_than_its_number_unless_by_override(run: Run) -> None:
    outputs = _all(run)
    free = _overriding(outputs)
    limit_us = run.profile.selection.limit_window_us
    ordinary = [each for each in _latest(outputs) if each.highlight_id not in free]
    most = max(Counter(each.peak_us // limit_us for each in ordinary).values(), default=0)
    assert most <= run.profile.selection.max_per_window


@QUICK
@given(run=runs())
def test_there_are_never_more_highlights_than_the_cap(run: Run) -> None:
    found = _latest(_all(run))
    cap = run.profile.selection.max_highlights
    assert cap is None or len(found) <= cap


@QUICK
@given(run=runs())
def test_every_candidate_has_ledger_lines_counted_from_0_that_end_in_what_became_of_it(run: Run) -> None:
    outputs = _all(run)
    confirmed = {each.highlight_id for each in highlights(outputs)}
    assert {line.candidate_id for line in ledger_of(outputs)} == {
        each.candidate_id for each in run.candidates
    }
    for each in run.candidates:
        lines = ledger_of(outputs, CandidateId(each.candidate_id))
        assert [line.ordinal for line in lines] == list(range(len(lines)))
        last = lines[-1]
        assert (last.decision is Decision.REJECTED) or last.highlight_id in confirmed
        assert last.decision is not Decision.KEPT or last.rule in {"confirmed", "revised"}


@QUICK
@given(run=runs())
def test_clips_lie_in_one_unbroken_stretch_and_are_never_above_the_maximum(run: Run) -> None:
    for each in highlights(_all(run)):
        assert each.start_us <= each.peak_us <= each.end_us
        assert 0 < each.end_us - each.start_us <= run.profile.clip.maximum_us
        stretch = run.archive.stretch_of(start_us=each.start_us, end_us=each.end_us, peak_us=each.peak_us)
        assert stretch is not None
        assert stretch.start_us <= each.start_us < each.end_us <= stretch.end_us
        assert each.segments == run.archive.covering(each.start_us, each.end_us)


@QUICK
@given(run=runs())
def test_the_selection_closes_once_with_the_last_revision_of_every_highlight(run: Run) -> None:
    outputs = _all(run)
    [final] = final_of(outputs)
    told = {(each.highlight_id, each.revision) for each in _latest(outputs)}
    assert {(pair.highlight_id, pair.revision) for pair in final.final} == told
    assert outputs[-1] == final
