"""A delivery as it is claimed, what one attempt brought, and the verdict on it. No rule stands here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shared.ids import DeliveryId, EndpointId, OrganizationId, PublicEventId, StreamId


class State(StrEnum):
    """`pending` is the only state that ever changes."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a delivery goes. Address and secrets are ciphertext; `refusal` says why nothing may be sent."""

    endpoint_id: EndpointId
    version: int
    sealed_url: str
    sealed_secrets: tuple[str, ...]
    max_attempts: int
    failing: bool
    refusal: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery that this process holds until its lease ends; `attempts` counts those already made."""

    delivery_id: DeliveryId
    organization_id: OrganizationId
    stream_id: StreamId
    public_event_id: PublicEventId
    type: str
    body: str
    attempts: int
    fence: int
    traceparent: str | None
    endpoint: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What goes over the wire: these exact bytes, under these headers."""

    url: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint answered: `retry_after` is the header as it came, `text` the start of the body."""

    status: int
    retry_after: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why there is no answer: a stable code, a reason for people, and whether another try could help."""

    code: str
    reason: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try, for the log."""

    at: datetime
    duration_ms: int
    status: int | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a delivery. `delay_s` counts only while it is pending.

    `gone` turns the endpoint off; `pause_s` keeps everything from an endpoint that asked us to slow down.
    """

    state: State
    code: str = ""
    reason: str = ""
    delay_s: float = 0.0
    gone: bool = False
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """A claim and its end; `attempt` is None where nothing was tried."""

    claim: Claim
    verdict: Verdict
    attempt: Attempt | None

    @property
    def attempts(self) -> int:
        """How many attempts were made in all, this one included."""
        return self.claim.attempts + (self.attempt is not None)
