"""Where a highlight's clip begins and ends. Boundaries are fixed here alone, from the moment and the archive."""

from collections.abc import Iterable

from selector.domain.archive import Stretch
from selector.domain.moment import Clip, Moment
from shared.profile import ClipRules


def wanted(moment: Moment, *, rules: ClipRules) -> Clip:
    """The clip before the archive has its say.

    The moment with its context, extended to the target where that is longer; context shrinks before the moment does,
    and a moment longer than the maximum shrinks around its peak. The start may be negative.
    """
    length_us = moment.end_us - moment.start_us
    if length_us > rules.maximum_us:
        return _around_peak(moment, length_us=rules.maximum_us)
    context_us = max(rules.lead_in_us + rules.lead_out_us, rules.target_us - length_us)
    context_us = min(context_us, rules.maximum_us - length_us)
    before_us = context_us * _before_share(rules)[0] // _before_share(rules)[1]
    start_us = moment.start_us - before_us
    return Clip(start_us=start_us, end_us=start_us + length_us + context_us)


def cut(moment: Moment, *, stretch: Stretch, snap_points_us: tuple[int, ...], rules: ClipRules) -> Clip:
    """The clip inside the stretch that holds the peak, its edges on snap points where one is near.

    It is moved into the stretch before it is shortened, never longer than the maximum, and holds the peak.
    """
    inside = _moved_inside(wanted(moment, rules=rules), stretch)
    snapped_start = _snapped_start(inside, moment, stretch=stretch, points_us=snap_points_us, rules=rules)
    return _snapped_end(snapped_start, moment, stretch=stretch, points_us=snap_points_us, rules=rules)


def _before_share(rules: ClipRules) -> tuple[int, int]:
    """Part of the context that goes before the moment: as lead-in to lead-out, half where both are 0."""
    both_us = rules.lead_in_us + rules.lead_out_us
    return (rules.lead_in_us, both_us) if both_us else (1, 2)


def _around_peak(moment: Moment, *, length_us: int) -> Clip:
    """The peak keeps its relative place."""
    place_us = moment.peak_us - moment.start_us
    before_us = place_us * length_us // (moment.end_us - moment.start_us)
    start_us = moment.peak_us - before_us
    return Clip(start_us=start_us, end_us=start_us + length_us)


def _moved_inside(clip: Clip, stretch: Stretch) -> Clip:
    length_us = min(clip.end_us - clip.start_us, stretch.end_us - stretch.start_us)
    start_us = min(max(clip.start_us, stretch.start_us), stretch.end_us - length_us)
    return Clip(start_us=start_us, end_us=start_us + length_us)


def _snapped_start(
    clip: Clip, moment: Moment, *, stretch: Stretch, points_us: tuple[int, ...], rules: ClipRules
) -> Clip:
    latest_us = min(clip.end_us - rules.minimum_us, max(moment.start_us, clip.start_us), moment.peak_us)
    earliest_us = max(stretch.start_us, clip.end_us - rules.maximum_us)
    allowed = (point for point in points_us if earliest_us <= point <= latest_us)
    return Clip(start_us=_nearest(clip.start_us, allowed, reach_us=rules.snap_reach_us), end_us=clip.end_us)


def _snapped_end(
    clip: Clip, moment: Moment, *, stretch: Stretch, points_us: tuple[int, ...], rules: ClipRules
) -> Clip:
    earliest_us = max(clip.start_us + rules.minimum_us, min(moment.end_us, clip.end_us), moment.peak_us)
    latest_us = min(stretch.end_us, clip.start_us + rules.maximum_us)
    allowed = (point for point in points_us if earliest_us <= point <= latest_us)
    return Clip(start_us=clip.start_us, end_us=_nearest(clip.end_us, allowed, reach_us=rules.snap_reach_us))


def _nearest(edge_us: int, points_us: Iterable[int], *, reach_us: int) -> int:
    within = [point for point in points_us if abs(point - edge_us) <= reach_us]
    return min(within, key=lambda point: (abs(point - edge_us), point), default=edge_us)
