"""100ms webhooks, read loosely: unknown keys, types and spellings are kept, and only a started stream needs a URL.

Facts on the payloads: ids are opaque, `version` is no schema version, times have 0 to 9 fractional digits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from math import isfinite
from typing import Any

from gateway.domain.refusals import Malformed

MAX_ID = 200
MAX_REASON = 500
UPLOAD_ERROR = "UPLOAD_ERROR"


class Action(StrEnum):
    START = "start"
    STOP = "stop"
    FAIL = "fail"
    RECORD = "record"


_ACTIONS = {
    "hls.started.success": Action.START,
    "hls.started": Action.START,
    "hls.stopped.success": Action.STOP,
    "hls.stopped": Action.STOP,
    "hls.failure": Action.FAIL,
    "hls.failed": Action.FAIL,
}


@dataclass(frozen=True)
class HundredmsEvent:
    """One webhook. `beam_id` names the stream: 100ms' own, or what stands in for it."""

    event_id: str
    account_id: str
    type: str
    action: Action
    beam_id: str | None
    room_id: str
    session_id: str
    url: str | None
    reason: str


def read_event(payload: object, *, raw: bytes) -> HundredmsEvent:
    """Read a parsed body. `raw` stands in for a missing id. Raises Malformed when it is no event at all."""
    if not isinstance(payload, Mapping) or not _text(payload.get("type")):
        raise Malformed("The body is not a 100ms event: an object with a type is expected")
    details = payload.get("data")
    data: Mapping[str, Any] = details if isinstance(details, Mapping) else {}
    kind = _text(payload.get("type"))
    return HundredmsEvent(
        event_id=_text(payload.get("id")) or f"sha256:{sha256(raw).hexdigest()}",
        account_id=_text(payload.get("account_id")),
        type=kind,
        action=_action(kind, data),
        beam_id=_stream_key(data),
        room_id=_text(data.get("room_id")),
        session_id=_text(data.get("session_id")),
        url=_text(data.get("url"), limit=4096) or None,
        reason=_reason(kind, data),
    )


def _action(kind: str, data: Mapping[str, Any]) -> Action:
    action = _ACTIONS.get(kind, Action.RECORD)
    if action is Action.FAIL and _text(data.get("error_type")) == UPLOAD_ERROR:
        return Action.RECORD  # a recording could not be uploaded: the live stream need not have died
    return action


def _stream_key(data: Mapping[str, Any]) -> str | None:
    """100ms' beam id; shapes of 2022 had none, there room, session and start stand for it."""
    beam_id = _text(data.get("beam_id"))
    if beam_id:
        return beam_id
    parts = [_text(data.get(name)) for name in ("room_id", "session_id", "started_at")]
    return "+".join(parts) if parts[0] else None


def _reason(kind: str, data: Mapping[str, Any]) -> str:
    named = [_text(data.get(name), limit=MAX_REASON) for name in ("error_type", "error_message", "reason")]
    return ": ".join(part for part in named if part)[:MAX_REASON] or kind


def _text(value: object, *, limit: int = MAX_ID) -> str:
    """The value as storable text: None and containers are nothing, numbers are what they look like."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(storable(str(value))).strip()[:limit]


def storable(payload: object) -> object:
    """The payload without what PostgreSQL's jsonb refuses: U+0000, lone surrogates, numbers without an end."""
    if isinstance(payload, str):
        return payload.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(payload, Mapping):
        return {str(storable(str(key))): storable(value) for key, value in payload.items()}
    if isinstance(payload, list):
        return [storable(item) for item in payload]
    if isinstance(payload, float) and not isfinite(payload):
        return str(payload)
    return payload
