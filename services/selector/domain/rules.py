"""The rules of selection, each a small pure function that returns a Finding, or None where it has no objection.

Order: window_failed, outside_window, outside_archive, below_threshold, merged, similar, spacing, window_limit,
max_highlights.
Who wins a conflict:

- *similar*: weaker pending moments give way; against a confirmed or stronger one the newcomer is rejected.
- *spacing*: weaker pending moments below the exceptional threshold give way. Against any other an exceptional
  newcomer is kept beside it (`override`), and an ordinary one is rejected.
- *window_limit*: an exceptional newcomer is kept on top (`override`); an ordinary one takes the place of the weakest
  pending moment that is weaker and was not itself kept by override, else it is rejected.
- *max_highlights* is never overridden: the weakest pending moment that is weaker gives way, else rejected.

Exceptional (A14): at or above the exceptional threshold, or better than the best moment within one limit window's
length by more than the override margin. Confirmed moments never give way. On equal scores the earlier-judged stays.
"""

import re
from dataclasses import dataclass, replace

from selector.domain.archive import Archive
from selector.domain.inputs import CandidateArrived
from selector.domain.moment import Moment
from shared.events import Verdict
from shared.profile import Profile

TIME_SHARE = 0.6
WORD_SHARE = 0.4
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An objection to a newcomer. `blocked`: it holds even when all of `giving_way` leave."""

    rule: str
    words: str
    bound: float | None = None
    against: Moment | None = None
    giving_way: tuple[Moment, ...] = ()
    blocked: bool = True
    overridable: bool = False


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a newcomer is judged against: moments that stand, and how many highlights the run has in all."""

    held: tuple[Moment, ...]
    total: int
    profile: Profile

    def without(self, leaving: tuple[Moment, ...]) -> "Scene":
        gone = {moment.highlight_id for moment in leaving}
        staying = tuple(moment for moment in self.held if moment.highlight_id not in gone)
        return replace(self, held=staying, total=self.total - len(leaving))


# -- on a candidate alone ----------------------------------------------------------------------------


def window_failed(verdict: Verdict, *, reason: str) -> Finding:
    """Candidates of a window that was not analysed to its end are not comparable with others."""
    return Finding(
        rule="window_failed", words=f"its window is {verdict.value}: {reason or 'no reason given'}"
    )


def outside_window(candidate: CandidateArrived, *, start_us: int, end_us: int) -> Finding | None:
    """Times must rise and lie inside the window; they are rejected, never clamped."""
    span = f"{_s(candidate.start_us)}–{_s(candidate.end_us)}, peak {_s(candidate.peak_us)}"
    if candidate.start_us >= candidate.end_us:
        return Finding(rule="outside_window", words=f"the span {span} is empty or reversed")
    if not candidate.start_us <= candidate.peak_us <= candidate.end_us:
        return Finding(rule="outside_window", words=f"the peak lies outside its own span {span}")
    for at_us, bound_us, outside in (
        (candidate.start_us, start_us, candidate.start_us < start_us),
        (candidate.end_us, end_us, candidate.end_us > end_us),
    ):
        if outside:
            words = f"{_s(at_us)} lies outside the window {_s(start_us)}–{_s(end_us)}"
            return Finding(rule="outside_window", words=words, bound=bound_us / 1e6)
    return None


def outside_archive(candidate: CandidateArrived, *, archive: Archive) -> Finding | None:
    """The peak must lie in archived media: nothing can be cut around a hole."""
    span = {"start_us": candidate.start_us, "end_us": candidate.end_us, "peak_us": candidate.peak_us}
    if archive.stretch_of(**span) is not None:
        return None
    return Finding(
        rule="outside_archive", words=f"the peak {_s(candidate.peak_us)} lies in a gap of the archive"
    )


def below_threshold(score: float, *, profile: Profile) -> Finding | None:
    bound = profile.thresholds.standard
    if score >= bound:
        return None
    return Finding(rule="below_threshold", words=f"score {score:.3f} is below {bound:.3f}", bound=bound)


# -- on a newcomer among others ----------------------------------------------------------------------


def similar(newcomer: Moment, *, scene: Scene) -> Finding | None:
    """Two moments near in time and alike in words are one (M247)."""
    selection = scene.profile.selection
    pairs = [
        (similarity(newcomer, held, reach_us=selection.similarity_reach_us), held) for held in scene.held
    ]
    alike = [(value, held) for value, held in pairs if value >= selection.similarity]
    if not alike:
        return None
    value, nearest = max(alike, key=lambda pair: (pair[0], pair[1].score, pair[1].highlight_id))
    staying = tuple(held for _, held in alike if not _gives_way(held, newcomer))
    return Finding(
        rule="similar",
        words=f"similarity {value:.2f} to “{nearest.title}” reaches {selection.similarity:.2f}",
        bound=selection.similarity,
        against=_strongest(staying) if staying else nearest,
        giving_way=tuple(held for _, held in alike if _gives_way(held, newcomer)),
        blocked=bool(staying),
    )


def spacing(newcomer: Moment, *, scene: Scene) -> Finding | None:
    """Peaks keep a least distance (M245)."""
    bound_us = scene.profile.selection.spacing_us
    near = tuple(held for held in scene.held if abs(held.peak_us - newcomer.peak_us) < bound_us)
    if not near:
        return None
    exceptional = scene.profile.thresholds.exceptional
    giving_way = tuple(held for held in near if _gives_way(held, newcomer) and held.score < exceptional)
    staying = tuple(held for held in near if held not in giving_way)
    against = _strongest(staying or giving_way)
    apart_us = abs(against.peak_us - newcomer.peak_us)
    return Finding(
        rule="spacing",
        words=f"{_s(apart_us)} from the peak of “{against.title}”, less than {_s(bound_us)}",
        bound=bound_us / 1e6,
        against=against,
        giving_way=giving_way,
        blocked=bool(staying),
        overridable=True,
    )


def window_limit(newcomer: Moment, *, scene: Scene) -> Finding | None:
    """A fixed media window holds a limited number (M244)."""
    selection = scene.profile.selection
    number = newcomer.peak_us // selection.limit_window_us
    inside = tuple(held for held in scene.held if held.peak_us // selection.limit_window_us == number)
    if len(inside) < selection.max_per_window:
        return None
    ordinary = tuple(held for held in inside if not held.override)
    weakest = () if is_exceptional(newcomer, scene=scene) else _weakest_giving_way(ordinary, newcomer)
    return Finding(
        rule="window_limit",
        words=f"{len(inside)} highlights stand in the {_s(selection.limit_window_us)} window {number}",
        bound=float(selection.max_per_window),
        against=weakest[0] if weakest else _weakest(inside),
        giving_way=weakest,
        blocked=not weakest,
        overridable=True,
    )


def max_highlights(newcomer: Moment, *, scene: Scene) -> Finding | None:
    """The cap of the whole run (M88, C43)."""
    cap = scene.profile.selection.max_highlights
    if cap is None or scene.total < cap:
        return None
    weakest = _weakest_giving_way(scene.held, newcomer)
    return Finding(
        rule="max_highlights",
        words=f"{scene.total} highlights stand, and {cap} are allowed",
        bound=float(cap),
        against=weakest[0] if weakest else None,
        giving_way=weakest,
        blocked=not weakest,
    )


CONFLICT_RULES = (similar, spacing, window_limit, max_highlights)


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """How a newcomer fared: the finding that rejects it, or who leaves for it and what it overrode."""

    rejection: Finding | None = None
    leaving: tuple[tuple[Moment, Finding], ...] = ()
    overridden: tuple[Finding, ...] = ()


def contest(newcomer: Moment, *, scene: Scene) -> Ruling:
    """All conflict rules in their order; those who gave way to one rule no longer count for the next."""
    exceptional = is_exceptional(newcomer, scene=scene)
    leaving: list[tuple[Moment, Finding]] = []
    overridden: list[Finding] = []
    for rule in CONFLICT_RULES:
        finding = rule(newcomer, scene=scene)
        if finding is None:
            continue
        if finding.blocked and not (finding.overridable and exceptional):
            return Ruling(rejection=finding)
        if finding.blocked:
            overridden.append(finding)
        leaving.extend((moment, finding) for moment in finding.giving_way)
        scene = scene.without(finding.giving_way)
    return Ruling(leaving=tuple(leaving), overridden=tuple(overridden))


def after_merge(before: Moment, after: Moment, *, scene: Scene) -> Moment | None:
    """The merged moment, if it may stand where its peak is now; None if the candidate must compete on its own.

    `scene` is without the moment itself. An exceptional moment may stand anywhere, and is marked so.
    """
    if after.peak_us == before.peak_us:
        return after
    limit_us = scene.profile.selection.limit_window_us
    same_window = after.peak_us // limit_us == before.peak_us // limit_us
    limited = None if same_window else window_limit(after, scene=scene)
    if spacing(after, scene=scene) is None and limited is None:
        return after
    if after.override or is_exceptional(after, scene=scene):
        return after.model_copy(update={"override": True})
    return None


# -- measures ----------------------------------------------------------------------------------------


def similarity(one: Moment, other: Moment, *, reach_us: int) -> float:
    """0.6 · nearness of the peaks + 0.4 · shared words, in [0, 1] (A14)."""
    nearness = max(0.0, 1.0 - abs(one.peak_us - other.peak_us) / reach_us)
    return TIME_SHARE * nearness + WORD_SHARE * word_overlap(one, other)


def word_overlap(one: Moment, other: Moment) -> float:
    """Jaccard index of the words of title and description; 0 where neither has any."""
    mine, theirs = _words(one), _words(other)
    union = mine | theirs
    return len(mine & theirs) / len(union) if union else 0.0


def is_exceptional(newcomer: Moment, *, scene: Scene) -> bool:
    """At the exceptional threshold, or far above the best that stands near (A14)."""
    profile = scene.profile
    if newcomer.score >= profile.thresholds.exceptional:
        return True
    reach_us = profile.selection.limit_window_us
    recent = [held.score for held in scene.held if abs(held.peak_us - newcomer.peak_us) <= reach_us]
    return bool(recent) and newcomer.score > max(recent) + profile.selection.override_margin


def _gives_way(held: Moment, newcomer: Moment) -> bool:
    return held.pending and held.score < newcomer.score


def _weakest_giving_way(moments: tuple[Moment, ...], newcomer: Moment) -> tuple[Moment, ...]:
    weaker = tuple(held for held in moments if _gives_way(held, newcomer))
    return (_weakest(weaker),) if weaker else ()


def _weakest(moments: tuple[Moment, ...]) -> Moment:
    return min(moments, key=lambda moment: (moment.score, -moment.peak_us, moment.highlight_id))


def _strongest(moments: tuple[Moment, ...]) -> Moment:
    return max(moments, key=lambda moment: (moment.score, -moment.peak_us, moment.highlight_id))


def _words(moment: Moment) -> frozenset[str]:
    return frozenset(_WORD.findall(f"{moment.title} {moment.description}".casefold()))


def _s(time_us: int) -> str:
    return f"{time_us / 1e6:.1f} s"
