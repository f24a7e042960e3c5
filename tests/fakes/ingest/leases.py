"""Leases in memory: the test says who holds what."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ingest.workflow.ports import Lease
from shared.database import DatabaseUnavailable


@dataclass
class FakeLeases:
    free: list[Lease] = field(default_factory=list)
    held: dict[int, Lease] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)
    renewals: int = 0
    is_away: bool = False
    _fence: int = 0

    async def claim(self, owner: str, *, limit: int, lease_s: float) -> tuple[Lease, ...]:
        self._check()
        taken, self.free = self.free[:limit], self.free[limit:]
        return tuple(self._give(lease) for lease in taken)

    async def renew(self, owner: str, *, fences: Sequence[int], lease_s: float) -> tuple[Lease, ...]:
        self._check()
        self.renewals += 1
        return tuple(self.held[fence] for fence in fences if fence in self.held)

    async def release(self, owner: str, *, fences: Sequence[int]) -> None:
        self._check()
        self.released.extend(fences)

    def _give(self, lease: Lease) -> Lease:
        self._fence += 1
        given = replace(lease, fence=self._fence)
        self.held[self._fence] = given
        return given

    def _check(self) -> None:
        if self.is_away:
            raise DatabaseUnavailable("away")
