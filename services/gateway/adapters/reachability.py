"""The beginning of a source's answer by HTTP: HEAD where that is enough, else a GET of the first bytes."""

from collections.abc import Mapping
from http import HTTPStatus
from time import monotonic
from typing import Literal

from gateway.domain.reachability import LOOKED_AT_BYTES, Answer
from shared.errors import RetryableError
from shared.http_client import Limits, Response, SafeHttpClient

_SHORTEST_S = 0.2


class HttpOrigins:
    def __init__(self, http: SafeHttpClient) -> None:
        self._http = http

    async def look(self, url: str, *, headers: Mapping[str, str], is_hinted: bool, within_s: float) -> Answer:
        """Servers that know no HEAD, or answer it otherwise than GET, are asked by GET. Raises as `SafeHttpClient`."""
        deadline = monotonic() + within_s
        try:
            head = await self._ask("HEAD", url, headers=headers, until=deadline - within_s / 2)
        except RetryableError:
            head = None
        if head is not None and head.is_success and is_hinted and not _looks_like_a_page(head):
            return head
        return await self._ask("GET", url, headers=headers, until=deadline)

    async def _ask(
        self, method: Literal["HEAD", "GET"], url: str, *, headers: Mapping[str, str], until: float
    ) -> Answer:
        left_s = max(_SHORTEST_S, until - monotonic())
        limits = Limits(
            max_bytes=LOOKED_AT_BYTES,
            total_s=left_s,
            connect_s=left_s,
            first_byte_s=left_s,
            min_bytes_per_s=0,
        )
        return _answer(await self._http.peek(url, limits=limits, headers=headers, method=method))


def _answer(response: Response) -> Answer:
    """An empty file has no first bytes to give (416), and is there; the page that says so is not what it is."""
    if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return Answer(status=HTTPStatus.OK, headers={}, start=b"")
    return Answer(status=response.status, headers=response.headers, start=response.body)


def _looks_like_a_page(answer: Answer) -> bool:
    return "html" in answer.content_type
