"""Stands in for the storages of the rate limits: the same decisions, by a clock that the test moves."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.domain.rate_limit import Budget, Count, Taken
from gateway.workflow.rate_limits import LimiterUnavailable

START_MS = 1_800_000_000_000


@dataclass
class RateLimitsInMemory:
    name: str = "memory"
    now_ms: int = START_MS
    away: bool = False
    asked: int = 0
    closed: bool = False
    _windows: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    async def take(self, budgets: Sequence[Budget]) -> Taken:
        self.asked += 1
        if self.away:
            raise LimiterUnavailable("memory is away")
        counts = [self._count(budget) for budget in budgets]
        pairs = list(zip(budgets, counts, strict=True))
        allowed = all(count.used(budget.window_s * 1000) < budget.limit for budget, count in pairs)
        if allowed:
            counts = [Count(count.previous, count.current + 1, count.elapsed_ms) for count in counts]
            for budget, count in zip(budgets, counts, strict=True):
                self._windows[budget.name] = (self.now_ms - count.elapsed_ms, count.previous, count.current)
        return Taken(allowed, tuple(counts), self.now_ms)

    def _count(self, budget: Budget) -> Count:
        window_ms = budget.window_s * 1000
        started_ms, previous, current = self._windows.get(budget.name, (0, 0, 0))
        passed, elapsed_ms = divmod(self.now_ms - started_ms, window_ms)
        if passed == 0:
            return Count(previous, current, elapsed_ms)
        return Count(current, 0, elapsed_ms) if passed == 1 else Count(0, 0, 0)

    async def aclose(self) -> None:
        self.closed = True
