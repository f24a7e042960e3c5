"""An HLS source over scripted answers: which requests it makes, which rendition it reads, what it hands on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from ingest.domain.actions import FailureKind
from ingest.domain.playlist import MediaPlaylist, parse_playlist
from ingest.workflow.ports import FetchFailed
from ingest.workflow.source import HlsSource, VariantPolicy
from shared.http_client import HttpTimeout, Limits, Response
from tests.fakes.ingest.media import ts_segment

BASE = "https://cdn.example/live"
URL = f"{BASE}/master.m3u8"
HEIGHTS = (1080, 720, 480)
MASTER = "#EXTM3U\n" + "".join(
    f"#EXT-X-STREAM-INF:BANDWIDTH={h}000,RESOLUTION={h * 16 // 9}x{h}\n{h}.m3u8\n" for h in HEIGHTS
)


def listing(first: int, last: int, *, tags: str = "", name: str = "s") -> str:
    entries = "".join(f"#EXTINF:2,\n{name}{n}.ts\n" for n in range(first, last + 1))
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n{tags}{entries}"


@dataclass
class Request:
    url: str
    headers: Mapping[str, str]
    limits: Limits
    byte_range: tuple[int, int] | None


@dataclass
class Server:
    """Answers by address without its query; a rule sees the request."""

    rules: dict[str, Callable[[Request], Response]] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    def serve(self, name: str, text: str | int, **headers: str) -> None:
        def answer(request: Request) -> Response:
            status, body = (text, b"") if isinstance(text, int) else (200, text.encode())
            return Response(status, request.url, headers, body)

        self.rules[f"{BASE}/{name}"] = answer

    async def get(
        self,
        url: str,
        *,
        limits: Limits,
        headers: Mapping[str, str] | None = None,
        byte_range: tuple[int, int] | None = None,
    ) -> Response:
        request = Request(url, headers or {}, limits, byte_range)
        self.asked.append(request)
        return self.rules[url.partition("?")[0]](request)

    @property
    def names(self) -> list[str]:
        return [request.url.removeprefix(f"{BASE}/") for request in self.asked]


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def server() -> Server:
    made = Server()
    made.serve("master.m3u8", MASTER)
    for height in HEIGHTS:
        made.serve(f"{height}.m3u8", listing(0, 4, name=f"{height}-"))
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(server: Server, clock: Clock) -> HlsSource:
    return HlsSource(server, URL, headers={}, target_height=720, now_s=clock)


async def height_of(source: HlsSource) -> str:
    playlist = await source.playlist(from_sequence=0)
    return playlist.segments[0].location.url.rpartition("/")[2].partition("-")[0]


async def test_the_chosen_variant_is_kept_and_named(source: HlsSource, server: Server) -> None:
    playlists = [await source.playlist(from_sequence=0) for _ in range(3)]
    assert ["master.m3u8", "720.m3u8", "720.m3u8", "720.m3u8"] == server.names
    assert {("1280x720@720000.0", True)} == {(each.variant, each.has_other_variants) for each in playlists}


async def test_a_single_list_has_no_variants(server: Server) -> None:
    server.serve("alone.m3u8", listing(0, 4))
    source = HlsSource(server, f"{BASE}/alone.m3u8", headers={}, target_height=720)
    playlist = await source.playlist(from_sequence=0)
    assert ("", False, False) == (playlist.variant, playlist.has_other_variants, source.leave_variant())


async def test_variants_are_left_for_the_next_best_until_none_is_left(source: HlsSource) -> None:
    heights = [await height_of(source)]
    answers = []
    for _ in range(3):
        answers.append(source.leave_variant())
        heights.append(await height_of(source))
    assert ([True, True, False], ["720", "480", "1080", "720"]) == (answers, heights)


async def test_while_the_master_is_silent_no_variant_is_taken(source: HlsSource, server: Server) -> None:
    await source.playlist(from_sequence=0)
    source.leave_variant()
    server.serve("master.m3u8", 503)
    with pytest.raises(FetchFailed):
        await source.playlist(from_sequence=0)
    server.serve("master.m3u8", MASTER)
    assert "480" == await height_of(source)


async def test_a_variant_that_was_left_is_taken_again_after_its_penalty(
    source: HlsSource, clock: Clock
) -> None:
    await source.playlist(from_sequence=0)
    source.leave_variant()
    heights = []
    for clock.now_s in (1.0, VariantPolicy().penalty_s - 1, VariantPolicy().penalty_s + 1):
        heights.append(await height_of(source))
    assert ["480", "480", "720"] == heights


async def test_at_a_discontinuity_it_is_taken_again_sooner(
    source: HlsSource, server: Server, clock: Clock
) -> None:
    await source.playlist(from_sequence=0)
    source.leave_variant()
    clock.now_s = VariantPolicy().least_penalty_s + 1
    before = await height_of(source)
    server.serve("480.m3u8", listing(1, 4, name="480-") + "#EXT-X-DISCONTINUITY\n#EXTINF:2,\n480-5.ts\n")
    await source.playlist(from_sequence=0)
    assert ("480", "720") == (before, await height_of(source))


async def test_a_successor_goes_on_with_the_variant_of_its_predecessor(server: Server) -> None:
    source = HlsSource(server, URL, headers={}, target_height=720, variant="853x480@480000.0")
    assert "480" == await height_of(source)


async def test_another_variant_is_read_whole_whatever_was_wanted_of_the_first(
    source: HlsSource, server: Server
) -> None:
    await source.playlist(from_sequence=0)
    source.leave_variant()
    playlist = await source.playlist(from_sequence=4)
    assert [0, 1, 2, 3, 4] == [each.sequence for each in playlist.segments]


async def test_fresh_addresses_from_the_master_do_not_change_the_variant(
    source: HlsSource, server: Server
) -> None:
    await source.playlist(from_sequence=0)
    server.serve("master.m3u8", MASTER.replace(".m3u8", ".m3u8?token=2"))
    source.forget_variant()
    playlist = await source.playlist(from_sequence=2)
    assert ("720.m3u8?token=2", [2, 3, 4]) == (
        server.names[-1],
        [each.sequence for each in playlist.segments],
    )


# -- conditional requests ------------------------------------------------------------------------------


def conditional(server: Server, name: str, text: str, *, validator: str, header: str, value: str) -> None:
    def answer(request: Request) -> Response:
        if request.headers.get(header) == value:
            return Response(304, request.url, {}, b"")
        return Response(200, request.url, {validator: value}, text.encode())

    server.rules[f"{BASE}/{name}"] = answer


@pytest.mark.parametrize(
    ("validator", "header"), [("etag", "If-None-Match"), ("last-modified", "If-Modified-Since")]
)
async def test_what_did_not_change_is_neither_sent_nor_read_again(
    server: Server, validator: str, header: str
) -> None:
    conditional(server, "a.m3u8", listing(0, 4), validator=validator, header=header, value="v1")
    source = HlsSource(server, f"{BASE}/a.m3u8", headers={}, target_height=720)
    first = await source.playlist(from_sequence=0)
    again = await source.playlist(from_sequence=2)
    assert [{}, {header: "v1"}] == [dict(request.headers) for request in server.asked]
    assert first is again


async def test_an_earlier_start_asks_for_all_of_it(server: Server) -> None:
    conditional(server, "a.m3u8", listing(0, 4), validator="etag", header="If-None-Match", value="v1")
    source = HlsSource(server, f"{BASE}/a.m3u8", headers={}, target_height=720)
    await source.playlist(from_sequence=3)
    playlist = await source.playlist(from_sequence=0)
    assert ({}, 5) == (dict(server.asked[-1].headers), len(playlist.segments))


async def test_the_same_bytes_without_a_validator_are_not_read_again(server: Server) -> None:
    server.serve("a.m3u8", listing(0, 4))
    source = HlsSource(server, f"{BASE}/a.m3u8", headers={}, target_height=720)
    assert await source.playlist(from_sequence=0) is await source.playlist(from_sequence=1)


# -- blocking reloads ----------------------------------------------------------------------------------

BLOCKS = "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3\n"


async def test_a_server_that_promises_it_is_asked_for_the_next_segment(server: Server) -> None:
    answers = iter([listing(0, 4, tags=BLOCKS), listing(1, 5, tags=BLOCKS), listing(2, 6, tags=BLOCKS)])
    server.rules[f"{BASE}/a.m3u8"] = lambda request: Response(200, request.url, {}, next(answers).encode())
    source = HlsSource(server, f"{BASE}/a.m3u8?t=1", headers={}, target_height=720)

    playlists = [await source.playlist(from_sequence=0) for _ in range(3)]

    assert ["a.m3u8?t=1", "a.m3u8?t=1&_HLS_msn=5", "a.m3u8?t=1&_HLS_msn=6"] == server.names
    assert [True, True, True] == [each.blocks_reload for each in playlists]
    assert 6.0 <= server.asked[-1].limits.first_byte_s
    assert not any("_HLS_" in each.location.url for playlist in playlists for each in playlist.segments)


async def test_a_server_that_breaks_its_word_is_polled_like_any_other(server: Server) -> None:
    server.serve("a.m3u8", listing(0, 4, tags=BLOCKS))
    source = HlsSource(server, f"{BASE}/a.m3u8", headers={}, target_height=720)
    playlists = [await source.playlist(from_sequence=0) for _ in range(4)]
    assert ["a.m3u8", "a.m3u8?_HLS_msn=5", "a.m3u8?_HLS_msn=5", "a.m3u8"] == server.names
    assert [True, True, False, False] == [each.blocks_reload for each in playlists]


async def test_a_blocked_request_that_fails_is_made_again_without_the_promise(server: Server) -> None:
    def answer(request: Request) -> Response:
        if "_HLS_msn" in request.url:
            raise HttpTimeout("too long")
        return Response(200, request.url, {}, listing(0, 4, tags=BLOCKS).encode())

    server.rules[f"{BASE}/a.m3u8"] = answer
    source = HlsSource(server, f"{BASE}/a.m3u8", headers={}, target_height=720)
    playlists = [await source.playlist(from_sequence=0) for _ in range(2)]
    assert ["a.m3u8", "a.m3u8?_HLS_msn=5", "a.m3u8"] == server.names
    assert not playlists[-1].blocks_reload


async def test_without_the_promise_no_directive_is_sent(server: Server) -> None:
    server.serve("a.m3u8", listing(0, 4, tags="#EXT-X-SERVER-CONTROL:HOLD-BACK=6\n"))
    source = HlsSource(server, f"{BASE}/a.m3u8", headers={}, target_height=720)
    for _ in range(2):
        await source.playlist(from_sequence=0)
    assert ["a.m3u8", "a.m3u8"] == server.names


# -- addresses and bodies ------------------------------------------------------------------------------


async def test_addresses_refer_to_where_a_redirect_led(server: Server) -> None:
    server.rules[f"{BASE}/a.m3u8"] = lambda _: Response(
        200, "https://edge7.example/x/a.m3u8?sig=1", {}, listing(0, 1).encode()
    )
    source = HlsSource(server, f"{BASE}/a.m3u8", headers={}, target_height=720)
    playlist = await source.playlist(from_sequence=0)
    assert "https://edge7.example/x/s0.ts" == playlist.segments[0].location.url


async def test_a_page_with_status_200_is_no_playlist(server: Server) -> None:
    server.serve("a.m3u8", "<html>sorry</html>")
    source = HlsSource(server, f"{BASE}/a.m3u8", headers={}, target_height=720)
    with pytest.raises(FetchFailed) as raised:
        await source.playlist(from_sequence=0)
    assert FailureKind.NOT_A_PLAYLIST is raised.value.failure.kind


@pytest.mark.parametrize("knows_ranges", [True, False])
async def test_a_part_of_a_file_is_had_from_servers_with_and_without_ranges(
    server: Server, knows_ranges: bool
) -> None:
    body = ts_segment(0, 2_000_000)
    whole = b"before" + body + b"behind"

    def answer(request: Request) -> Response:
        first, last = request.byte_range or (0, len(whole) - 1)
        sent = whole[first : last + 1] if knows_ranges else whole
        return Response(206 if knows_ranges else 200, request.url, {}, sent)

    server.rules[f"{BASE}/all.ts"] = answer
    fetched = await _segment(server, f"#EXT-X-BYTERANGE:{len(body)}@6\n#EXTINF:2,\nall.ts\n")
    assert body == fetched


async def test_a_part_that_is_too_short_is_broken(server: Server) -> None:
    server.rules[f"{BASE}/all.ts"] = lambda request: Response(206, request.url, {}, b"G" * 99)
    with pytest.raises(FetchFailed) as raised:
        await _segment(server, "#EXT-X-BYTERANGE:188@0\n#EXTINF:2,\nall.ts\n")
    assert FailureKind.CORRUPT is raised.value.failure.kind


async def _segment(server: Server, entries: str) -> bytes:
    parsed = parse_playlist(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n{entries}", url=f"{BASE}/a.m3u8")
    assert isinstance(parsed, MediaPlaylist)
    source = HlsSource(server, f"{BASE}/a.m3u8", headers={}, target_height=720)
    return (await source.segment(parsed.segments[0], epoch=0, left_s=10)).body


@pytest.mark.parametrize("gone", [401, 403, 404, 410])
async def test_a_list_that_is_gone_under_its_address_is_told_with_its_status(
    source: HlsSource, server: Server, gone: int
) -> None:
    await source.playlist(from_sequence=0)
    server.serve("720.m3u8", gone)
    with pytest.raises(FetchFailed) as raised:
        await source.playlist(from_sequence=0)
    assert gone == raised.value.failure.status
    source.forget_variant()
    server.serve("720.m3u8", listing(1, 5))
    assert 5 == (await source.playlist(from_sequence=0)).last_sequence
