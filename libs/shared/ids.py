"""Typed identifiers, and how deterministic ones are derived: the same work done twice yields the same ids.

Random identifiers are made from entropy that the caller passes in; nothing here draws any.
"""

import re
from dataclasses import dataclass
from typing import NewType
from uuid import UUID, uuid5

OrganizationId = NewType("OrganizationId", str)
UserId = NewType("UserId", str)
ApiKeyId = NewType("ApiKeyId", str)
ConnectionId = NewType("ConnectionId", str)
StreamId = NewType("StreamId", str)
WindowId = NewType("WindowId", str)
CandidateId = NewType("CandidateId", str)
HighlightId = NewType("HighlightId", str)
EndpointId = NewType("EndpointId", str)
PublicEventId = NewType("PublicEventId", str)
DeliveryId = NewType("DeliveryId", str)

NAMESPACE = UUID("6f7b0d9e-3c55-5b0e-9a43-0d5a2f4b8c11")
RANDOM_HEX_DIGITS = 12
DERIVED_HEX_DIGITS = 24
_STREAM_ID = re.compile(r"str_[0-9a-f]{12}")


@dataclass(frozen=True, order=True)
class Position:
    """Where something stands in a stream: run (a manual retry is a new one), index, revision (a repair)."""

    run: int
    index: int
    revision: int = 0

    def __str__(self) -> str:
        return f"{self.run}.{self.index}.{self.revision}"


def event_id(scope: str, kind: str, *parts: str | int | Position) -> UUID:
    """UUIDv5 over scope (a stream or organization id), kind (the event's name) and what tells it apart."""
    return uuid5(NAMESPACE, "|".join((scope, kind, *(str(part) for part in parts))))


def derived_id(prefix: str, scope: str, *parts: str | int | Position) -> str:
    """A readable id `<prefix>_<24 hex>` that is a pure function of its arguments."""
    return f"{prefix}_{event_id(scope, prefix, *parts).hex[:DERIVED_HEX_DIGITS]}"


def random_id(prefix: str, entropy: bytes) -> str:
    """A readable id `<prefix>_<12 hex>` from at least 6 bytes of entropy."""
    if len(entropy) * 2 < RANDOM_HEX_DIGITS:
        raise ValueError(f"{prefix}: {len(entropy)} bytes of entropy are too few")
    return f"{prefix}_{entropy.hex()[:RANDOM_HEX_DIGITS]}"


def is_stream_id(text: str) -> bool:
    return _STREAM_ID.fullmatch(text) is not None


def window_id(stream_id: StreamId, position: Position) -> WindowId:
    return WindowId(derived_id("win", stream_id, position))


def candidate_id(stream_id: StreamId, position: Position, ordinal: int) -> CandidateId:
    """`position` is that of the window; `ordinal` counts the window's candidates from 0."""
    return CandidateId(derived_id("cand", stream_id, position, ordinal))


def highlight_id(stream_id: StreamId, anchor: CandidateId) -> HighlightId:
    """Fixed at the first anchor candidate; merges and moved edges only raise the highlight's revision."""
    return HighlightId(derived_id("hl", stream_id, anchor))


def public_event_id(stream_id: StreamId, event_type: str, *parts: str | int) -> PublicEventId:
    return PublicEventId(derived_id("evt", stream_id, event_type, *parts))


def delivery_id(endpoint_id: EndpointId, public_event: PublicEventId) -> DeliveryId:
    return DeliveryId(derived_id("whd", endpoint_id, public_event))
