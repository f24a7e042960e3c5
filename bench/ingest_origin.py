"""The one source of the ingest bench: live windows by the clock, from segments that were cut before.

Run by `ingest_live.py`. Every contestant asks under a name of its own (`/<run>/<stream>/live.m3u8`), and the origin
notes when each segment was first asked for; `/control/report` tells what was asked for how late, and what never.
"""

import argparse
import asyncio
import json
import mmap
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, cast
from urllib.parse import parse_qsl, urlsplit

import uvloop
from ingest_figures import percentiles
from ingest_schedule import SEGMENT_S, WINDOW, Schedule

_KEPT_S = WINDOW * SEGMENT_S


class Run:
    """One contestant's streams: when they began, and when each segment was first asked for."""

    def __init__(self, began_at: float) -> None:
        self.schedule = Schedule(began_at)
        self.asked_at: defaultdict[int, dict[int, float]] = defaultdict(dict)
        self.polls = 0

    def report(self, *, streams: int, from_at: float, to_at: float) -> dict[str, float]:
        """About the segments that became available in that span: lost ones, and the lag until they were asked for."""
        lags_s, lost, offered = [], 0, 0
        for stream in range(streams):
            asked = self.asked_at[stream]
            for sequence in self.schedule.available(stream, from_at=from_at, to_at=to_at):
                offered += 1
                if sequence in asked:
                    lags_s.append(asked[sequence] - self.schedule.available_at(stream, sequence))
                else:
                    lost += 1
        return {"offered": offered, "lost": lost, **percentiles(lags_s)}


class Media:
    """The segments, mapped once; stream after stream plays the same ones."""

    def __init__(self, folder: Path) -> None:
        self._bodies = [_mapped(path) for path in sorted(folder.glob("*.ts"))]

    def __len__(self) -> int:
        return len(self._bodies)

    def body(self, sequence: int) -> memoryview:
        return self._bodies[sequence % len(self._bodies)]


class Origin:
    def __init__(self, media: Media) -> None:
        self.media = media
        self.runs: dict[str, Run] = {}

    def answer(self, target: str) -> tuple[bytes, memoryview | None]:
        """Head (with the body, where that is short) and body."""
        parts = urlsplit(target)
        place = parts.path.strip("/").split("/")
        if place[0] == "control":
            return self._control(place[1], dict(parse_qsl(parts.query))), None
        run, stream = self.runs[place[0]], int(place[1])
        if place[2].endswith(".m3u8"):
            return _whole(self._playlist(run, stream), "application/vnd.apple.mpegurl"), None
        return self._segment(run, stream, int(place[2].partition(".")[0]))

    def _control(self, what: str, query: dict[str, str]) -> bytes:
        if what == "begin":
            self.runs[query["run"]] = Run(time.time())
        if what in ("begin", "schedule"):
            found: dict[str, float] = {"began_at": self.runs[query["run"]].schedule.began_at}
        elif what == "count":
            run = self.runs[query["run"]]
            found = {"streams": len(run.asked_at), "polls": run.polls}
        else:
            span = {"from_at": float(query["from"]), "to_at": float(query["to"])}
            found = self.runs[query["run"]].report(streams=int(query["streams"]), **span)
        return _whole(json.dumps(found).encode(), "application/json")

    def _playlist(self, run: Run, stream: int) -> bytes:
        run.polls += 1
        newest = run.schedule.newest(stream, at=time.time())
        oldest = max(0, newest - WINDOW + 1)
        lines = [
            "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS",
            f"#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{oldest}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{max(0, oldest - 1) // len(self.media)}",
        ]
        for sequence in range(oldest, newest + 1):
            if sequence and sequence % len(self.media) == 0:
                lines.append("#EXT-X-DISCONTINUITY")
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{_date(run.schedule.available_at(stream, sequence))}")
            lines.append(f"#EXTINF:{SEGMENT_S:.6f},\n{sequence:06d}.ts")
        return ("\n".join(lines) + "\n").encode()

    def _segment(self, run: Run, stream: int, sequence: int) -> tuple[bytes, memoryview | None]:
        now = time.time()
        available_at = run.schedule.available_at(stream, sequence)
        if not available_at <= now < available_at + 2 * _KEPT_S:
            return _NOT_FOUND, None
        run.asked_at[stream].setdefault(sequence, now)
        body = self.media.body(sequence)
        return _head(len(body), "video/mp2t"), body


class Connection(asyncio.Protocol):
    """As much HTTP/1.1 as players need: GET, kept alive."""

    origin: ClassVar[Origin]

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._answer(head.split(b" ", 2)[1].decode())

    def _answer(self, target: str) -> None:
        head, body = self.origin.answer(target)
        self._transport.write(head)
        if body is not None:
            self._transport.write(body)


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _head(length: int, kind: str) -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
        "Cache-Control: no-store\r\nConnection: keep-alive\r\n\r\n"
    ).encode()


def _whole(body: bytes, kind: str) -> bytes:
    return _head(len(body), kind) + body


_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def _date(at: float) -> str:
    return datetime.fromtimestamp(at - SEGMENT_S, UTC).isoformat(timespec="milliseconds")


async def serve(folder: Path, port: int) -> None:
    Connection.origin = Origin(Media(folder))
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvloop.run(serve(options.segments, options.port))
