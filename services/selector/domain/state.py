"""The selection's memory of one run: a frozen, bounded snapshot that survives a round trip through JSON.

Held are: windows that are not sealed yet, moments and media that a newcomer can still touch, and the final pairs.
"""

from selector.domain.archive import Archive
from selector.domain.moment import Moment
from selector.domain.window import OpenWindow
from shared.events import FinalHighlight, Part
from shared.ids import StreamId
from shared.profile import Profile
from shared.repairs import repair_index


class Counts(Part):
    """Windows by outcome, and why the first of those that failed did."""

    analysed: int = 0
    skipped: int = 0
    failed: int = 0
    failure_reason: str = ""


class State(Part):
    """`consumed`: windows below this index are judged. `expected`: the run's windows, once it has ended.

    `watermark_us` is the end and `frontier_us` the start of the last window consumed: no candidate before the
    frontier can come any more. `repairs` are under way, `repaired` names gap and revision of those that are judged,
    `repaired_windows` counts their windows; `repair_counts` tells them by outcome, of each gap's newest repair alone:
    a later one takes its windows' places. `is_repair` marks the state of one.
    """

    stream_id: StreamId
    run: int
    consumed: int = 0
    expected: int | None = None
    watermark_us: int = 0
    frontier_us: int = 0
    windows: tuple[OpenWindow, ...] = ()
    archive: Archive = Archive()
    moments: tuple[Moment, ...] = ()
    final: tuple[FinalHighlight, ...] = ()
    counts: Counts = Counts()
    finished: bool = False
    closed: bool = False
    is_repair: bool = False
    repairs: tuple["Repair", ...] = ()
    repaired: tuple[tuple[int, int], ...] = ()
    repaired_windows: int = 0
    repair_counts: tuple["RepairCounts", ...] = ()

    def to_json(self) -> str:
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> "State":
        """Inverse of `to_json`; keys of a newer version are ignored."""
        return cls.model_validate_json(text)

    @property
    def next_window(self) -> OpenWindow | None:
        """The window whose turn it is, as far as anything of it has arrived."""
        return next((window for window in self.windows if window.index == self.consumed), None)

    @property
    def blocked_on(self) -> int | None:
        """Index of the window that the run waits for, while more is known to come: what a deadline is for."""
        if self.closed:
            return None
        if self.finished:
            repair = self.blocked_repair
            return repair_index(repair.gap, repair.state.consumed) if repair else None
        more = bool(self.windows) or (self.expected is not None and self.consumed < self.expected)
        return self.consumed if more else None

    @property
    def blocked_repair(self) -> "Repair | None":
        """The first repair that waits, once the run itself is finished."""
        if not self.finished or self.closed:
            return None
        return next((repair for repair in self.repairs if repair.state.blocked_on is not None), None)

    def repair_of(self, gap: int, revision: int) -> "Repair | None":
        return next((each for each in self.repairs if (each.gap, each.revision) == (gap, revision)), None)

    def with_repair(self, repair: "Repair") -> "State":
        """The repair added, or in the place of an older form of itself."""
        others = self.without_repair(repair).repairs
        ordered = sorted((*others, repair), key=lambda each: (each.gap, each.revision))
        return self.changed(repairs=tuple(ordered))

    def without_repair(self, leaving: "Repair") -> "State":
        gone = (leaving.gap, leaving.revision)
        return self.changed(repairs=tuple(each for each in self.repairs if (each.gap, each.revision) != gone))

    @property
    def total(self) -> int:
        """Highlights that count against the cap: confirmed and pending."""
        return len(self.final) + sum(moment.pending for moment in self.moments)

    def with_moment(self, moment: Moment) -> "State":
        """The moment added, or in the place of an older form of itself."""
        others = (each for each in self.moments if each.highlight_id != moment.highlight_id)
        return self.changed(moments=tuple(sorted((*others, moment), key=_by_time)))

    def without_moments(self, leaving: tuple[Moment, ...]) -> "State":
        gone = {moment.highlight_id for moment in leaving}
        return self.changed(moments=tuple(each for each in self.moments if each.highlight_id not in gone))

    def changed(self, **fields: object) -> "State":
        return self.model_copy(update=fields)


class Repair(Part):
    """The repair of a gap under way: its windows count from 0 in a state of their own."""

    gap: int
    revision: int
    state: State


class RepairCounts(Part):
    """The windows of a gap's newest repair, by outcome."""

    gap: int
    revision: int
    counts: Counts


State.model_rebuild()


def forgotten(state: State, *, profile: Profile) -> State:
    """The state without moments and media that no later candidate can touch."""
    moments = tuple(each for each in state.moments if _can_still_matter(each, state, profile))
    return state.changed(moments=moments, archive=_needed_archive(state, profile))


def _can_still_matter(moment: Moment, state: State, profile: Profile) -> bool:
    rules = profile.selection
    reach_us = max(rules.spacing_us, rules.similarity_reach_us, rules.limit_window_us)
    near_us = max(moment.peak_us + reach_us, moment.end_us + rules.merge_gap_us)
    return moment.unpublished or near_us >= state.frontier_us


def _needed_archive(state: State, profile: Profile) -> Archive:
    """Media from before the earliest clip that may still be cut.

    A newcomer begins at the frontier or later, and merges back by at most the longest clip; a clip begins before its
    moment by at most its context or the target.
    """
    clip = profile.clip
    earliest_us = state.frontier_us - clip.maximum_us
    starts_us = [moment.start_us for moment in state.moments if moment.unpublished]
    context_us = max(clip.lead_in_us + clip.lead_out_us, clip.target_us) + clip.snap_reach_us
    return state.archive.without_before(min([earliest_us, *starts_us]) - context_us)


def _by_time(moment: Moment) -> tuple[int, str]:
    return moment.start_us, moment.highlight_id
