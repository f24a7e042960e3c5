"""Pictures and sound made one MPEG-TS segment by FFmpeg, packets as they are. Which sound is decided elsewhere."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import structlog

from ingest.domain.sound import SoundCut
from ingest.workflow.sound import NotMixed, Pictures
from shared.errors import PipelineError
from shared.media_runner import MediaRunner

log = structlog.get_logger()

MIX_S: Final = 20.0
AT_ONCE: Final = 4
_PICTURES, _SOUND, _TIMED, _MIXED = "pictures", "sound", "timed.ts", "mixed.ts"
_AS_THEY_ARE: Final = (
    *("-avoid_negative_ts", "disabled", "-muxdelay", "0", "-muxpreload", "0"),
    *("-fflags", "+bitexact", "-f", "mpegts"),
)
_WITHOUT_EDITS: Final = ("-ignore_editlist", "1")  # times as `ingest.domain.fmp4` reads them


class FfmpegMixer:
    """Implements the workflow's port `Mixer`; at most so many processes at once."""

    def __init__(self, runner: MediaRunner, *, work_root: Path, at_once: int = AT_ONCE) -> None:
        self._runner = runner
        self._work_root = work_root
        self._slots = asyncio.Semaphore(at_once)

    async def mixed(self, pictures: Pictures, sound: SoundCut | None) -> bytes:
        async with self._slots:
            try:
                with TemporaryDirectory(prefix="mix-", dir=self._work_root) as name:
                    return await self._mixed(pictures, sound, Path(name))
            except (PipelineError, OSError) as error:
                raise NotMixed(str(error)) from error

    async def _mixed(self, pictures: Pictures, sound: SoundCut | None, folder: Path) -> bytes:
        await asyncio.to_thread((folder / _PICTURES).write_bytes, pictures.content)
        if sound is not None:
            await asyncio.to_thread((folder / _SOUND).write_bytes, sound.content)
            if sound.demuxer != "mpegts" or sound.offset_us:
                await self._run(_timed(sound), folder, output=_TIMED)
        await self._run(_command(pictures, sound), folder, output=_MIXED)
        return await asyncio.to_thread((folder / _MIXED).read_bytes)

    async def _run(self, command: list[str], folder: Path, *, output: str) -> None:
        await self._runner.run(command, work_dir=folder, wall_clock_s=MIX_S, output=folder / output)


def _timed(sound: SoundCut) -> list[str]:
    """The sound as a transport stream, with its times: FFmpeg 5 gives the filter below times of one clock and the
    unit of another, unless both are the transport stream's."""
    source = ("-copyts", "-itsoffset", f"{sound.offset_us / 1e6:.6f}", *_input(sound.demuxer, _SOUND))
    return [*source, "-map", "0:a:0", "-c", "copy", *_AS_THEY_ARE, _TIMED]


def _command(pictures: Pictures, sound: SoundCut | None) -> list[str]:
    """Times stay as they are, across a wrap of the clock too: what is written is counted modulo 2^33 again."""
    command, mapped = ["-copyts", *_input(pictures.demuxer, _PICTURES)], ["-map", "0:v:0"]
    if sound is not None:
        is_timed = sound.demuxer == "mpegts" and not sound.offset_us
        command += _input("mpegts", _SOUND if is_timed else _TIMED)
        mapped += ["-map", "1:a:0", "-bsf:a", _frames_of(sound)]
    return [*command, *mapped, "-c", "copy", *_AS_THEY_ARE, _MIXED]


def _input(demuxer: str, name: str) -> tuple[str, ...]:
    return (*(_WITHOUT_EDITS if demuxer == "mov" else ()), "-f", demuxer, "-i", name)


def _frames_of(sound: SoundCut) -> str:
    """Whole frames; times count from the first, for FFmpeg may take a wrap of the clock out of all."""
    at = "(pts-startpts)*tb"
    return f"noise=drop=lt({at}\\,{sound.from_s:.7f})+gte({at}\\,{sound.to_s:.7f})"
