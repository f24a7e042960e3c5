"""What follows from a list of 100ms' running live streams: which of ours are missing, and which run no more.

Pure, like the rest of the domain; the order in which webhooks and lists come in changes nothing of the outcome.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.domain.hundredms_sighting import KnownStream, Sighting, best_match, is_same
from shared.ids import StreamId

# A list that was asked for right after a start need not hold it yet.
TOO_YOUNG = timedelta(seconds=5)
ABSENCES = 2


class LiveStatus(StrEnum):
    """The states of a live stream in 100ms' API; what is not documented counts as running, since it ends nothing."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    POST_PROCESSING = "post_processing"
    COMPLETED = "completed"
    FAILED = "failed"


OVER = frozenset({LiveStatus.STOPPING, LiveStatus.POST_PROCESSING, LiveStatus.COMPLETED, LiveStatus.FAILED})


@dataclass(frozen=True, kw_only=True)
class LiveStream:
    """One object of `GET /v2/live-streams`."""

    sighting: Sighting
    status: str
    url: str | None

    @property
    def is_over(self) -> bool:
        return self.status in OVER


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one list asks for.

    `links` are our streams with the API's id for them, `seen` those that had been missed before, `absent` those
    that run here and are not listed, `suspects` the part of these that was missed too often, the latest first.
    """

    starts: tuple[LiveStream, ...] = ()
    links: tuple[tuple[StreamId, str], ...] = ()
    seen: tuple[StreamId, ...] = ()
    absent: tuple[StreamId, ...] = ()
    suspects: tuple[KnownStream, ...] = ()

    @property
    def touched(self) -> frozenset[StreamId]:
        return frozenset((*(stream for stream, _ in self.links), *self.seen, *self.absent))


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What 100ms says of a stream that it does not list as running any more."""

    stopped_at: datetime | None
    failed: bool


def reconcile(
    listed: Sequence[LiveStream],
    *,
    known: Sequence[KnownStream],
    buried: Sequence[Sighting],
    asked_at: datetime,
    is_complete: bool = True,
) -> Plan:
    """`buried` are stops whose start never came; `is_complete`: the list holds all that runs."""
    running = {live.sighting.live_id: live for live in listed if not live.is_over}
    matched = _paired(tuple(running.values()), known)
    found = frozenset(each.stream_id for each in matched.values())
    absent = [each for each in known if _is_missing(each, found, asked_at)] if is_complete else []
    return Plan(
        starts=tuple(
            live
            for live_id, live in running.items()
            if live_id not in matched
            and live.url
            and not any(is_same(stop, live.sighting) for stop in buried)
        ),
        links=tuple(
            (each.stream_id, live_id) for live_id, each in matched.items() if not each.sighting.live_id
        ),
        seen=tuple(each.stream_id for each in matched.values() if each.absences),
        absent=tuple(each.stream_id for each in absent),
        suspects=tuple(
            sorted((each for each in absent if each.absences + 1 >= ABSENCES), key=lambda each: each.absences)
        ),
    )


def claimed(told: Sighting, known: Iterable[KnownStream]) -> KnownStream | None:
    """The stream that the API started before this webhook of it came in; a beam of its own belongs to another."""
    return best_match(told, (each for each in known if not each.sighting.beam_id))


def ending_of(suspect: KnownStream, found: Iterable[LiveStream]) -> Ending | None:
    """Whether a suspect is over, by all live streams of its session; None while nothing proves it.

    Silence proves nothing: the credentials may be those of another workspace by now, the answer a late copy.
    """
    wanted = suspect.sighting
    same = [live for live in found if _is_this(live.sighting, wanted)]
    if not same or any(not live.is_over for live in same):
        return None
    newest = max(same, key=lambda live: live.sighting.started_at or suspect.created_at)
    return Ending(stopped_at=newest.sighting.stopped_at, failed=newest.status == LiveStatus.FAILED)


def _is_this(live: Sighting, wanted: Sighting) -> bool:
    if wanted.live_id:
        return live.live_id == wanted.live_id
    return is_same(live, wanted)


def _is_missing(each: KnownStream, found: frozenset[StreamId], asked_at: datetime) -> bool:
    """Only the connection's own are missed: another one may have the credentials of another workspace."""
    is_due = each.is_own and not each.is_over and each.created_at < asked_at - TOO_YOUNG
    return is_due and each.stream_id not in found


def _paired(running: Sequence[LiveStream], known: Sequence[KnownStream]) -> dict[str, KnownStream]:
    """Each live stream with at most one of ours, and the other way round; ids first, then addresses, then times."""
    by_live_id = {each.sighting.live_id: each for each in known if each.sighting.live_id}
    pairs = {
        live.sighting.live_id: by_live_id[live.sighting.live_id]
        for live in running
        if live.sighting.live_id in by_live_id
    }
    free = [each for each in known if not each.sighting.live_id]
    for same_address in (True, False):
        for live in running:
            if live.sighting.live_id in pairs:
                continue
            match = best_match(live.sighting, (each for each in free if _may(each, live, same_address)))
            if match is not None:
                pairs[live.sighting.live_id] = match
                free.remove(match)
    return pairs


def _may(each: KnownStream, live: LiveStream, same_address: bool) -> bool:
    return not same_address or each.sighting.url_key == live.sighting.url_key
