"""Admission: every request of a limited route is counted once, before anything else is done for it.

A storage that cannot count stops nobody: the next one counts, and behind the last one requests pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import structlog

from gateway.domain.rate_limit import (
    Budget,
    LimitPolicy,
    RateLimitExceeded,
    Taken,
    Verdict,
    budget_of_address,
    budgets_of_key,
    verdict_of,
)
from gateway.domain.refusals import Refused, Unauthenticated
from gateway.workflow.absence import Absence
from gateway.workflow.authentication import Authentication, Caller
from shared import metrics
from shared.errors import RetryableError

log = structlog.get_logger()

REGISTRATION = "registration"
WITHOUT_KEY = "without key"


class LimiterUnavailable(RetryableError):
    """The storage of the counts does not answer."""

    code: ClassVar[str] = "limiter_unavailable"


class Limiter(Protocol):
    """Counts that all replicas share."""

    name: str

    async def take(self, budgets: Sequence[Budget]) -> Taken:
        """Charge one request to all budgets if each has room, else to none. Raises LimiterUnavailable."""
        ...

    async def aclose(self) -> None: ...


class Standby:
    """A limiter in front of another that counts while the first is away."""

    def __init__(self, first: Limiter, second: Limiter, *, absence: Absence) -> None:
        self.name = first.name
        self._first = first
        self._second = second
        self._absence = absence

    async def take(self, budgets: Sequence[Budget]) -> Taken:
        if not self._absence.permits_try():
            return await self._second.take(budgets)
        try:
            taken = await self._first.take(budgets)
        except LimiterUnavailable as error:
            self._absence.begin()
            _note(self._first, error)
            return await self._second.take(budgets)
        self._absence.end()
        return taken

    async def aclose(self) -> None:
        await self._first.aclose()
        await self._second.aclose()


@dataclass(frozen=True)
class Admission:
    """Who may go on, or why not; no verdict where no storage could count."""

    outcome: Caller | Refused | None
    verdict: Verdict | None


class RateLimits:
    def __init__(self, *, authentication: Authentication, limiter: Limiter, policy: LimitPolicy) -> None:
        self._authentication = authentication
        self._limiter = limiter
        self.policy = policy

    async def admit_key(self, text: str | None, *, address: str | None) -> Admission:
        """The key's caller, counted for key and organization; without a valid key counted for the address."""
        try:
            caller = await self._authentication.identify(text)
        except Unauthenticated as refusal:
            budget = budget_of_address(address, purpose=WITHOUT_KEY, limit=self.policy.default)
            return await self._admit((budget,), refusal)
        budgets = budgets_of_key(
            self.policy, caller.allowance, key_id=caller.key_id, organization_id=caller.organization_id
        )
        return await self._admit(budgets, caller)

    async def admit_registration(self, *, address: str | None) -> Admission:
        """Nobody yet, counted for the address."""
        budget = budget_of_address(address, purpose=REGISTRATION, limit=self.policy.registration)
        return await self._admit((budget,), None)

    async def _admit(self, budgets: Sequence[Budget], outcome: Caller | Refused | None) -> Admission:
        try:
            taken = await self._limiter.take(budgets)
        except LimiterUnavailable as error:
            _note(self._limiter, error)
            return Admission(outcome, None)
        verdict = verdict_of(budgets, taken)
        if verdict.allowed:
            return Admission(outcome, verdict)
        metrics.rate_limited.labels(verdict.tightest.budget.subject).inc()
        return Admission(RateLimitExceeded(verdict), verdict)

    async def aclose(self) -> None:
        await self._limiter.aclose()


def _note(limiter: Limiter, error: LimiterUnavailable) -> None:
    log.warning("limiter_away", storage=limiter.name, reason=str(error))
    metrics.rate_limit_failures.labels(limiter.name).inc()
