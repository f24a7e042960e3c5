"""When each segment of a scripted stream appears, under which number and name, and when it is gone: pure.

All is known before the stream begins, as the script says all. What answers a request is not decided here.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, inf
from typing import Final, Literal

from sandbox.faults import (
    Ads,
    Discontinuity,
    End,
    Gap,
    LateStart,
    PtsJump,
    PtsWrap,
    Renumber,
    SequenceReset,
    SourceFault,
    Span,
    Stall,
    TimedMetadata,
    TokenExpiry,
    WindowJump,
)
from sandbox.live_window import US_PER_S, LiveSegment
from sandbox.scenario import Script
from sandbox.segmenter import SUFFIXES

CLOCK_HZ: Final = 90_000
CLOCK_WRAP: Final = 2**33
MUXER_DELAY_S: Final = 1.4  # where FFmpeg lets the clock of a transport stream begin
ONE_FILE: Final = "all.ts"
Presence = Literal["there", "gap", "unlisted"]
Cue = Literal["", "out", "in"]


@dataclass(frozen=True, kw_only=True)
class Cast:
    """One segment as the source sends it.

    `number` counts all segments, `sequence` is its media sequence number when it appears. `pts_shift` is in ticks
    of 90 kHz. `captured_s` is its date, on the clock of the media. It is listed from `complete_s` to `left_s` and can
    be had until `gone_s` (wall seconds since going live).
    """

    ordinal: int
    number: int
    epoch: int
    sequence: int
    uri: str
    start_us: int
    duration_us: int
    complete_s: float
    captured_s: float
    discontinuity: bool = False
    discontinuities: int = 0
    pts_shift: int = 0
    presence: Presence = "there"
    cue: Cue = ""
    date_ranges: tuple[TimedMetadata, ...] = ()
    left_s: float = inf
    gone_s: float = inf


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """From when on numbers are shifted so far; one that `clears` lists nothing from before."""

    index: int
    from_s: float
    first_number: int
    shift: int
    clears: bool


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """What the source does, whole; times are wall seconds since going live."""

    casts: tuple[Cast, ...]
    epochs: tuple[Epoch, ...]
    size: int
    expiries_s: tuple[float, ...] = ()

    @property
    def end_s(self) -> float:
        """When the last segment is complete."""
        return self.casts[-1].complete_s if self.casts else 0.0

    @property
    def has_tokens(self) -> bool:
        return bool(self.expiries_s)

    def token_at(self, at_s: float) -> int:
        """Which generation of addresses is good."""
        return bisect_right(self.expiries_s, at_s)

    def ended(self, at_s: float) -> bool:
        return at_s >= self.end_s

    def newest(self, at_s: float) -> int:
        """Index of the newest complete segment, -1 before the first."""
        return bisect_right(self._complete_s, at_s) - 1

    def epoch_at(self, at_s: float) -> Epoch:
        return self.epochs[max(0, bisect_right([epoch.from_s for epoch in self.epochs], at_s) - 1)]

    def sequence_of(self, cast: Cast, at_s: float) -> int:
        """The media sequence number under which a playlist of this moment lists the segment."""
        return cast.number + self.epoch_at(at_s).shift

    def listed(self, at_s: float) -> tuple[Cast, ...]:
        """The segments in the playlist, without a hole in their numbers."""
        first = max((e.first_number for e in self.epochs if e.clears and e.from_s <= at_s), default=0)
        found: list[Cast] = []
        for index in range(self.newest(at_s), -1, -1):
            cast = self.casts[index]
            if cast.number < first or len(found) == self.size:
                break
            if cast.presence == "unlisted":
                if found:
                    break
                continue
            found.append(cast)
        return tuple(reversed(found))

    def find(self, uri: str, at_s: float) -> Cast | None:
        """The newest segment of that name that can be had now."""
        for cast in reversed(self._by_uri.get(uri, ())):
            if cast.presence == "there" and cast.complete_s <= at_s < cast.gone_s:
                return cast
        return None

    def span_s(self, span: Span) -> tuple[float, float]:
        """The time in which a fault strikes."""
        if span.at_s is not None:
            return span.at_s, inf if span.for_s is None else span.at_s + span.for_s
        assert span.from_segment is not None
        to = None if span.count is None else span.from_segment + span.count
        return self._complete_of(span.from_segment), inf if to is None else self._complete_of(to)

    def _complete_of(self, ordinal: int) -> float:
        return self.casts[ordinal].complete_s if ordinal < len(self.casts) else inf

    @cached_property
    def _complete_s(self) -> tuple[float, ...]:
        return tuple(cast.complete_s for cast in self.casts)

    @cached_property
    def _by_uri(self) -> Mapping[str, Sequence[Cast]]:
        found: dict[str, list[Cast]] = {}
        for cast in self.casts:
            found.setdefault(cast.uri, []).append(cast)
        return found


def plan(segments: Sequence[LiveSegment], *, script: Script) -> Timeline:
    """Lay the faults of the source over the cut film."""
    complete_s = _clock(segments, script)
    begins = _begins(complete_s, script.faults)
    last = min(
        (n for n, faults in begins.items() if any(isinstance(f, End) for f in faults)), default=len(segments)
    )
    source = _Source(script, begins, _head_us(segments, script))
    source.shift_for_wrap(segments, complete_s)
    casts = tuple(source.cast(n, segments[n], complete_s[n]) for n in range(last))
    size = max(script.stream.window, ceil(script.stream.window * script.stream.speed))
    expiries = sorted(
        s for fault in script.faults if isinstance(fault, TokenExpiry) for s in _at(fault, complete_s)
    )
    bare = Timeline(casts=casts, epochs=tuple(source.epochs), size=size, expiries_s=tuple(expiries))
    return replace(bare, casts=_with_ends(bare, speed=script.stream.speed))


def _at(fault: SourceFault, complete_s: Sequence[float]) -> Iterable[float]:
    if fault.at_s is not None:
        yield fault.at_s
    elif fault.from_segment is not None and fault.from_segment < len(complete_s):
        yield complete_s[fault.from_segment]


def _head_us(segments: Sequence[LiveSegment], script: Script) -> int:
    """Media that is there at the moment of going live."""
    head = segments[: script.stream.initial_segments]
    return head[-1].end_us if head else 0


def _clock(segments: Sequence[LiveSegment], script: Script) -> list[float]:
    """When each segment is complete: at the pace of the stream, later by each pause of the encoder."""
    head_us = _head_us(segments, script)
    pauses = [fault for fault in script.faults if isinstance(fault, Stall | LateStart)]
    done: set[int] = set()
    delay_s, complete_s = 0.0, []
    for ordinal, segment in enumerate(segments):
        natural_s = max(0, segment.end_us - head_us) / US_PER_S / script.stream.speed
        for index, pause in enumerate(pauses):
            if index not in done and _has_begun(pause, ordinal, natural_s + delay_s):
                done.add(index)
                delay_s += pause.for_s
        complete_s.append(natural_s + delay_s)
    return complete_s


def _has_begun(fault: SourceFault, ordinal: int, complete_s: float) -> bool:
    if isinstance(fault, LateStart):
        return True
    if fault.at_s is not None:
        return complete_s > fault.at_s
    return fault.from_segment is not None and ordinal >= fault.from_segment


def _begins(complete_s: Sequence[float], faults: Iterable[object]) -> dict[int, list[SourceFault]]:
    """With which segment each fault of the source begins."""
    begins: dict[int, list[SourceFault]] = {}
    for fault in faults:
        if not isinstance(fault, SourceFault):
            continue
        first = (n for n, s in enumerate(complete_s) if _has_begun(fault, n, s))
        ordinal = next(first, None)
        if ordinal is not None:
            begins.setdefault(ordinal, []).append(fault)
    return begins


@dataclass
class _Source:
    """The encoder, segment by segment."""

    script: Script
    begins: Mapping[int, Sequence[SourceFault]]
    head_us: int
    epochs: list[Epoch] = field(
        default_factory=lambda: [Epoch(index=0, from_s=0.0, first_number=0, shift=0, clears=True)]
    )
    _prefix: str = ""
    _name_shift: int = 0
    _pts_shift: int = 0
    _discontinuities: int = 0
    _gap_until: int = 0
    _unlisted_until: int = 0
    _ads_until: int = -1

    def shift_for_wrap(self, segments: Sequence[LiveSegment], complete_s: Sequence[float]) -> None:
        """The clock begins so late that it wraps in the middle of the segment that is meant."""
        for ordinal, faults in self.begins.items():
            if any(isinstance(fault, PtsWrap) for fault in faults):
                segment = segments[ordinal]
                middle_s = (segment.start_us + segment.duration_us / 2) / US_PER_S
                self._pts_shift = CLOCK_WRAP - round((middle_s + MUXER_DELAY_S) * CLOCK_HZ)

    def cast(self, ordinal: int, segment: LiveSegment, complete_s: float) -> Cast:
        faults = self.begins.get(ordinal, ())
        is_cut = self._begin(faults, ordinal, segment, complete_s)
        epoch = self.epochs[-1]
        cue: Cue = "in" if ordinal == self._ads_until else ""
        if any(isinstance(fault, Ads) for fault in faults):
            cue = "out"
        presence: Presence = "gap" if ordinal < self._gap_until else "there"
        return Cast(
            ordinal=ordinal,
            number=ordinal,
            epoch=epoch.index,
            sequence=ordinal + epoch.shift,
            uri=self._uri(ordinal),
            start_us=segment.start_us,
            duration_us=segment.duration_us,
            complete_s=complete_s,
            captured_s=self._captured_s(segment, complete_s),
            discontinuity=is_cut,
            discontinuities=self._discontinuities,
            pts_shift=self._pts_shift,
            presence="unlisted" if ordinal < self._unlisted_until else presence,
            cue=cue,
            date_ranges=tuple(fault for fault in faults if isinstance(fault, TimedMetadata)),
        )

    def _captured_s(self, segment: LiveSegment, complete_s: float) -> float:
        """Dates run as the media does, whatever the speed of the stream, and jump with each pause."""
        ahead_us = segment.end_us - self.head_us
        paused_s = complete_s - max(0, ahead_us) / US_PER_S / self.script.stream.speed
        return (segment.start_us - self.head_us) / US_PER_S + paused_s

    def _uri(self, ordinal: int) -> str:
        if self.script.stream.byte_ranges:
            return ONE_FILE
        return f"{self._prefix}{ordinal + self._name_shift:06d}.{SUFFIXES[self.script.stream.container]}"

    def _begin(
        self, faults: Iterable[SourceFault], ordinal: int, segment: LiveSegment, complete_s: float
    ) -> bool:
        """Take up what begins with this segment; answers whether EXT-X-DISCONTINUITY stands before it."""
        is_cut = False
        for fault in faults:
            match fault:
                case SequenceReset():
                    self._restart(fault, ordinal, segment, complete_s)
                    is_cut = is_cut or fault.discontinuity
                case Renumber():
                    self._add_epoch(ordinal, complete_s, self.epochs[-1].shift + fault.by, clears=False)
                case Gap():
                    self._gap_until = ordinal + fault.count
                case WindowJump():
                    self._unlisted_until = ordinal + fault.count
                case Ads():
                    self._ads_until = ordinal + fault.count
                case PtsJump():
                    self._pts_shift += round(fault.by_s * CLOCK_HZ)
                case Discontinuity():
                    self._jump(fault, segment)
                    is_cut = True
        self._discontinuities += is_cut
        return is_cut

    def _restart(self, fault: SequenceReset, ordinal: int, segment: LiveSegment, complete_s: float) -> None:
        self._add_epoch(ordinal, complete_s, fault.to - ordinal, clears=True)
        self._discontinuities = 0
        self._name_shift = fault.to - ordinal
        if fault.names == "new":
            self._prefix = f"e{self.epochs[-1].index}-"
        if fault.pts == "restart":
            self._pts_shift = -_ticks(segment.start_us)

    def _jump(self, fault: Discontinuity, segment: LiveSegment) -> None:
        if fault.pts_by_s is None:
            self._pts_shift = -_ticks(segment.start_us)
        else:
            self._pts_shift += round(fault.pts_by_s * CLOCK_HZ)

    def _add_epoch(self, number: int, from_s: float, shift: int, *, clears: bool) -> None:
        self.epochs.append(
            Epoch(index=len(self.epochs), from_s=from_s, first_number=number, shift=shift, clears=clears)
        )


def _ticks(time_us: int) -> int:
    return time_us * CLOCK_HZ // US_PER_S


def _with_ends(timeline: Timeline, *, speed: float) -> tuple[Cast, ...]:
    """When each segment leaves the playlist, and, one window later, the server (RFC 8216, 6.2.2)."""
    left_s: dict[int, float] = {}
    before: set[int] = set()
    for cast in timeline.casts:
        listed = {each.ordinal for each in timeline.listed(cast.complete_s)}
        left_s |= dict.fromkeys(before - listed, cast.complete_s)
        before = listed
    window_s = (
        timeline.size * max((cast.duration_us for cast in timeline.casts), default=0) / US_PER_S / speed
    )
    return tuple(
        replace(cast, left_s=left_s.get(cast.ordinal, inf), gone_s=left_s.get(cast.ordinal, inf) + window_s)
        for cast in timeline.casts
    )
