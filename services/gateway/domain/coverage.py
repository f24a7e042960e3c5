"""How much of the offered media was analysed, from spans that may overlap. Integer microseconds throughout."""

from collections.abc import Iterable
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
    """What is left of the spans without the holes."""
    left = tuple(spans)
    for hole in holes:
        left = tuple(part for span in left for part in _without(span, hole))
    return left


def _without(span: Span, hole: Span) -> tuple[Span, ...]:
    before = Span(span.start_us, min(span.end_us, hole.start_us))
    after = Span(max(span.start_us, hole.end_us), span.end_us)
    return tuple(part for part in (before, after) if part.start_us < part.end_us)
