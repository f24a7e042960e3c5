"""The fault origin over HTTP, with a clock that the test turns: each fault as a client sees it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from time import monotonic

import aiohttp
import pytest

from ingest.domain.ts import read_clock
from sandbox.faults_media import make_key
from sandbox.faults_origin import CutMedia, FaultOrigin, cut_media
from sandbox.film import make_film
from sandbox.scenario import Stream, parse_script

pytestmark = pytest.mark.needs_ffmpeg

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class FakeClock:
    now: datetime = field(default=START)

    def __call__(self) -> datetime:
        return self.now

    def turn_to(self, elapsed_s: float) -> None:
        self.now = START + timedelta(seconds=elapsed_s)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=16)


@pytest.fixture(scope="module")
async def cut(film: Path, tmp_path_factory: pytest.TempPathFactory) -> CutMedia:
    return await cut_media(film, stream=Stream(), folder=tmp_path_factory.mktemp("cut"))


@dataclass
class Player:
    """Asks the origin at chosen moments."""

    origin: FaultOrigin
    clock: FakeClock
    http: aiohttp.ClientSession

    async def get(self, name: str, *, at_s: float, **headers: str) -> tuple[int, bytes]:
        self.clock.turn_to(at_s)
        url = f"{self.origin.base_url}/live/{name}"
        async with self.http.get(url, headers=headers, allow_redirects=False) as response:
            return response.status, await response.read()

    async def playlist(self, *, at_s: float, name: str = "stream_0/stream.m3u8") -> str:
        return (await self.get(name, at_s=at_s))[1].decode()


@asynccontextmanager
async def playing(
    media: CutMedia | Path, faults: str, stream: str = "{}", *, seed: int = 0
) -> AsyncIterator[Player]:
    clock = FakeClock()
    script = parse_script(f"seed: {seed}\nstream: {stream}\nfaults: [{faults}]")
    async with (
        FaultOrigin(media, script=script, clock=clock) as origin,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http,
    ):
        origin.go_live()
        yield Player(origin, clock, http)


def names(playlist: str) -> list[str]:
    return [line for line in playlist.splitlines() if line and not line.startswith("#")]


FIRST = "stream_0/000000.ts"


async def test_what_is_offered_is_what_is_served(cut: CutMedia) -> None:
    async with playing(cut, "") as player:
        assert ["stream_0/stream.m3u8"] == names(await player.playlist(at_s=4.0, name="master.m3u8"))
        assert ["000000.ts", "000001.ts"] == names(await player.playlist(at_s=4.0))
        status, body = await player.get(FIRST, at_s=4.0)
        gone, _ = (
            await player.get(FIRST, at_s=99.0) if player.origin.offers[0].listed_to_s < 99 else (404, b"")
        )
        to_come, _ = await player.get("stream_0/000003.ts", at_s=4.0)
    offer = player.origin.offers[0]
    assert (200, offer.sha256) == (status, sha256(body).hexdigest())
    assert (404, 404) == (gone, to_come)


@pytest.mark.parametrize("code", [403, 404, 410, 429, 500, 503])
async def test_a_status_comes_for_as_long_as_the_script_says_and_is_recorded(
    cut: CutMedia, code: int
) -> None:
    async with playing(cut, f"{{at_s: 4, for_s: 2, fault: status, code: {code}}}") as player:
        answers = [(await player.get(FIRST, at_s=at_s))[0] for at_s in (3.9, 4.1, 6.1)]
        recorded = [(each.status, each.fault) for each in player.origin.requests]
    assert [200, code, 200] == answers
    assert [(200, ""), (code, f"status {code}"), (200, "")] == recorded


async def test_a_fault_may_cost_the_first_try_only(cut: CutMedia) -> None:
    async with playing(cut, "{from_segment: 0, count: 2, fault: status, code: 404, tries: 1}") as player:
        answers = [(await player.get(FIRST, at_s=5.0))[0] for _ in range(2)]
        other = [(await player.get(f"stream_0/00000{n}.ts", at_s=7.0))[0] for n in (1, 2)]
    assert ([404, 200], [404, 200]) == (answers, other)


async def test_the_same_seed_strikes_the_same_requests(cut: CutMedia) -> None:
    async def statuses(seed: int) -> list[int]:
        async with playing(cut, "{at_s: 0, fault: status, code: 500, chance: 0.5}", seed=seed) as player:
            return [(await player.get(FIRST, at_s=5.0))[0] for _ in range(20)]

    first, again, other = await statuses(1), await statuses(1), await statuses(2)
    assert first == again != other
    assert {200, 500} == set(first)


@pytest.mark.parametrize("fault", ["{at_s: 0, fault: reset}", "{at_s: 0, fault: reset, after_bytes: 1000}"])
async def test_a_connection_is_reset(cut: CutMedia, fault: str) -> None:
    async with playing(cut, fault) as player:
        with pytest.raises(aiohttp.ClientError):
            await player.get(FIRST, at_s=4.0)


async def test_a_body_is_cut_short_with_its_length_told_and_without(cut: CutMedia) -> None:
    async with playing(cut, "{at_s: 0, fault: truncate}") as player:
        with pytest.raises(aiohttp.ClientPayloadError):
            await player.get(FIRST, at_s=4.0)
    async with playing(cut, "{at_s: 0, fault: truncate, announce: false, keep: 0.25}") as player:
        whole = (cut.film.folder / "000000.ts").stat().st_size
        status, body = await player.get(FIRST, at_s=4.0)
    assert (200, whole // 4) == (status, len(body))


@pytest.mark.parametrize(
    ("fault", "begins"),
    [("corrupt", b"\xb8"), ("garbage", b"\x00"), ("html", b"<!DOCTYPE html>"), ("empty_body", b"")],
)
async def test_a_body_with_status_200_can_be_wrong(cut: CutMedia, fault: str, begins: bytes) -> None:
    right = (cut.film.folder / "000000.ts").read_bytes()
    async with playing(cut, f"{{at_s: 0, fault: {fault}}}") as player:
        status, body = await player.get(FIRST, at_s=4.0)
    assert 200 == status
    assert body.startswith(begins) and body != right


async def test_redirects_lead_back_elsewhere_or_nowhere(cut: CutMedia) -> None:
    there = "http://elsewhere.example/x.ts"
    faults = (
        "{from_segment: 0, count: 1, fault: redirect}, "
        "{from_segment: 1, count: 1, fault: redirect, loop: true}, "
        f'{{from_segment: 2, count: 1, fault: redirect, to: "{there}", code: 307}}'
    )
    async with playing(cut, faults) as player:
        hops = [(await player.get(f"stream_0/00000{n}.ts", at_s=7.0))[0] for n in range(3)]
        again = [(await player.get(f"stream_0/00000{n}.ts?hop=1", at_s=7.0))[0] for n in range(2)]
    assert ([302, 302, 307], [200, 302]) == (hops, again)


async def test_the_first_byte_comes_late_and_a_body_drips(cut: CutMedia) -> None:
    async with playing(cut, "{at_s: 0, fault: delay, delay_s: 0.4}") as player:
        began_s = monotonic()
        await player.get(FIRST, at_s=4.0)
        assert monotonic() - began_s >= 0.4
    async with playing(cut, "{at_s: 0, fault: drip, bytes_per_s: 400}") as player:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                await player.get(FIRST, at_s=4.0)


async def test_a_body_never_ends(cut: CutMedia) -> None:
    async with playing(cut, "{at_s: 0, fault: endless}") as player:
        player.clock.turn_to(4.0)
        async with player.http.get(f"{player.origin.base_url}/live/{FIRST}") as response:
            received = await response.content.readexactly(5_000_000)
    assert 5_000_000 == len(received)


async def test_a_playlist_stalls_freezes_lags_and_empties(cut: CutMedia) -> None:
    async with playing(cut, "{at_s: 5, for_s: 4, fault: stall}") as player:
        assert ["000000.ts", "000001.ts"] == names(await player.playlist(at_s=9.9))
        assert "000002.ts" in await player.playlist(at_s=10.1)
    async with playing(cut, "{at_s: 5, for_s: 5, fault: freeze}") as player:
        assert ["000000.ts", "000001.ts"] == names(await player.playlist(at_s=9.9))
        assert "000004.ts" in await player.playlist(at_s=10.1)
    async with playing(cut, "{at_s: 5, fault: stale, behind: 2}") as player:
        assert ["000000.ts"] == names(await player.playlist(at_s=6.0))
    async with playing(cut, "{at_s: 5, fault: empty_playlist}") as player:
        assert [] == names(await player.playlist(at_s=6.0))


async def test_a_delta_update_comes_unasked(cut: CutMedia) -> None:
    async with playing(cut, "{at_s: 5, fault: skip, skipped: 2}") as player:
        playlist = await player.playlist(at_s=8.0)
    assert "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n" in playlist
    assert ["000002.ts", "000003.ts"] == names(playlist)


async def test_a_late_start_is_404_at_first(cut: CutMedia) -> None:
    async with playing(cut, "{fault: late_start, for_s: 5}", "{initial_segments: 2}") as player:
        answers = [(await player.get("master.m3u8", at_s=at_s))[0] for at_s in (4.9, 5.1)]
    assert [404, 200] == answers


async def test_tokens_expire_and_the_master_gives_fresh_ones(cut: CutMedia) -> None:
    async with playing(cut, "{at_s: 6, fault: token_expiry}") as player:
        (variant,) = names(await player.playlist(at_s=5.0, name="master.m3u8"))
        (_, name, *_) = names(await player.playlist(at_s=5.0, name=variant))
        answers = [(await player.get(f"stream_0/{name}", at_s=at_s))[0] for at_s in (5.0, 6.1)]
        refused, _ = await player.get(variant, at_s=6.1)
        (fresh,) = names(await player.playlist(at_s=6.1, name="master.m3u8"))
        good, _ = await player.get(fresh, at_s=6.1)
    assert ([200, 403], 403, 200) == (answers, refused, good)


async def test_one_variant_can_be_broken(cut: CutMedia) -> None:
    async with playing(
        cut, "{at_s: 0, target: playlist, variant: 0, fault: status, code: 500}", "{variants: 2}"
    ) as player:
        answers = [(await player.get(f"stream_{n}/stream.m3u8", at_s=5.0))[0] for n in range(2)]
    assert [500, 200] == answers


async def test_the_clock_of_the_media_jumps_in_the_bytes(cut: CutMedia) -> None:
    async with playing(cut, "{from_segment: 2, fault: pts_jump, by_s: 100}") as player:
        bodies = [(await player.get(f"stream_0/00000{n}.ts", at_s=8.0))[1] for n in (1, 2)]
    before, after = (read_clock(body) for body in bodies)
    assert before is not None and after is not None
    assert 102_000_000 == after.pts_us - before.pts_us


async def test_segments_are_encrypted_with_keys_that_rotate(film: Path) -> None:
    async with playing(film, "", "{encrypt: true, key_every: 2}") as player:
        playlist = await player.playlist(at_s=8.0)
        keys = re.findall(r'URI="(key-\d+\.key)"', playlist)
        _, secret = await player.get(f"stream_0/{keys[1]}", at_s=8.0)
        _, body = await player.get("stream_0/000002.ts", at_s=8.0)
    assert ["key-0.key", "key-1.key"] == keys
    assert make_key(0, 1) == secret
    assert 0 == len(body) % 16 and sha256(body).hexdigest() != player.origin.offers[2].sha256


async def test_segments_are_parts_of_one_file(film: Path) -> None:
    async with playing(film, "", "{byte_ranges: true}") as player:
        playlist = await player.playlist(at_s=8.0)
        length, offset = map(int, re.findall(r"BYTERANGE:(\d+)@(\d+)", playlist)[1])
        status, body = await player.get(
            "stream_0/all.ts", at_s=8.0, Range=f"bytes={offset}-{offset + length - 1}"
        )
    assert (206, player.origin.offers[1].sha256) == (status, sha256(body).hexdigest())


async def test_sound_and_captions_have_renditions_of_their_own(film: Path) -> None:
    async with playing(film, "", '{audio: true, captions: ["Goal!", "Save!"]}') as player:
        master = await player.playlist(at_s=8.0, name="master.m3u8")
        sound = names(await player.playlist(at_s=8.0, name="audio/stream.m3u8"))
        told = names(await player.playlist(at_s=8.0, name="captions/captions.m3u8"))
        _, heard = await player.get(f"audio/{sound[0]}", at_s=8.0)
        _, text = await player.get(f"captions/{told[1]}", at_s=8.0)
        _, seen = await player.get(FIRST, at_s=8.0)
    assert 'AUDIO="sound"' in master and "TYPE=SUBTITLES" in master
    heard_clock, seen_clock = read_clock(heard), read_clock(seen)
    assert heard_clock is not None and (False, True) == (heard_clock.has_video, heard_clock.has_audio)
    assert seen_clock is not None and (True, False) == (seen_clock.has_video, seen_clock.has_audio)
    assert b"Save!" in text


async def test_fragmented_mp4_has_an_init_section_that_can_be_broken_too(film: Path) -> None:
    async with playing(
        film, "{at_s: 0, for_s: 5, target: init, fault: status, code: 503}", "{container: fmp4}"
    ) as player:
        answers = [(await player.get("stream_0/init.mp4", at_s=at_s))[0] for at_s in (4.0, 6.0)]
        assert '#EXT-X-MAP:URI="init.mp4"' in await player.playlist(at_s=6.0)
    assert [503, 200] == answers


async def test_endlist_comes_at_the_end_or_never(cut: CutMedia) -> None:
    async with playing(cut, "{at_s: 8, fault: end}") as player:
        assert "#EXT-X-ENDLIST" in await player.playlist(at_s=8.0)
    async with playing(cut, "{at_s: 8, fault: end}", "{endlist: false}") as player:
        assert "#EXT-X-ENDLIST" not in await player.playlist(at_s=100.0)
