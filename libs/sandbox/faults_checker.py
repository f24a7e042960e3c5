"""Judges what a follower kept of scripted streams against what they offered: a separate program, pure at its core.

It knows the offers (`sandbox.faults_offer`) and the rows, files and events that were left (`sandbox.faults_archive`),
and nothing of how the follower works. Each rule can be seen to fail: its test plants a violation.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from sandbox.faults_offer import Offer

MUST_OFFER_S: Final = 10.0
TOLERANCE_S: Final = 0.05
MOST_GAPS: Final = 0.02

# Which causes of a gap are true, by the first word (or the status) of the fault that struck the segment.
_CAUSES: Final[Mapping[str, frozenset[str]]] = {
    "status 401": frozenset({"denied"}),
    "status 403": frozenset({"denied"}),
    "status 404": frozenset({"not_found"}),
    "status 410": frozenset({"denied"}),
    "status 429": frozenset({"server_error"}),
    "reset": frozenset({"network"}),
    "truncate": frozenset({"corrupt", "network"}),
    "corrupt": frozenset({"corrupt"}),
    "garbage": frozenset({"corrupt"}),
    "html": frozenset({"corrupt"}),
    "empty_body": frozenset({"corrupt"}),
    "redirect": frozenset({"refused_address"}),
    "delay": frozenset({"timeout"}),
    "drip": frozenset({"timeout"}),
    "endless": frozenset({"timeout", "refused_address"}),
    "gap": frozenset({"source_gap"}),
    "window_jump": frozenset({"window_overrun"}),
}
_LATE: Final = frozenset({"window_overrun", "not_found", "source_unreachable"})


@dataclass(frozen=True, kw_only=True)
class Archived:
    """One row of an archived segment; `is_sound` says that the object is there and has the row's hash."""

    stream: str
    epoch: int
    sequence: int
    position: int
    sha256: str
    duration_us: int
    is_sound: bool = True


@dataclass(frozen=True, kw_only=True)
class Missed:
    """One gap as it was told, both sequences inside."""

    stream: str
    epoch: int
    from_sequence: int
    to_sequence: int
    duration_us: int
    cause: str


@dataclass(frozen=True, kw_only=True)
class Kept:
    """All that a follower left behind."""

    archived: tuple[Archived, ...] = ()
    missed: tuple[Missed, ...] = ()
    endings: tuple[tuple[str, str], ...] = ()
    event_ids: tuple[str, ...] = ()
    spooled: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """`violations` is empty when all is right; the rest are figures in seconds of media."""

    violations: tuple[str, ...]
    offered_s: float
    archived_s: float
    lost_s: float
    lost_though_offered_s: float
    offered_count: int
    archived_count: int
    causes: Mapping[str, int] = field(default_factory=dict)


def judge(
    offers: Sequence[Offer],
    kept: Kept,
    *,
    must_offer_s: float = MUST_OFFER_S,
    most_gaps: float = MOST_GAPS,
    is_disturbed: bool = False,
) -> Judgement:
    """`is_disturbed`: the follower itself was killed, so that a window may have passed meanwhile."""
    streams = {offer.stream for offer in offers}
    by_stream = {name: _Stream(name, offers, kept, is_disturbed) for name in sorted(streams)}
    violations: list[str] = []
    for stream in by_stream.values():
        violations += stream.violations(must_offer_s)
    lost = [offer for stream in by_stream.values() for offer in stream.lost]
    wanted = [offer for offer in offers if _is_offered(offer)]
    violations += _shared_violations(kept, streams)
    offered_s, lost_s = _seconds(wanted), _seconds(lost)
    told_s = sum(missed.duration_us for missed in kept.missed) / 1e6
    if max(lost_s, told_s) > most_gaps * offered_s:
        violations.append(
            f"gaps: {max(lost_s, told_s):.1f} s of {offered_s:.1f} s are more than {most_gaps:.0%}"
        )
    due = [offer for offer in lost if offer.offered_s >= must_offer_s - TOLERANCE_S]
    return Judgement(
        violations=tuple(violations),
        offered_s=offered_s,
        archived_s=offered_s - lost_s,
        lost_s=lost_s,
        lost_though_offered_s=_seconds(due),
        offered_count=len(wanted),
        archived_count=len(wanted) - len(lost),
        causes=dict(Counter(missed.cause for missed in kept.missed)),
    )


def _shared_violations(kept: Kept, streams: Iterable[str]) -> Iterator[str]:
    endings = Counter(stream for stream, _ in kept.endings)
    for stream in sorted(streams):
        if endings[stream] != 1:
            yield f"{stream}: ended {endings[stream]} times"
    for event, count in Counter(kept.event_ids).items():
        if count > 1:
            yield f"event {event} exists {count} times"
    for name in kept.spooled:
        yield f"spool: {name} was left behind"


class _Stream:
    """One stream: its offers beside what was kept of it."""

    def __init__(self, name: str, offers: Iterable[Offer], kept: Kept, is_disturbed: bool) -> None:
        self._name = name
        self._is_disturbed = is_disturbed
        self._offers = [offer for offer in offers if offer.stream == name]
        self._rows = sorted((r for r in kept.archived if r.stream == name), key=lambda row: row.position)
        self._missed = [missed for missed in kept.missed if missed.stream == name]
        self._by_digest = {offer.sha256: offer for offer in self._offers if offer.sha256}
        self._counts = Counter(row.sha256 for row in self._rows)
        self._epochs = self._origin_epochs()

    @property
    def lost(self) -> list[Offer]:
        return [offer for offer in self._offers if _is_offered(offer) and not self._counts[offer.sha256]]

    @property
    def _due(self) -> Iterator[Offer]:
        """What is not archived, and was named by a playlist, or shows as a hole in the numbers of later ones."""
        last = {offer.epoch: offer.ordinal for offer in self._offers if offer.named_s > 0}
        for offer in self._offers:
            is_known = offer.named_s > 0 or offer.ordinal < last.get(offer.epoch, -1)
            if is_known and not (offer.sha256 and self._counts[offer.sha256]):
                yield offer

    def violations(self, must_offer_s: float) -> Iterator[str]:
        yield from self._of_rows()
        yield from self._of_order()
        for offer in self._due:
            yield from self._of_lost(offer, must_offer_s)
        for missed in self._missed:
            yield from self._of_missed(missed)

    def _of_rows(self) -> Iterator[str]:
        for row in self._rows:
            place = f"{self._name}: {row.epoch}/{row.sequence}"
            if row.sha256 not in self._by_digest:
                yield f"{place} has bytes that were never offered"
            if not row.is_sound:
                yield f"{place} has no object with its hash"
        for digest, count in self._counts.items():
            if count > 1 and digest in self._by_digest:
                yield f"{self._name}: segment {self._by_digest[digest].ordinal} is archived {count} times"

    def _of_order(self) -> Iterator[str]:
        known = [self._by_digest[row.sha256].ordinal for row in self._rows if row.sha256 in self._by_digest]
        for before, after in pairwise(known):
            if after < before:
                yield f"{self._name}: segment {after} stands behind {before}"

    def _of_lost(self, offer: Offer, must_offer_s: float) -> Iterator[str]:
        place = f"{self._name}: segment {offer.ordinal} ({offer.epoch}/{offer.sequence})"
        if offer.offered_s >= must_offer_s - TOLERANCE_S:
            yield f"{place} was offered for {offer.offered_s:.1f} s and is not archived"
        causes = {missed.cause for missed in self._missed if self._covers(missed, offer)}
        if not causes:
            yield f"{place} is neither archived nor reported"
        elif not causes & self._true_causes(offer):
            told, true = ", ".join(sorted(causes)), ", ".join(sorted(self._true_causes(offer)))
            yield f"{place} is reported as {told}; true would be {true or 'nothing'} ({offer.faults})"

    def _of_missed(self, missed: Missed) -> Iterator[str]:
        """A gap must not be told of what is archived."""
        covered = [offer for offer in self._offers if self._covers(missed, offer)]
        if covered and all(self._counts[offer.sha256] for offer in covered):
            yield f"{self._name}: gap {missed.epoch}/{missed.from_sequence}-{missed.to_sequence} is archived"

    def _covers(self, missed: Missed, offer: Offer) -> bool:
        is_there = missed.from_sequence <= offer.sequence <= missed.to_sequence
        return is_there and offer.epoch in self._epochs.get(missed.epoch, {missed.epoch})

    def _true_causes(self, offer: Offer) -> frozenset[str]:
        found: frozenset[str] = _LATE if self._is_disturbed else frozenset()
        for fault in offer.faults:
            found |= _causes_of(fault)
        return found

    def _origin_epochs(self) -> dict[int, set[int]]:
        """Which epochs of the source stand in which epoch of the archive, as the bytes tell."""
        found: dict[int, set[int]] = defaultdict(set)
        for row in self._rows:
            if row.sha256 in self._by_digest:
                found[row.epoch].add(self._by_digest[row.sha256].epoch)
        return dict(found)


def _causes_of(fault: str) -> frozenset[str]:
    if fault.startswith(("playlist ", "master ")):
        return _LATE
    known = _CAUSES.get(fault)
    if known is not None:
        return known
    return frozenset({"server_error"}) if fault.startswith("status 5") else frozenset({"rejected"})


def _is_offered(offer: Offer) -> bool:
    return offer.presence == "there" and offer.named_s > 0


def _seconds(offers: Iterable[Offer]) -> float:
    return sum(offer.duration_us for offer in offers) / 1e6
