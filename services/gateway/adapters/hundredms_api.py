"""100ms' REST API, asked with a customer's credentials through the client that judges every address."""

from collections.abc import Callable
from typing import ClassVar
from urllib.parse import quote, urlencode
from uuid import UUID

from gateway.domain.hundredms_answers import PAGE, Page, Presigned, read_page, read_presigned
from gateway.domain.hundredms_token import ApiCredentials, management_token
from shared.clock import Clock
from shared.errors import PermanentError, RetryableError
from shared.http_client import Limits, Response, SafeHttpClient

LIMITS = Limits(max_bytes=2 * 1024 * 1024, total_s=6.0, max_redirects=0)
BUSY_S = 45.0  # 100ms documents this wait for 429
PRESIGN_S = 24 * 3600


class CredentialsRefused(PermanentError):
    """100ms does not take the access key and app secret of the connection."""

    code: ClassVar[str] = "hundredms_credentials_refused"


class ApiBusy(RetryableError):
    """Too many requests: wait before the next one."""

    code: ClassVar[str] = "hundredms_busy"


class ApiFailed(RetryableError):
    """The API answered with a failure of its own."""

    code: ClassVar[str] = "hundredms_failed"


class NothingThere(PermanentError):
    """The API does not know what was asked for."""

    code: ClassVar[str] = "hundredms_unknown"


class HundredmsApi:
    """Each call raises CredentialsRefused, ApiBusy, ApiFailed, AnswerUnreadable, or what the HTTP client raises."""

    def __init__(
        self, client: SafeHttpClient, *, base_url: str, clock: Clock, entropy: Callable[[int], bytes]
    ) -> None:
        self._client = client
        self._base_url = base_url.rstrip("/")
        self._clock = clock
        self._entropy = entropy

    async def running(self, credentials: ApiCredentials, *, start: str) -> Page:
        """One page of the live streams that run; `start` is empty for the first."""
        return await self._page(credentials, {"status": "running", "start": start})

    async def of_session(self, credentials: ApiCredentials, *, room_id: str, session_id: str) -> Page:
        """Live streams of one session, whatever their state."""
        return await self._page(credentials, {"room_id": room_id, "session_id": session_id})

    async def presigned(self, credentials: ApiCredentials, asset_id: str) -> Presigned:
        """A new address of a recording. Raises NothingThere too."""
        query = urlencode({"presign_duration": PRESIGN_S})
        path = f"/recording-assets/{quote(asset_id, safe='')}/presigned-url?{query}"
        return read_presigned((await self._get(credentials, path)).body)

    async def _page(self, credentials: ApiCredentials, query: dict[str, str]) -> Page:
        asked = {name: value for name, value in query.items() if value}
        path = f"/live-streams?{urlencode({**asked, 'limit': PAGE})}"
        return read_page((await self._get(credentials, path)).body)

    async def _get(self, credentials: ApiCredentials, path: str) -> Response:
        """A token that was refused is made anew, once: the clock of either side may have been set."""
        answer = await self._ask(credentials, path)
        if answer.status == 401:
            answer = await self._ask(credentials, path)
        if answer.status != 200:
            raise _failure(answer)
        return answer

    async def _ask(self, credentials: ApiCredentials, path: str) -> Response:
        token_id = str(UUID(bytes=self._entropy(16), version=4))
        token = management_token(credentials, token_id=token_id, now=self._clock())
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        return await self._client.get(f"{self._base_url}{path}", limits=LIMITS, headers=headers)


def _failure(answer: Response) -> RetryableError | PermanentError:
    if answer.status in (401, 403):
        return CredentialsRefused(f"100ms answered {answer.status}: check access key and app secret")
    if answer.status == 429:
        return ApiBusy("100ms answered 429: too many requests", retry_after_s=BUSY_S)
    if answer.status == 404:
        return NothingThere("100ms answered 404")
    return ApiFailed(f"100ms answered {answer.status}")
