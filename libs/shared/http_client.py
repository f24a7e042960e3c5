"""The one outbound HTTP client for every address that a customer gave: playlists, segments, keys, webhooks.

It judges each address when the socket is made, after DNS and on every hop, and bounds size, time and rate.
It does not retry, does not parse what it fetched and knows no meaning of a status.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import socket
import ssl
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, ClassVar, Literal, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import AsyncResolver
from yarl import URL

from shared.addresses import BlockedAddress, HostPort, UrlRefused, check_address, check_url
from shared.errors import PermanentError, RetryableError

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GZIP_ENCODINGS = frozenset({"gzip", "x-gzip"})
_ANY_WBITS = 47  # zlib: gzip or zlib header, told apart by itself
_ERROR_BODY_MAX_BYTES = 64 * 1024
_RATE_GRACE_S = 2.0
_READ_BYTES = 1 << 18  # what may wait unread of an answer; less makes a segment's reader stop and go
_WRITE_BYTES = 1 << 20
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]{0,8192}")
_OWN_HEADERS = frozenset(
    {
        *("connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_HEADER_LINE_MAX_BYTES = 8190
_HEADERS_MAX_COUNT = 128
DNS_TIMEOUT_S = 2.0
DNS_TRIES = 2


class HttpTimeout(RetryableError):
    """Connecting, the first byte, the whole exchange, or the pace of the answer broke its limit."""

    code: ClassVar[str] = "http_timeout"


class ConnectFailed(RetryableError):
    """No answer: the name did not resolve, the connection was refused or reset, or TLS failed."""

    code: ClassVar[str] = "connect_failed"


class Truncated(RetryableError):
    """The answer ended before the length or the encoding that it announced."""

    code: ClassVar[str] = "answer_truncated"


class AnswerMalformed(RetryableError):
    """What came back is not HTTP that we read: bad or oversized headers, a broken or unknown encoding."""

    code: ClassVar[str] = "answer_malformed"


class TooLarge(PermanentError):
    """The body, decoded, is larger than the limit."""

    code: ClassVar[str] = "answer_too_large"


class SizeMismatch(PermanentError):
    """The body does not have the one size that it must have."""

    code: ClassVar[str] = "answer_size_wrong"


class HeadersRefused(PermanentError):
    """A header that the caller wants to send is malformed, or belongs to the connection and so to us."""

    code: ClassVar[str] = "headers_refused"


class BadRedirect(PermanentError):
    """Too many redirects, or one that leads nowhere."""

    code: ClassVar[str] = "redirect_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one exchange may cost.

    `max_bytes` counts the decoded body. `total_s` covers all hops. `first_byte_s` covers the wait for the
    headers of a hop, and any pause in a body. After two seconds of body its average must be
    `min_bytes_per_s` or more. `exact_bytes` is the one size that a 2xx body may have, None for any.
    """

    max_bytes: int
    total_s: float
    connect_s: float = 3.0
    first_byte_s: float = 5.0
    min_bytes_per_s: int = 16 * 1024
    max_redirects: int = 3
    exact_bytes: int | None = None


PLAYLIST_LIMITS = Limits(max_bytes=1024 * 1024, total_s=10.0)
SEGMENT_LIMITS = Limits(max_bytes=64 * 1024 * 1024, total_s=30.0)
KEY_LIMITS = Limits(max_bytes=16, total_s=10.0, exact_bytes=16)
# A receiver may think for the whole time; its answer is for the log only.
WEBHOOK_LIMITS = Limits(
    max_bytes=64 * 1024, total_s=15.0, first_byte_s=15.0, min_bytes_per_s=0, max_redirects=0
)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer in memory: `url` of the last hop, header names in lower case, `truncated`: there was more."""

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Downloaded:
    """An answer on disk. Only 200 and 206 make a file; any other status has `size_bytes` 0 and no file."""

    status: int
    url: str
    headers: Mapping[str, str]
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer whose decoded body is still to be read, at the reader's pace."""

    status: int
    url: str
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


@dataclass(slots=True)
class _Dial:
    """The connection attempts of one hop: the name that is dialled, and what became of its addresses."""

    host: str | None
    blocked: list[BlockedAddress] = field(default_factory=list)
    passed: int = 0


_dial: ContextVar[_Dial] = ContextVar("dial")


def check_headers(headers: Mapping[str, str]) -> None:
    """Judge headers that a customer wants us to send, at submission and before each request.

    Raises HeadersRefused; the message names the header and never its value.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise HeadersRefused(f"header {name[:80]!r} is malformed")
        if name.lower() in _OWN_HEADERS:
            raise HeadersRefused(f"header {name} cannot be set")


def threadless_resolver(**options: Any) -> AbstractResolver:
    """Looks names up without threads: getaddrinfo's few are shared by the whole process, literal addresses included.

    A customer whose names do not resolve would hold them all up, and with them every other customer's streams.
    """
    return AsyncResolver(timeout=DNS_TIMEOUT_S, tries=DNS_TRIES, **options)


class SafeHttpClient:
    """An async context manager; one per process. Proxies of the environment and cookies are ignored."""

    def __init__(
        self,
        *,
        allowed: frozenset[HostPort] = frozenset(),
        user_agent: str,
        schemes: Collection[str] = ("http", "https"),
        resolver: AbstractResolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`allowed` may be reached although it is not public; `resolver` and `ssl_context` are for tests."""
        self._allowed = allowed
        self._user_agent = user_agent
        self._schemes = tuple(schemes)
        self._given_resolver = resolver
        self._resolver: AbstractResolver | None = None
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._resolver = self._given_resolver or threadless_resolver()
        connector = aiohttp.TCPConnector(
            socket_factory=self._make_socket,
            resolver=self._resolver,
            ssl=self._ssl_context or True,
            use_dns_cache=False,
            happy_eyeballs_delay=None,  # sequential, so that the outcome of each address is ours to read
            limit=0,  # callers bound their own concurrency; one slow customer must not hold up another
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            read_bufsize=_READ_BYTES,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=_HEADER_LINE_MAX_BYTES,
            max_field_size=_HEADER_LINE_MAX_BYTES,
            max_headers=_HEADERS_MAX_COUNT,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._resolver is not None and self._resolver is not self._given_resolver:
            await self._resolver.close()

    async def get(
        self,
        url: str,
        *,
        limits: Limits,
        headers: Mapping[str, str] | None = None,
        byte_range: tuple[int, int] | None = None,
    ) -> Response:
        """Fetch into memory, following redirects; gzip is decoded. `byte_range` is (first, last) inclusive.

        The body of an answer other than 2xx is cut at 64 KiB instead of refused. Raises UrlRefused, HeadersRefused,
        BlockedAddress, HttpTimeout, ConnectFailed, Truncated, AnswerMalformed, TooLarge, SizeMismatch,
        BadRedirect.
        """
        async with self._followed(url, limits=limits, headers=_get_headers(headers, byte_range)) as answer:
            if not _is_success(answer):
                return await _read_at_most(answer, min(limits.max_bytes, _ERROR_BODY_MAX_BYTES))
            body = b"".join([chunk async for chunk in _decoded(answer, limits)])
            _check_exact(len(body), limits=limits, url=str(answer.url))
            return _response(answer, body=body)

    async def download(
        self,
        url: str,
        path: Path,
        *,
        limits: Limits,
        headers: Mapping[str, str] | None = None,
        byte_range: tuple[int, int] | None = None,
    ) -> Downloaded:
        """Fetch into a file that appears whole or not at all; otherwise as `get`, with the same errors."""
        async with self._followed(url, limits=limits, headers=_get_headers(headers, byte_range)) as answer:
            size_bytes, digest = 0, hashlib.sha256()
            if answer.status in (200, 206):
                size_bytes = await _write_body(answer, path, limits=limits, update=digest.update)
            return Downloaded(
                status=answer.status,
                url=str(answer.url),
                headers=_headers(answer),
                size_bytes=size_bytes,
                sha256=digest.hexdigest(),
            )

    @contextlib.asynccontextmanager
    async def stream(
        self, url: str, *, limits: Limits, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Streamed]:
        """As `get`, with the body in chunks: a reader that pauses makes the server pause. Same errors."""
        async with self._followed(url, limits=limits, headers=_get_headers(headers, None)) as answer:
            yield Streamed(answer.status, str(answer.url), _headers(answer), _decoded(answer, limits))

    async def peek(
        self,
        url: str,
        *,
        limits: Limits,
        headers: Mapping[str, str] | None = None,
        method: Literal["HEAD", "GET"] = "GET",
    ) -> Response:
        """The headers and the beginning of the raw body: `max_bytes` of it are asked for, and more is cut.

        Raises what `get` raises, but never TooLarge.
        """
        sent = _get_headers(headers, (0, limits.max_bytes - 1) if method == "GET" else None)
        async with self._followed(url, limits=limits, headers=sent, method=method) as answer:
            return await _read_at_most(answer, limits.max_bytes)

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str], limits: Limits) -> Response:
        """Send these exact bytes; never follows a redirect and never decodes the answer.

        Once the status is known the exchange counts as answered: a body that is too long, too slow or broken
        off is cut (`truncated`). Raises UrlRefused, HeadersRefused, BlockedAddress,
        HttpTimeout, ConnectFailed, AnswerMalformed.
        """
        deadline = time.monotonic() + limits.total_s
        answer = await self._request(
            "POST", url, headers=headers, body=body, limits=limits, deadline=deadline
        )
        try:
            return await _read_at_most(answer, limits.max_bytes, deadline=deadline)
        finally:
            _leave(answer)

    @contextlib.asynccontextmanager
    async def _followed(
        self, url: str, *, limits: Limits, headers: Mapping[str, str], method: str = "GET"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The first answer that is no redirect; its body must be read inside, under the same total time."""
        deadline = time.monotonic() + limits.total_s
        answer = await self._follow(method, url, limits=limits, headers=headers, deadline=deadline)
        try:
            async with _total_time(deadline, url=url), _body_errors(url):
                yield answer
        finally:
            _leave(answer)

    async def _follow(
        self, method: str, url: str, *, limits: Limits, headers: Mapping[str, str], deadline: float
    ) -> aiohttp.ClientResponse:
        for _ in range(limits.max_redirects + 1):
            answer = await self._request(
                method, url, headers=headers, body=None, limits=limits, deadline=deadline
            )
            if answer.status not in _REDIRECTS:
                return answer
            answer.close()
            target = self._redirect_target(answer)
            if target.origin() != answer.url.origin():
                headers = _without_callers_headers(headers)
            url = str(target)
        raise BadRedirect(f"more than {limits.max_redirects} redirects, the last to {_shown(url)}")

    def _redirect_target(self, answer: aiohttp.ClientResponse) -> URL:
        location = answer.headers.get("Location", "").strip()
        if not location:
            raise BadRedirect(f"{_shown(answer.url)} redirects ({answer.status}) without a location")
        try:
            target = answer.url.join(_exact_url(location))
            check_url(str(target), schemes=self._schemes, allowed=self._allowed)
        except (ValueError, UrlRefused) as error:
            raise BadRedirect(f"{_shown(answer.url)} redirects to what is refused: {error}") from error
        return target

    async def _request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        limits: Limits,
        deadline: float,
    ) -> aiohttp.ClientResponse:
        """One hop: judged, connected and answered as far as the headers."""
        if self._session is None:
            raise RuntimeError("SafeHttpClient is used outside its `async with`")
        check_url(url, schemes=self._schemes, allowed=self._allowed)
        check_headers(headers)
        exact = _exact_url(url)
        dial = _Dial(host=exact.raw_host)
        token = _dial.set(dial)
        try:
            async with _total_time(deadline, url=url), _connect_errors(url, dial):
                async with asyncio.timeout(limits.connect_s + limits.first_byte_s):
                    return await self._session.request(
                        method,
                        exact,
                        data=body,
                        headers={"User-Agent": self._user_agent, "Accept": "*/*", **headers},
                        allow_redirects=False,
                        timeout=_client_timeout(limits),
                    )
        finally:
            _dial.reset(token)

    def _make_socket(self, address: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        """aiohttp calls this for each address right before it dials: the only check that cannot be raced."""
        family, kind, protocol, _, name = address
        dial = _dial.get()
        try:
            check_address(ip_address(name[0]), port=name[1], allowed=self._allowed, host=dial.host)
        except BlockedAddress as error:
            dial.blocked.append(error)
            raise OSError(str(error)) from error
        dial.passed += 1
        return socket.socket(family, kind, protocol)


def _shown(url: str | URL) -> str:
    """The URL for messages: its query may hold a signature or a token."""
    return str(url).partition("?")[0]


def _exact_url(url: str) -> URL:
    """Signed URLs must go out as they were written: what is already ASCII is not quoted again."""
    try:
        return URL(url, encoded=url.isascii())
    except ValueError as error:
        raise UrlRefused(f"the URL cannot be read: {error}") from error


def _client_timeout(limits: Limits) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=None, connect=limits.connect_s, sock_connect=limits.connect_s, sock_read=limits.first_byte_s
    )


def _get_headers(headers: Mapping[str, str] | None, byte_range: tuple[int, int] | None) -> dict[str, str]:
    # Without this CDNs may compress; gzip is read all the same, for those that do so unasked.
    sent = {**(headers or {}), "Accept-Encoding": "identity"}
    if byte_range is not None:
        sent["Range"] = f"bytes={byte_range[0]}-{byte_range[1]}"
    return sent


def _without_callers_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """A redirect to another origin gets none of the customer's headers: they may hold credentials."""
    return {name: headers[name] for name in ("Accept-Encoding", "Range") if name in headers}


@contextlib.asynccontextmanager
async def _total_time(deadline: float, *, url: str) -> AsyncIterator[None]:
    left_s = deadline - time.monotonic()
    try:
        async with asyncio.timeout(left_s):
            yield
    except TimeoutError as error:
        raise HttpTimeout(f"{_shown(url)}: no complete answer in time") from error


@contextlib.asynccontextmanager
async def _connect_errors(url: str, dial: _Dial) -> AsyncIterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise HttpTimeout(f"{_shown(url)}: no connection or no first byte in time") from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise UrlRefused(f"{_shown(url)}: {error}") from error
    except aiohttp.ClientResponseError as error:
        raise AnswerMalformed(f"{_shown(url)}: {error.message.partition(chr(10))[0]}") from error
    except (aiohttp.ClientError, OSError) as error:
        if dial.blocked and not dial.passed:
            raise BlockedAddress(f"{_shown(url)}: {dial.blocked[0]}") from error
        raise ConnectFailed(f"{_shown(url)}: {error}") from error


@contextlib.asynccontextmanager
async def _body_errors(url: str) -> AsyncIterator[None]:
    try:
        yield
    except aiohttp.SocketTimeoutError as error:
        raise HttpTimeout(f"{_shown(url)}: the answer stalled") from error
    except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
        raise Truncated(f"{_shown(url)}: the answer broke off") from error


def _leave(answer: aiohttp.ClientResponse) -> None:
    """Keep the connection when the answer was read to its end, else close it: nothing more is read."""
    if answer.content.at_eof():
        answer.release()
    else:
        answer.close()


def _is_success(answer: aiohttp.ClientResponse) -> bool:
    return 200 <= answer.status < 300


def _headers(answer: aiohttp.ClientResponse) -> Mapping[str, str]:
    joined: dict[str, str] = {}
    for name, value in answer.headers.items():
        lower = name.lower()
        joined[lower] = f"{joined[lower]}, {value}" if lower in joined else value
    return MappingProxyType(joined)


def _response(answer: aiohttp.ClientResponse, *, body: bytes, truncated: bool = False) -> Response:
    return Response(
        status=answer.status, url=str(answer.url), headers=_headers(answer), body=body, truncated=truncated
    )


async def _read_at_most(
    answer: aiohttp.ClientResponse, max_bytes: int, *, deadline: float | None = None
) -> Response:
    """The start of the raw body. With a deadline, time and a broken connection cut it instead of raising."""
    body = bytearray()
    whole = False
    tolerated = (TimeoutError, aiohttp.ClientError) if deadline is not None else ()
    with contextlib.suppress(*tolerated):
        async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
            while len(body) <= max_bytes and (chunk := await answer.content.readany()):
                body += chunk
            whole = len(body) <= max_bytes
    return _response(answer, body=bytes(body[:max_bytes]), truncated=not whole)


async def _decoded(answer: aiohttp.ClientResponse, limits: Limits) -> AsyncIterator[bytes]:
    """The body in decoded chunks, never more than the limit in all."""
    url = str(answer.url)
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        if (answer.content_length or 0) > limits.max_bytes:
            raise TooLarge(
                f"{_shown(url)}: {answer.content_length} bytes announced, {limits.max_bytes} allowed"
            )
        chunks = _paced(answer, limits)
    elif encoding in _GZIP_ENCODINGS or encoding == "deflate":
        chunks = _inflated(_paced(answer, limits), max_bytes=limits.max_bytes, url=url)
    else:
        raise AnswerMalformed(f"{_shown(url)}: content encoding {encoding[:40]!r} was not asked for")
    size_bytes = 0
    async for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes > limits.max_bytes:
            raise TooLarge(f"{_shown(url)}: more than {limits.max_bytes} bytes")
        yield chunk


async def _paced(answer: aiohttp.ClientResponse, limits: Limits) -> AsyncIterator[bytes]:
    """The raw body; raises HttpTimeout when it only drips."""
    started = time.monotonic()
    received_bytes = 0
    while chunk := await answer.content.readany():
        received_bytes += len(chunk)
        yield chunk
        elapsed_s = time.monotonic() - started
        if elapsed_s > _RATE_GRACE_S and received_bytes < elapsed_s * limits.min_bytes_per_s:
            raise HttpTimeout(f"{_shown(answer.url)}: only {received_bytes} bytes in {elapsed_s:.1f} s")


async def _inflated(chunks: AsyncIterator[bytes], *, max_bytes: int, url: str) -> AsyncIterator[bytes]:
    """Decode gzip or zlib, producing at most one byte more than `max_bytes` however small the input."""
    inflater = zlib.decompressobj(wbits=_ANY_WBITS)
    left_bytes = max_bytes + 1
    async for chunk in chunks:
        plain = _inflate(inflater, chunk, max_bytes=left_bytes, url=url)
        left_bytes -= len(plain)
        yield plain
        if left_bytes <= 0 or inflater.eof:
            break
    if left_bytes > 0 and not inflater.eof:
        raise Truncated(f"{_shown(url)}: the compressed answer broke off")


def _inflate(inflater: "zlib._Decompress", chunk: bytes, *, max_bytes: int, url: str) -> bytes:
    try:
        return inflater.decompress(chunk, max_bytes)
    except zlib.error as error:
        raise AnswerMalformed(f"{_shown(url)}: the compressed answer is broken") from error


def _check_exact(size_bytes: int, *, limits: Limits, url: str) -> None:
    if limits.exact_bytes is not None and size_bytes != limits.exact_bytes:
        raise SizeMismatch(f"{_shown(url)}: {size_bytes} bytes, exactly {limits.exact_bytes} expected")


async def _write_body(
    answer: aiohttp.ClientResponse, path: Path, *, limits: Limits, update: Callable[[bytes], None]
) -> int:
    """Write the decoded body to `path`, whole or not at all; answers its size."""
    with _appearing(path) as target:
        size_bytes = await _write_chunks(_decoded(answer, limits), target, update=update)
        _check_exact(size_bytes, limits=limits, url=str(answer.url))
    return size_bytes


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name when the block ends well, and else not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as target:
            yield target
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


async def _write_chunks(
    chunks: AsyncIterator[bytes], target: IO[bytes], *, update: Callable[[bytes], None]
) -> int:
    """Disk and hash work leave the event loop in pieces of a mebibyte."""

    def flush(piece: bytes) -> None:
        update(piece)
        target.write(piece)

    size_bytes = 0
    pending = bytearray()
    async for chunk in chunks:
        pending += chunk
        if len(pending) >= _WRITE_BYTES:
            size_bytes += len(pending)
            await asyncio.to_thread(flush, bytes(pending))
            pending.clear()
    await asyncio.to_thread(flush, bytes(pending))
    return size_bytes + len(pending)
