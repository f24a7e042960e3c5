"""The sandbox's programs as a customer starts them."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from sandbox.faults_offer import read_offers
from sandbox.film import make_film


@asynccontextmanager
async def program(module: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"sandbox.{module}", *arguments), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), timeout=20)).decode().strip()


async def interrupt(process: asyncio.subprocess.Process) -> int:
    process.send_signal(signal.SIGINT)
    return await asyncio.wait_for(process.wait(), timeout=20)


@pytest.mark.needs_ffmpeg
async def test_the_origin_prints_its_url_serves_and_ends_on_interrupt(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", duration_s=4)

    async with program("origin", "--media", str(film), "--speed", "50") as process:
        url = await line(process)
        ended = await line(process)
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            playlist = await response.text()
        exit_status = await interrupt(process)

    assert url.endswith("/live/master.m3u8")
    assert ended == "the stream has ended; Ctrl-C stops serving it"
    assert playlist.startswith("#EXTM3U")
    assert exit_status == 0


@pytest.mark.needs_ffmpeg
async def test_the_origin_follows_a_script_and_writes_what_it_offers(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", duration_s=4)
    script, offers = tmp_path / "faults.yaml", tmp_path / "offers.jsonl"
    script.write_text("stream: {speed: 20}\nfaults: [{from_segment: 0, count: 1, fault: status, code: 404}]")
    arguments = ("--media", str(film), "--script", str(script), "--offers", str(offers))

    async with program("origin", *arguments) as process:
        url = await line(process)
        await line(process)
        async with aiohttp.ClientSession() as http:
            segments = [f"{url.rpartition('/')[0]}/stream_0/00000{n}.ts" for n in (0, 1)]
            statuses = [(await http.get(address)).status for address in segments]
        exit_status = await interrupt(process)

    assert [404, 200] == statuses
    assert [("status 404",), ()] == [offer.faults for offer in read_offers(offers)]
    assert 0 == exit_status


async def test_what_is_wrong_with_a_script_is_told_before_anything_is_served(tmp_path: Path) -> None:
    script = tmp_path / "faults.yaml"
    script.write_text("- {at_s: 1, fault: stall}")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox.origin", "--media", "none.mp4", "--script", str(script)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), timeout=20)
    assert 1 == process.returncode
    assert "faults.yaml:1: faults[0].for_s: Field required" == said.decode().strip()


async def test_the_api_of_100ms_says_where_it_is_and_what_is_live() -> None:
    arguments = ("--access-key", "k", "--app-secret", "s", "--stream-url", "https://cdn.example/master.m3u8")
    async with program("hundredms_api", *arguments, "--room-id", "room-1") as serving:
        address, live = await line(serving), await line(serving)
        exit_status = await interrupt(serving)

    assert address.endswith("/v2")
    assert " room room-1 session " in live
    assert exit_status == 0


async def test_the_sender_reports_to_the_receiver_and_both_say_so() -> None:
    async with program("receiver") as receiving:
        url = await line(receiving)
        async with program("hundredms", "--url", url, "--secret", "s", "--beam-id", "b-1") as sending:
            ids, attempt = await line(sending), await line(sending)
            sent_status = await asyncio.wait_for(sending.wait(), timeout=20)
        told = await line(receiving)
        exit_status = await interrupt(receiving)

    assert ids.endswith("beam b-1")
    assert attempt == "after 0 s: 200"
    assert "hls.started.success" in told
    assert (sent_status, exit_status) == (0, 0)
