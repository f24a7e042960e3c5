"""Against real sockets on free loopback ports: what the client refuses, bounds and reports (traps T12, T14, T17)."""

import asyncio
import gzip
import hashlib
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.addresses import BlockedAddress, HostPort, UrlRefused
from shared.http_client import (
    KEY_LIMITS,
    PLAYLIST_LIMITS,
    SEGMENT_LIMITS,
    WEBHOOK_LIMITS,
    AnswerMalformed,
    BadRedirect,
    ConnectFailed,
    HttpTimeout,
    Limits,
    SafeHttpClient,
    SizeMismatch,
    TooLarge,
    Truncated,
    threadless_resolver,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

QUICK = Limits(max_bytes=1 << 20, total_s=5.0, connect_s=1.0, first_byte_s=1.0)


class Answers(AbstractResolver):
    """A DNS that gives, look-up by look-up, the next of these address lists; the last one stays."""

    def __init__(self, *lookups: list[str]) -> None:
        self._lookups = list(lookups)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self._lookups[min(self.asked, len(self._lookups) - 1)]
        self.asked += 1
        return [
            ResolveResult(hostname=host, host=ip, port=port, family=socket.AF_INET, proto=0, flags=0)
            for ip in addresses
        ]

    async def close(self) -> None:
        return None


@asynccontextmanager
async def serving(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[HostPort]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield HostPort(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serving_raw(handler: RawHandler) -> AsyncIterator[HostPort]:
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await reader.readuntil(b"\r\n\r\n")
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    tasks: set[asyncio.Task[None] | None] = set()
    server = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield HostPort(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)


def client(*allowed: HostPort, resolver: AbstractResolver | None = None) -> SafeHttpClient:
    return SafeHttpClient(allowed=frozenset(allowed), user_agent="tldr-test/1", resolver=resolver)


def always(body: bytes, **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(
            body=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    return handler


def raw(*pieces: bytes) -> RawHandler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
        await writer.drain()

    return handler


def dripping(start: bytes, *, every_s: float = 0.05) -> RawHandler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(every_s)

    return handler


@asynccontextmanager
async def canary() -> AsyncIterator[tuple[HostPort, list[str]]]:
    hits: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        hits.append(request.path)
        return web.Response(text="secret")

    async with serving(handler) as address:
        yield address, hits


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "①②⑦.⓪.⓪.①",
        "evil@127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0",
        "localhost",
        "localhost.",
        "127。0。0。1",
    ],
)
async def test_no_writing_of_a_loopback_address_reaches_a_local_server(host: str) -> None:
    async with canary() as (address, hits), client() as http:
        with pytest.raises((BlockedAddress, UrlRefused)):
            await http.get(f"http://{host}:{address.port}/", limits=QUICK)
        with pytest.raises((BlockedAddress, UrlRefused)):
            await http.post(f"http://{host}:{address.port}/", body=b"{}", headers={}, limits=QUICK)
    assert hits == []


async def test_a_name_that_resolves_to_a_private_address_is_blocked_at_the_socket() -> None:
    async with canary() as (address, hits), client(resolver=Answers(["127.0.0.1"])) as http:
        with pytest.raises(BlockedAddress, match="not a public address"):
            await http.get(f"http://innocent.example:{address.port}/", limits=QUICK)
    assert hits == []


async def test_a_name_that_rebinds_after_the_first_connection_is_blocked_at_the_second() -> None:
    async def close_each(request: web.Request) -> web.Response:
        answer = web.Response(text="ok")
        answer.force_close()
        return answer

    dns = Answers(["127.0.0.1"], ["127.0.0.2"])
    async with serving(close_each) as address, client(address, resolver=dns) as http:
        url = f"http://rebinding.example:{address.port}/"
        first = await http.get(url, limits=QUICK)
        with pytest.raises(BlockedAddress):
            await http.get(url, limits=QUICK)
    assert (first.body, dns.asked) == (b"ok", 2)


async def test_of_several_addresses_only_the_permitted_one_is_dialled() -> None:
    dns = Answers(["10.0.0.1", "127.0.0.1"])
    async with serving(always(b"ok")) as address, client(address, resolver=dns) as http:
        answer = await http.get(f"http://mixed.example:{address.port}/", limits=QUICK)
    assert answer.body == b"ok"


async def test_an_allow_list_entry_by_name_opens_that_name_and_no_other() -> None:
    async with canary() as (address, hits):
        allowed = HostPort("origin", address.port)
        async with client(allowed, resolver=Answers(["127.0.0.1"])) as http:
            answer = await http.get(f"http://origin:{address.port}/mine", limits=QUICK)
            with pytest.raises(BlockedAddress):
                await http.get(f"http://other.example:{address.port}/theirs", limits=QUICK)
    assert (answer.status, hits) == (200, ["/mine"])


async def test_a_redirect_to_a_private_address_is_blocked_on_its_hop() -> None:
    async with canary() as (secret, hits):

        async def redirect(request: web.Request) -> web.Response:
            return web.Response(
                status=302, headers={"Location": f"http://127.0.0.1:{secret.port}/latest/meta-data"}
            )

        async with serving(redirect) as address, client(address) as http:
            with pytest.raises(BlockedAddress):
                await http.get(f"http://{address}/", limits=QUICK)
    assert hits == []


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://x/", "http://u:p@example.com/", ""])
async def test_a_redirect_to_what_is_no_web_url_is_refused(location: str) -> None:
    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=301, headers={"Location": location} if location else {})

    async with serving(redirect) as address, client(address) as http:
        with pytest.raises(BadRedirect):
            await http.get(f"http://{address}/", limits=QUICK)


async def test_redirects_are_followed_up_to_their_limit_and_the_last_url_is_told() -> None:
    async def count_down(request: web.Request) -> web.Response:
        left = int(request.path.strip("/"))
        return (
            web.Response(status=307, headers={"Location": f"{left - 1}?q=%2F"})
            if left
            else web.Response(text="end")
        )

    async with serving(count_down) as address, client(address) as http:
        answer = await http.get(f"http://{address}/3", limits=QUICK)
        with pytest.raises(BadRedirect, match="more than 3"):
            await http.get(f"http://{address}/4", limits=QUICK)
    assert (answer.status, answer.url, answer.body) == (200, f"http://{address}/0?q=%2F", b"end")


async def test_the_callers_headers_stay_with_their_origin() -> None:
    seen: list[tuple[str | None, str | None]] = []

    async def target(request: web.Request) -> web.Response:
        seen.append((request.headers.get("Authorization"), request.headers.get("Range")))
        return web.Response(text="x")

    async with serving(target) as other:

        async def redirect(request: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": f"http://{other}/"})

        async with serving(redirect) as address, client(address, other) as http:
            headers = {"Authorization": "Bearer secret"}
            await http.get(f"http://{other}/", limits=QUICK, headers=headers)
            await http.get(f"http://{address}/", limits=QUICK, headers=headers, byte_range=(0, 9))
    assert seen == [("Bearer secret", None), (None, "bytes=0-9")]


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with canary() as (proxy, hits), serving(always(b"direct")) as address:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with client(address) as http:
            answer = await http.get(f"http://{address}/", limits=QUICK)
    assert (answer.body, hits) == (b"direct", [])


async def test_cookies_are_not_kept_between_requests() -> None:
    seen: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        return web.Response(headers={"Set-Cookie": "tenant=a; Path=/"})

    async with serving(handler) as address, client(HostPort("localhost", address.port)) as http:
        for _ in range(2):
            await http.get(f"http://localhost:{address.port}/", limits=QUICK)
    assert seen == [None, None]


async def test_a_url_goes_out_exactly_as_it_was_signed() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response()

    path = "/a%2Fb/%7Euser/c+d?X-Sig=a%2Bb%3D&k=%e2%82%ac&x=~"
    async with serving(handler) as address, client(address) as http:
        await http.get(f"http://{address}{path}", limits=QUICK)
    assert seen == [path]


async def test_a_connection_is_used_again() -> None:
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=b"x" * 100_000)

    async with serving(handler) as address, client(address) as http:
        for _ in range(3):
            await http.get(f"http://{address}/", limits=QUICK)
            await http.post(f"http://{address}/", body=b"{}", headers={}, limits=QUICK)
    assert len(peers) == 1


async def test_a_gzip_bomb_is_refused_within_the_limit() -> None:
    bomb = gzip.compress(bytes(200 << 20), compresslevel=9)
    async with serving(always(bomb, Content_Encoding="gzip")) as address, client(address) as http:
        with pytest.raises(TooLarge):
            await http.get(f"http://{address}/", limits=PLAYLIST_LIMITS)
        answer = await http.post(f"http://{address}/", body=b"", headers={}, limits=WEBHOOK_LIMITS)
    assert (len(answer.body), answer.truncated, answer.body[:2]) == (65536, True, b"\x1f\x8b")


@pytest.mark.parametrize(
    ("encoding", "encode"), [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_a_compressed_playlist_is_decoded(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    text = b"#EXTM3U\n" * 5000
    async with serving(always(encode(text), Content_Encoding=encoding)) as address, client(address) as http:
        answer = await http.get(f"http://{address}/", limits=PLAYLIST_LIMITS)
    assert answer.body == text


async def test_a_compressed_answer_that_breaks_off_or_is_broken_is_told_apart() -> None:
    packed = gzip.compress(b"#EXTM3U\n" * 500)
    async with serving(always(packed[:-9], Content_Encoding="gzip")) as address, client(address) as http:
        with pytest.raises(Truncated):
            await http.get(f"http://{address}/", limits=PLAYLIST_LIMITS)
    async with serving(always(b"plain", Content_Encoding="gzip")) as address, client(address) as http:
        with pytest.raises(AnswerMalformed):
            await http.get(f"http://{address}/", limits=PLAYLIST_LIMITS)
    async with serving(always(b"plain", Content_Encoding="br")) as address, client(address) as http:
        with pytest.raises(AnswerMalformed, match="br"):
            await http.get(f"http://{address}/", limits=PLAYLIST_LIMITS)


async def test_a_body_above_the_limit_is_refused_announced_or_not() -> None:
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    endless = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[chunk] * 20)
    announced = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", b"x")
    for handler in (endless, announced):
        async with serving_raw(handler) as address, client(address) as http:
            with pytest.raises(TooLarge):
                await http.get(f"http://{address}/", limits=PLAYLIST_LIMITS)


async def test_the_body_of_an_error_is_cut_and_the_status_told() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=404, body=bytes(3 << 20))

    async with serving(handler) as address, client(address) as http:
        answer = await http.get(f"http://{address}/", limits=PLAYLIST_LIMITS)
    assert (answer.status, len(answer.body), answer.truncated) == (404, 65536, True)


@pytest.mark.parametrize(("size", "error"), [(15, SizeMismatch), (17, TooLarge), (0, SizeMismatch)])
async def test_a_key_has_sixteen_bytes_and_no_other_size(size: int, error: type[Exception]) -> None:
    async with serving(always(bytes(size))) as address, client(address) as http:
        with pytest.raises(error):
            await http.get(f"http://{address}/", limits=KEY_LIMITS)
    async with serving(always(bytes(16))) as address, client(address) as http:
        assert (await http.get(f"http://{address}/", limits=KEY_LIMITS)).body == bytes(16)


async def test_a_dripped_body_is_ended_by_its_rate_long_before_the_total_time() -> None:
    limits = replace(QUICK, total_s=60.0)
    handler = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    async with serving_raw(handler) as address, client(address) as http:
        async with asyncio.timeout(5):
            with pytest.raises(HttpTimeout, match="only"):
                await http.get(f"http://{address}/", limits=limits)


async def test_a_dripped_body_is_ended_by_the_total_time() -> None:
    limits = replace(QUICK, total_s=0.3, min_bytes_per_s=0)
    handler = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    async with serving_raw(handler) as address, client(address) as http:
        with pytest.raises(HttpTimeout, match="in time"):
            await http.get(f"http://{address}/", limits=limits)


async def test_dripped_headers_and_silence_are_ended_by_the_first_byte_time() -> None:
    limits = replace(QUICK, connect_s=0.1, first_byte_s=0.2)
    for start in (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\n"):
        async with serving_raw(dripping(start)) as address, client(address) as http:
            async with asyncio.timeout(2):
                with pytest.raises(HttpTimeout, match="first byte"):
                    await http.get(f"http://{address}/", limits=limits)


async def test_a_body_that_stalls_is_ended_by_the_pause() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
        await reader.read()

    async with serving_raw(handler) as address, client(address) as http:
        with pytest.raises(HttpTimeout, match="stalled"):
            await http.get(f"http://{address}/", limits=replace(QUICK, first_byte_s=0.2))


async def test_a_body_shorter_than_announced_is_truncated_and_leaves_no_file(tmp_path: Path) -> None:
    short = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"x" * 50)
    chunked = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n")
    for handler in (short, chunked):
        async with serving_raw(handler) as address, client(address) as http:
            with pytest.raises(Truncated):
                await http.get(f"http://{address}/", limits=QUICK)
            with pytest.raises(Truncated):
                await http.download(f"http://{address}/", tmp_path / "a.ts", limits=QUICK)
    assert list(tmp_path.iterdir()) == []


async def test_oversized_or_broken_headers_are_malformed() -> None:
    long = raw(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n")
    many = raw(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: a\r\n" % i for i in range(500)) + b"\r\n")
    for handler in (long, many, raw(b"SSH-2.0-OpenSSH\r\n\r\n")):
        async with serving_raw(handler) as address, client(address) as http:
            with pytest.raises(AnswerMalformed):
                await http.get(f"http://{address}/", limits=QUICK)


async def test_a_refused_connection_an_unknown_name_and_a_reset_are_connect_failures() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    class Nothing(Answers):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            raise OSError("no such name")

    async with serving_raw(hang_up) as address, client(address) as http:
        with pytest.raises(ConnectFailed):
            await http.get(f"http://{address}/", limits=QUICK)
    async with client(address) as http:
        with pytest.raises(ConnectFailed):
            await http.get(f"http://{address}/", limits=QUICK)
    async with client(resolver=Nothing()) as http:
        with pytest.raises(ConnectFailed):
            await http.get("http://unknown.example/", limits=QUICK)


async def test_a_download_writes_a_whole_file_with_its_hash(tmp_path: Path) -> None:
    body = bytes(range(256)) * 12_000
    path = tmp_path / "a.ts"
    async with serving(always(body, ETag="x")) as address, client(address) as http:
        got = await http.download(f"http://{address}/a.ts", path, limits=SEGMENT_LIMITS)
    assert (got.status, got.size_bytes, got.sha256) == (200, len(body), hashlib.sha256(body).hexdigest())
    assert (got.url, got.headers["etag"]) == (f"http://{address}/a.ts", "x")
    assert path.read_bytes() == body
    assert list(tmp_path.iterdir()) == [path]


async def test_a_download_of_an_error_makes_no_file(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=403, text="no")

    async with serving(handler) as address, client(address) as http:
        got = await http.download(f"http://{address}/a.ts", tmp_path / "a.ts", limits=SEGMENT_LIMITS)
    assert (got.status, got.size_bytes, list(tmp_path.iterdir())) == (403, 0, [])


async def test_a_download_above_the_limit_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(b"before")
    async with serving(always(bytes(3 << 20))) as address, client(address) as http:
        with pytest.raises(TooLarge):
            await http.download(f"http://{address}/", path, limits=QUICK)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"before", [path])


async def test_a_byte_range_is_asked_for_and_the_status_told() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=206, body=b"0123456789"[request.http_range])

    async with serving(handler) as address, client(address) as http:
        answer = await http.get(f"http://{address}/", limits=QUICK, byte_range=(2, 5))
    assert (answer.status, answer.body) == (206, b"2345")


async def test_a_post_sends_the_exact_bytes_and_headers() -> None:
    seen: list[tuple[str, bytes, str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        kind, agent = request.headers["Content-Type"], request.headers["User-Agent"]
        seen.append((request.method, await request.read(), kind, agent))
        return web.Response(status=202, text="ok")

    async with serving(handler) as address, client(address) as http:
        headers = {"Content-Type": "application/json"}
        answer = await http.post(
            f"http://{address}/", body=b'{"a": "\xc3\xbc"}', headers=headers, limits=WEBHOOK_LIMITS
        )
    assert seen == [("POST", b'{"a": "\xc3\xbc"}', "application/json", "tldr-test/1")]
    assert (answer.status, answer.body, answer.truncated) == (202, b"ok", False)


async def test_a_post_does_not_follow_a_redirect() -> None:
    async with canary() as (secret, hits):

        async def redirect(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"http://{secret}/"})

        async with serving(redirect) as address, client(address, secret) as http:
            answer = await http.post(f"http://{address}/", body=b"{}", headers={}, limits=WEBHOOK_LIMITS)
    assert (answer.status, answer.headers["location"], hits) == (307, f"http://{secret}/", [])


async def test_a_post_whose_answer_drips_or_breaks_off_is_answered_all_the_same() -> None:
    drip = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    broken = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"part")
    limits = replace(WEBHOOK_LIMITS, total_s=0.3)
    for handler in (drip, broken):
        async with serving_raw(handler) as address, client(address) as http:
            answer = await http.post(f"http://{address}/", body=b"{}", headers={}, limits=limits)
        assert (answer.status, answer.truncated) == (200, True)


async def test_a_post_without_an_answer_times_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving_raw(silent) as address, client(address) as http:
        with pytest.raises(HttpTimeout):
            await http.post(
                f"http://{address}/", body=b"", headers={}, limits=replace(WEBHOOK_LIMITS, total_s=0.2)
            )


async def test_cancelling_a_fetch_closes_its_connection(tmp_path: Path) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
        asked.set()
        await reader.read()
        left.set()

    async with serving_raw(handler) as address, client(address) as http:
        fetch = asyncio.create_task(http.download(f"http://{address}/", tmp_path / "a", limits=QUICK))
        await asked.wait()
        fetch.cancel()
        async with asyncio.timeout(2):
            await left.wait()
        with pytest.raises(asyncio.CancelledError):
            await fetch
    assert list(tmp_path.iterdir()) == []


def self_signed(folder: Path, name: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(
        certificate.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    )
    return path


async def test_certificates_are_verified_against_the_name_in_the_url(tmp_path: Path) -> None:
    pem = self_signed(tmp_path, "good.example")
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(pem)
    trusting = ssl.create_default_context(cafile=str(pem))
    async with serving(always(b"ok"), tls=server_side) as address:
        allowed, dns = frozenset({address}), Answers(["127.0.0.1"])
        async with SafeHttpClient(
            allowed=allowed, user_agent="t", resolver=dns, ssl_context=trusting
        ) as http:
            answer = await http.get(f"https://good.example:{address.port}/", limits=QUICK)
            with pytest.raises(ConnectFailed, match="certificate"):
                await http.get(f"https://other.example:{address.port}/", limits=QUICK)
        async with client(address, resolver=dns) as http:
            with pytest.raises(ConnectFailed, match="certificate"):
                await http.get(f"https://good.example:{address.port}/", limits=QUICK)
    assert answer.body == b"ok"


async def test_an_error_message_does_not_show_the_query_of_a_signed_url() -> None:
    async with client() as http:
        for url in ("http://127.0.0.1:8080/a?token=hush", "http://[2001:db8::1]:8080/a?token=hush"):
            with pytest.raises(BlockedAddress) as caught:
                await http.get(url, limits=QUICK)
            assert "hush" not in str(caught.value)
    async with serving(always(bytes(20))) as address, client(address) as http:
        with pytest.raises(TooLarge) as too_large:
            await http.get(f"http://{address}/a?token=hush", limits=KEY_LIMITS)
    assert "hush" not in str(too_large.value)


def test_names_that_never_resolve_hold_up_no_other_request() -> None:
    """One customer's thousand dead names, on the event loop of production, beside another customer's stream."""

    async def main() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent_dns:
            silent_dns.bind(("127.0.0.1", 0))
            port = silent_dns.getsockname()[1]
            resolver = threadless_resolver(nameservers=["127.0.0.1"], udp_port=port, tcp_port=port)
            async with (
                serving(always(b"alive")) as where,
                client(where, resolver=resolver) as http,
            ):
                dead = [
                    asyncio.create_task(http.get(f"http://dead-{n}.example.com/", limits=PLAYLIST_LIMITS))
                    for n in range(1000)
                ]
                await asyncio.sleep(0)
                async with asyncio.timeout(10):
                    answer = await http.get(f"http://{where.host}:{where.port}/", limits=PLAYLIST_LIMITS)
                still_waiting = sum(not task.done() for task in dead)
                for task in dead:
                    task.cancel()
                await asyncio.gather(*dead, return_exceptions=True)
                assert still_waiting > 900
                await resolver.close()
                return answer.body

    assert b"alive" == uvloop.run(main())
