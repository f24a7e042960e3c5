"""100ms webhooks, read loosely: unknown keys, types and spellings are kept, and only a started stream needs a URL.

Facts on the payloads: ids are opaque, `version` is no schema version, times have 0 to 9 fractional digits.
What is JSON is an event: one that says nothing we know is recorded like all others.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from json import loads
from math import isfinite
from typing import Any

from gateway.domain.refusals import Malformed

MAX_ID = 200
MAX_REASON = 500
MAX_URL = 4096
UPLOAD_ERROR = "UPLOAD_ERROR"
UNTYPED = "untyped"
_TYPE_KEYS = ("type", "event_type", "event_name", "event")
_MAX_DIGITS = 300  # more than Python turns into an integer are text


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


def parse_body(body: bytes) -> object:
    """The body as what can be stored. Raises Malformed when it is not JSON."""
    try:
        return storable(loads(body, parse_int=_integer))
    except (ValueError, RecursionError) as error:
        raise Malformed("The body is not JSON") from error


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def read_event(payload: object, *, raw: bytes) -> HundredmsEvent:
    """Read a parsed body, whatever it is. `raw` stands in for a missing id."""
    envelope: Mapping[str, Any] = payload if isinstance(payload, Mapping) else {}
    data = _details(envelope)
    kind = _kind(envelope)
    return HundredmsEvent(
        event_id=_text(envelope.get("id")) or f"sha256:{sha256(raw).hexdigest()}",
        account_id=_text(envelope.get("account_id")),
        type=kind,
        action=_action(kind, data),
        beam_id=_stream_key(data),
        room_id=_text(data.get("room_id")),
        session_id=_text(data.get("session_id")),
        url=_url(data.get("url")),
        reason=_reason(kind, data),
    )


def _kind(envelope: Mapping[str, Any]) -> str:
    """The type in its documented spelling, which is in small letters."""
    named = (_text(envelope.get(key)).lower() for key in _TYPE_KEYS)
    return next(filter(None, named), UNTYPED)


def _details(envelope: Mapping[str, Any]) -> Mapping[str, Any]:
    """`data`; where it is text, what that says; where it is missing, the envelope's own keys."""
    found = envelope.get("data", envelope)
    if isinstance(found, str):
        try:
            found = parse_body(found.encode("utf-8", "replace"))
        except Malformed:
            return {}
    return found if isinstance(found, Mapping) else {}


def _url(value: object) -> str | None:
    """An address that was cut off would be another one."""
    text = _text(value, limit=MAX_URL + 1)
    return text if 0 < len(text) <= MAX_URL else None


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
    room_id, session_id = _text(data.get("room_id")), _text(data.get("session_id"))
    return "+".join((room_id, session_id, _instant(data.get("started_at")))) if room_id else None


def _instant(value: object) -> str:
    """One spelling for a moment, so that start and stop agree: RFC 3339, or Unix time in seconds to nanoseconds."""
    text = _text(value)
    for read in (_unix_time, _written_time):
        with suppress(ValueError, OverflowError):
            return read(text).isoformat()
    return text


def _unix_time(text: str) -> datetime:
    """Raises ValueError for what is no moment of our age."""
    number = float(text)
    for unit in (1, 1_000, 1_000_000, 1_000_000_000):
        if 1e8 < number / unit < 1e10:
            return datetime.fromtimestamp(round(number / unit, 3), tz=UTC)
    raise ValueError(f"{text} is no Unix time")


def _written_time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


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
