"""What the gateway is told of deliveries that came to an end."""

from collections.abc import Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from notifier.domain.delivery import Result, State
from shared.events import DeliveryFinished, DeliveryResult
from shared.ids import OrganizationId, event_id

_OUTCOMES: MappingProxyType[State, Literal["delivered", "failed", "disabled"]] = MappingProxyType(
    {State.DELIVERED: "delivered", State.FAILED: "failed", State.DISABLED: "disabled"}
)


def report_of(
    results: Sequence[Result], *, organization_id: OrganizationId, at: datetime
) -> DeliveryFinished:
    """One event for at least one ended delivery of one organization; its id follows from the delivery ids."""
    ids = sorted(result.claim.delivery_id for result in results)
    return DeliveryFinished(
        event_id=event_id(organization_id, DeliveryFinished.name, *ids),
        organization_id=organization_id,
        occurred_at=at,
        results=tuple(_line(result, at=at) for result in results),
    )


def _line(result: Result, *, at: datetime) -> DeliveryResult:
    verdict = result.verdict
    return DeliveryResult(
        delivery_id=result.claim.delivery_id,
        endpoint_id=result.claim.endpoint.endpoint_id,
        outcome=_OUTCOMES[verdict.state],
        attempts=result.attempts,
        status=result.attempt.status if result.attempt else None,
        error=f"{verdict.code}: {verdict.reason}" if verdict.code else "",
        finished_at=at,
    )
