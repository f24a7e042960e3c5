"""How fast a VOD goes through the whole product, against real time and against FFmpeg decoding it once.

Run: `python bench/vod_speed.py [PLAYLIST]`; without a playlist a test film of four minutes is made.
Start-up of servers and services is not counted: the clock runs from POST to `completed`.
"""

import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from localcluster.cluster import LocalCluster, LocalServers
from localcluster.environment import Installation
from localcluster.installation import set_up
from sandbox.demo.customer import Customer
from sandbox.film import make_film
from sandbox.origin import VodOrigin
from sandbox.segmenter import segment_media

LENGTH_S = 240
MOMENTS = ((30.0, 34.0), (130.0, 134.0), (220.0, 224.0))


async def made_film(folder: Path) -> Path:
    film = await asyncio.to_thread(make_film, folder / "film.mp4", duration_s=LENGTH_S, moments=MOMENTS)
    media = await segment_media(film, folder=folder, segment_s=4.0, duration_s=None)
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:5", "#EXT-X-MEDIA-SEQUENCE:0"]
    for segment in media.segments:
        lines += [f"#EXTINF:{segment.duration_us / 1e6:.6f},", segment.uri]
    playlist = folder / "film.m3u8"
    await asyncio.to_thread(playlist.write_text, "\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    return playlist


def decode_once_s(playlist: Path) -> float:
    """The physical limit here: one FFmpeg on all cores decodes picture and sound once."""
    began = time.perf_counter()
    subprocess.run(
        ["ffmpeg", "-v", "error", "-allowed_extensions", "ALL", "-i", str(playlist), "-f", "null", "-"],
        check=True,
    )
    return time.perf_counter() - began


async def through_the_product(playlist: Path) -> dict[str, float]:
    with LocalServers() as servers:
        async with VodOrigin(playlist.parent, playlist=playlist.name) as origin:
            installation = Installation(
                rabbitmq_url=servers.rabbitmq_url,
                database_admin_url=servers.database_admin_url,
                folder=servers.folder,
                outbound_allow=(urlsplit(origin.url).netloc,),
            )
            await set_up(installation)
            cluster = LocalCluster(installation.environments(), log_folder=servers.folder / "logs")
            await asyncio.to_thread(cluster.__enter__)
            try:
                return await _measured(installation.api_url, origin.url)
            finally:
                await asyncio.to_thread(cluster.stop)


async def _measured(api_url: str, source_url: str) -> dict[str, float]:
    async with Customer(api_url) as customer:
        await customer.register(
            email=f"b-{secrets.token_hex(4)}@example.com",
            password=secrets.token_urlsafe(16),
            company_name="Bench",
        )
        began = time.perf_counter()
        stream = await customer.call("POST", "/v1/streams", {"source_url": source_url, "live": False})
        while stream["status"] not in ("completed", "error", "cancelled"):
            await asyncio.sleep(0.1)
            stream = await customer.stream(stream["id"])
        wall_s = time.perf_counter() - began
        return {
            "wall_s": wall_s,
            "media_s": stream["duration"],
            "coverage_pct": stream["progress"]["coverage_pct"],
            "highlights": stream["progress"]["highlights_found"],
        }


async def main(given: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        playlist = given or await made_film(Path(folder))
        found = await through_the_product(playlist)
        decode_s = await asyncio.to_thread(decode_once_s, playlist)
    result = found | {
        "decode_s": decode_s,
        "times_real_time": found["media_s"] / found["wall_s"],
        "times_decoding_once": found["wall_s"] / decode_s,
    }
    table = Table(title=f"VOD of {found['media_s']:.0f} s")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in result.items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None))
