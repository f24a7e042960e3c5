"""An HTTP client that answers from a table of rules, and remembers what was asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shared.http_client import Limits, Response

Answer = bytes | int | Exception
Rule = Callable[[], Answer]


@dataclass
class FakeHttp:
    """`pages` maps an address without its query to a body, a status, an error, or a callable that gives one."""

    pages: dict[str, Answer | Rule] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: dict[str, Mapping[str, str]] = field(default_factory=dict)

    async def get(
        self,
        url: str,
        *,
        limits: Limits,
        headers: Mapping[str, str] | None = None,
        byte_range: tuple[int, int] | None = None,
    ) -> Response:
        self.asked.append(url)
        self.headers[url] = headers or {}
        page = self.pages.get(url, self.pages.get(url.partition("?")[0], 404))
        answer = page() if callable(page) else page
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return Response(status=answer, url=url, headers={}, body=b"")
        if byte_range is not None:
            return Response(206, url, {}, answer[byte_range[0] : byte_range[1] + 1])
        return Response(status=200, url=url, headers={}, body=answer)
