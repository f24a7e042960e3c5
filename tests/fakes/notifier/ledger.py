"""A ledger in memory: hands out what is put into it, keeps what is recorded, fails when told to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from notifier.domain.delivery import Claim, Result
from shared.database import DatabaseUnavailable


@dataclass
class FakeLedger:
    due: list[Claim] = field(default_factory=list)
    recorded: list[Result] = field(default_factory=list)
    released: list[Claim] = field(default_factory=list)
    away: bool = False

    async def claim(self, *, at_most: int) -> tuple[Claim, ...]:
        taken, self.due = self.due[:at_most], self.due[at_most:]
        return tuple(taken)

    async def record(self, results: Sequence[Result]) -> None:
        if self.away:
            raise DatabaseUnavailable("the database is away")
        self.recorded.extend(results)

    async def release(self, claims: Sequence[Claim]) -> None:
        self.released.extend(claims)

    async def forget(self, *, keep_days: int) -> bool:
        return False
