"""A live HLS origin that does what a script says, and records what it offered.

What is listed when is decided in `sandbox.faults_timeline`, what a playlist says in `sandbox.faults_playlist`, how a
wrong answer looks in `sandbox.faults_answer`; here they meet a clock, files and HTTP.
"""

import asyncio
import hashlib
import random
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Final

from aiohttp import web

from localcluster.children import scratch_folder
from sandbox.faults import AnswerFault, PlaylistFault, Target
from sandbox.faults_answer import RightAnswer, answer_with
from sandbox.faults_media import captions, encrypt, make_key, shift_clock
from sandbox.faults_offer import Offer, label, offers
from sandbox.faults_playlist import (
    AUDIO_FOLDER,
    CAPTIONS_FOLDER,
    Rendering,
    damaged,
    master,
    media,
    shown_at_s,
    skipped_count,
)
from sandbox.faults_timeline import ONE_FILE, Cast, Timeline, plan
from sandbox.http_server import Clock, RecordingOrigin, utc_now
from sandbox.live_window import US_PER_S
from sandbox.scenario import Script, Stream
from sandbox.segmenter import SegmentedMedia, segment_media

PLAYLIST_TYPE: Final = "application/vnd.apple.mpegurl"
TYPES: Final = {
    ".ts": "video/mp2t",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".vtt": "text/vtt",
    ".key": "application/octet-stream",
}
TOKEN: Final = "token"
_KEY: Final = re.compile(r"key-(\d{1,9})\.key")
_RANGE: Final = re.compile(r"bytes=(\d{1,18})-(\d{1,18})")


@dataclass(frozen=True, kw_only=True)
class CutMedia:
    """The film in segments, ready to be served; several origins may share it. `audio` is the sound alone."""

    film: SegmentedMedia
    audio: SegmentedMedia | None = None


async def cut_media(media_file: Path, *, stream: Stream, folder: Path) -> CutMedia:
    """Cut a file as `stream` wants it, into `folder`. Raises MediaToolError."""
    (folder / "film").mkdir()
    film = await segment_media(
        media_file,
        folder=folder / "film",
        segment_s=stream.segment_s,
        duration_s=stream.seconds,
        container=stream.container,
        tracks="video" if stream.audio else "both",
    )
    if not stream.audio:
        return CutMedia(film=film)
    (folder / "audio").mkdir()
    audio = await segment_media(
        media_file,
        folder=folder / "audio",
        segment_s=stream.segment_s,
        duration_s=stream.seconds,
        container=stream.container,
        tracks="audio",
    )
    return CutMedia(film=film, audio=audio)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What a request is for; `cast` is the segment, where it is for one that can be had."""

    target: Target
    folder: str
    name: str
    variant: int = 0
    cast: Cast | None = None


class FaultOrigin(RecordingOrigin):
    """Serves `media` (a file, or one that is cut already) as `script` says; everything is 404 until `go_live`.

    `requests` tells what was asked and which fault answered, `offers` what could be had.
    """

    def __init__(
        self,
        media_file: Path | CutMedia,
        *,
        script: Script,
        name: str = "live",
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(host=host, port=port, clock=clock)
        self.script = script
        self.went_live_at: datetime | None = None
        self._name = name
        self._given = media_file
        self._scratch = ExitStack()
        self._asked_count: Counter[tuple[int, str]] = Counter()
        numbered = tuple(enumerate(script.faults))
        self._answer_faults = [(n, fault) for n, fault in numbered if isinstance(fault, AnswerFault)]
        self._playlist_faults = [(n, fault) for n, fault in numbered if isinstance(fault, PlaylistFault)]

    @property
    def url(self) -> str:
        """URL of the master playlist, or of the media playlist if there is no master."""
        last = "master.m3u8" if self.script.stream.master else "stream_0/stream.m3u8"
        return f"{self.base_url}/{self._name}/{last}"

    @property
    def elapsed_s(self) -> float:
        """Wall seconds since `go_live`; raises RuntimeError before it."""
        if self.went_live_at is None:
            raise RuntimeError("the origin is not live yet")
        return (self._clock() - self.went_live_at).total_seconds()

    @property
    def offers(self) -> tuple[Offer, ...]:
        """What the stream offers from first to last; known once the origin has started."""
        return self._offers

    @property
    def timeline(self) -> Timeline:
        return self._timeline

    async def start(self) -> None:
        """Cut the media, lay the script over it, and listen; raises MediaToolError if FFmpeg refuses the file."""
        try:
            self._cut = (
                self._given if isinstance(self._given, CutMedia) else await self._cut_here(self._given)
            )
            self._timeline = plan(self._cut.film.segments, script=self.script)
            digests = await asyncio.to_thread(self._digests)
            self._offers = offers(self._timeline, self.script, digests=digests, stream=self._name)
            await super().start()
        except BaseException:
            self._scratch.close()
            raise

    async def close(self) -> None:
        """Stop serving and delete the segments that were cut here."""
        await super().close()
        self._scratch.close()

    def go_live(self) -> None:
        """Start the clock of the stream; raises RuntimeError if it is live already."""
        if self.went_live_at is not None:
            raise RuntimeError("the origin is live already")
        self.went_live_at = self._clock()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer rightly or as a fault does, and record it."""
        struck: list[str] = []
        try:
            response = await self._faulty(request) or await self._scripted(request, struck)
        except web.HTTPException as refusal:
            self._record(request, status=refusal.status, fault=", ".join(struck))
            raise
        self._record(request, status=response.status, fault=", ".join(struck))
        return response

    # -- one request -------------------------------------------------------------------------------------

    async def _scripted(self, request: web.Request, struck: list[str]) -> web.StreamResponse:
        if self.went_live_at is None:
            raise web.HTTPNotFound
        at_s = self.elapsed_s
        asked = self._asked(request, at_s)
        found = self._strikes(asked, request.path, at_s)
        if found is not None:
            struck.append(label(found[0]))
        right = self._right(asked, request, at_s, struck)
        if found is None:
            return right.response()
        return await answer_with(found[0], request, right, draw=found[1])

    def _strikes(self, asked: _Asked, path: str, at_s: float) -> tuple[AnswerFault, random.Random] | None:
        """The first fault that strikes, and the randomness of this very request."""
        for index, fault in self._answer_faults:
            if fault.target != asked.target or fault.variant not in (None, asked.variant):
                continue
            if not self._covers(fault, asked, at_s):
                continue
            self._asked_count[index, path] += 1
            count = self._asked_count[index, path]
            draw = random.Random(f"{self.script.seed} {index} {path} {count}")
            if (fault.tries is None or count <= fault.tries) and draw.random() < fault.chance:
                return fault, draw
        return None

    def _covers(self, fault: AnswerFault, asked: _Asked, at_s: float) -> bool:
        if fault.from_segment is None or asked.target not in ("segment", "audio") or asked.cast is None:
            from_s, to_s = self._timeline.span_s(fault)
            return from_s <= at_s < to_s
        last = fault.from_segment + (fault.count or len(self._timeline.casts))
        return fault.from_segment <= asked.cast.ordinal < last

    def _asked(self, request: web.Request, at_s: float) -> _Asked:
        """Raises web.HTTPNotFound for what is never there."""
        stream = self.script.stream
        name, *rest = request.path.strip("/").split("/")
        if name != self._name or not 1 <= len(rest) <= 2:
            raise web.HTTPNotFound
        if rest == ["master.m3u8"] and stream.master:
            return _Asked(target="master", folder="", name=rest[0])
        if len(rest) == 1:
            raise web.HTTPNotFound
        folder, file = rest
        if folder == CAPTIONS_FOLDER and stream.captions:
            return _Asked(target="captions", folder=folder, name=file, cast=self._named(file, ".vtt", at_s))
        if folder == AUDIO_FOLDER and self._cut.audio is not None:
            return _Asked(target="audio", folder=folder, name=file, cast=self._cast(file, request, at_s))
        return self._asked_of_variant(folder, file, request, at_s)

    def _asked_of_variant(self, folder: str, file: str, request: web.Request, at_s: float) -> _Asked:
        number = folder.removeprefix("stream_")
        if folder == number or not number.isdecimal() or int(number) >= self.script.stream.variants:
            raise web.HTTPNotFound
        target: Target = "segment"
        if file == "stream.m3u8":
            target = "playlist"
        elif file == self._cut.film.init_uri:
            target = "init"
        elif _KEY.fullmatch(file):
            target = "key"
        cast = self._cast(file, request, at_s) if target == "segment" else None
        return _Asked(target=target, folder=folder, name=file, variant=int(number), cast=cast)

    def _cast(self, file: str, request: web.Request, at_s: float) -> Cast | None:
        if file != ONE_FILE:
            return self._timeline.find(file, at_s)
        wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
        if wanted is None:
            return None
        ends = accumulate(self._sizes())
        ordinal = next((n for n, end in enumerate(ends) if end > int(wanted[1])), -1)
        candidates = (cast for cast in self._timeline.casts if cast.ordinal == ordinal)
        return next(
            (c for c in candidates if c.complete_s <= at_s < c.gone_s and c.presence == "there"), None
        )

    def _named(self, file: str, suffix: str, at_s: float) -> Cast | None:
        stem = file.removesuffix(suffix)
        for extension in (".ts", ".m4s"):
            cast = self._timeline.find(stem + extension, at_s)
            if cast is not None and file.endswith(suffix):
                return cast
        return None

    # -- right answers -----------------------------------------------------------------------------------

    def _right(self, asked: _Asked, request: web.Request, at_s: float, struck: list[str]) -> RightAnswer:
        """Raises web.HTTPNotFound and web.HTTPForbidden."""
        if asked.target == "master":
            return RightAnswer(body=self._master(at_s).encode(), content_type=PLAYLIST_TYPE)
        self._check_token(request, at_s)
        if asked.name.endswith(".m3u8"):
            return self._playlist(asked, request, at_s, struck)
        body = self._body(asked)
        content_type = TYPES.get(Path(asked.name).suffix, "application/octet-stream")
        if asked.name == ONE_FILE:
            return RightAnswer(body=body, content_type=content_type, status=206)
        return RightAnswer(body=body, content_type=content_type)

    def _check_token(self, request: web.Request, at_s: float) -> None:
        if self._timeline.has_tokens and request.query.get(TOKEN) != str(self._timeline.token_at(at_s)):
            raise web.HTTPForbidden

    def _body(self, asked: _Asked) -> bytes:
        if asked.target == "key":
            return make_key(self.script.seed, int(asked.name.removeprefix("key-").removesuffix(".key")))
        if asked.target == "init":
            return (self._cut.film.folder / asked.name).read_bytes()
        if asked.target == "audio" and self._cut.audio and asked.name == self._cut.audio.init_uri:
            return (self._cut.audio.folder / asked.name).read_bytes()
        if asked.cast is None:
            raise web.HTTPNotFound
        if asked.target == "captions":
            return self._caption(asked.cast).encode()
        return self._segment(asked.cast, is_audio=asked.target == "audio")

    def _segment(self, cast: Cast, *, is_audio: bool = False) -> bytes:
        body = self._clear(cast, is_audio=is_audio)
        stream = self.script.stream
        if not stream.encrypt or is_audio:
            return body
        number = cast.ordinal if stream.key_iv else cast.sequence
        key = make_key(self.script.seed, cast.ordinal // stream.key_every)
        return encrypt(body, key=key, iv=number.to_bytes(16, "big"))

    def _clear(self, cast: Cast, *, is_audio: bool = False) -> bytes:
        cut = self._cut.audio if is_audio and self._cut.audio else self._cut.film
        if cast.ordinal >= len(cut.segments):
            raise web.HTTPNotFound
        body = (cut.folder / cut.segments[cast.ordinal].uri).read_bytes()
        return shift_clock(body, ticks=cast.pts_shift)

    def _caption(self, cast: Cast) -> str:
        texts = self.script.stream.captions
        text = texts[cast.ordinal % len(texts)]
        return captions(text, start_us=cast.start_us, duration_us=cast.duration_us)

    def _master(self, at_s: float) -> str:
        if not self._timeline.listed(at_s):
            raise web.HTTPNotFound
        film = self._cut.film
        lines = [
            f"RESOLUTION={film.width >> n}x{film.height >> n},BANDWIDTH={film.peak_bps >> n},"
            f"AVERAGE-BANDWIDTH={film.average_bps >> n},FRAME-RATE={film.frame_rate:.3f}"
            for n in range(self.script.stream.variants)
        ]
        return master(lines, stream=self.script.stream, token=self._token(at_s))

    def _token(self, at_s: float) -> str:
        return f"?{TOKEN}={self._timeline.token_at(at_s)}" if self._timeline.has_tokens else ""

    def _playlist(self, asked: _Asked, request: web.Request, at_s: float, struck: list[str]) -> RightAnswer:
        faults = self._playlist_strikes(asked, request.path, at_s)
        struck += [label(fault) for fault in faults]
        shown_s = shown_at_s(self._timeline, faults, now_s=at_s)
        if not self._timeline.listed(shown_s):
            raise web.HTTPNotFound  # an encoder writes its playlist together with its first segment
        assert self.went_live_at is not None
        text = media(
            self._rendering(asked.folder),
            at_s=shown_s,
            now_s=at_s,
            token=self._token(at_s),
            skipped=skipped_count(faults),
        )
        return RightAnswer(
            body=damaged(text, faults).encode(),
            content_type=PLAYLIST_TYPE,
            headers=(("Cache-Control", "no-store"),),
        )

    def _playlist_strikes(self, asked: _Asked, path: str, at_s: float) -> list[PlaylistFault]:
        found: list[PlaylistFault] = []
        for index, fault in self._playlist_faults:
            from_s, to_s = self._timeline.span_s(fault)
            if not from_s <= at_s < to_s or fault.variant not in (None, asked.variant):
                continue
            self._asked_count[index, path] += 1
            draw = random.Random(f"{self.script.seed} {index} {path} {self._asked_count[index, path]}")
            if draw.random() < fault.chance:
                found.append(fault)
        return found

    def _rendering(self, folder: str) -> Rendering:
        assert self.went_live_at is not None
        cut, suffix = self._cut.film, ""
        if folder == AUDIO_FOLDER and self._cut.audio is not None:
            cut = self._cut.audio
        if folder == CAPTIONS_FOLDER:
            suffix = ".vtt"
        durations = [segment.duration_us for segment in cut.segments]
        missing = len(self._timeline.casts) - len(durations)
        durations += [durations[-1]] * max(0, missing)
        return Rendering(
            timeline=self._timeline,
            stream=self.script.stream,
            went_live_at=self.went_live_at,
            target_s=max(1, round(max(durations) / US_PER_S)),
            durations_us=durations,
            init_uri="" if suffix else cut.init_uri,
            sizes=self._sizes() if self.script.stream.byte_ranges and not suffix else (),
            suffix=suffix,
            is_encrypted=self.script.stream.encrypt and cut is self._cut.film and not suffix,
        )

    def _sizes(self) -> tuple[int, ...]:
        film = self._cut.film
        return tuple((film.folder / segment.uri).stat().st_size for segment in film.segments)

    # -- before the start --------------------------------------------------------------------------------

    async def _cut_here(self, media_file: Path) -> CutMedia:
        folder = self._scratch.enter_context(scratch_folder(prefix="tldr-faults-"))
        return await cut_media(media_file, stream=self.script.stream, folder=folder)

    def _digests(self) -> dict[int, str]:
        return {
            cast.ordinal: hashlib.sha256(self._clear(cast)).hexdigest()
            for cast in self._timeline.casts
            if cast.presence == "there"
        }
