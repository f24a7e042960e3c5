"""100ms webhooks, read loosely: unknown keys, types and spellings are kept, and only a started stream needs a URL.

Facts on the payloads: ids are opaque, `version` is no schema version, times have 0 to 9 fractional digits.
What is JSON is an event: one that says nothing we know is recorded like all others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from json import loads
from typing import Any

from gateway.domain.hundredms_recording import Recording, read_recording
from gateway.domain.hundredms_sighting import Sighting, url_key
from gateway.domain.hundredms_values import moment_of, read_moment, storable, text_of
from gateway.domain.refusals import Malformed

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


_RECORDINGS = frozenset({"hls.recording.success", "hls.recording"})

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
    """One webhook. `beam_id` names the stream: 100ms' own, or what stands in for it.

    `end` is why the stream ended, in 100ms' words; `failed` tells that it ended by a failure there.
    """

    event_id: str
    account_id: str
    type: str
    action: Action
    beam_id: str | None
    room_id: str
    session_id: str
    url: str | None
    reason: str
    end: str = ""
    failed: bool = False
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    recording: Recording | None = None

    @property
    def sighting(self) -> Sighting:
        return Sighting(
            room_id=self.room_id,
            session_id=self.session_id,
            url_key=url_key(self.url),
            started_at=self.started_at,
            stopped_at=self.stopped_at,
            beam_id=self.beam_id or "",
        )


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
        event_id=text_of(envelope.get("id")) or f"sha256:{sha256(raw).hexdigest()}",
        account_id=text_of(envelope.get("account_id")),
        type=kind,
        action=_action(kind, data),
        beam_id=_stream_key(data),
        room_id=text_of(data.get("room_id")),
        session_id=text_of(data.get("session_id")),
        url=_url(data.get("url")),
        reason=_reason(kind, data),
        end=_end(data),
        failed=_action(kind, data) is Action.FAIL or _end(data).startswith("failure"),
        started_at=moment_of(data.get("started_at")),
        stopped_at=moment_of(data.get("stopped_at")),
        recording=read_recording(data) if kind in _RECORDINGS else None,
    )


def _kind(envelope: Mapping[str, Any]) -> str:
    """The type in its documented spelling, which is in small letters."""
    named = (text_of(envelope.get(key)).lower() for key in _TYPE_KEYS)
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
    text = text_of(value, limit=MAX_URL + 1)
    return text if 0 < len(text) <= MAX_URL else None


def _action(kind: str, data: Mapping[str, Any]) -> Action:
    action = _ACTIONS.get(kind, Action.RECORD)
    if action is Action.FAIL and text_of(data.get("error_type")) == UPLOAD_ERROR:
        return Action.RECORD  # a recording could not be uploaded: the live stream need not have died
    return action


def _stream_key(data: Mapping[str, Any]) -> str | None:
    """100ms' beam id; shapes of 2022 had none, there room, session and start stand for it."""
    beam_id = text_of(data.get("beam_id"))
    if beam_id:
        return beam_id
    room_id, session_id = text_of(data.get("room_id")), text_of(data.get("session_id"))
    return "+".join((room_id, session_id, _instant(data.get("started_at")))) if room_id else None


def _instant(value: object) -> str:
    """One spelling for a moment, so that start and stop agree: RFC 3339, or Unix time in seconds to nanoseconds."""
    moment = read_moment(value)
    return moment.isoformat() if moment else text_of(value)


def _end(data: Mapping[str, Any]) -> str:
    """Why it ended, as 100ms tells it; an `hls.failure` has no `reason`, it names its error."""
    named = [text_of(data.get(name), limit=MAX_REASON) for name in ("error_type", "error_message")]
    failure = ": ".join(part for part in named if part)
    return f"failure: {failure}"[:MAX_REASON] if failure else text_of(data.get("reason"), limit=MAX_REASON)


def _reason(kind: str, data: Mapping[str, Any]) -> str:
    named = [text_of(data.get(name), limit=MAX_REASON) for name in ("error_type", "error_message", "reason")]
    return ": ".join(part for part in named if part)[:MAX_REASON] or kind
