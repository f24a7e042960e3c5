"""How much of the offered media was analysed, from spans that may overlap. Integer microseconds throughout."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_STEPS = 100  # a hundredth of a percent is the smallest that is told


@dataclass(frozen=True, order=True)
class Span:
    """Media from `start_us` up to, not including, `end_us`."""

    start_us: int
    end_us: int


def union_us(spans: Iterable[Span]) -> int:
    """Microseconds that lie in at least one span; empty and reversed spans hold nothing."""
    covered = reached = 0
    for span in sorted(spans):
        begin = max(span.start_us, reached)
        if span.end_us > begin:
            covered += span.end_us - begin
            reached = span.end_us
    return covered


def coverage_pct(spans: Iterable[Span], *, offered_us: int) -> float | None:
    """Analysed of offered media, in percent (0 to 100, two digits, never rounded up to 100).

    None while nothing has been offered: then there is no share to speak of.
    """
    if offered_us <= 0:
        return None
    analysed_us = min(union_us(spans), offered_us)
    return analysed_us * 100 * _STEPS // offered_us / _STEPS


def outside(spans: Iterable[Span], holes: Iterable[Span]) -> tuple[Span, ...]:
    """What is left of the spans without the holes, each of which may overlap others."""
    apart = _joined(holes)
    ends_us = [hole.end_us for hole in apart]
    return tuple(
        part for span in spans for part in _left(span, apart, first=bisect_right(ends_us, span.start_us))
    )


def _joined(spans: Iterable[Span]) -> list[Span]:
    """The same media in spans that lie apart, in order."""
    joined: list[Span] = []
    for span in sorted(span for span in spans if span.start_us < span.end_us):
        if joined and span.start_us <= joined[-1].end_us:
            joined[-1] = Span(joined[-1].start_us, max(joined[-1].end_us, span.end_us))
        else:
            joined.append(span)
    return joined


def _left(span: Span, holes: Sequence[Span], *, first: int) -> Iterator[Span]:
    """`first`: the first of the holes that ends inside the span or behind it."""
    begin_us = span.start_us
    for at in range(first, len(holes)):
        hole = holes[at]
        if hole.start_us >= span.end_us:
            break
        if hole.start_us > begin_us:
            yield Span(begin_us, hole.start_us)
        begin_us = hole.end_us
    if begin_us < span.end_us:
        yield Span(begin_us, span.end_us)
