"""A customer of the product: registers, sets up its webhook and its 100ms connection, reads what was found."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

EVENT_TYPES = (
    "stream.started",
    "highlight.detected",
    "highlight.created",
    "highlight.updated",
    "stream.completed",
    "stream.updated",
    "stream.error",
    "stream.cancelled",
)


class ApiRefused(Exception):
    """The API answered something else than 200; `problem` is its RFC 9457 body."""

    def __init__(self, request: str, *, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{request}: {status} {problem.get('detail', problem)}")
        self.status = status
        self.problem = problem


class Customer:
    """Speaks to the public REST API only. An async context manager."""

    def __init__(self, api_url: str) -> None:
        self._api_url = api_url
        self._api_key = ""
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def register(self, *, email: str, password: str, company_name: str) -> None:
        body = {"email": email, "password": password, "company_name": company_name}
        answer = await self.call("POST", "/v1/auth/register", body)
        self._api_key = str(answer["api_key"])

    def use_key(self, api_key: str) -> None:
        self._api_key = api_key

    async def add_webhook(self, url: str) -> str:
        """The endpoint's secret."""
        answer = await self.call("POST", "/v1/webhooks", {"url": url, "event_types": list(EVENT_TYPES)})
        return str(answer["secret"])

    async def connect_100ms(self, *, secret: str, secret_header: str) -> str:
        """The URL that 100ms shall post to."""
        body = {"name": "demo workspace", "secret": secret, "secret_header": secret_header}
        answer = await self.call("POST", "/v1/connections/100ms", body)
        return f"{self._api_url}/webhooks/100ms/{answer['id']}"

    async def streams(self) -> list[dict[str, Any]]:
        answer = await self.call("GET", "/v1/streams")
        return list(answer["items"])

    async def stream(self, stream_id: str) -> dict[str, Any]:
        return dict(await self.call("GET", f"/v1/streams/{stream_id}"))

    async def highlights(self, stream_id: str) -> list[dict[str, Any]]:
        answer = await self.call("GET", f"/v1/streams/{stream_id}/highlights?page=1&per_page=100")
        return list(answer["items"])

    async def fetch(self, url: str, path: Path) -> None:
        """Store what the signed URL gives. Raises ApiRefused."""
        assert self._session is not None
        async with self._session.get(url) as answer:
            if answer.status != 200:
                raise ApiRefused(f"GET {url}", status=answer.status, problem={})
            await asyncio.to_thread(path.write_bytes, await answer.read())

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Raises ApiRefused with the problem's detail."""
        assert self._session is not None
        headers = {"X-API-Key": self._api_key} if self._api_key else {}
        async with self._session.request(
            method, f"{self._api_url}{path}", json=body, headers=headers
        ) as answer:
            found = await answer.json(content_type=None)
            if answer.status != 200:
                raise ApiRefused(f"{method} {path}", status=answer.status, problem=found)
            return found
