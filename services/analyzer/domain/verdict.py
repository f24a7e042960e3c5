"""From a provider's answer to events: what is credible becomes candidates, what is not is told in the reason."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from analyzer.domain.analysis import Analysis, Moment, Usage
from shared.events import CandidateScored, Event, SegmentAnalyzed, SegmentReady, Verdict
from shared.ids import CandidateId, candidate_id, event_id, window_id

TITLE_MAX = 500
TEXT_MAX = 2000
REASON_MAX = 1000


@dataclass(frozen=True, slots=True)
class Sifted:
    """The credible moments in the provider's order, and one fault in words for each of the others."""

    moments: tuple[Moment, ...]
    faults: tuple[str, ...]


def sift(
    moments: tuple[Moment, ...],
    *,
    length_us: int,
    dimensions: frozenset[str],
    unread: tuple[str, ...] = (),
) -> Sifted:
    """Tell moments that can be believed from those that cannot; nothing is clamped or repaired.

    `unread` are faults that were found before, in what could not even be read as a moment.
    """
    judged = tuple(
        (moment, fault_of(moment, length_us=length_us, dimensions=dimensions)) for moment in moments
    )
    return Sifted(
        moments=tuple(moment for moment, fault in judged if fault is None),
        faults=(*unread, *(fault for _, fault in judged if fault is not None)),
    )


def fault_of(moment: Moment, *, length_us: int, dimensions: frozenset[str]) -> str | None:
    """Why the moment cannot be believed, in words; None if it can. Times count from the window's start."""
    if not 0 <= moment.start_us < moment.end_us <= length_us:
        return f"span {_s(moment.start_us)}-{_s(moment.end_us)} is not inside the window of {_s(length_us)}"
    if not moment.start_us <= moment.peak_us <= moment.end_us:
        return f"peak {_s(moment.peak_us)} is outside its span {_s(moment.start_us)}-{_s(moment.end_us)}"
    if unknown := sorted(moment.scores.keys() - dimensions):
        return f"the profile has no dimension {', '.join(unknown)}"
    if wrong := sorted(name for name, score in moment.scores.items() if not _is_score(score)):
        return f"the score of {', '.join(wrong)} is not in [0, 1]"
    if not moment.scores or not moment.title.strip():
        return "it has no score" if not moment.scores else "it has no title"
    return None if _is_score(moment.confidence) else "its confidence is not in [0, 1]"


def conclude(
    event: SegmentReady, analysis: Analysis, sifted: Sifted, *, occurred_at: datetime
) -> tuple[Event, ...]:
    """One `candidate.scored` for each credible moment, then the window's `segment.analyzed`: analysed."""
    candidates = tuple(
        _candidate(event, analysis, moment, ordinal, occurred_at)
        for ordinal, moment in enumerate(sifted.moments)
    )
    verdict = SegmentAnalyzed(
        **_window_fields(event, occurred_at),
        verdict=Verdict.ANALYSED,
        reason=_reason(analysis, sifted),
        candidates=tuple(candidate.candidate_id for candidate in candidates),
        snap_points_us=_absolute_snap_points(event, analysis),
        provider=analysis.provider,
        model=analysis.model,
        degraded=analysis.degraded,
        **_usage_fields(analysis.usage),
    )
    return (*candidates, verdict)


def fail(
    event: SegmentReady, *, provider: str, reason: str, usage: Usage, occurred_at: datetime
) -> SegmentAnalyzed:
    """The verdict on a window that could not be judged; it has no candidates and no score, but it has a price."""
    return SegmentAnalyzed(
        **_window_fields(event, occurred_at),
        verdict=Verdict.FAILED,
        reason=reason[:REASON_MAX],
        provider=provider,
        **_usage_fields(usage),
    )


def _usage_fields(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_microusd": usage.cost_microusd,
        "cost_known": usage.cost_known,
        "thoughts_tokens": usage.thoughts_tokens,
        "input_tokens_by_modality": dict(usage.input_by_modality),
        "model_calls": usage.calls,
    }


def _window_fields(event: SegmentReady, occurred_at: datetime) -> dict[str, Any]:
    return {
        "event_id": event_id(event.stream_id, SegmentAnalyzed.name, event.position),
        "organization_id": event.organization_id,
        "occurred_at": occurred_at,
        "lane": event.lane,
        "stream_id": event.stream_id,
        "window_id": window_id(event.stream_id, event.position),
        "run": event.run,
        "index": event.index,
        "revision": event.revision,
        "profile_key": event.profile_key,
        "start_us": event.start_us,
        "end_us": event.end_us,
    }


def _candidate(
    event: SegmentReady, analysis: Analysis, moment: Moment, ordinal: int, occurred_at: datetime
) -> CandidateScored:
    identity: CandidateId = candidate_id(event.stream_id, event.position, ordinal)
    return CandidateScored(
        event_id=event_id(event.stream_id, CandidateScored.name, event.position, ordinal),
        organization_id=event.organization_id,
        occurred_at=occurred_at,
        lane=event.lane,
        stream_id=event.stream_id,
        candidate_id=identity,
        window_id=window_id(event.stream_id, event.position),
        run=event.run,
        index=event.index,
        revision=event.revision,
        profile_key=event.profile_key,
        start_us=event.start_us + moment.start_us,
        end_us=event.start_us + moment.end_us,
        peak_us=event.start_us + moment.peak_us,
        scores=moment.scores,
        confidence=moment.confidence,
        title=_shortened(moment.title, TITLE_MAX),
        description=_shortened(moment.description, TEXT_MAX),
        reason=_shortened(moment.reason, TEXT_MAX),
        tags=moment.tags,
        provider=analysis.provider,
        model=analysis.model,
    )


def _absolute_snap_points(event: SegmentReady, analysis: Analysis) -> tuple[int, ...]:
    length_us = event.end_us - event.start_us
    return tuple(
        event.start_us + point_us
        for point_us in sorted(set(analysis.snap_points_us))
        if 0 <= point_us <= length_us
    )


def _reason(analysis: Analysis, sifted: Sifted) -> str:
    parts = [analysis.note] if analysis.note else []
    if sifted.faults:
        count = len(sifted.faults)
        parts.append(f"{count} of {count + len(sifted.moments)} moments rejected: {'; '.join(sifted.faults)}")
    return _shortened(". ".join(parts), REASON_MAX)


def _is_score(value: float) -> bool:
    return math.isfinite(value) and 0.0 <= value <= 1.0


def _s(time_us: int) -> str:
    return f"{time_us / 1e6:.3f} s"


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
