"""What following live streams costs: ours, the minimal loop, FFmpeg and streamlink, on one origin, in real time.

Run: `make bench-ingest`, or `python bench/ingest_live.py --streams 20,100,500 --seconds 20`. Per stream-minute of
1080p at 6 Mbit/s (2 s segments, window of 5): CPU-seconds, memory, lost segments, and the lag from the moment at which
a segment becomes available until it is archived (its row committed) or, for FFmpeg and streamlink, until it is
asked for, which flatters them. All share the machine's cores with the origin, PostgreSQL and RabbitMQ.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from ingest_figures import cpu_s, family, pss_mib
from ingest_product import READY_S, Product, judged, new_run, sweep
from ingest_report import table, write_picture
from ingest_schedule import SEGMENT_S, Schedule

from localcluster.cluster import LocalServers
from localcluster.ports import claim_port

HERE = Path(__file__).resolve().parent
SCRATCH = HERE.parent / ".scratch"
SEGMENTS = 60
WARM_UP_S = 8.0
SETTLE_S = 4.0  # what came at the end of the span may still be on its way
# Processes by the hundred: beyond this their memory and their start say nothing new.
MOST = {"ours": 5000, "minimal": 5000, "ffmpeg": 100, "streamlink": 20}
_TABLE = """
CREATE TABLE IF NOT EXISTS bench_segments (
    run text, stream integer, sequence integer, key text, sha256 text, size_bytes integer,
    PRIMARY KEY (run, stream, sequence)
)
"""
_ROWS = """
SELECT stream, sequence, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS at
FROM bench_segments WHERE run = $1
"""


@dataclass
class Bench:
    """What all contestants share."""

    servers: LocalServers
    product: Product
    origin_url: str
    origin_pid: int
    seconds: float
    http: aiohttp.ClientSession
    settings: dict[str, str] = field(default_factory=dict)
    outputs: Path = Path()

    async def ask(self, what: str, **query: Any) -> dict[str, float]:
        async with self.http.get(f"{self.origin_url}/control/{what}", params=query) as answer:
            return dict(await answer.json(content_type=None))

    def server_pids(self) -> dict[str, tuple[int, ...]]:
        """PostgreSQL and RabbitMQ run in this process's family, each below a folder of its own."""
        found: dict[str, list[int]] = {"postgresql": [], "rabbitmq": []}
        for pid in family(os.getpid()):
            name = _command(pid)
            if "postgres" in name:
                found["postgresql"].append(pid)
            elif "rabbit" in name or "beam" in name or "epmd" in name or "erl_child" in name:
                found["rabbitmq"].append(pid)
        return {name: tuple(pids) for name, pids in found.items()}


Judge = Callable[[Schedule, float, float], Awaitable[dict[str, float]]]


@dataclass(frozen=True)
class Contestant:
    """Started and at work: its processes, and how its segments are judged."""

    pids: Callable[[], Sequence[int]]
    judge: Judge


@asynccontextmanager
async def ours(bench: Bench, run: str, streams: int) -> AsyncIterator[Contestant]:
    process = bench.product.process(streams=streams, extra=bench.settings)
    try:
        process.start()
        await asyncio.to_thread(process.wait_ready, READY_S)
        await bench.product.announce(run, streams=streams, url=f"{bench.origin_url}/{run}")

        async def judge(schedule: Schedule, from_at: float, to_at: float) -> dict[str, float]:
            span = {"from_at": from_at, "to_at": to_at}
            return await bench.product.archived(run, schedule, streams=streams, **span)

        yield Contestant(lambda: family(process.pid), judge)
    finally:
        await asyncio.to_thread(process.stop)
        await bench.product.forget()


@asynccontextmanager
async def minimal(bench: Bench, run: str, streams: int) -> AsyncIterator[Contestant]:
    database = bench.product.installation.database_admin_url
    connection = await asyncpg.connect(database)
    await connection.execute(_TABLE)
    arguments = ["--run", run, "--url", f"{bench.origin_url}/{run}", "--streams", str(streams)]
    arguments += ["--database", database, "--rabbitmq", bench.product.installation.rabbitmq_url]
    arguments += ["--folder", str(bench.outputs)]

    async def judge(schedule: Schedule, from_at: float, to_at: float) -> dict[str, float]:
        rows = await connection.fetch(_ROWS, run)
        committed = {(row["stream"], row["sequence"]): row["at"] for row in rows}
        return judged(committed, schedule, streams=streams, from_at=from_at, to_at=to_at)

    child = _started([sys.executable, str(HERE / "ingest_minimal.py"), *arguments])
    try:
        yield Contestant(lambda: family(child.pid), judge)
    finally:
        _end([child])
        await connection.close()


def external(command: Callable[[str, Path], list[str]]) -> Any:
    """One process for each stream, judged by what it asked the origin for."""

    @asynccontextmanager
    async def started(bench: Bench, run: str, streams: int) -> AsyncIterator[Contestant]:
        children = []
        for stream in range(streams):
            url = f"{bench.origin_url}/{run}/{stream}/live.m3u8"
            arguments = command(url, bench.outputs / f"{run}-{stream}")
            children.append(_started(arguments))
            await asyncio.sleep(0.01)

        async def judge(schedule: Schedule, from_at: float, to_at: float) -> dict[str, float]:
            span = {"from": from_at, "to": to_at}
            return await bench.ask("report", run=run, streams=streams, **span)

        try:
            yield Contestant(lambda: family(*(child.pid for child in children)), judge)
        finally:
            _end(children)

    return started


def ffmpeg_command(url: str, place: Path) -> list[str]:
    """Into files that are cut as the source is."""
    files = ["-f", "segment", "-segment_time", "2", f"{place}-%d.ts"]
    return ["ffmpeg", "-v", "quiet", "-nostdin", "-i", url, "-c", "copy", *files]


def streamlink_command(url: str, place: Path) -> list[str]:
    program = SCRATCH / "streamlink" / "bin" / "streamlink"
    return [str(program), "--quiet", "--stdout", f"hls://{url}", "best"]


CONTESTANTS: dict[str, Any] = {
    "ours": ours,
    "minimal": minimal,
    "ffmpeg": external(ffmpeg_command),
    "streamlink": external(streamlink_command),
}


async def measure(bench: Bench, name: str, streams: int) -> dict[str, Any]:
    """One contestant with so many streams, over the span after its warm-up."""
    run = new_run()
    await bench.ask("begin", run=run)
    schedule = Schedule((await bench.ask("schedule", run=run))["began_at"])
    async with CONTESTANTS[name](bench, run, streams) as contestant:
        flowing = await _wait_until_flowing(bench, run, streams)
        await asyncio.sleep(WARM_UP_S)
        from_at, before = time.time(), _used(bench, contestant)
        polls = (await bench.ask("count", run=run))["polls"]
        await asyncio.sleep(bench.seconds)
        to_at, after = time.time(), _used(bench, contestant)
        polls = (await bench.ask("count", run=run))["polls"] - polls
        memory_mib = pss_mib(contestant.pids())
        await asyncio.sleep(SETTLE_S)
        found = await contestant.judge(schedule, from_at, to_at - SEGMENT_S)
    minutes = (to_at - from_at) / 60 * streams
    per_minute = {f"{part}_cpu_s": (after[part] - before[part]) / minutes for part in after}
    return {
        "contestant": name,
        "streams": streams,
        **per_minute,
        "cores": (after["own"] - before["own"]) / (to_at - from_at),
        "memory_mib": memory_mib / streams,
        "flowing": flowing,
        "polls_per_segment": polls * SEGMENT_S / (to_at - from_at) / streams,
        **found,
    }


async def _wait_until_flowing(bench: Bench, run: str, streams: int, *, patience_s: float = 60.0) -> int:
    """Until every stream was asked for a segment; answers how many were."""
    deadline = time.monotonic() + patience_s
    flowing = 0
    while flowing < streams and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        flowing = int((await bench.ask("count", run=run))["streams"])
    return flowing


async def _wait_until_open(port: int, *, patience_s: float = 20.0) -> None:
    async with asyncio.timeout(patience_s):
        while True:
            with suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


def _used(bench: Bench, contestant: Contestant) -> dict[str, float]:
    used = {"own": cpu_s(contestant.pids()), "origin": cpu_s([bench.origin_pid])}
    return used | {name: cpu_s(pids) for name, pids in bench.server_pids().items()}


def _started(arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _end(children: Sequence["subprocess.Popen[bytes]"]) -> None:
    for child in children:
        child.kill()
    for child in children:
        child.wait()


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace")
    return ""


def cut_segments(folder: Path) -> None:
    """Four seconds of 1080p at 6 Mbit/s, looped without a seam of its clock, cut once."""
    folder.mkdir()
    rate = ["-b:v", "5250k", "-minrate", "5250k", "-maxrate", "5250k", "-bufsize", "5250k"]
    steady = ["-x264-params", "nal-hrd=cbr:keyint=50:min-keyint=50:scenecut=0", "-pix_fmt", "yuv420p"]
    source = ["-f", "lavfi", "-i", "testsrc2=s=1920x1080:r=25:d=4", "-f", "lavfi", "-i", "sine=d=4"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", *rate, *steady, "-c:a", "aac", "-b:a", "128k"]
    clip = folder.parent / "clip.ts"
    run = ["ffmpeg", "-v", "error", "-y"]
    subprocess.run([*run, *source, *codecs, "-f", "mpegts", str(clip)], check=True)
    again = ["-stream_loop", str(SEGMENTS // 2 - 1), "-i", str(clip), "-c", "copy"]
    cut = ["-f", "hls", "-hls_time", "2", "-hls_list_size", "0"]
    names = ["-hls_segment_filename", str(folder / "%04d.ts"), str(folder / "all.m3u8")]
    subprocess.run([*run, *again, *cut, *names], check=True)


def has_streamlink() -> bool:
    """Installs it into a scratch environment of its own, where that can be had."""
    folder = SCRATCH / "streamlink"
    if (folder / "bin" / "streamlink").exists():
        return True
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "streamlink"], check=True)
    except subprocess.CalledProcessError:
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return True


@asynccontextmanager
async def prepared(options: argparse.Namespace) -> AsyncIterator[Bench]:
    port = claim_port()
    with LocalServers(postgres_settings={"track_commit_timestamp": "on"}) as servers:
        segments, outputs = servers.folder / "segments", servers.folder / "outputs"
        outputs.mkdir()
        cut_segments(segments)
        product = Product(servers, origin_address=f"127.0.0.1:{port}", organizations=options.organizations)
        await product.set_up()
        arguments = ["--segments", str(segments), "--port", str(port)]
        origin = _started([sys.executable, str(HERE / "ingest_origin.py"), *arguments])
        sweeping = asyncio.create_task(sweep(outputs, product.installation.objects / "archive"))
        try:
            async with aiohttp.ClientSession() as http:
                await _wait_until_open(port)
                yield Bench(
                    servers=servers,
                    product=product,
                    origin_url=f"http://127.0.0.1:{port}",
                    origin_pid=origin.pid,
                    seconds=options.seconds,
                    http=http,
                    settings=dict(pair.split("=", 1) for pair in options.set),
                    outputs=outputs,
                )
        finally:
            sweeping.cancel()
            _end([origin])


async def main(options: argparse.Namespace) -> None:
    found = []
    async with prepared(options) as bench:
        for streams in options.streams:
            for name in options.contestants:
                if streams > (options.most or MOST[name]):
                    continue
                figures = await measure(bench, name, streams)
                print(json.dumps(figures), file=sys.stderr, flush=True)
                found.append(figures)
        if options.keep_log:
            shutil.copy(bench.servers.folder / "ingest.log", options.keep_log)
    table(found)
    write_picture(found, options.picture)
    print(json.dumps({"seconds": options.seconds, "results": found}))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=_numbers, default=[20, 100, 500])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--contestants", type=lambda text: text.split(","), default=list(CONTESTANTS))
    parser.add_argument("--organizations", type=int, default=10, help="over which the streams are spread")
    parser.add_argument(
        "--most", type=int, default=0, help="streams of any contestant, instead of its own limit"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of ingest"
    )
    parser.add_argument("--picture", type=Path, default=SCRATCH / "ingest-growth.svg")
    parser.add_argument("--keep-log", type=Path, default=None, help="where to copy the log of ingest")
    options = parser.parse_args()
    if "streamlink" in options.contestants and not has_streamlink():
        print("streamlink cannot be installed here: left out", file=sys.stderr)
        options.contestants.remove("streamlink")
    return options


if __name__ == "__main__":
    asyncio.run(main(arguments()))
