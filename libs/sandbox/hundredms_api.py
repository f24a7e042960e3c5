"""Plays 100ms' REST API: live streams, recordings and failed webhooks, behind its management token.

Paths and shapes follow 100ms' documentation of its server-side API, version 2; the webhooks are sent by
`sandbox.hundredms`. Faults are switched on from outside: `faults` answers the next requests in its place.
"""

import argparse
import asyncio
import hmac
import re
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from aiohttp import web

from sandbox.http_server import Clock, HttpServer, utc_now
from sandbox.hundredms import Beam
from sandbox.hundredms_token import token_fault

MAX_PAGE, DEFAULT_PAGE = 100, 10
PREFIX = "/v2"
ASSET_LIFE_S = 3 * 24 * 3600
RUNNING = ("starting", "running")
Json = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """One answer in the API's place: a status, after a wait; `body` replaces the error object."""

    status: int = 500
    delay_s: float = 0.0
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Live:
    """One live stream. Its id has nothing to do with the beam's, as in the real API as far as is documented."""

    id: str
    room_id: str
    session_id: str
    url: str
    status: str
    started_at: datetime
    stopped_at: datetime | None = None

    def shown(self, assets: Sequence[Json]) -> Json:
        started_at = _instant(self.started_at)
        return {
            "id": self.id,
            "room_id": self.room_id,
            "session_id": self.session_id,
            "status": self.status,
            "destination": "",
            "playback": {"url": self.url},
            "meeting_url": "https://sandbox.invalid/preview/room?token=beam_recording",
            "recording": {"hls_vod": False, "single_file_per_layer": bool(assets)},
            "created_at": started_at,
            "started_at": started_at,
            "updated_at": _instant(self.stopped_at or self.started_at),
            "stopped_at": _instant(self.stopped_at) if self.stopped_at else None,
            "started_by": "",
            "stopped_by": "",
            "recording_assets": list(assets) or None,
        }


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One recorded file, served under the presigned address by this server itself."""

    id: str
    session_id: str
    room_id: str
    type: str
    body: bytes = field(repr=False)
    created_at: datetime
    duration_s: int = 0
    metadata: Json = field(default_factory=dict)

    def shown(self) -> Json:
        return {
            "id": self.id,
            "thumbnails": None,
            "metadata": self.metadata,
            "duration": self.duration_s,
            "path": f"s3://sandbox/{self.id}",
            "status": "completed",
            "created_at": _instant(self.created_at),
            "type": self.type,
            "size": len(self.body),
            "job_id": "sandbox-job",
            "room_id": self.room_id,
            "session_id": self.session_id,
        }


class HundredmsApi(HttpServer):
    """An async context manager. Give our service `url` as HUNDREDMS_API_URL, and both keys to a connection."""

    def __init__(
        self,
        *,
        access_key: str,
        app_secret: str,
        stream_url: str = "",
        page: int = MAX_PAGE,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = utc_now,
    ) -> None:
        """`stream_url` is what streams play that the API itself starts; `page` is the most that one answer holds."""
        super().__init__(host=host, port=port)
        self._access_key = access_key
        self._app_secret = app_secret
        self._stream_url = stream_url
        self._page = page
        self._clock = clock
        self.live: dict[str, Live] = {}
        self.assets: dict[str, Asset] = {}
        self.failed_webhooks: list[Json] = []
        self.faults: deque[Fault] = deque()
        self.requests: list[str] = []
        self.refusals: list[str] = []

    @property
    def url(self) -> str:
        return f"{self.base_url}{PREFIX}"

    def go_live(self, beam: Beam, *, status: str = "running") -> Live:
        """The API shows the beam's stream from now on; no webhook is sent."""
        live = Live(
            id=_object_id(),
            room_id=beam.room_id,
            session_id=beam.session_id,
            url=beam.stream_url,
            status=status,
            started_at=beam.started_at,
        )
        self.live[live.id] = live
        return live

    def end(self, live: Live, *, status: str = "completed") -> Live:
        """The stream runs no more; no webhook is sent."""
        ended = replace(self.live[live.id], status=status, stopped_at=self._clock())
        self.live[live.id] = ended
        return ended

    def record(self, beam: Beam, body: bytes, *, kind: str = "room-composite", duration_s: int = 0) -> Asset:
        """A recorded file of the beam's session: `room-composite` is an MP4, `chat` the CSV."""
        asset = Asset(
            id=_object_id(),
            session_id=beam.session_id,
            room_id=beam.room_id,
            type=kind,
            body=body,
            created_at=self._clock(),
            duration_s=duration_s,
            metadata={"layer": "0"} if kind == "room-composite" else {},
        )
        self.assets[asset.id] = asset
        return asset

    def address(self, asset: Asset) -> str:
        """The presigned address: whoever has it gets the file, without a token."""
        return f"{self.base_url}/files/{asset.id}?signature={self._signature(asset.id)}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        if request.path.startswith("/files/"):
            return self._file(request)
        if self.faults:
            return await _faulty(self.faults.popleft())
        refusal = token_fault(
            request.headers.get("Authorization", ""),
            access_key=self._access_key,
            app_secret=self._app_secret,
            now=self._clock(),
        )
        if refusal:
            self.refusals.append(refusal)
            return _error(401, refusal)
        return self._routed(request)

    # -- routes --------------------------------------------------------------------------------------

    def _routed(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix(PREFIX)
        for method, pattern, handler in _ROUTES:
            found = pattern.fullmatch(path)
            if found and method == request.method:
                return handler(self, request, **found.groupdict())
        return _error(404, "not found")

    def _live_streams(self, request: web.Request) -> web.Response:
        found = _filtered(self.live.values(), request, "status", "room_id", "session_id")
        return self._listed(request, [(one.id, self._shape(one)) for one in found])

    def _live_stream(self, _request: web.Request, live_id: str) -> web.Response:
        live = self.live.get(live_id)
        return _error(404, "live stream not found") if live is None else web.json_response(self._shape(live))

    def _start(self, _request: web.Request, room_id: str) -> web.Response:
        beam = Beam(stream_url=self._stream_url, started_at=self._clock(), room_id=room_id)
        return web.json_response(self._shape(self.go_live(beam, status="starting")))

    def _stop_room(self, _request: web.Request, room_id: str) -> web.Response:
        return self._stopped([one for one in self._running() if one.room_id == room_id])

    def _stop(self, _request: web.Request, live_id: str) -> web.Response:
        return self._stopped([one for one in self._running() if one.id == live_id])

    def _recordings(self, request: web.Request) -> web.Response:
        found = _filtered(self.assets.values(), request, "session_id", "room_id", "type")
        return self._listed(request, [(one.id, one.shown()) for one in found])

    def _recording(self, _request: web.Request, asset_id: str) -> web.Response:
        asset = self.assets.get(asset_id)
        return _error(404, "asset not found") if asset is None else web.json_response(asset.shown())

    def _listed(self, request: web.Request, found: list[tuple[str, Json]]) -> web.Response:
        """`start` is the id of the last object that the caller has."""
        asked = request.query.get("limit", "")
        limit = min(int(asked) if asked.isdigit() else DEFAULT_PAGE, MAX_PAGE, self._page)
        ids = [one_id for one_id, _ in found]
        start = request.query.get("start", "")
        first = ids.index(start) + 1 if start in ids else 0
        page = found[first : first + limit]
        return web.json_response(
            {"limit": limit, "data": [shown for _, shown in page], "last": page[-1][0] if page else ""}
        )

    def _stopped(self, lives: list[Live]) -> web.Response:
        if not lives:
            return _error(404, "live stream not found")
        shown = [self._shape(self.end(one)) for one in lives]
        return web.json_response({"data": shown, "limit": DEFAULT_PAGE, "last": shown[-1]["id"]})

    def _running(self) -> list[Live]:
        return [one for one in self.live.values() if one.status in RUNNING]

    def _shape(self, live: Live) -> Json:
        return live.shown([one.shown() for one in self.assets.values() if one.session_id == live.session_id])

    def _presigned(self, request: web.Request, asset_id: str) -> web.Response:
        asset = self.assets.get(asset_id)
        if asset is None:
            return _error(404, "asset not found")
        asked = request.query.get("presign_duration", "")
        expiry = int(asked) if asked.isdigit() else ASSET_LIFE_S
        return web.json_response(
            {"id": asset.id, "path": f"s3://sandbox/{asset.id}", "url": self.address(asset), "expiry": expiry}
        )

    def _active_room(self, _request: web.Request, room_id: str) -> web.Response:
        running = [one for one in self._running() if one.room_id == room_id]
        if not running:
            return _error(404, "no active session")
        session = {
            "id": running[-1].session_id,
            "created_at": _instant(running[-1].started_at),
            "active": True,
        }
        return web.json_response(
            {"id": room_id, "name": "sandbox-room", "customer_id": "sandbox", "session": session}
        )

    def _webhooks(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("limit", "50"))
        number = max(int(request.query.get("page", "1")), 1)
        events, total = self.failed_webhooks[(number - 1) * limit : number * limit], len(self.failed_webhooks)
        pages = -(-total // limit)
        pagination = {
            "current_page": number,
            "page_size": limit,
            "total_pages": pages,
            "total_items": total,
            "has_next": number < pages,
            "has_prev": number > 1,
        }
        return web.json_response(
            {"events": events, "pagination": pagination, "summary": {"total_events": total}}
        )

    # -- files ---------------------------------------------------------------------------------------

    def _file(self, request: web.Request) -> web.StreamResponse:
        asset = self.assets.get(request.path.rpartition("/")[2])
        if asset is None:
            return web.Response(status=404)
        if not hmac.compare_digest(request.query.get("signature", ""), self._signature(asset.id)):
            return web.Response(status=403)
        return _ranged(asset.body, request)

    def _signature(self, asset_id: str) -> str:
        return hmac.new(self._app_secret.encode(), asset_id.encode(), sha256).hexdigest()[:32]


# Fixed words come before what could be an id.
_ROUTES: tuple[tuple[str, re.Pattern[str], Callable[..., web.Response]], ...] = tuple(
    (method, re.compile(pattern), handler)
    for method, pattern, handler in (
        ("GET", "/live-streams", HundredmsApi._live_streams),
        ("GET", "/live-streams/(?P<live_id>[^/]+)", HundredmsApi._live_stream),
        ("POST", "/live-streams/room/(?P<room_id>[^/]+)/start", HundredmsApi._start),
        ("POST", "/live-streams/room/(?P<room_id>[^/]+)/stop", HundredmsApi._stop_room),
        ("POST", "/live-streams/(?P<live_id>[^/]+)/stop", HundredmsApi._stop),
        ("GET", "/recording-assets", HundredmsApi._recordings),
        ("GET", "/recording-assets/(?P<asset_id>[^/]+)", HundredmsApi._recording),
        ("GET", "/recording-assets/(?P<asset_id>[^/]+)/presigned-url", HundredmsApi._presigned),
        ("GET", "/active-rooms/(?P<room_id>[^/]+)", HundredmsApi._active_room),
        ("GET", "/analytics/webhooks", HundredmsApi._webhooks),
    )
)


def _ranged(body: bytes, request: web.Request) -> web.Response:
    with suppress(ValueError):
        asked = request.http_range
        if asked.start is not None or asked.stop is not None:
            first, stop, _ = asked.indices(len(body))
            span = f"bytes {first}-{stop - 1}/{len(body)}"
            headers = {"Content-Range": span, "Accept-Ranges": "bytes"}
            return web.Response(status=206, body=body[first:stop], headers=headers)
    return web.Response(body=body, headers={"Accept-Ranges": "bytes"})


def _filtered(found: Iterable[Any], request: web.Request, *names: str) -> list[Any]:
    wanted = {name: request.query[name] for name in names if name in request.query}
    return [one for one in found if all(getattr(one, name) == value for name, value in wanted.items())]


async def _faulty(fault: Fault) -> web.Response:
    await asyncio.sleep(fault.delay_s)
    if fault.body is not None:
        return web.Response(status=fault.status, body=fault.body, content_type="application/json")
    return _error(
        fault.status, "rate limit exceeded, retry after 45 seconds" if fault.status == 429 else "a fault"
    )


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"code": status, "message": message, "details": []}, status=status)


def _object_id() -> str:
    return uuid.uuid4().hex[:24]


def _instant(at: datetime) -> str:
    """RFC 3339 with nanoseconds, as 100ms writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.hundredms_api", description="Play 100ms' REST API."
    )
    parser.add_argument("--access-key", required=True)
    parser.add_argument("--app-secret", required=True)
    parser.add_argument("--stream-url", default="", help="a master playlist that is live from the start")
    parser.add_argument("--room-id", default=None, help="the room of that stream")
    parser.add_argument("--page", type=int, default=MAX_PAGE, help="most objects of one answer")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    return parser.parse_args()


async def _serve(options: argparse.Namespace) -> None:
    api = HundredmsApi(
        access_key=options.access_key,
        app_secret=options.app_secret,
        stream_url=options.stream_url,
        page=options.page,
        host=options.host,
        port=options.port,
    )
    async with api:
        print(api.url, flush=True)
        if options.stream_url:
            ids = {} if options.room_id is None else {"room_id": options.room_id}
            live = api.go_live(Beam(stream_url=options.stream_url, started_at=utc_now(), **ids))
            print(f"live {live.id} room {live.room_id} session {live.session_id}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until Ctrl-C; the first line printed is the base address of the API."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(_arguments()))


if __name__ == "__main__":
    main()
