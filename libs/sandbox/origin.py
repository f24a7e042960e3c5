"""HLS origins over HTTP: a live one made from a media file, a VOD one over a folder, and the program that serves them.

With a script (`sandbox.scenario`) the program serves `sandbox.faults_origin` in their place.
What the live playlist shows is decided in `sandbox.live_window`; the cutting is in `sandbox.segmenter`.
"""

import argparse
import asyncio
import tempfile
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from aiohttp import web

from localcluster.children import scratch_folder
from sandbox.faults_offer import write_offers
from sandbox.faults_origin import FaultOrigin
from sandbox.http_server import Clock, OriginRequest, RecordingOrigin, utc_now
from sandbox.live_window import LiveWindow, Variant, master_playlist
from sandbox.scenario import ScriptError, read_script
from sandbox.segmenter import Container, MediaToolError, SegmentedMedia, segment_media

__all__ = ["HlsOrigin", "OriginRequest", "RecordingOrigin", "VodOrigin"]

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
CONTENT_TYPES = {
    ".m3u8": PLAYLIST_TYPE,
    ".ts": "video/mp2t",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".vtt": "text/vtt",
}
END_CHECK_S = 0.05


class HlsOrigin(RecordingOrigin):
    """A live HLS stream made from `media`, and from `renditions` of the same content, best first.

    Until `go_live` everything is 404; from then on segments appear `speed` times as fast as real time,
    `initial_segments` of them at once, as when 100ms says that playback is active. `window` counts segments
    at real time and grows with `speed`. `ended` is set when the last segment is complete.
    """

    def __init__(
        self,
        media: Path,
        *,
        renditions: tuple[Path, ...] = (),
        name: str = "live",
        speed: float = 1.0,
        window: int = 5,
        segment_s: float = 2.0,
        duration_s: float | None = None,
        initial_segments: int = 0,
        program_date_time: bool = True,
        master: bool = True,
        endlist: bool = True,
        container: Container = "mpegts",
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(host=host, port=port, clock=clock)
        self.ended = asyncio.Event()
        self.windows: tuple[LiveWindow, ...] = ()
        self.went_live_at: datetime | None = None
        self._sources = (media, *renditions)
        self._name = name
        self._segment_s = segment_s
        self._container = container
        self._duration_s = duration_s
        self._master = master
        self._initial_segments = initial_segments
        self._make_window = partial(
            LiveWindow,
            speed=speed,
            window=window,
            endlist=endlist,
            program_date_time=program_date_time,
        )
        self._media: tuple[SegmentedMedia, ...] = ()
        self._scratch = ExitStack()
        self._folder: Path | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """URL of the master playlist, or of the first media playlist if there is no master."""
        last = "master.m3u8" if self._master else "stream_0/stream.m3u8"
        return f"{self.base_url}/{self._name}/{last}"

    @property
    def window(self) -> LiveWindow:
        """Window of the best rendition: its segments and when they appear."""
        return self.windows[0]

    @property
    def elapsed_s(self) -> float:
        """Wall seconds since `go_live`; raises RuntimeError before it."""
        if self.went_live_at is None:
            raise RuntimeError("the origin is not live yet")
        return (self._clock() - self.went_live_at).total_seconds()

    async def start(self) -> None:
        """Cut the media and listen; raises MediaToolError if FFmpeg refuses the file."""
        self._folder = self._scratch.enter_context(scratch_folder(prefix="tldr-origin-"))
        try:
            self._media = tuple([await self._cut(index) for index in range(len(self._sources))])
            self.windows = self._make_windows()
            await super().start()
        except BaseException:
            self._scratch.close()
            raise

    async def close(self) -> None:
        """Stop serving and delete the segments."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        await super().close()
        self._scratch.close()

    def go_live(self) -> None:
        """Start the clock of the stream; raises RuntimeError if it is live already."""
        if self.went_live_at is not None:
            raise RuntimeError("the origin is live already")
        self.went_live_at = self._clock()
        self._watch = asyncio.create_task(self._watch_end())

    def end_live(self) -> None:
        """End the stream now: what is complete stays, nothing is added (ENDLIST, if the origin sends it)."""
        self.windows = tuple(window.cut(self.elapsed_s) for window in self.windows)
        self._note_end()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a playlist or a segment of the live stream."""
        parts = request.path.strip("/").split("/")
        if self.went_live_at is None or parts[0] != self._name:
            raise web.HTTPNotFound
        self._note_end()
        if parts[1:] == ["master.m3u8"] and self._master:
            return _playlist(master_playlist(self._variants()))
        if len(parts) != 3 or not parts[1].startswith("stream_"):
            raise web.HTTPNotFound
        rendition = self._rendition(parts[1].removeprefix("stream_"))
        if parts[2] == "stream.m3u8":
            return self._media_playlist(rendition, went_live_at=self.went_live_at)
        return self._segment(rendition, uri=parts[2])

    def _rendition(self, number: str) -> int:
        if not number.isdecimal() or int(number) >= len(self.windows):
            raise web.HTTPNotFound
        return int(number)

    def _media_playlist(self, rendition: int, *, went_live_at: datetime) -> web.Response:
        window = self.windows[rendition]
        if not window.listed(self.elapsed_s):
            raise web.HTTPNotFound  # an encoder writes its playlist together with its first segment
        return _playlist(window.playlist(self.elapsed_s, went_live_at=went_live_at))

    def _segment(self, rendition: int, *, uri: str) -> web.StreamResponse:
        window = self.windows[rendition]
        if uri == window.init_uri:
            return _file(self._media[rendition].folder / uri)
        index = next((i for i, segment in enumerate(window.segments) if segment.uri == uri), -1)
        if not window.fetchable(index, elapsed_s=self.elapsed_s):
            raise web.HTTPNotFound
        return _file(self._media[rendition].folder / uri)

    def _variants(self) -> tuple[Variant, ...]:
        return tuple(
            Variant(
                uri=f"stream_{index}/stream.m3u8",
                width=media.width,
                height=media.height,
                frame_rate=media.frame_rate,
                peak_bps=media.peak_bps,
                average_bps=media.average_bps,
            )
            for index, media in enumerate(self._media)
        )

    async def _cut(self, index: int) -> SegmentedMedia:
        assert self._folder is not None
        folder = tempfile.mkdtemp(prefix=f"stream_{index}-", dir=self._folder)
        return await segment_media(
            self._sources[index],
            folder=Path(folder),
            segment_s=self._segment_s,
            duration_s=self._duration_s,
            container=self._container,
        )

    def _make_windows(self) -> tuple[LiveWindow, ...]:
        """Return one window per rendition, all with the same head start: dates must agree among them."""
        initial = self._media[0].segments[: self._initial_segments]
        head_start_us = initial[-1].end_us if initial else 0
        return tuple(
            self._make_window(media.segments, head_start_us=head_start_us, init_uri=media.init_uri)
            for media in self._media
        )

    def _note_end(self) -> None:
        if all(window.ended(self.elapsed_s) for window in self.windows):
            self.ended.set()

    async def _watch_end(self) -> None:
        while not self.ended.is_set():
            await asyncio.sleep(END_CHECK_S)
            self._note_end()


class VodOrigin(RecordingOrigin):
    """Serves the files of `folder` as they are, `playlist` being the one to start from."""

    def __init__(
        self,
        folder: Path,
        *,
        playlist: str,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(host=host, port=port, clock=clock)
        self._folder = folder.resolve()
        self._playlist = playlist

    @property
    def url(self) -> str:
        """URL of the playlist."""
        return f"{self.base_url}/{self._playlist}"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a file below the folder."""
        path = (self._folder / request.path.lstrip("/")).resolve()
        if not path.is_relative_to(self._folder) or not path.is_file():
            raise web.HTTPNotFound
        return _file(path)


def _playlist(text: str) -> web.Response:
    return web.Response(text=text, content_type=PLAYLIST_TYPE, headers={"Cache-Control": "no-store"})


def _file(path: Path) -> web.FileResponse:
    content_type = CONTENT_TYPES.get(path.suffix, "application/octet-stream")
    return web.FileResponse(path, headers={"Content-Type": content_type})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.origin", description="Serve a file as live HLS.")
    parser.add_argument("--media", type=Path, required=True, help="media file, or a VOD playlist (.m3u8)")
    parser.add_argument(
        "--script", type=Path, default=None, help="faults and options of the stream (docs/fault-origin.md)"
    )
    parser.add_argument(
        "--offers", type=Path, default=None, help="with --script: write what is offered there"
    )
    parser.add_argument("--speed", type=float, default=1.0, help="1 is real time")
    parser.add_argument("--window", type=int, default=5, help="segments in the playlist at real time")
    parser.add_argument("--fmp4", action="store_true", help="fragmented MP4 (CMAF) in place of MPEG-TS")
    parser.add_argument("--seconds", type=float, default=None, help="end after that much media")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    return parser.parse_args()


def _from_arguments(options: argparse.Namespace) -> HlsOrigin | VodOrigin | FaultOrigin:
    where = {"host": options.host, "port": options.port}
    if options.script is not None:
        return FaultOrigin(options.media, script=read_script(options.script), **where)
    if options.media.suffix == ".m3u8":
        return VodOrigin(options.media.parent, playlist=options.media.name, **where)
    return HlsOrigin(
        options.media,
        speed=options.speed,
        window=options.window,
        duration_s=options.seconds,
        container="fmp4" if options.fmp4 else "mpegts",
        **where,
    )


async def _serve(options: argparse.Namespace) -> None:
    async with _from_arguments(options) as origin:
        print(origin.url, flush=True)
        if isinstance(origin, FaultOrigin):
            await _run_script(origin, options.offers)
        if isinstance(origin, HlsOrigin):
            origin.go_live()
            await origin.ended.wait()
            print("the stream has ended; Ctrl-C stops serving it", flush=True)
        await asyncio.Event().wait()


async def _run_script(origin: FaultOrigin, offers: Path | None) -> None:
    if offers is not None:
        await asyncio.to_thread(write_offers, offers, origin.offers)
    origin.go_live()
    await asyncio.sleep(origin.timeline.end_s)
    print("the stream has ended; Ctrl-C stops serving it", flush=True)


def main() -> None:
    """Serve until Ctrl-C; the first line printed is the URL."""
    with suppress(KeyboardInterrupt):
        try:
            asyncio.run(_serve(_arguments()))
        except (ScriptError, MediaToolError) as error:
            raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
