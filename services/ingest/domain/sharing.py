"""Who follows what: what a replica hands over so that all hold as much, and which recordings make room.

Pure: a census of the leases goes in, counts and ids come out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.events import Lane
from shared.ids import OrganizationId, StreamId


@dataclass(frozen=True, kw_only=True)
class Group:
    """`count` streams of one organization and lane that are alike: held by `owner`, free to be claimed, or,
    neither of both, at rest until more of their windows are analysed."""

    lane: Lane
    organization_id: OrganizationId
    owner: str | None
    is_free: bool
    count: int


@dataclass(frozen=True, kw_only=True)
class Census:
    """`capacities` has the replicas that are alive, and how many streams of each lane they follow at most."""

    capacities: Mapping[str, Mapping[Lane, int]]
    groups: tuple[Group, ...] = ()

    def held(self, lane: Lane) -> Counter[str]:
        """Streams by owner."""
        return _counted((g.owner, g.count) for g in self.groups if g.lane is lane and g.owner)

    def held_by_organization(self, lane: Lane) -> Counter[str]:
        return _counted((g.organization_id, g.count) for g in self.groups if g.lane is lane and g.owner)

    def free_by_organization(self, lane: Lane) -> Counter[str]:
        return _counted((g.organization_id, g.count) for g in self.groups if g.lane is lane and g.is_free)

    def free(self, lane: Lane) -> int:
        return self.free_by_organization(lane).total()

    def resting(self, lane: Lane) -> int:
        return sum(g.count for g in self.groups if g.lane is lane and not g.owner and not g.is_free)

    def capacity(self, lane: Lane) -> int:
        return sum(each[lane] for each in self.capacities.values())

    def share(self, lane: Lane) -> int:
        """What each replica follows when all follow as much."""
        takers = sum(each[lane] > 0 for each in self.capacities.values())
        return -(-(self.held(lane).total() + self.free(lane)) // max(1, takers))


@dataclass(frozen=True, kw_only=True)
class SharingPolicy:
    """`at_once` bounds what is handed over after one census. A replica hands nothing over before it is more
    than a `tolerance`-th of its share, and more than one stream, above that share.

    A recording is followed for `least_s` before it makes room for another organization's, and waits
    `patience_s` for its analysis before it makes room for any other.
    """

    at_once: int = 4
    tolerance: int = 16
    least_s: float = 5.0
    patience_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class HeldRecording:
    """`waits_s` is how long it has waited for its analysis, None while there is something to fetch."""

    stream_id: StreamId
    organization_id: OrganizationId
    held_s: float
    waits_s: float | None = None


def surplus(census: Census, *, owner: str, lane: Lane, policy: SharingPolicy) -> int:
    """How many streams the others have room for, below their share, that are too many here."""
    held, share = census.held(lane), census.share(lane)
    excess = held[owner] - share
    if excess <= max(1, share // policy.tolerance):
        return 0
    others = ((name, each[lane]) for name, each in census.capacities.items() if name != owner)
    room = sum(max(0, min(share, capacity) - held[name]) for name, capacity in others)
    return max(0, min(excess, room - census.free(lane), policy.at_once))


def recordings_to_yield(
    census: Census, *, held: Sequence[HeldRecording], policy: SharingPolicy
) -> tuple[StreamId, ...]:
    """Which of a full replica's recordings make room for those that wait.

    First for organizations that hold fewer, until none holds two more than one that waits. Else for whichever
    waits, in place of recordings whose analysis stands still: no more of these rest at once than are
    followed, so that the windows that wait for the analyzers stay bounded.
    """
    return _for_the_poorer(census, held, policy) or _for_any(census, held, policy)


def _for_the_poorer(
    census: Census, held: Sequence[HeldRecording], policy: SharingPolicy
) -> tuple[StreamId, ...]:
    counts, waiting = census.held_by_organization(Lane.VOD), census.free_by_organization(Lane.VOD)
    ready = sorted((each for each in held if each.held_s >= policy.least_s), key=_readiness, reverse=True)
    chosen: list[StreamId] = []
    while waiting and ready and len(chosen) < policy.at_once:
        poorest = min(waiting, key=lambda name: (counts[name], name))
        richest = max(ready, key=lambda each: counts[each.organization_id])
        if counts[richest.organization_id] <= counts[poorest] + 1:
            break
        ready.remove(richest)
        chosen.append(richest.stream_id)
        counts[richest.organization_id] -= 1
        counts[poorest] += 1
        waiting -= Counter({poorest: 1})
    return tuple(chosen)


def _for_any(census: Census, held: Sequence[HeldRecording], policy: SharingPolicy) -> tuple[StreamId, ...]:
    room = census.capacity(Lane.VOD) - census.resting(Lane.VOD)
    count = max(0, min(census.free(Lane.VOD), room, policy.at_once))
    stuck = [each for each in held if each.waits_s is not None and each.waits_s >= policy.patience_s]
    longest = sorted(stuck, key=_readiness, reverse=True)
    return tuple(each.stream_id for each in longest[:count])


def _readiness(each: HeldRecording) -> tuple[float, float]:
    """Those that wait for their analysis lose nothing; of the others, who was followed longest."""
    return (-1.0 if each.waits_s is None else each.waits_s, each.held_s)


def _counted(pairs: Iterable[tuple[str, int]]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for name, count in pairs:
        counted[name] += count
    return counted
