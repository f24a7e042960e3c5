"""Takes in endpoints and notifications, and makes the attempts that are due: unseal, sign, send, judge.

What an answer means is decided in `domain`; how rows are claimed and recorded, in `adapters`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Protocol

import structlog
from opentelemetry.trace import SpanKind

from notifier.domain.delivery import Answer, Attempt, Claim, NoAnswer, Outgoing, Result, State
from notifier.domain.judgement import judge, refuse
from notifier.domain.signature import signed_headers
from shared import metrics, trace
from shared.clock import Clock
from shared.errors import PermanentError
from shared.events import EndpointChanged, NotificationRequested
from shared.middleware import UnitOfWork

log = structlog.get_logger()


class Intake(Protocol):
    """Where events leave their rows, inside the transaction of their inbox row."""

    async def keep_endpoint(self, event: EndpointChanged, unit: UnitOfWork) -> None:
        """Keep the highest version; a new one starts with a clean record of health."""
        ...

    async def keep_notification(
        self, event: NotificationRequested, unit: UnitOfWork, *, traceparent: str | None
    ) -> None:
        """Keep the delivery, due now; one that is there already stays as it is."""
        ...


class Ledger(Protocol):
    """The deliveries and their log. All methods raise DatabaseUnavailable."""

    async def claim(self, *, at_most: int) -> tuple[Claim, ...]: ...

    async def record(self, results: Sequence[Result]) -> None:
        """Write attempts, states and endpoints' health, and tell the gateway what ended; safe to repeat."""
        ...

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give deliveries back that were not tried to the end; they are due at once."""
        ...

    async def forget(self, *, keep_days: int) -> bool:
        """Delete some of what ended longer ago; True if there may be more."""
        ...


class Sender(Protocol):
    async def send(self, outgoing: Outgoing) -> Answer | NoAnswer: ...


class Secrets(Protocol):
    def decrypt(self, token: str, *, context: str) -> str:
        """Raises PermanentError when the token cannot be read."""
        ...


@dataclass(frozen=True)
class Notifications:
    """What the events from the gateway leave behind."""

    intake: Intake

    async def keep_endpoint(self, event: EndpointChanged, unit: UnitOfWork) -> None:
        await self.intake.keep_endpoint(event, unit)

    async def keep_notification(self, event: NotificationRequested, unit: UnitOfWork) -> None:
        await self.intake.keep_notification(event, unit, traceparent=trace.current_traceparent())


@dataclass(frozen=True, kw_only=True)
class Deliveries:
    """Claims deliveries, makes their attempts, records what came of them. `spread` draws from [0, 1]."""

    ledger: Ledger
    sender: Sender
    secrets: Secrets
    clock: Clock
    spread: Callable[[], float]

    async def claim(self, *, at_most: int) -> tuple[Claim, ...]:
        return await self.ledger.claim(at_most=at_most)

    async def record(self, results: Sequence[Result]) -> None:
        await self.ledger.record(results)
        for result in results:
            _count(result)

    async def release(self, claims: Sequence[Claim]) -> None:
        await self.ledger.release(claims)

    async def attempt(self, claim: Claim) -> Result:
        """Send once, unless the endpoint takes nothing, and judge the outcome. Errors of the wire are results."""
        if claim.endpoint.refusal is not None:
            return Result(claim, refuse(claim.endpoint.refusal), attempt=None)
        began_at, began = self.clock(), perf_counter()
        with trace.span(
            "POST webhook", parent=claim.traceparent, kind=SpanKind.CLIENT, attributes=_described(claim)
        ):
            outcome = await self._exchange(claim)
            result = self._result(claim, outcome, began_at=began_at, duration_s=perf_counter() - began)
            _trace(result)
        return result

    def broken(self, claim: Claim, error: BaseException) -> Result:
        """The result of an attempt that a bug cut short: it counts, and is tried again as any other."""
        log.error("attempt_broke", delivery_id=claim.delivery_id, exc_info=error)
        outcome = NoAnswer("unexpected_error", type(error).__name__, permanent=False)
        return self._result(claim, outcome, began_at=self.clock(), duration_s=0.0)

    async def _exchange(self, claim: Claim) -> Answer | NoAnswer:
        try:
            outgoing = self._outgoing(claim)
        except PermanentError as error:
            return NoAnswer(error.code, str(error), permanent=True)
        return await self.sender.send(outgoing)

    def _outgoing(self, claim: Claim) -> Outgoing:
        context = f"endpoint:{claim.endpoint.endpoint_id}"
        url = self.secrets.decrypt(claim.endpoint.sealed_url, context=context)
        secrets = [self.secrets.decrypt(one, context=context) for one in claim.endpoint.sealed_secrets]
        body = claim.body.encode()
        headers = signed_headers(claim, body=body, secrets=secrets, at=self.clock())
        traceparent = trace.current_traceparent()
        traced = {trace.HEADER: traceparent} if traceparent else {}
        return Outgoing(url=url, body=body, headers={**headers, **traced})

    def _result(
        self, claim: Claim, outcome: Answer | NoAnswer, *, began_at: datetime, duration_s: float
    ) -> Result:
        verdict = judge(outcome, claim=claim, at=self.clock(), spread=self.spread())
        status, text = (outcome.status, outcome.text) if isinstance(outcome, Answer) else (None, "")
        return Result(claim, verdict, Attempt(began_at, round(duration_s * 1000), status, text))


def _described(claim: Claim) -> dict[str, trace.Value]:
    return {
        "http.request.method": "POST",
        "tldr.event": claim.type,
        "tldr.event_id": claim.public_event_id,
        "tldr.organization_id": claim.organization_id,
        "tldr.stream_id": claim.stream_id,
        "tldr.endpoint_id": claim.endpoint.endpoint_id,
        "tldr.delivery_id": claim.delivery_id,
        "tldr.attempt": claim.attempts + 1,
    }


def _trace(result: Result) -> None:
    status = result.attempt.status if result.attempt is not None else None
    trace.annotate({"tldr.outcome": result.verdict.state.value, "http.response.status_code": status})
    if result.verdict.code:
        trace.fail(result.verdict.code)


def _count(result: Result) -> None:
    outcome = "retried" if result.verdict.state is State.PENDING else result.verdict.state.value
    metrics.deliveries.labels(outcome).inc()
    if result.attempt is not None:
        metrics.delivery_s.observe(result.attempt.duration_ms / 1000)
