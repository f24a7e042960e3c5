"""When a stream is finished, as what, and in which words: pure decisions on sets, whatever the order of arrival.

`awaited` says what is still missing, `decide` what the stream becomes once nothing is, `give_up` what it
becomes when the deadline has passed first. Texts say what happened and what the customer can do.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.domain.coverage import Span
from gateway.domain.stream_status import Ended, Selection, StreamRecord, StreamStatus
from shared.ids import HighlightId

MAX_ERROR = 1000
MAX_REASON = 200
WATCHDOG = "watchdog"
STOPPED = "stopped"
SOURCE_FAILED = "source_failed"
PARKED = "parked"


@dataclass(frozen=True, kw_only=True)
class ClipFact:
    """The outcome for one revision of a highlight; `reason` only where it failed."""

    highlight_id: HighlightId
    revision: int
    ready: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ParkedFact:
    """Work on one message that a service gave up."""

    service: str
    event_name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is known of a stream's current run beside its row. Media times are microseconds.

    `gaps` and `gaps_us` are what is missing still, `excluded` archived media that is not to be judged,
    `repair_windows` the windows of all attempts at repairs.
    """

    windows_analysed: int = 0
    windows_skipped: int = 0
    windows_failed: int = 0
    failure_reason: str = ""
    analysed: tuple[Span, ...] = ()
    gaps: int = 0
    gaps_us: int = 0
    gaps_repaired: int = 0
    repaired_us: int = 0
    excluded: tuple[Span, ...] = ()
    repair_windows: int = 0
    stalled: bool = False
    degraded: bool = False
    highlights: Mapping[HighlightId, int] = field(default_factory=dict)
    retracted: frozenset[HighlightId] = frozenset()
    clips: tuple[ClipFact, ...] = ()
    parked: tuple[ParkedFact, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Awaited:
    """What completion waits for, and which service owes it."""

    stage: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Completion:
    """The terminal state that a stream takes, with the words for it."""

    status: StreamStatus
    partial: bool = False
    cause: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """One reason why a stream is complete only in part."""

    cause: str
    text: str


# Work that changes nothing of what a stream yields; it is listed as parked, and the stream stays whole.
_BESIDE_THE_RESULT = frozenset(
    {"notification.requested", "delivery.finished", "endpoint.changed", "stream.closed", "candidate.judged"}
)
_AGAIN = "Submit the stream again to have this repaired."


def awaited(stream: StreamRecord, facts: RunFacts) -> tuple[Awaited, ...]:
    """What is still missing until the stream is finished; empty when nothing is."""
    if stream.ended is None:
        return (Awaited(stage="ingest", text="ingest has not told the end of the stream"),)
    missing_gaps = len(stream.ended.gap_indexes) - facts.gaps - facts.gaps_repaired
    gaps = (_under_way("reports of gaps", missing_gaps),) if missing_gaps > 0 else ()
    if not stream.ended.windows and not facts.repair_windows:
        return gaps
    if stream.selection is None:
        return (*gaps, _before_selection(stream.ended, facts))
    return (*gaps, *_after_selection(stream.selection, facts), *_of_repairs(stream.selection, facts))


def _under_way(what: str, count: int) -> Awaited:
    return Awaited(stage="gateway", text=f"{count} {what} have not reached the gateway")


def _before_selection(ended: Ended, facts: RunFacts) -> Awaited:
    judged = facts.windows_analysed + facts.windows_skipped + facts.windows_failed
    missing = len(ended.windows) - judged
    if missing > 0:
        return Awaited(stage="analyzer", text=f"{missing} of {len(ended.windows)} windows have no verdict")
    return Awaited(stage="selector", text="every window has its verdict, and the selection is not closed")


def _after_selection(selection: Selection, facts: RunFacts) -> Iterator[Awaited]:
    # What the selector counts as failed may have had no verdict at all: its deadline had passed.
    missing = selection.windows_analysed + selection.windows_skipped
    missing -= facts.windows_analysed + facts.windows_skipped
    if missing > 0:
        yield _under_way("verdicts", missing)
    unseen = sum(facts.highlights.get(name, -1) < revision for name, revision in selection.final)
    if unseen:
        yield _under_way("highlights", unseen)
    uncut = sum(_clip_of(facts, name, revision) is None for name, revision in selection.final)
    if uncut:
        yield Awaited(stage="clipper", text=f"{uncut} of {len(selection.final)} clips are not cut")


def _of_repairs(selection: Selection, facts: RunFacts) -> Iterator[Awaited]:
    """What a recording brought back counts when it has been judged as the rest has; the selector has deadlines."""
    if selection.revision < facts.repair_windows:
        yield Awaited(stage="selector", text="the selection does not hold every repair yet")


def _clip_of(facts: RunFacts, highlight: HighlightId, revision: int) -> ClipFact | None:
    """The outcome for this revision or the newest after it; a retracted highlight needs none."""
    if highlight in facts.retracted:
        return ClipFact(highlight_id=highlight, revision=revision, ready=True)
    cut = [clip for clip in facts.clips if clip.highlight_id == highlight and clip.revision >= revision]
    return max(cut, key=lambda clip: (clip.ready, clip.revision), default=None)


def decide(stream: StreamRecord, facts: RunFacts) -> Completion | None:
    """What the stream becomes now; None while something is awaited."""
    never_began = _never_began(stream, facts)
    if never_began is not None:
        return never_began
    return None if awaited(stream, facts) else _conclude(stream, facts)


def give_up(stream: StreamRecord, facts: RunFacts) -> Completion:
    """What the stream becomes when its deadline has passed: the silent stages are named."""
    missing = awaited(stream, facts)
    if not missing:
        return _conclude(stream, facts)
    text = _silence(missing, began=stream.has_media)
    if not stream.has_media:
        return Completion(status=StreamStatus.ERROR, cause=WATCHDOG, error=text)
    flaws = (Flaw(cause=WATCHDOG, text=text), *_flaws(stream, facts))
    return _completed(flaws)


def _silence(missing: tuple[Awaited, ...], *, began: bool) -> str:
    stages = ", ".join(dict.fromkeys(entry.stage for entry in missing))
    waited_for = "; ".join(entry.text for entry in missing)
    if not began:
        return (
            f"No media arrived in time ({stages}: {waited_for}). "
            "Check that the address serves a live or finished playlist, then submit the stream again."
        )
    return (
        f"Processing fell silent and was closed ({stages}: {waited_for}). "
        "What was found until then is kept; submit the stream again for the rest."
    )


def _never_began(stream: StreamRecord, facts: RunFacts) -> Completion | None:
    """Ingest could not even take the stream on: no end will ever be told."""
    if stream.ended is not None or stream.has_media:
        return None
    refused = [
        fact for fact in facts.parked if (fact.service, fact.event_name) == ("ingest", "stream.online")
    ]
    if not refused:
        return None
    text = f"The stream could not be taken on: {refused[0].reason} Correct the source and submit it again."
    return Completion(status=StreamStatus.ERROR, cause=PARKED, error=text[:MAX_ERROR])


def _conclude(stream: StreamRecord, facts: RunFacts) -> Completion:
    assert stream.ended is not None
    if stream.has_media:
        return _completed(_flaws(stream, facts))
    if stream.source_failed:
        return Completion(status=StreamStatus.ERROR, cause=SOURCE_FAILED, error=_failed_before_media(stream))
    if stream.ended.cause == STOPPED and not stream.ended.gap_indexes:
        return Completion(status=StreamStatus.CANCELLED, cause=STOPPED)
    return Completion(
        status=StreamStatus.ERROR, cause=stream.ended.cause, error=_nothing_archived(stream.ended, facts)
    )


def _completed(flaws: tuple[Flaw, ...]) -> Completion:
    if not flaws:
        return Completion(status=StreamStatus.COMPLETED)
    error = " ".join(flaw.text for flaw in flaws)[:MAX_ERROR]
    return Completion(status=StreamStatus.COMPLETED, partial=True, cause=flaws[0].cause, error=error)


# -- words ---------------------------------------------------------------------------------------------

_WHY_NOTHING: Mapping[str, str] = MappingProxyType(
    {
        "source_unreachable": "The source could not be reached. Check that its address is right and public, "
        "then submit the stream again.",
        "source_refused": "The source refused access, or its address may not be used. "
        "Check address, headers and token, then submit the stream again.",
        "unsupported_encryption": "The source is encrypted in a way that cannot be read. "
        "Offer it without DRM or with AES-128.",
        "source_dead": "The source stopped answering before any media could be stored. "
        "Submit the stream again when it is on air.",
        "endlist": "The playlist ended without any media that could be stored. "
        "Check what the address serves, then submit the stream again.",
        "stopped": "The stream was stopped, and none of the media offered until then could be stored. "
        "Check that the source serves its segments.",
    }
)


def _nothing_archived(ended: Ended, facts: RunFacts) -> str:
    text = _WHY_NOTHING.get(ended.cause, f"Nothing could be archived ({ended.cause}). {_AGAIN}")
    if facts.gaps:
        text += f" Lost: {_seconds(facts.gaps_us)} of media in {_counted(facts.gaps, 'gap')}."
    if ended.detail:
        text += f" Detail: {_short(ended.detail)}"
    return text[:MAX_ERROR]


_DIED: Mapping[str, str] = MappingProxyType(
    {
        "source_dead": "stopped answering before it had told its end",
        "source_unreachable": "could not be reached any more",
        "source_refused": "refused further access",
        "unsupported_encryption": "went over to an encryption that cannot be read",
    }
)


def _flaws(stream: StreamRecord, facts: RunFacts) -> tuple[Flaw, ...]:
    """Every reason why the result is not whole, the gravest first."""
    return tuple(
        flaw
        for flaw in (
            _source_failed(stream),
            _died(stream.ended),
            _gaps(facts),
            _failed_windows(stream, facts),
            _failed_clips(stream.selection, facts),
            _parked(facts),
        )
        if flaw is not None
    )


def _source_failed(stream: StreamRecord) -> Flaw | None:
    if not stream.source_failed:
        return None
    text = (
        f"The platform reported that the stream failed ({_short(stream.source_end or 'no reason given')}); "
        "what came until then is complete."
    )
    return Flaw(cause=SOURCE_FAILED, text=text)


def _failed_before_media(stream: StreamRecord) -> str:
    return (
        f"The platform reported that the stream failed ({_short(stream.source_end or 'no reason given')}) "
        "before any media could be stored. Start it there again."
    )


def _died(ended: Ended | None) -> Flaw | None:
    if ended is None or ended.cause not in _DIED:
        return None
    detail = f" ({_short(ended.detail)})" if ended.detail else ""
    text = f"The source {_DIED[ended.cause]}{detail}; what came until then is complete. Submit it again if it goes on."
    return Flaw(cause=ended.cause, text=text)


def _gaps(facts: RunFacts) -> Flaw | None:
    if not facts.gaps:
        return None
    lost = f"{_seconds(facts.gaps_us)} of media in {_counted(facts.gaps, 'gap')}"
    text = f"{lost} could not be had from the source and were not analysed. Check the source's availability."
    return Flaw(cause="gaps", text=text)


def _failed_windows(stream: StreamRecord, facts: RunFacts) -> Flaw | None:
    closed = stream.selection
    failed = max(facts.windows_failed, closed.windows_failed if closed else 0)
    if not failed:
        return None
    reason = (closed.failure_reason if closed else "") or facts.failure_reason or "no reason given"
    total = len(stream.ended.windows) if stream.ended else failed + facts.windows_analysed
    text = f"{failed} of {_counted(max(total, failed), 'window')} could not be analysed ({_short(reason)}). {_AGAIN}"
    return Flaw(cause="analysis_failed", text=text)


def _failed_clips(selection: Selection | None, facts: RunFacts) -> Flaw | None:
    final = selection.final if selection else ()
    outcomes = [_clip_of(facts, name, revision) for name, revision in final]
    failed = [clip for clip in outcomes if clip is not None and not clip.ready]
    if not failed:
        return None
    reason = _short(failed[0].reason or "no reason given")
    text = f"{len(failed)} of {_counted(len(final), 'clip')} could not be cut ({reason}). {_AGAIN}"
    return Flaw(cause="clips_failed", text=text)


def grave_parked(facts: RunFacts) -> tuple[ParkedFact, ...]:
    """What was given up and can have cost a part of the result."""
    return tuple(fact for fact in facts.parked if fact.event_name not in _BESIDE_THE_RESULT)


def _parked(facts: RunFacts) -> Flaw | None:
    grave = grave_parked(facts)
    if not grave:
        return None
    first = grave[0]
    text = (
        f"{_counted(len(grave), 'message')} could not be processed "
        f"({first.service}, {first.event_name}: {_short(first.reason)}). It is kept, and our support can run it again."
    )
    return Flaw(cause=PARKED, text=text)


def _seconds(amount_us: int) -> str:
    return f"{amount_us / 1_000_000:.1f} s"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _short(text: str) -> str:
    return text.strip().rstrip(".")[:MAX_REASON]
