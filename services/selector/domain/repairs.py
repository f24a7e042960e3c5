"""What comes after the end of a run: windows that a recording brought for a gap, judged beside what stands.

Each repair of a gap is a short run of its own through the same machine, with the highlights that stand as confirmed
moments: they keep their places, and are never taken back. Its windows are consumed in order once the run is closed,
so the outcome of a repair does not depend on the order of arrival; repairs of gaps near one another are judged in the
order in which they became complete.
"""

from functools import reduce

from selector.domain.inputs import Input, RepairEnded, WindowExpired, WindowInput, WindowLost
from selector.domain.machine import Step, advanced, apply, opened
from selector.domain.moment import Moment
from selector.domain.outputs import Noted, Output, SelectionFinal, Standing
from selector.domain.state import Counts, Repair, RepairCounts, State
from selector.domain.window import add_to
from shared.ids import Position, window_id
from shared.profile import Profile
from shared.repairs import FIRST_REPAIR_INDEX, gap_and_ordinal, repair_index


def apply_late(state: State, given: Input, *, profile: Profile, standing: tuple[Moment, ...] = ()) -> Step:
    """One input of any kind into the state of a run. `standing` are the run's published moments.

    They are needed only where `state.repairs` is not empty or the input is of a repair. Raises as `apply`.
    """
    outputs: tuple[Output, ...] = ()
    if is_of_repair(given):
        refusal = _refusal(state, given)
        if refusal is not None:
            return state, (refusal,)
        state = _taken(state, given)
    else:
        state, outputs = apply(state, given, profile=profile)
    if not state.finished:
        return state, outputs
    state, more = _all_advanced(state, _standing(standing, outputs), profile=profile)
    return state, (*outputs, *more)


def is_of_repair(given: Input) -> bool:
    """Whether the input belongs to the repair of a gap."""
    if isinstance(given, RepairEnded):
        return True
    return isinstance(given, WindowInput) and given.revision > 0 and given.index >= FIRST_REPAIR_INDEX


def overdue(state: State) -> Input | None:
    """The input that ends the waiting: an offered window has failed, one that was never offered is lost."""
    index = state.blocked_on
    if index is None:
        return None
    repair = state.blocked_repair
    waiting = repair.state.next_window if repair else state.next_window
    revision = repair.revision if repair else 0
    if waiting is not None and waiting.offered is not None:
        return WindowExpired(run=state.run, index=index, revision=revision)
    return WindowLost(run=state.run, index=index, revision=revision)


# -- taking in ---------------------------------------------------------------------------------------


def _place(given: Input) -> tuple[int, int]:
    """Gap and revision."""
    if isinstance(given, RepairEnded):
        return given.gap_index, given.revision
    assert isinstance(given, WindowInput)
    return gap_and_ordinal(given.index)[0], given.revision


def _refusal(state: State, given: Input) -> Noted | None:
    name = type(given).__name__
    if state.closed:
        return Noted(reason="closed", detail=f"{name} after stream.closed")
    assert isinstance(given, RepairEnded | WindowInput)
    if given.run != state.run:
        return Noted(reason="foreign_run", detail=f"{name} of run {given.run} in run {state.run}")
    gap, revision = _place(given)
    if (gap, revision) in state.repaired:
        return Noted(reason="late", detail=f"{name}: repair {revision} of gap {gap} is judged")
    if isinstance(given, RepairEnded) and not _has_windows(state, given):
        return Noted(reason="repair", detail=f"repair {revision} of gap {gap} brought no windows of its own")
    return None


def _has_windows(state: State, given: RepairEnded) -> bool:
    """Neighbouring gaps are filled together, and all name the windows: they are counted under one of them."""
    first = Position(state.run, repair_index(given.gap_index, 0), given.revision)
    return window_id(state.stream_id, first) in given.windows


def _taken(state: State, given: Input) -> State:
    gap, revision = _place(given)
    repair = state.repair_of(gap, revision) or Repair(
        gap=gap, revision=revision, state=opened(state.stream_id, run=state.run).changed(is_repair=True)
    )
    own = repair.state
    if isinstance(given, RepairEnded):
        own = own.changed(expected=len(given.windows))
    elif isinstance(given, WindowInput):
        ordinal = gap_and_ordinal(given.index)[1]
        if ordinal < own.consumed:
            return state
        local = given.model_copy(update={"index": ordinal, "revision": 0})
        own = own.changed(windows=add_to(own.windows, local))
    return state.with_repair(repair.model_copy(update={"state": own}))


# -- judging -----------------------------------------------------------------------------------------


def _standing(standing: tuple[Moment, ...], outputs: tuple[Output, ...]) -> tuple[Moment, ...]:
    """With what these outputs have published since."""
    newest = {moment.highlight_id: moment for moment in standing}
    newest |= {each.moment.highlight_id: each.moment for each in outputs if isinstance(each, Standing)}
    return tuple(newest.values())


def _all_advanced(state: State, standing: tuple[Moment, ...], *, profile: Profile) -> Step:
    outputs: tuple[Output, ...] = ()
    for repair in state.repairs:
        state, more = _advanced(state, repair, standing, profile=profile)
        standing = _standing(standing, more)
        outputs = (*outputs, *more)
    return state, outputs


def _advanced(state: State, repair: Repair, standing: tuple[Moment, ...], *, profile: Profile) -> Step:
    own, outputs = advanced(_beside(state, repair.state, standing), profile=profile)
    state = state.changed(final=own.final)
    if own.finished:
        return _finished(state.without_repair(repair), repair, own, outputs)
    unpublished = tuple(moment for moment in own.moments if moment.unpublished)
    kept = own.changed(final=(), moments=unpublished)
    return state.with_repair(repair.model_copy(update={"state": kept})), outputs


def _beside(state: State, own: State, standing: tuple[Moment, ...]) -> State:
    """The repair's own state with all that stands in the run."""
    mine = {moment.highlight_id for moment in own.moments}
    moments = (*own.moments, *(moment for moment in standing if moment.highlight_id not in mine))
    ordered = sorted(moments, key=lambda moment: (moment.start_us, moment.highlight_id))
    return own.changed(final=state.final, moments=tuple(ordered))


def _finished(state: State, repair: Repair, own: State, outputs: tuple[Output, ...]) -> Step:
    """The selection closes once more, with what the repair has added."""
    state = state.changed(
        repair_counts=_newest(state.repair_counts, repair, own.counts),
        repaired=(*state.repaired, (repair.gap, repair.revision)),
        repaired_windows=state.repaired_windows + own.consumed,
    )
    counts = reduce(_sum, (each.counts for each in state.repair_counts), state.counts)
    final = SelectionFinal(
        final=state.final,
        windows_analysed=counts.analysed,
        windows_skipped=counts.skipped,
        windows_failed=counts.failed,
        failure_reason=counts.failure_reason,
        revision=state.repaired_windows,
    )
    return state, (*(each for each in outputs if not isinstance(each, SelectionFinal)), final)


def _newest(known: tuple[RepairCounts, ...], repair: Repair, counts: Counts) -> tuple[RepairCounts, ...]:
    """By gap, whatever the order in which its repairs became complete."""
    judged = RepairCounts(gap=repair.gap, revision=repair.revision, counts=counts)
    same = [each for each in (*known, judged) if each.gap == repair.gap]
    others = (each for each in known if each.gap != repair.gap)
    return tuple(sorted((*others, max(same, key=lambda each: each.revision)), key=lambda each: each.gap))


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(
        analysed=one.analysed + other.analysed,
        skipped=one.skipped + other.skipped,
        failed=one.failed + other.failed,
        failure_reason=one.failure_reason or other.failure_reason,
    )


def is_awaited(state: State, index: int) -> bool:
    """Whether a window, by its index in the run, is still to be judged."""
    if index < FIRST_REPAIR_INDEX:
        return index >= state.consumed
    return any(
        repair_index(repair.gap, repair.state.consumed) <= index < repair_index(repair.gap + 1, 0)
        for repair in state.repairs
    )
