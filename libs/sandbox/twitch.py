"""A double of Twitch's API over HTTP: app tokens, `helix/streams` and `helix/users`, for looking up channels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from sandbox.http_server import HttpServer

TOKEN_PATH = "/oauth2/token"
API_PATH = "/helix"


@dataclass
class Channel:
    """`started_at` is None while the channel sends nothing."""

    name: str
    title: str = ""
    game_name: str = ""
    started_at: datetime | None = None


@dataclass
class TwitchCalls:
    tokens: int = 0
    asked: list[str] = field(default_factory=list)


class TwitchDouble(HttpServer):
    """Channels by their login. `status` other than 200 is answered to every question but that for a token."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        *,
        client_id: str = "client",
        client_secret: str = "secret",
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host=host, port=port)
        self.channels = dict(channels)
        self.client_id = client_id
        self.client_secret = client_secret
        self.status = 200
        self.calls = TwitchCalls()
        self._token = ""

    @property
    def token_url(self) -> str:
        return self.base_url + TOKEN_PATH

    @property
    def api_url(self) -> str:
        return self.base_url + API_PATH

    def revoke(self) -> None:
        """Let the token that was given out last be worth nothing."""
        self._token = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == TOKEN_PATH and request.method == "POST":
            return self._give_token(parse_qs(await request.text()))
        what = request.path.removeprefix(f"{API_PATH}/")
        self.calls.asked.append(f"{what}?{request.query_string}")
        if not self._is_known(request):
            return _refused(401, "Invalid OAuth token")
        if self.status != 200:
            return _refused(self.status, "scripted")
        return self._told(what, request)

    def _give_token(self, form: Mapping[str, list[str]]) -> web.Response:
        wanted = {"client_id": self.client_id, "client_secret": self.client_secret}
        if any(form.get(name) != [value] for name, value in wanted.items()):
            return _refused(403, "invalid client secret")
        self.calls.tokens += 1
        self._token = f"token-{self.calls.tokens}"
        return web.json_response(
            {"access_token": self._token, "expires_in": 5_000_000, "token_type": "bearer"}
        )

    def _is_known(self, request: web.Request) -> bool:
        sent = request.headers.get("Authorization"), request.headers.get("Client-Id")
        return bool(self._token) and sent == (f"Bearer {self._token}", self.client_id)

    def _told(self, what: str, request: web.Request) -> web.Response:
        if what == "streams":
            return web.json_response({"data": self._streams(request.query.getall("user_login", []))})
        if what == "users":
            return web.json_response({"data": self._users(request.query.getall("login", []))})
        return _refused(404, "not found")

    def _streams(self, logins: list[str]) -> list[dict[str, Any]]:
        return [
            {
                "id": "40952121085",
                "user_id": str(1000 + number),
                "user_login": login,
                "user_name": channel.name,
                "game_id": "1",
                "game_name": channel.game_name,
                "type": "live",
                "title": channel.title,
                "viewer_count": 5,
                "started_at": channel.started_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "language": "en",
            }
            for number, (login, channel) in enumerate(self.channels.items())
            if login in logins and channel.started_at is not None
        ]

    def _users(self, logins: list[str]) -> list[dict[str, Any]]:
        return [
            {"id": str(1000 + number), "login": login, "display_name": channel.name, "type": ""}
            for number, (login, channel) in enumerate(self.channels.items())
            if login in logins
        ]


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"error": "x", "status": status, "message": message}, status=status)
