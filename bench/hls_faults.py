"""The pitfalls of live HLS against our ingest, `ffmpeg -c copy` and streamlink: what each keeps, tells and ends.

Run: `make bench-hls-faults`, or `python bench/hls_faults.py [SCRIPT.yaml ...]`. Each contestant has origins of its own
with the same scripts and seed, in the same run, and begins with the oldest segment listed; the film's frames are
numbered, so that what was kept can be counted. streamlink is taken from $STREAMLINK or the path, and left out, with
a word, where there is none.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import asyncpg
from rich.console import Console
from rich.table import Table

from localcluster.cluster import LocalServers, ServiceProcess
from localcluster.environment import Installation
from localcluster.installation import set_up
from sandbox.faults_archive import read_kept
from sandbox.faults_checker import Kept, judge
from sandbox.faults_offer import Offer
from sandbox.faults_origin import CutMedia, FaultOrigin, cut_media
from sandbox.film import FilmError, make_film, read_frame_numbers
from sandbox.scenario import Stream, read_script
from shared.contract import routing_key
from shared.events import Source, StreamOnline
from shared.ids import OrganizationId, StreamId, event_id
from shared.keyring import Keyring

SCRIPTS = Path(__file__).resolve().parents[1] / "libs/sandbox/scenarios/section_six"
FILM_S, FPS, SEGMENT_FRAMES = 60.0, 25, 50
INITIAL_SEGMENTS = 3
PATIENCE_S = 40.0
GRACE_S = 5.0
STAGGER_S = 0.5  # so many programs that start at once would starve each other
ORGANIZATION = OrganizationId("org_0123456789ab")
SETTINGS = {"DEAD_AFTER_S": "30", "STALL_S": "8", "START_PATIENCE_S": "30"}
# A source that ends without ENDLIST is not over for all we know: it is dead, and that must be told.
DEAD = frozenset({"silence", "playlist_gone"})


@dataclass(frozen=True)
class Result:
    """What one contestant made of one script; seconds of media. `told` and `ended` are verdicts in words."""

    script: str
    contestant: str
    offered_s: float
    kept_s: float
    told: str
    ended: str

    @property
    def lost_s(self) -> float:
        return round(self.offered_s - self.kept_s, 2)


@dataclass(frozen=True)
class Finished:
    """How a program went: `status` None when it had to be ended; `after_s` since the stream went live."""

    status: int | None
    after_s: float
    said: str


def could_be_had(offer: Offer) -> bool:
    return offer.presence == "there" and offer.offered_s > 0


def is_known_to_miss(offer: Offer) -> bool:
    """Nobody could have it, and a playlist showed that there was something to have."""
    return not could_be_had(offer) and (offer.named_s > 0 or "playlist freeze" in offer.faults)


def offered_frames(offers: Iterable[Offer]) -> set[int]:
    return {
        frame
        for offer in offers
        if could_be_had(offer)
        for frame in range(offer.ordinal * SEGMENT_FRAMES, (offer.ordinal + 1) * SEGMENT_FRAMES)
    }


async def copy(command: Sequence[str], *, deadline_s: float) -> Finished:
    """Run a program to its end, or end it at the deadline."""
    began_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    said = b""
    try:
        async with asyncio.timeout(deadline_s):
            _, said = await process.communicate()
    except TimeoutError:
        await ended(process)
        return Finished(None, time.monotonic() - began_s, "")
    return Finished(process.returncode, time.monotonic() - began_s, said.decode(errors="replace"))


async def ended(process: asyncio.subprocess.Process) -> None:
    """It may write what it has, if it can hear that it should."""
    process.terminate()
    try:
        async with asyncio.timeout(GRACE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def copied(name: str, origin: "ScriptedOrigin", command: Sequence[str], output: Path) -> Result:
    """One program on one script, and what is in its file."""
    finished = await copy(command, deadline_s=origin.timeline.end_s + PATIENCE_S)
    offered = offered_frames(origin.offers)
    kept = offered & await asyncio.to_thread(frames_of, output)
    has_lost = len(kept) < len(offered) or any(map(is_known_to_miss, origin.offers))
    script = origin.script_name
    return Result(
        script=script,
        contestant=name,
        offered_s=len(offered) / FPS,
        kept_s=len(kept) / FPS,
        told="in its log" if has_lost and finished.said.strip() else "no" if has_lost else "nothing to tell",
        ended=ending(script, finished, end_s=origin.timeline.end_s),
    )


def frames_of(path: Path) -> set[int]:
    try:
        return {number for _, number in read_frame_numbers(path)}
    except FilmError:
        return set()


def ending(script: str, finished: Finished, *, end_s: float) -> str:
    if finished.status is None:
        return "hangs"
    if script in DEAD:
        return "says it failed" if finished.status else "as if over"
    if finished.after_s < end_s - 3:
        return f"{end_s - finished.after_s:.0f} s early, status {finished.status}"
    return "rightly" if finished.status == 0 else f"status {finished.status}"


class ScriptedOrigin(FaultOrigin):
    """Knows the name of its script, beside that of its stream."""

    def __init__(self, cut: CutMedia, *, path: Path, name: str) -> None:
        script = read_script(path)
        stream = script.stream.model_copy(update={"initial_segments": INITIAL_SEGMENTS})
        super().__init__(cut, script=script.model_copy(update={"stream": stream}), name=name)
        self.script_name = path.stem
        self.stream_name = name


class Ours:
    """One ingest process on servers of its own."""

    def __init__(self, installation: Installation, origins: Sequence[ScriptedOrigin]) -> None:
        self._installation = installation
        self._origins = origins
        environment = installation.environment("ingest") | SETTINGS
        self._process = ServiceProcess(
            "ingest", environment=environment, log_path=installation.folder / "ingest.log"
        )

    async def start(self) -> None:
        self._process.start()
        await asyncio.to_thread(self._process.wait_ready, 60.0)

    async def follow(self) -> None:
        async with await aio_pika.connect(self._installation.rabbitmq_url) as connection:
            exchange = await (await connection.channel()).get_exchange("tldr.events", ensure=False)
            for origin in self._origins:
                event = self._online(origin)
                body = event.model_dump_json().encode()
                await exchange.publish(aio_pika.Message(body), routing_key(event.name, event.lane))

    def _online(self, origin: ScriptedOrigin) -> StreamOnline:
        stream = StreamId(origin.stream_name)
        keyring = Keyring([self._installation.keyring])
        return StreamOnline(
            event_id=event_id(stream, StreamOnline.name, 0),
            organization_id=ORGANIZATION,
            stream_id=stream,
            occurred_at=datetime.now(UTC),
            source=Source(
                sealed_url=keyring.encrypt(origin.url, context=f"stream:{stream}"), display_url="x"
            ),
            profile_key="profiles/0.json",
        )

    async def results(self) -> list[Result]:
        """Wait for the end of all streams, and judge what was kept."""
        last_s = max(origin.timeline.end_s for origin in self._origins) + PATIENCE_S
        connection = await asyncpg.connect(self._installation.database_admin_url)
        try:
            async with asyncio.timeout(last_s + PATIENCE_S):
                while await connection.fetchval(_OVER) < len(self._origins):  # noqa: ASYNC110
                    await asyncio.sleep(0.5)  # the end is a row in a database
        finally:
            await connection.close()
        kept = await read_kept(self._installation.database_admin_url, objects=self._installation.objects)
        await asyncio.to_thread(self._process.stop)
        return [self._result(origin, kept) for origin in self._origins]

    def _result(self, origin: ScriptedOrigin, kept: Kept) -> Result:
        own = Kept(
            archived=tuple(row for row in kept.archived if row.stream == origin.stream_name),
            missed=tuple(gap for gap in kept.missed if gap.stream == origin.stream_name),
            endings=tuple(each for each in kept.endings if each[0] == origin.stream_name),
        )
        digests = {row.sha256 for row in own.archived}
        had = [offer for offer in origin.offers if could_be_had(offer)]
        judgement = judge(origin.offers, own, most_gaps=1.0)
        causes = ", ".join(sorted({gap.cause for gap in own.missed}))
        cause = own.endings[0][1] if own.endings else "never"
        is_right = cause == ("source_dead" if origin.script_name in DEAD else "endlist")
        return Result(
            script=origin.script_name,
            contestant="ours",
            offered_s=len(had) * SEGMENT_FRAMES / FPS,
            kept_s=sum(offer.sha256 in digests for offer in had) * SEGMENT_FRAMES / FPS,
            told="; ".join(judgement.violations) or (f"rightly: {causes}" if causes else "nothing to tell"),
            ended=("rightly" if is_right else "wrongly") + f": {cause}",
        )


_OVER = "SELECT count(*) FROM ingest.followed WHERE state = 'ended'"


def programs() -> Mapping[str, list[str]]:
    """The command of each program; `{url}` and `{output}` are put in."""
    found = {
        "ffmpeg": [
            "ffmpeg",
            "-v",
            "warning",
            "-y",
            "-live_start_index",
            "0",
            "-i",
            "{url}",
            "-c",
            "copy",
            "-f",
            "mpegts",
            "{output}",
        ]
    }
    streamlink = shutil.which(os.environ.get("STREAMLINK") or "streamlink")
    if streamlink:
        options = ["--no-config", "--loglevel", "warning", "--hls-live-restart", "--force", "--output"]
        found["streamlink"] = [streamlink, *options, "{output}", "hls://{url}", "best"]
    else:
        print("streamlink is left out: it is neither in $STREAMLINK nor on the path")
    return found


async def run(scripts: Sequence[Path], folder: Path, servers: LocalServers) -> list[Result]:
    film = await asyncio.to_thread(make_film, folder / "film.mp4", duration_s=FILM_S)
    cut = await cut_media(film, stream=Stream(), folder=folder)
    commands = programs()
    async with AsyncExitStack() as stack:

        async def opened(contestant: str) -> list[ScriptedOrigin]:
            made = [
                ScriptedOrigin(cut, path=path, name=f"str_{n:02x}{contestant[:4]:0<4}".ljust(16, "0"))
                for n, path in enumerate(scripts)
            ]
            return [await stack.enter_async_context(origin) for origin in made]

        ours_origins = await opened("ours")
        theirs = {name: await opened(name) for name in commands}
        installation = Installation(
            rabbitmq_url=servers.rabbitmq_url,
            database_admin_url=servers.database_admin_url,
            folder=servers.folder,
            outbound_allow=tuple(urlsplit(origin.url).netloc for origin in ours_origins),
        )
        await set_up(installation)
        ours = Ours(installation, ours_origins)
        await ours.start()
        await ours.follow()
        while not all(origin.requests for origin in ours_origins):  # noqa: ASYNC110 - asked by another process
            await asyncio.sleep(0.1)
        tasks = []
        for n in range(len(scripts)):
            ours_origins[n].go_live()
            for name, command in commands.items():
                origin = theirs[name][n]
                origin.go_live()
                tasks.append(
                    asyncio.create_task(
                        copied(name, origin, filled(command, origin, folder), output(origin, folder))
                    )
                )
                await asyncio.sleep(STAGGER_S)
        return [*await ours.results(), *await asyncio.gather(*tasks)]


def output(origin: ScriptedOrigin, folder: Path) -> Path:
    return folder / f"{origin.stream_name}.ts"


def filled(command: Sequence[str], origin: ScriptedOrigin, folder: Path) -> list[str]:
    return [part.format(url=origin.url, output=output(origin, folder)) for part in command]


def shown(results: Sequence[Result]) -> Table:
    table = Table(title="Live HLS gone wrong: what is kept of what could be had (seconds of media)")
    for name in ("script", "contestant", "offered", "kept", "lost", "told", "ended"):
        table.add_column(name, justify="right" if name in ("offered", "kept", "lost") else "left")
    for each in sorted(results, key=lambda result: result.script):
        figures = (f"{each.offered_s:.1f}", f"{each.kept_s:.1f}", f"{each.lost_s:.1f}")
        table.add_row(each.script, each.contestant, *figures, each.told, each.ended)
    return table


def totals(results: Sequence[Result]) -> dict[str, object]:
    """By contestant: seconds lost, scripts in which something was lost, and in which the end was wrong."""
    names = sorted({each.contestant for each in results})
    return {
        name: {
            "lost_s": round(sum(each.lost_s for each in results if each.contestant == name), 1),
            "offered_s": round(sum(each.offered_s for each in results if each.contestant == name), 1),
            "scripts_with_loss": sum(each.contestant == name and each.lost_s > 0 for each in results),
            "ended_wrongly": sum(
                each.contestant == name and not each.ended.startswith(("rightly", "says")) for each in results
            ),
        }
        for name in names
    }


async def main(given: Sequence[Path]) -> None:
    scripts = list(given) or sorted(SCRIPTS.glob("*.yaml"))
    with LocalServers() as servers, tempfile.TemporaryDirectory() as folder:
        results = await run(scripts, Path(folder), servers)
    Console(width=170).print(shown(results))
    print(json.dumps({"scripts": len(scripts), **totals(results)}))


if __name__ == "__main__":
    asyncio.run(main([Path(name).resolve() for name in sys.argv[1:]]))
