"""Analysis windows as a pure function of the archived segments, so that whoever resumes makes the same ones.

A window takes whole segments, never crosses a discontinuity or a gap, and never changes once it was made.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ingest.domain.timeline import PlacedSegment


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """Lengths of windows in microseconds.

    A window closes when it holds `target_us` and at least `target_us - overlap_us` of it is new, or when the
    next segment would lift it over `maximum_us`. The overlap is the largest whole number of segments within
    `overlap_us`, but one segment if it is no longer than half of `maximum_us`, and never the whole window before.
    So 2 s segments give 20 s windows every 16 s, 10 s segments 30 s windows every 20 s (the first has 20 s), and
    a segment longer than `maximum_us` is a window of its own. The last window of a run reaches back further than
    the overlap where that brings it to `minimum_us`; only a run shorter than that, and a window that the next
    segment does not fit into, stay below it.
    """

    target_us: int = 20_000_000
    overlap_us: int = 5_000_000
    minimum_us: int = 10_000_000
    maximum_us: int = 30_000_000

    def __post_init__(self) -> None:
        if not 0 < self.minimum_us <= self.target_us <= self.maximum_us:
            raise ValueError("a window plan needs 0 < minimum <= target <= maximum")
        if not 0 <= self.overlap_us < self.target_us:
            raise ValueError("the overlap must be shorter than the target")


@dataclass(frozen=True, kw_only=True)
class ArchivedSegment:
    """What the planner needs to know of a stored segment; `breaks` marks a discontinuity before it."""

    position: int
    start_us: int
    duration_us: int
    breaks: bool = False

    @property
    def end_us(self) -> int:
        """First microsecond after the segment."""
        return self.start_us + self.duration_us

    @classmethod
    def of(cls, placed: PlacedSegment) -> "ArchivedSegment":
        """The planner's view of a placed segment."""
        return cls(
            position=placed.position,
            start_us=placed.start_us,
            duration_us=placed.duration_us,
            breaks=bool(placed.break_before),
        )


@dataclass(frozen=True, kw_only=True)
class Window:
    """Segments `first_position` to `last_position` (inclusive); `fresh_from_us` is where the overlap ends."""

    index: int
    first_position: int
    last_position: int
    start_us: int
    end_us: int
    fresh_from_us: int

    @property
    def duration_us(self) -> int:
        """Length of the window."""
        return self.end_us - self.start_us


@dataclass(frozen=True, kw_only=True)
class PlannerState:
    """The open tail: segments of the next window, the first `overlap_count` of which were in the one before.

    `reach` holds the segments before the tail that a short last window may take in.
    """

    next_index: int = 0
    tail: tuple[ArchivedSegment, ...] = ()
    overlap_count: int = 0
    reach: tuple[ArchivedSegment, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Primitives only, at most a window's worth of segments."""
        return {
            "next_index": self.next_index,
            "tail": _rows(self.tail),
            "overlap_count": self.overlap_count,
            "reach": _rows(self.reach),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "PlannerState":
        """Inverse of `to_json`."""
        return cls(
            next_index=document["next_index"],
            tail=_segments(document["tail"]),
            overlap_count=document["overlap_count"],
            reach=_segments(document["reach"]),
        )

    @property
    def duration_us(self) -> int:
        """Length of the open tail."""
        return sum(segment.duration_us for segment in self.tail)

    @property
    def fresh_us(self) -> int:
        """Length of what no window holds yet."""
        return sum(segment.duration_us for segment in self.tail[self.overlap_count :])


Planned = tuple[PlannerState, tuple[Window, ...]]


def plan_windows(segments: Iterable[ArchivedSegment], *, plan: WindowPlan, final: bool) -> tuple[Window, ...]:
    """All windows of an archived list; with `final`, the open tail becomes the last one.

    Prefix-stable: more segments never change the windows that fewer gave (those of `final=False`).
    """
    state = PlannerState()
    windows: list[Window] = []
    for segment in segments:
        state, closed = add_segment(state, segment=segment, plan=plan)
        windows.extend(closed)
    return (*windows, *close_run(state, plan=plan)[1]) if final else tuple(windows)


def add_segment(state: PlannerState, *, segment: ArchivedSegment, plan: WindowPlan) -> Planned:
    """Fold one stored segment in; returns the windows (0 to 3) that it closed."""
    closed: list[Window] = []
    if _starts_new_run(state, segment):
        state, windows = close_run(state, plan=plan)
        closed.extend(windows)
    state, windows = _make_room(state, segment=segment, plan=plan)
    closed.extend(windows)
    state = replace(state, tail=(*state.tail, segment))
    if _is_full(state, plan=plan):
        state, windows = _close(state, plan=plan)
        closed.extend(windows)
    return state, tuple(closed)


def close_run(state: PlannerState, *, plan: WindowPlan) -> Planned:
    """End the run of segments at a gap, a discontinuity or the end of the stream; overlap alone is no window.

    Calling it as soon as a gap is known only brings forward what the next segment would cause.
    """
    if state.overlap_count == len(state.tail):
        return PlannerState(next_index=state.next_index), ()
    while state.reach and state.duration_us < plan.minimum_us and _fits(state, state.reach[-1], plan=plan):
        state = replace(
            state,
            tail=(state.reach[-1], *state.tail),
            overlap_count=state.overlap_count + 1,
            reach=state.reach[:-1],
        )
    return PlannerState(next_index=state.next_index + 1), (_window(state),)


def _starts_new_run(state: PlannerState, segment: ArchivedSegment) -> bool:
    before = state.tail or state.reach
    return bool(before) and (segment.breaks or segment.start_us != before[-1].end_us)


def _make_room(state: PlannerState, *, segment: ArchivedSegment, plan: WindowPlan) -> Planned:
    """Close the window that `segment` does not fit into, then give up overlap for it where needed."""
    windows: tuple[Window, ...] = ()
    if state.overlap_count < len(state.tail) and not _fits(state, segment, plan=plan):
        state, windows = _close(state, plan=plan)
    while state.tail and not _fits(state, segment, plan=plan):
        state = replace(
            state,
            tail=state.tail[1:],
            overlap_count=state.overlap_count - 1,
            reach=(*state.reach, state.tail[0]),
        )
    return state, windows


def _fits(state: PlannerState, segment: ArchivedSegment, *, plan: WindowPlan) -> bool:
    return state.duration_us + segment.duration_us <= plan.maximum_us


def _is_full(state: PlannerState, *, plan: WindowPlan) -> bool:
    duration_us = state.duration_us
    reached = duration_us >= plan.target_us and state.fresh_us >= plan.target_us - plan.overlap_us
    return reached or duration_us >= plan.maximum_us


def _close(state: PlannerState, *, plan: WindowPlan) -> Planned:
    kept = _overlap_count(state.tail, plan=plan)
    border = len(state.tail) - kept
    following = PlannerState(
        next_index=state.next_index + 1,
        tail=state.tail[border:],
        overlap_count=kept,
        reach=_reach(state.tail[:border], plan=plan),
    )
    return following, (_window(state),)


def _reach(segments: tuple[ArchivedSegment, ...], *, plan: WindowPlan) -> tuple[ArchivedSegment, ...]:
    """The last of `segments` that together are about `minimum_us`."""
    start_us = segments[-1].end_us - plan.minimum_us
    return tuple(segment for segment in segments if segment.end_us > start_us)


def _overlap_count(tail: tuple[ArchivedSegment, ...], *, plan: WindowPlan) -> int:
    most = len(tail) - 1
    total_us = count = 0
    for segment in reversed(tail):
        total_us += segment.duration_us
        if total_us > plan.overlap_us or count == most:
            break
        count += 1
    if count == 0 and plan.overlap_us and tail[-1].duration_us <= plan.maximum_us // 2:
        return min(1, most)
    return count


def _window(state: PlannerState) -> Window:
    first, last = state.tail[0], state.tail[-1]
    return Window(
        index=state.next_index,
        first_position=first.position,
        last_position=last.position,
        start_us=first.start_us,
        end_us=last.end_us,
        fresh_from_us=state.tail[state.overlap_count].start_us,
    )


def _rows(segments: tuple[ArchivedSegment, ...]) -> list[list[int]]:
    return [[s.position, s.start_us, s.duration_us, int(s.breaks)] for s in segments]


def _segments(rows: list[list[int]]) -> tuple[ArchivedSegment, ...]:
    return tuple(
        ArchivedSegment(position=position, start_us=start_us, duration_us=duration_us, breaks=bool(breaks))
        for position, start_us, duration_us, breaks in rows
    )
