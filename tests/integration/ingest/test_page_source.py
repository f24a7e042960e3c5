"""Pages of Twitch and YouTube: the child process that resolves them, its bounds, and addresses that expire.

No test reaches those sites: programs written here stand in for the one that asks streamlink, and streamlink itself
is given answers of a server of ours.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from aiohttp import web

from ingest.adapters import streamlink_child
from ingest.adapters.pages import (
    LEAST_INTERVAL_S,
    NoPages,
    PageOffline,
    PageSource,
    PageUnavailable,
    PageUnusable,
)
from ingest.adapters.streamlink import CHILD, MAX_OUTPUT_BYTES, StreamlinkPages
from ingest.domain.actions import FailureKind
from ingest.workflow.ports import FetchFailed, MediaSource
from ingest.workflow.source import HlsSource
from sandbox.http_server import HttpServer
from shared.addresses import parse_allowed
from shared.http_client import SafeHttpClient

PAGE = "https://www.twitch.tv/somebody"
MEDIA = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:5\n#EXTINF:2,\n5.ts\n#EXTINF:2,\n6.ts\n"
MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000,RESOLUTION=1280x720\n720.m3u8\n"


def program(folder: Path, text: str, **options: Any) -> StreamlinkPages:
    """A resolver that runs this program."""
    path = folder / "program.py"
    path.write_text("import json, os, sys, time\nasked = json.load(sys.stdin)\n" + dedent(text))
    return StreamlinkPages(command=(sys.executable, "-I", str(path)), **options)


async def test_the_child_is_asked_for_the_page_and_gets_none_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRETS_KEYRING", "hidden")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com")
    pages = program(
        tmp_path,
        """
        names = sorted(set(os.environ) - {"LC_CTYPE"})
        print(json.dumps({"hls": asked["url"] + "|" + ",".join(names) + "|" + str(os.getcwd() == os.environ["HOME"])}))
        """,
    )

    assert f"{PAGE}|HOME,LANG,PATH,TMPDIR,XDG_CACHE_HOME|True" == await pages.resolve(PAGE)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ('{"failure": "offline", "detail": "nothing to play"}', PageOffline, "nothing to play"),
        ('{"failure": "refused", "detail": "no HLS"}', PageUnusable, "no HLS"),
        ('{"failure": "missing", "detail": "not installed"}', PageUnusable, "not installed"),
        ('{"failure": "failed", "detail": "503"}', PageUnavailable, "503"),
        ('{"failure": "other"}', PageUnavailable, "without an address"),
        ("{}", PageUnavailable, "without an address"),
        ("[]", PageUnavailable, "broke off"),
        ("no JSON", PageUnavailable, "broke off"),
        ("", PageUnavailable, "broke off"),
    ],
)
async def test_what_the_child_answers_becomes_a_typed_failure(
    tmp_path: Path, answer: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        await program(tmp_path, f"print({answer!r})").resolve(PAGE)


async def test_a_child_that_prints_on_and_on_is_ended(tmp_path: Path) -> None:
    pages = program(tmp_path, "while True: print('x' * 10_000)")

    with pytest.raises(PageUnavailable, match=f"more than {MAX_OUTPUT_BYTES} bytes"):
        await pages.resolve(PAGE)


async def test_a_child_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    pages = program(
        tmp_path,
        f"""
        child = os.fork()
        if child:
            open({str(note)!r}, "w").write(f"{{os.getpid()}} {{child}}")
        time.sleep(600)
        """,
        within_s=2.0,
    )

    with pytest.raises(PageUnavailable, match="not resolved within 2 s"):
        await pages.resolve(PAGE)
    pids = [int(pid) for pid in note.read_text().split()]
    async with asyncio.timeout(10):
        while any(is_running(pid) for pid in pids):
            await asyncio.sleep(0.05)
    assert 2 == len(pids)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_child_that_takes_too_much_memory_fails(tmp_path: Path) -> None:
    pages = program(tmp_path, "print(json.dumps({'hls': len(bytearray(4 << 30))}))")

    with pytest.raises(PageUnavailable, match="broke off"):
        await pages.resolve(PAGE)


async def test_no_other_site_is_given_to_streamlink() -> None:
    for url in ("https://example.com/live", "http://www.twitch.tv/a", "https://www.twitch.tv@10.0.0.1/a"):
        with pytest.raises(PageUnusable, match="no page that is resolved here"):
            await StreamlinkPages().resolve(url)


async def test_streamlink_itself_runs_in_the_child_and_finds_no_network(tmp_path: Path) -> None:
    pytest.importorskip("streamlink")
    offline = tmp_path / "offline.py"
    offline.write_text(
        dedent(
            f"""
            import runpy, socket

            def refuse(*_, **__):
                raise OSError("no name is looked up in this test")

            socket.getaddrinfo = refuse
            runpy.run_path({str(CHILD)!r}, run_name="__main__")
            """
        )
    )
    pages = StreamlinkPages(command=(sys.executable, "-I", "-B", str(offline)))

    for page in (PAGE, "https://www.youtube.com/watch?v=dQw4w9WgXcQ"):
        with pytest.raises(PageUnavailable, match="Unable to open URL"):
            await pages.resolve(page)


class Origin(HttpServer):
    """A multivariant playlist, good for the token that was given out last."""

    def __init__(self) -> None:
        super().__init__(host="127.0.0.1", port=0)
        self.token = 1
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"{self.base_url}/master.m3u8?token={self.token}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        if request.path == "/720.m3u8" and self.token > 1 and len(self.headers) == 3:
            return web.Response(status=403)
        if request.path == "/720.m3u8":
            return web.Response(text=MEDIA)
        if request.query.get("token") != str(self.token):
            return web.Response(status=403)
        return web.Response(text=MASTER)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as started:
        yield started


@pytest.fixture
async def http(origin: Origin) -> AsyncIterator[SafeHttpClient]:
    allowed = parse_allowed(origin.base_url.removeprefix("http://"))
    async with SafeHttpClient(allowed=allowed, user_agent="test") as client:
        yield client


def opener(http: SafeHttpClient) -> Any:
    def open_hls(url: str) -> MediaSource:
        return HlsSource(http, url, headers={}, target_height=720)

    return open_hls


async def test_streamlinks_streams_lead_to_the_multivariant_playlist(origin: Origin) -> None:
    streamlink = pytest.importorskip("streamlink")
    hls = pytest.importorskip("streamlink.stream.hls")
    http = pytest.importorskip("streamlink.stream.http")
    session = streamlink.Streamlink()

    def parse() -> Any:
        return hls.HLSStream.parse_variant_playlist(session, origin.url)

    streams = await asyncio.to_thread(parse)
    single = hls.HLSStream(session, "https://example.com/live.m3u8")

    assert {"hls": origin.url} == streamlink_child.found_in(streams)
    assert {"hls": single.url} == streamlink_child.found_in({"best": single})
    assert "offline" == streamlink_child.found_in({})["failure"]
    only_file = {"best": http.HTTPStream(session, "https://example.com/a.mp4")}
    assert "refused" == streamlink_child.found_in(only_file)["failure"]


async def test_a_page_is_followed_as_hls_and_found_anew_when_its_address_expires(
    tmp_path: Path, origin: Origin, http: SafeHttpClient
) -> None:
    address = tmp_path / "address"
    address.write_text(origin.url)
    pages = program(tmp_path, f"print(json.dumps({{'hls': open({str(address)!r}).read()}}))")
    clock = Clock()
    source = PageSource(PAGE, pages=pages, open_hls=opener(http), now_s=clock)

    first = await source.playlist(from_sequence=0)
    origin.token = 2
    address.write_text(origin.url)
    with pytest.raises(FetchFailed) as failed:
        await source.playlist(from_sequence=0)
    source.forget_variant()
    clock.now_s += LEAST_INTERVAL_S
    again = await source.playlist(from_sequence=0)

    assert [5, 6] == [segment.sequence for segment in first.segments]
    assert 403 == failed.value.failure.status
    assert first.segments == again.segments
    await source.close()


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Script:
    """Answers, or raises, one after the other."""

    def __init__(self, *outcomes: str | Exception) -> None:
        self.outcomes = list(outcomes)
        self.asked = 0

    async def resolve(self, page_url: str) -> str:
        self.asked += 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_a_page_is_not_asked_more_often_than_is_decent(origin: Origin, http: SafeHttpClient) -> None:
    pages, clock = Script(PageOffline("not live"), PageUnavailable("503"), origin.url), Clock()
    source = PageSource(PAGE, pages=pages, open_hls=opener(http), now_s=clock)

    for _ in range(3):
        with pytest.raises(FetchFailed) as failed:
            await source.playlist(from_sequence=0)
    assert (1, FailureKind.NETWORK, "not live") == (
        pages.asked,
        failed.value.failure.kind,
        failed.value.failure.detail,
    )
    clock.now_s += LEAST_INTERVAL_S
    with pytest.raises(FetchFailed, match="503"):
        await source.playlist(from_sequence=0)
    clock.now_s += LEAST_INTERVAL_S
    with pytest.raises(FetchFailed, match="503"):
        await source.playlist(from_sequence=0)
    assert 2 == pages.asked  # in vain before, so it is asked less often
    clock.now_s += LEAST_INTERVAL_S
    assert 2 == len((await source.playlist(from_sequence=0)).segments)
    assert 3 == pages.asked


def test_what_streamlink_says_of_an_address_is_told_without_its_query() -> None:
    told = streamlink_child._failure(
        "failed", "Unable to open URL: https://a.example.com/x.m3u8?sig=1&token=2 (403)"
    )
    assert "Unable to open URL: https://a.example.com/x.m3u8?… (403)" == told["detail"]


async def test_a_page_that_cannot_be_asked_again_leaves_the_old_address_in_use(
    origin: Origin, http: SafeHttpClient
) -> None:
    pages, clock = Script(origin.url, PageUnavailable("503")), Clock()
    source = PageSource(PAGE, pages=pages, open_hls=opener(http), now_s=clock)
    await source.playlist(from_sequence=0)
    source.forget_variant()
    clock.now_s += LEAST_INTERVAL_S

    assert 2 == len((await source.playlist(from_sequence=0)).segments)
    assert 2 == pages.asked


async def test_a_page_that_cannot_be_followed_at_all_ends_with_words_for_the_owner() -> None:
    def open_hls(url: str) -> MediaSource:
        raise AssertionError(url)

    source = PageSource(PAGE, pages=NoPages(), open_hls=open_hls, now_s=Clock())

    with pytest.raises(FetchFailed, match="give the address of the HLS playlist") as failed:
        await source.playlist(from_sequence=0)
    assert FailureKind.REFUSED is failed.value.failure.kind
    await source.close()


async def test_an_address_from_inside_is_refused_like_any_other(http: SafeHttpClient) -> None:
    source = PageSource(
        PAGE, pages=Script("http://169.254.169.254/x.m3u8"), open_hls=opener(http), now_s=Clock()
    )

    with pytest.raises(FetchFailed, match="not a public address") as failed:
        await source.playlist(from_sequence=0)
    assert FailureKind.REFUSED is failed.value.failure.kind
