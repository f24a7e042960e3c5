"""Sends webhooks as 100ms does: its envelope, a static secret header, an HMAC if asked, and its three retries.

The shapes follow 100ms' documentation of webhooks, version 2.0; ids are made here, new for each beam.
"""

import argparse
import asyncio
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from random import Random
from types import TracebackType
from typing import Any, Self

import aiohttp

from sandbox.http_server import Clock, utc_now

RETRY_DELAYS_S = (1.0, 3.0, 10.0)
SECRET_HEADER = "X-100ms-Secret"
SIGNATURE_HEADER = "x-100ms-signature"
Payload = dict[str, Any]


def _object_id() -> str:
    return uuid.uuid4().hex[:24]


def _uuid() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Beam:
    """One run of 100ms' live streaming in a room: the ids that all its webhooks share, and its playlist."""

    stream_url: str
    started_at: datetime
    room_id: str = field(default_factory=_object_id)
    room_name: str = "sandbox-room"
    session_id: str = field(default_factory=_object_id)
    beam_id: str = field(default_factory=_object_id)
    job_id: str = field(default_factory=_object_id)
    template_id: str = field(default_factory=_object_id)
    account_id: str = field(default_factory=_object_id)
    peer_id: str = field(default_factory=_uuid)
    width: int = 1280
    height: int = 720


class Shape(StrEnum):
    """How a webhook is written: as documented now, under a short name, or as older versions did."""

    CURRENT = "current"
    SHORT = "short"
    OLD = "old"


@dataclass(frozen=True)
class Attempt:
    """One try to deliver: what came back (0: no answer, `error` says why) and after how long a wait."""

    status: int
    waited_s: float
    error: str = ""


@dataclass(frozen=True)
class Delivery:
    """All tries of one webhook, in order."""

    event_id: str
    attempts: tuple[Attempt, ...]

    @property
    def delivered(self) -> bool:
        """Whether the last try was answered by exactly 200, the only status that 100ms takes as success."""
        return self.attempts[-1].status == 200


def build_payload(
    event_type: str,
    *,
    beam: Beam,
    at: datetime,
    event_id: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Payload:
    """Return the webhook `event_type` about `beam` at the aware time `at`; `changes` replace keys of `data`.

    Types without a template of their own get the ids of room, session and template only.
    """
    details = _DETAILS.get(event_type, _no_details)
    return {
        "version": "2.0",
        "id": event_id or _uuid(),
        "account_id": beam.account_id,
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "type": event_type,
        "data": {**_session(beam), **details(beam, at), **(changes or {})},
    }


def reshaped(payload: Payload, shape: Shape) -> Payload:
    """The same webhook in another shape. The old one has no beam id: room, session and start stand for it."""
    if shape is Shape.CURRENT:
        return payload
    short = {**payload, "type": str(payload["type"]).removesuffix(".success")}
    if shape is Shape.SHORT:
        return short
    data = {key: value for key, value in payload["data"].items() if key not in ("beam_id", "job_id")}
    numbers = {key: str(value) for key, value in data.items() if isinstance(value, int | float)}
    return {**short, "version": "1.0", "timestamp": _unix(payload["timestamp"]), "data": {**data, **numbers}}


def disordered(payloads: Iterable[Payload], *, copies: int, seed: int) -> tuple[Payload, ...]:
    """Each webhook `copies` times, in an order that the seed decides."""
    found = [payload for payload in payloads for _ in range(copies)]
    Random(seed).shuffle(found)
    return tuple(found)


def signature_of(body: bytes, *, secret: str) -> str:
    """What 100ms sends for workspaces under HIPAA: hex HMAC-SHA256 of the raw body, without a prefix."""
    return hmac.new(secret.encode(), body, sha256).hexdigest()


def _unix(timestamp: str) -> int:
    return int(datetime.fromisoformat(timestamp).astimezone(UTC).timestamp())


def _instant(at: datetime) -> str:
    """Return RFC 3339 with nanoseconds, as 100ms writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def _elapsed_s(beam: Beam, at: datetime) -> int:
    return round((at - beam.started_at).total_seconds())


def _session(beam: Beam) -> Payload:
    return {
        "room_id": beam.room_id,
        "session_id": beam.session_id,
        "template_id": beam.template_id,
        "session_started_at": _instant(beam.started_at),
    }


def _beam(beam: Beam, at: datetime) -> Payload:
    return {
        "beam_id": beam.beam_id,
        "job_id": beam.job_id,
        "peer_id": beam.peer_id,
        "metadata_id": _uuid(),
        "metadata_timestamp": _instant(at),
        "recording_single_file_per_layer_enabled": False,
        "recording_vod_playlist_enabled": False,
        "meeting_url": "https://sandbox.invalid/preview/room?token=beam_recording",
        "max_width": beam.width,
        "max_height": beam.height,
    }


def _hls_started(beam: Beam, at: datetime) -> Payload:
    started_at = _instant(beam.started_at)
    return {**_beam(beam, at), "url": beam.stream_url, "started_at": started_at, "start_delay": 0}


def _hls_stopped(beam: Beam, at: datetime) -> Payload:
    return {
        **_beam(beam, at),
        "url": beam.stream_url,
        "duration": _elapsed_s(beam, at),
        "started_at": _instant(beam.started_at),
        "stopped_at": _instant(at),
        "reason": "client request",
    }


def _hls_failure(beam: Beam, at: datetime) -> Payload:
    return {
        **_beam(beam, at),
        "duration": _elapsed_s(beam, at),
        "error_code": 1,
        "error_type": "INTERNAL_ERROR",
        "error_message": "Something went wrong.",
    }


def _hls_recording(beam: Beam, at: datetime) -> Payload:
    return {
        "beam_id": beam.beam_id,
        "metadata_id": _uuid(),
        "metadata_timestamp": _instant(at),
        "duration": _elapsed_s(beam, at),
        "max_width": beam.width,
        "max_height": beam.height,
        "recording_id": _object_id(),
        "recording_single_files": [],
        "recording_thumbnails": [],
        "recording_created_at": _instant(at),
        "started_at": _instant(beam.started_at),
        "stopped_at": _instant(at),
    }


def _session_open(beam: Beam, at: datetime) -> Payload:
    return {"room_name": beam.room_name}


def _session_close(beam: Beam, at: datetime) -> Payload:
    return {
        "room_name": beam.room_name,
        "session_duration": _elapsed_s(beam, at),
        "session_stopped_at": _instant(at),
    }


def _no_details(beam: Beam, at: datetime) -> Payload:
    return {}


_DETAILS: dict[str, Callable[[Beam, datetime], Payload]] = {
    "hls.started.success": _hls_started,
    "hls.stopped.success": _hls_stopped,
    "hls.failure": _hls_failure,
    "hls.recording.success": _hls_recording,
    "session.open.success": _session_open,
    "session.close.success": _session_close,
}


class HundredMs:
    """Posts webhooks to `url` with `secret` in the header `secret_header`; an async context manager.

    With an `hmac_secret` they are signed too; without a `secret` the header is left out. 100ms tries again
    1, 3 and 10 s after anything but a 200 and then gives the event up. `sleep` and `clock` may be replaced in tests.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | None,
        secret_header: str = SECRET_HEADER,
        hmac_secret: str | None = None,
        shape: Shape = Shape.CURRENT,
        timeout_s: float = 5.0,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Clock = utc_now,
    ) -> None:
        self._url = url
        self._headers = {} if secret is None else {secret_header: secret}
        self._hmac_secret = hmac_secret
        self._shape = shape
        self._retry_delays_s = retry_delays_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._sleep = sleep
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(
        self, event_type: str, *, beam: Beam, changes: Mapping[str, Any] | None = None
    ) -> Delivery:
        """Build the webhook about `beam` now and deliver it, with retries."""
        payload = build_payload(event_type, beam=beam, at=self._clock(), changes=changes)
        return await self.deliver(reshaped(payload, self._shape))

    async def deliver(self, payload: Payload) -> Delivery:
        """Post `payload` as it is until it is answered by 200 or the retries are used up."""
        body = json.dumps(payload).encode()
        attempts: list[Attempt] = []
        for waited_s in (0.0, *self._retry_delays_s):
            if attempts:
                await self._sleep(waited_s)
            attempts.append(await self._post(body, waited_s=waited_s))
            if attempts[-1].status == 200:
                break
        return Delivery(event_id=str(payload.get("id", "")), attempts=tuple(attempts))

    async def _post(self, body: bytes, *, waited_s: float) -> Attempt:
        if self._session is None:
            raise RuntimeError("use the sender as an async context manager")
        try:
            async with self._session.post(
                self._url, data=body, headers=self._headers_of(body), allow_redirects=False
            ) as response:
                return Attempt(status=response.status, waited_s=waited_s)
        except (aiohttp.ClientError, TimeoutError) as error:
            return Attempt(status=0, waited_s=waited_s, error=f"{type(error).__name__}: {error}")

    def _headers_of(self, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._hmac_secret is not None:
            headers[SIGNATURE_HEADER] = signature_of(body, secret=self._hmac_secret)
        return headers


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.hundredms", description="Send a 100ms webhook.")
    parser.add_argument("--url", required=True, help="where 100ms would post")
    parser.add_argument("--secret", required=True)
    parser.add_argument("--secret-header", default=SECRET_HEADER)
    parser.add_argument("--hmac-secret", default=None, help="sign the body as well")
    parser.add_argument("--shape", choices=[shape.value for shape in Shape], default=Shape.CURRENT.value)
    parser.add_argument("--event", default="hls.started.success", help="type of the webhook")
    parser.add_argument("--stream-url", default="", help="master playlist of the stream")
    parser.add_argument("--room-id", default=None)
    parser.add_argument("--session-id", default=None)
    parser.add_argument("--beam-id", default=None, help="give a stop the same id as its start")
    return parser.parse_args()


async def _send(options: argparse.Namespace) -> Delivery:
    given = {name: getattr(options, name) for name in ("room_id", "session_id", "beam_id")}
    ids = {name: value for name, value in given.items() if value is not None}
    beam = Beam(stream_url=options.stream_url, started_at=utc_now(), **ids)
    print(f"room {beam.room_id} session {beam.session_id} beam {beam.beam_id}", flush=True)
    async with HundredMs(
        options.url,
        secret=options.secret,
        secret_header=options.secret_header,
        hmac_secret=options.hmac_secret,
        shape=Shape(options.shape),
    ) as sender:
        return await sender.send(options.event, beam=beam)


def main() -> None:
    """Send one webhook; exit status 1 if it was not taken."""
    delivery = asyncio.run(_send(_arguments()))
    for attempt in delivery.attempts:
        print(f"after {attempt.waited_s:g} s: {attempt.status or attempt.error}")
    raise SystemExit(0 if delivery.delivered else 1)


if __name__ == "__main__":
    main()
