"""Leases in memory: the test says who holds what."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ingest.domain.sharing import Census
from ingest.workflow.ports import Claimed, Lease, Replica, Rest
from shared.database import DatabaseUnavailable
from shared.events import Lane


@dataclass
class FakeLeases:
    free: list[Lease] = field(default_factory=list)
    dead: list[Lease] = field(default_factory=list)
    held: dict[int, Lease] = field(default_factory=dict)
    released: list[Rest] = field(default_factory=list)
    counted: Census = field(default_factory=lambda: Census(capacities={}))
    renewals: int = 0
    is_away: bool = False
    calls: list[str] = field(default_factory=list)
    _fence: int = 0

    async def renew(self, replica: Replica) -> tuple[Lease, ...]:
        self._check("renew")
        self.renewals += 1
        return tuple(self.held.values())

    async def claim(
        self, owner: str, *, lane: Lane, limit: int, patience_s: float, from_dead: bool
    ) -> tuple[Claimed, ...]:
        self._check("claim")
        free = [lease for lease in self.free if lease.lane is lane][:limit]
        dead = [lease for lease in self.dead if lease.lane is lane][: limit - len(free)] if from_dead else []
        self.free = [lease for lease in self.free if lease not in free]
        self.dead = [lease for lease in self.dead if lease not in dead]
        taken = [Claimed(lease=self._give(lease)) for lease in free]
        return (*taken, *(Claimed(lease=self._give(lease), is_takeover=True) for lease in dead))

    async def release(self, owner: str, *, rests: Sequence[Rest]) -> None:
        self._check("release")
        self.released.extend(rests)
        for rest in rests:
            self.held.pop(rest.fence, None)

    async def leave(self, owner: str) -> None:
        self._check("leave")

    async def go(self, owner: str) -> None:
        self._check("go")
        self.held.clear()

    async def census(self) -> Census:
        self._check("census")
        return self.counted

    @property
    def released_fences(self) -> list[int]:
        return sorted(rest.fence for rest in self.released)

    def _give(self, lease: Lease) -> Lease:
        self._fence += 1
        given = replace(lease, fence=self._fence)
        self.held[self._fence] = given
        return given

    def _check(self, call: str) -> None:
        if self.is_away:
            raise DatabaseUnavailable("away")
        self.calls.append(call)
