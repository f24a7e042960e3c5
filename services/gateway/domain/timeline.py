"""The timeline of a stream as customers see it: what is archived, missing, excluded, judged, and why; in seconds.

Pure: rows in, the public object out. Equal neighbours are told as one, so that hours fit into one answer; what still
does not fit is cut at a time from which the next question goes on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal

from pydantic import AwareDatetime, Field

from gateway.domain.completion import RunFacts
from gateway.domain.coverage import coverage_pct, outside, union_us
from gateway.domain.public_views import PublicPart, offered_of, seconds
from gateway.domain.stream_status import StreamRecord, StreamStatus, is_terminal
from gateway.domain.timeline_stretch import TILE_US, Stretch, joined
from shared.ids import StreamId
from shared.repairs import FIRST_REPAIR_INDEX, is_repair_epoch

StretchKind = Literal["archived", "repaired", "gap", "ad", "slate"]
StartsWith = Literal["start", "discontinuity", "epoch", "gap"]
WindowVerdict = Literal["analysed", "skipped", "failed", "pending"]
_MICROSECONDS: Final = 1_000_000


# -- what is stored ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class WindowFact:
    """One analysis window; `verdict` None while there is none."""

    index: int
    from_us: int
    to_us: int
    verdict: str | None
    reason: str
    degraded: bool
    provider: str
    stretches: tuple[Stretch, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RepairFact:
    """What became of a gap when a recording was there."""

    outcome: str
    from_us: int
    to_us: int
    revision: int
    windows: int
    reason: str
    repaired_at: datetime


@dataclass(frozen=True, kw_only=True)
class GapFact:
    index: int
    from_us: int
    to_us: int
    cause: str
    repair: RepairFact | None = None


@dataclass(frozen=True, kw_only=True)
class AnnotationFact:
    kind: Literal["ad", "slate"]
    from_us: int
    to_us: int
    detail: str


@dataclass(frozen=True, kw_only=True)
class StallFact:
    """`stalled_at` None: the resumption came first."""

    at_us: int
    cause: str
    stalled_at: datetime | None
    resumed_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class TimelineRows:
    """Rows of one run within a span, each kind by start; a kind with more rows than asked for is cut at its end.

    `cut_us`: where the first row that was left out begins, None where nothing was. `origin`: the run's first stretch,
    where the span begins later.
    """

    windows: tuple[WindowFact, ...] = ()
    gaps: tuple[GapFact, ...] = ()
    annotations: tuple[AnnotationFact, ...] = ()
    stalls: tuple[StallFact, ...] = ()
    cut_us: int | None = None
    origin: Stretch | None = None


# -- what is shown -------------------------------------------------------------------------------------


class TimelineRepair(PublicPart):
    """What became of a gap when a recording of the stream was there."""

    outcome: str = Field(description="`repaired`, `partly` or `failed`.")
    from_s: float = Field(description="Where the media from the recording begins to fill the gap.")
    to_s: float = Field(description="Where it ends.")
    revision: int = Field(description="Counts the attempts from 1.")
    windows: int = Field(description="Analysis windows that recordings brought for it, in all attempts.")
    reason: str = Field(description="How sure its place is, or why it failed.")
    at: AwareDatetime


class TimelineStretch(PublicPart):
    """A stretch of media time of which one thing can be said."""

    kind: StretchKind = Field(
        description="`archived` media; `repaired`: media from a recording that came later (it reaches into its "
        "neighbours); `gap`: media that could not be had; `ad`, `slate`: archived, and not judged."
    )
    from_s: float
    to_s: float
    epoch: int | None = Field(default=None, description="Counts the resets of the playlist's numbering.")
    starts_with: StartsWith | None = Field(
        default=None, description="What separates it from the media before: why it is a stretch of its own."
    )
    wall_at: AwareDatetime | None = Field(
        default=None, description="The source's own clock at its begin, where the source tells it."
    )
    wall_skew_s: float | None = Field(
        default=None,
        description="How far the source's clock has run ahead of the media's at its end, "
        "against the first that was told.",
    )
    count: int = Field(
        default=1, description="How many gaps lie in it: a lost stretch is noted segment by segment."
    )
    cause: str | None = Field(default=None, description="Why media is missing, as a stable word.")
    explanation: str | None = Field(default=None, description="The same in plain words.")
    advice: str | None = Field(default=None, description="What can be done about it.")
    detail: str | None = Field(default=None, description="How the playlist marked it.")
    repair: TimelineRepair | None = None


class TimelineWindows(PublicPart):
    """Analysis windows that follow one another and had the same outcome."""

    from_s: float
    to_s: float
    count: int
    verdict: WindowVerdict = Field(description="`pending` while there is none.")
    reason: str = Field(description="Why they were skipped, or failed.")
    degraded: bool = Field(description="Whether less was done than the quality tier promises.")
    provider: str
    of_repair: bool = Field(description="Whether they judge media from a recording.")


class TimelineStall(PublicPart):
    """The source answered and brought nothing new."""

    at_s: float
    cause: str
    stalled_at: AwareDatetime | None
    resumed_at: AwareDatetime | None = Field(description="Null while it lasts.")


class TimelineCoverage(PublicPart):
    """The whole run in numbers; shares are percent of what was offered, `analysed_pct` of what was to be judged."""

    offered_s: float = Field(description="Media that the source offered, gaps and advertisements included.")
    archived_s: float = Field(description="What of it is kept, from the stream or from a recording.")
    repaired_s: float = Field(description="What of that came from a recording.")
    gap_s: float = Field(description="What is missing.")
    excluded_s: float = Field(description="Advertisements and slates: archived, not judged.")
    analysed_s: float = Field(description="What was judged, or passed over on purpose.")
    archived_pct: float | None
    gap_pct: float | None
    excluded_pct: float | None
    analysed_pct: float | None = Field(
        description="Of offered without excluded; null while nothing was offered."
    )


class PublicTimeline(PublicPart):
    """What happened to the media of one run of a stream, in its own time."""

    stream_id: StreamId
    run: int = Field(description="Counts the attempts at the stream from 0.")
    status: StreamStatus
    live: bool = Field(
        description="Whether more may come; then the newest media shows only when its window is full."
    )
    coverage: TimelineCoverage
    stretches: list[TimelineStretch] = Field(
        description="In order of time; repaired ones lie over their gaps."
    )
    windows: list[TimelineWindows] = Field(description="In order of time; windows overlap.")
    stalls: list[TimelineStall]
    next_from_s: float | None = Field(
        description="Where the answer was cut: ask again with `from` set to it. Null when nothing is left out. "
        "What reaches over the cut is told on both sides of it."
    )


@dataclass(frozen=True)
class _Words:
    explanation: str
    advice: str


_CAUSES: Mapping[str, _Words] = MappingProxyType(
    {
        "window_overrun": _Words(
            "The playlist had moved on before the segment could be fetched.",
            "Offer a longer playlist window, such as 150 segments, or an event playlist.",
        ),
        "not_found": _Words(
            "The source listed the segment and answered that it is not there.",
            "Check that segments are stored before the playlist names them.",
        ),
        "denied": _Words(
            "The source refused access to the segment.", "Check tokens, headers and their time of expiry."
        ),
        "server_error": _Words(
            "The source failed to serve the segment.", "Check the origin's or CDN's errors."
        ),
        "timeout": _Words(
            "The source did not serve the segment in time.", "Check the source's capacity and network."
        ),
        "network": _Words("The connection to the source broke.", "Check the source's network."),
        "corrupt": _Words(
            "What the source served was no readable media.", "Check the encoder and the storage behind it."
        ),
        "rejected": _Words(
            "The source's answer was not acceptable.", "Check the segment's size and address."
        ),
        "source_gap": _Words(
            "The source itself marked the media as missing.", "Check the encoder: it lost its input."
        ),
        "refused_address": _Words(
            "The playlist named an address that may not be used.", "Name public addresses only."
        ),
        "unsupported_encryption": _Words(
            "The media is encrypted in a way that cannot be read.", "Offer it without DRM or with AES-128."
        ),
        "source_unreachable": _Words(
            "The source could not be reached.", "Check that it is on air and public."
        ),
    }
)
_OTHER: Final = _Words("The media could not be had from the source.", "Check the source's availability.")
_BY_RECORDING: Final = "Offer a recording of the stream to fill it."


# -- how one becomes the other -------------------------------------------------------------------------


def public_timeline(
    stream: StreamRecord, facts: RunFacts, rows: TimelineRows, *, from_us: int = 0, to_us: int | None = None
) -> PublicTimeline:
    """The timeline within `[from_us, to_us)`, as far as the rows reach. Coverage is that of the whole run."""
    end_us = min((each for each in (rows.cut_us, to_us) if each is not None), default=None)
    return PublicTimeline(
        stream_id=stream.stream_id,
        run=stream.run,
        status=stream.status,
        live=stream.ended is None and not is_terminal(stream.status),
        coverage=coverage_of(stream, facts),
        stretches=_stretches(rows, from_us=from_us, to_us=end_us),
        windows=_windows(rows.windows, to_us=end_us),
        stalls=[_stall(each) for each in rows.stalls if end_us is None or each.at_us < end_us],
        next_from_s=None if rows.cut_us is None else seconds(rows.cut_us),
    )


def coverage_of(stream: StreamRecord, facts: RunFacts) -> TimelineCoverage:
    offered_us = stream.ended.offered_us if stream.ended else stream.offered_us
    wanted_us = offered_of(stream, facts)
    analysed = outside(facts.analysed, facts.excluded)
    archived_us = max(0, offered_us - facts.gaps_us)
    return TimelineCoverage(
        offered_s=seconds(offered_us),
        archived_s=seconds(archived_us),
        repaired_s=seconds(facts.repaired_us),
        gap_s=seconds(facts.gaps_us),
        excluded_s=seconds(offered_us - wanted_us),
        analysed_s=seconds(min(union_us(analysed), wanted_us)),
        archived_pct=_share(archived_us, offered_us),
        gap_pct=_share(facts.gaps_us, offered_us),
        excluded_pct=_share(offered_us - wanted_us, offered_us),
        analysed_pct=coverage_pct(analysed, offered_us=wanted_us),
    )


def _share(part_us: int, whole_us: int) -> float | None:
    return min(part_us, whole_us) * 10_000 // whole_us / 100 if whole_us > 0 else None


def _stretches(rows: TimelineRows, *, from_us: int, to_us: int | None) -> list[TimelineStretch]:
    """In order, each cut to the span that was asked for."""
    shown = [*_media(rows), *_gaps(rows.gaps), *map(_annotation, rows.annotations)]
    first, last = from_us / _MICROSECONDS, None if to_us is None else to_us / _MICROSECONDS
    within = (_clipped(each, first, last) for each in shown)
    return sorted(
        (each for each in within if each is not None), key=lambda each: (each.from_s, each.epoch or -1)
    )


def _clipped(stretch: TimelineStretch, first_s: float, last_s: float | None) -> TimelineStretch | None:
    if stretch.to_s <= first_s or (last_s is not None and stretch.from_s >= last_s):
        return None
    if stretch.kind == "gap" or last_s is None or stretch.to_s <= last_s:
        return stretch
    return stretch.model_copy(update={"to_s": last_s})


def _media(rows: TimelineRows) -> Iterator[TimelineStretch]:
    stretches = joined(stretch for window in rows.windows for stretch in window.stretches)
    live = [stretch for stretch in stretches if not is_repair_epoch(stretch.epoch)]
    known = live if rows.origin is None else (rows.origin, *live)
    first = next((each for each in known if each.wall_at is not None), None)
    holes = tuple(gap.to_us for gap in rows.gaps)
    before: Stretch | None = None
    for stretch in live:
        yield _archived(stretch, starts_with=_starts_with(stretch, before, holes), first=first)
        before = stretch
    for stretch in stretches:
        if is_repair_epoch(stretch.epoch):
            yield _archived(stretch, starts_with=None, first=first)


def _starts_with(stretch: Stretch, before: Stretch | None, gap_ends_us: Sequence[int]) -> StartsWith | None:
    if any(abs(end_us - stretch.from_us) <= TILE_US for end_us in gap_ends_us):
        return "gap"
    if before is None and stretch.from_us <= TILE_US:
        return "start"
    if before is not None and stretch.epoch != before.epoch:
        return "epoch"
    return "discontinuity" if stretch.breaks else None


def _archived(stretch: Stretch, *, starts_with: StartsWith | None, first: Stretch | None) -> TimelineStretch:
    is_repair = is_repair_epoch(stretch.epoch)
    return TimelineStretch(
        kind="repaired" if is_repair else "archived",
        from_s=seconds(stretch.from_us),
        to_s=seconds(stretch.to_us),
        epoch=None if is_repair else stretch.epoch,
        starts_with=starts_with,
        wall_at=stretch.wall_at,
        wall_skew_s=None if is_repair else _skew_s(stretch, first),
    )


def _skew_s(stretch: Stretch, first: Stretch | None) -> float | None:
    """How much more time passed on the wall than in the media, from the first known pair to the stretch's end."""
    if first is None or first.wall_at is None or stretch.wall_end_at is None:
        return None
    passed_s = (stretch.wall_end_at - first.wall_at).total_seconds()
    return round(passed_s - seconds(stretch.to_us - first.from_us), 3)


def _gaps(gaps: Sequence[GapFact]) -> Iterator[TimelineStretch]:
    """A lost stretch is told segment by segment; what is alike and touches is one here."""
    before: TimelineStretch | None = None
    for gap in map(_gap, gaps):
        joint = _joint(before, gap) if before else None
        if before is not None and joint is None:
            yield before
        before = joint or gap
    if before is not None:
        yield before


def _joint(before: TimelineStretch, gap: TimelineStretch) -> TimelineStretch | None:
    """The two as one; None where they differ."""
    if gap.cause != before.cause or gap.from_s - before.to_s > seconds(TILE_US):
        return None
    if before.repair is None or gap.repair is None:
        is_alike, repair = before.repair == gap.repair, None
    else:
        first, second = before.repair, gap.repair
        is_alike = (first.outcome, first.reason) == (
            second.outcome,
            second.reason,
        ) and first.outcome != "partly"
        # They were filled together: the first names every window, the others some of the same.
        windows = max(first.windows, second.windows)
        repair = first.model_copy(update={"to_s": second.to_s, "windows": windows})
    if not is_alike:
        return None
    return before.model_copy(update={"to_s": gap.to_s, "count": before.count + gap.count, "repair": repair})


def _gap(gap: GapFact) -> TimelineStretch:
    words = _CAUSES.get(gap.cause, _OTHER)
    is_filled = gap.repair is not None and gap.repair.outcome == "repaired"
    return TimelineStretch(
        kind="gap",
        from_s=seconds(gap.from_us),
        to_s=seconds(gap.to_us),
        cause=gap.cause,
        explanation=words.explanation,
        advice=None if is_filled else f"{words.advice} {_BY_RECORDING}",
        repair=_repair(gap.repair) if gap.repair else None,
    )


def _repair(repair: RepairFact) -> TimelineRepair:
    return TimelineRepair(
        outcome=repair.outcome,
        from_s=seconds(repair.from_us),
        to_s=seconds(repair.to_us),
        revision=repair.revision,
        windows=repair.windows,
        reason=repair.reason,
        at=repair.repaired_at,
    )


def _annotation(annotation: AnnotationFact) -> TimelineStretch:
    return TimelineStretch(
        kind=annotation.kind,
        from_s=seconds(annotation.from_us),
        to_s=seconds(annotation.to_us),
        detail=annotation.detail,
    )


def _stall(stall: StallFact) -> TimelineStall:
    return TimelineStall(
        at_s=seconds(stall.at_us),
        cause=stall.cause,
        stalled_at=stall.stalled_at,
        resumed_at=stall.resumed_at,
    )


@dataclass(frozen=True)
class _Group:
    likeness: tuple[str, str, bool, str, bool]
    first: WindowFact
    to_us: int
    count: int


def _windows(windows: Iterable[WindowFact], *, to_us: int | None) -> list[TimelineWindows]:
    groups: list[_Group] = []
    for window in windows:
        if to_us is not None and window.from_us >= to_us:
            continue
        if groups and groups[-1].likeness == _likeness(window):
            last = groups[-1]
            groups[-1] = replace(last, to_us=max(last.to_us, window.to_us), count=last.count + 1)
        else:
            groups.append(_Group(_likeness(window), window, window.to_us, 1))
    return [_public_windows(group) for group in groups]


def _likeness(window: WindowFact) -> tuple[str, str, bool, str, bool]:
    is_repair = window.index >= FIRST_REPAIR_INDEX
    return window.verdict or "pending", window.reason, window.degraded, window.provider, is_repair


def _public_windows(group: _Group) -> TimelineWindows:
    verdict, reason, degraded, provider, is_repair = group.likeness
    return TimelineWindows.model_validate(
        {
            "from_s": seconds(group.first.from_us),
            "to_s": seconds(group.to_us),
            "count": group.count,
            "verdict": verdict,
            "reason": reason,
            "degraded": degraded,
            "provider": provider,
            "of_repair": is_repair,
        }
    )
