"""Twitch's API (helix): what a channel sends now, with an app token of our own.

https://dev.twitch.tv/docs/api/reference#get-streams; client credentials flow.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, TypeVar
from urllib.parse import urlencode

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from gateway.domain.reachability import ChannelNow
from shared.errors import PermanentError, RetryableError
from shared.http_client import Limits, Response, SafeHttpClient

_LIMITS = Limits(max_bytes=256 * 1024, total_s=3.0, connect_s=2.0, first_byte_s=3.0, min_bytes_per_s=0)
_RENEW_AHEAD_S = 60.0
ModelT = TypeVar("ModelT", bound=BaseModel)


class TwitchUnavailable(RetryableError):
    """Twitch did not answer, or with something else than what it documents."""

    code: ClassVar[str] = "twitch_unavailable"


class TwitchRefused(PermanentError):
    """Twitch does not know the client id and secret that are configured."""

    code: ClassVar[str] = "twitch_refused"


@dataclass(frozen=True, kw_only=True)
class TwitchAccess:
    client_id: str
    client_secret: str
    api_url: str
    token_url: str


@dataclass(frozen=True)
class _Token:
    text: str
    until_s: float


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _TokenAnswer(_Part):
    access_token: str
    expires_in: float = 3600


class _Stream(_Part):
    user_name: str = ""
    game_name: str = ""
    title: str = ""
    started_at: AwareDatetime


class _Streams(_Part):
    data: tuple[_Stream, ...]


class _User(_Part):
    display_name: str = ""


class _Users(_Part):
    data: tuple[_User, ...]


class TwitchChannels:
    """The app token is kept for as long as it is good; `now_s` is a monotonic clock."""

    def __init__(self, http: SafeHttpClient, *, access: TwitchAccess, now_s: Callable[[], float]) -> None:
        self._http = http
        self._access = access
        self._now_s = now_s
        self._token: _Token | None = None
        self._one_at_a_time = asyncio.Lock()

    async def now(self, login: str) -> ChannelNow | None:
        """None when there is no such channel. Raises TwitchUnavailable, TwitchRefused."""
        streams = _read(_Streams, await self._ask("streams", {"user_login": login}))
        for stream in streams.data:
            return ChannelNow(
                name=stream.user_name or login,
                title=stream.title,
                game_name=stream.game_name,
                started_at=stream.started_at,
            )
        users = _read(_Users, await self._ask("users", {"login": login}))
        return ChannelNow(name=users.data[0].display_name or login) if users.data else None

    async def _ask(self, what: str, query: Mapping[str, str]) -> Response:
        url = f"{self._access.api_url.rstrip('/')}/{what}?{urlencode(query)}"
        token = await self._current(refused=None)
        answer = await self._get(url, token)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            answer = await self._get(url, await self._current(refused=token))
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise TwitchRefused("Twitch refuses a fresh token of ours")
        if answer.status != HTTPStatus.OK:
            raise TwitchUnavailable(f"Twitch answered {answer.status} when asked for {what}")
        return answer

    async def _get(self, url: str, token: _Token) -> Response:
        headers = {"Client-Id": self._access.client_id, "Authorization": f"Bearer {token.text}"}
        return await self._http.get(url, limits=_LIMITS, headers=headers)

    async def _current(self, *, refused: _Token | None) -> _Token:
        """The token that is kept, or a new one; whoever comes while it is fetched waits for the same."""
        async with self._one_at_a_time:
            kept = self._token
            if kept is None or kept is refused or self._now_s() >= kept.until_s:
                kept = self._token = await self._fetch_token()
            return kept

    async def _fetch_token(self) -> _Token:
        form = {
            "client_id": self._access.client_id,
            "client_secret": self._access.client_secret,
            "grant_type": "client_credentials",
        }
        answer = await self._http.post(
            self._access.token_url,
            body=urlencode(form).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            limits=_LIMITS,
        )
        if answer.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise TwitchRefused(
                f"Twitch answered {answer.status} when asked for a token: check id and secret"
            )
        if answer.status != HTTPStatus.OK:
            raise TwitchUnavailable(f"Twitch answered {answer.status} when asked for a token")
        token = _read(_TokenAnswer, answer)
        return _Token(token.access_token, self._now_s() + token.expires_in - _RENEW_AHEAD_S)


def _read(model: type[ModelT], answer: Response) -> ModelT:
    try:
        return model.model_validate(json.loads(answer.body))
    except (ValueError, ValidationError) as error:
        raise TwitchUnavailable(f"Twitch's answer is not what it documents: {model.__name__}") from error
