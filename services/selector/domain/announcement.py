"""What the machine put out, as events; notes are none, they are for log and metric."""

from dataclasses import dataclass
from datetime import datetime

from selector.domain.outputs import HighlightDecided, Judged, Output, SelectionFinal
from shared.events import (
    CandidateJudged,
    Event,
    HighlightConfirmed,
    HighlightRevised,
    Lane,
    SelectionClosed,
)
from shared.ids import OrganizationId, StreamId, event_id


@dataclass(frozen=True, kw_only=True)
class Run:
    """Whose events they are. `occurred_at` is aware UTC."""

    organization_id: OrganizationId
    stream_id: StreamId
    run: int
    lane: Lane
    profile_key: str
    occurred_at: datetime


def events_of(outputs: tuple[Output, ...], *, run: Run) -> tuple[Event, ...]:
    """One event for each output that others must know, in order; the same outputs give the same event ids."""
    made = (_event_of(output, run) for output in outputs)
    return tuple(event for event in made if event is not None)


def _event_of(output: Output, run: Run) -> Event | None:
    match output:
        case Judged():
            return _judged(output, run)
        case HighlightDecided():
            return _decided(output, run)
        case SelectionFinal():
            return _closed(output, run)
        case _:
            return None


def _judged(judged: Judged, run: Run) -> CandidateJudged:
    return CandidateJudged(
        event_id=event_id(run.stream_id, CandidateJudged.name, judged.candidate_id, judged.ordinal),
        organization_id=run.organization_id,
        stream_id=run.stream_id,
        occurred_at=run.occurred_at,
        lane=run.lane,
        run=run.run,
        candidate_id=judged.candidate_id,
        ordinal=judged.ordinal,
        decision=judged.decision,
        rule=judged.rule,
        score=judged.score,
        bound=judged.bound,
        against=judged.against,
        highlight_id=judged.highlight_id,
        explanation=judged.explanation,
    )


def _decided(decided: HighlightDecided, run: Run) -> HighlightConfirmed | HighlightRevised:
    model = HighlightRevised if decided.revision else HighlightConfirmed
    return model(
        event_id=event_id(run.stream_id, model.name, decided.highlight_id, decided.revision),
        organization_id=run.organization_id,
        stream_id=run.stream_id,
        occurred_at=run.occurred_at,
        lane=run.lane,
        run=run.run,
        profile_key=run.profile_key,
        highlight_id=decided.highlight_id,
        revision=decided.revision,
        start_us=decided.start_us,
        end_us=decided.end_us,
        peak_us=decided.peak_us,
        score=decided.score,
        confidence=decided.confidence,
        scores=decided.scores,
        type=decided.type,
        title=decided.title,
        description=decided.description,
        reason=decided.reason,
        tags=decided.tags,
        provider=decided.provider,
        segments=decided.segments,
    )


def _closed(final: SelectionFinal, run: Run) -> SelectionClosed:
    return SelectionClosed(
        event_id=event_id(run.stream_id, SelectionClosed.name, run.run, *_later(final)),
        organization_id=run.organization_id,
        stream_id=run.stream_id,
        occurred_at=run.occurred_at,
        lane=run.lane,
        run=run.run,
        final=final.final,
        windows_analysed=final.windows_analysed,
        windows_skipped=final.windows_skipped,
        windows_failed=final.windows_failed,
        failure_reason=final.failure_reason,
        revision=final.revision,
    )


def _later(final: SelectionFinal) -> tuple[int, ...]:
    return (final.revision,) if final.revision else ()
