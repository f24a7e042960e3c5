"""The `signals` provider: measures a window with FFmpeg in one pass and judges it by numbers. No key, no cost.

What the measurements mean is decided in `domain/signals`; how raw samples become series, in `measurement.py`.
"""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ffmpeg

from analyzer.adapters.measurement import (
    BIN_US,
    PICTURE_HEIGHT,
    PICTURE_WIDTH,
    SAMPLE_RATE_HZ,
    changed_shares,
    loudness_and_onsets,
)
from analyzer.adapters.window_file import DEMUXERS, JOINED, join, window_start_us
from analyzer.domain.analysis import Analysis
from analyzer.domain.signals.calibration import DEFAULT, Calibration
from analyzer.domain.signals.moments import VISIBLE_DIMENSIONS, find_moments
from analyzer.domain.signals.series import Measurements
from analyzer.domain.signals.snap_points import snap_points
from analyzer.workflow import MediaWindow, ProviderRefused
from shared.media_runner import MediaRunner, Probe
from shared.profile import Profile, Quality

WALL_CLOCK_S = 60.0
_SOUND = "sound.pcm"
_CUTS = "cuts.txt"
_CUT_THRESHOLD = 10
_BYTES_PER_SAMPLE = 2
_CUT_TIME = re.compile(r"^lavfi\.scd\.time=([0-9.]+)$", re.MULTILINE)


class SignalsProvider:
    """Scores windows by loudness, sound onsets, motion and cuts. Deterministic; holds nothing between windows."""

    name = "signals"

    def __init__(
        self, runner: MediaRunner, *, calibration: Calibration = DEFAULT, wall_clock_s: float = WALL_CLOCK_S
    ) -> None:
        """`wall_clock_s` bounds the one FFmpeg process that a window takes."""
        self._runner = runner
        self._calibration = calibration
        self._wall_clock_s = wall_clock_s

    async def score(self, window: MediaWindow, profile: Profile) -> Analysis:
        """As the port says; raises ProviderRefused when nothing can be seen, and the media runner's errors."""
        visible = VISIBLE_DIMENSIONS & {dimension.name for dimension in profile.dimensions}
        if not visible:
            raise ProviderRefused(f"no dimension of profile {profile.name!r} can be measured")
        measured = _wanted(await self.measure(window), profile)
        if not measured.length:
            raise ProviderRefused(f"window {window.stream_id} {window.position}: neither sound nor picture")
        return Analysis(
            moments=find_moments(measured, dimensions=frozenset(visible), calibration=self._calibration),
            provider=self.name,
            snap_points_us=snap_points(measured, calibration=self._calibration),
            degraded=profile.quality is not Quality.FAST,
            note=_missing(measured),
        )

    async def snap_points(self, window: MediaWindow, profile: Profile) -> tuple[int, ...]:
        """Cuts and pauses from the window's start, for whoever else judges it. Raises the media runner's errors."""
        measured = _wanted(await self.measure(window), profile)
        return snap_points(measured, calibration=self._calibration)

    async def measure(self, window: MediaWindow) -> Measurements:
        """The window's series, from its own start to its own end. Raises the media runner's errors."""
        demuxer = DEMUXERS[window.container]
        joined = window.work_dir / JOINED
        await asyncio.to_thread(join, window, joined)
        probe = await self._runner.probe(joined, demuxer=demuxer, work_dir=window.work_dir)
        offset_us = window_start_us(window, probe)
        outputs = _outputs(probe, demuxer=demuxer, offset_us=offset_us, length_us=window.length_us)
        if outputs is None:
            return Measurements(BIN_US)
        completed = await self._runner.run(
            outputs.compile()[1:], work_dir=window.work_dir, wall_clock_s=self._wall_clock_s
        )
        return await asyncio.to_thread(_series, window, completed.stdout, offset_us)


def _outputs(probe: Probe, *, demuxer: str, offset_us: int, length_us: int) -> Any:
    """One process with up to two outputs, or None when the file has neither picture nor sound."""
    source = ffmpeg.input(JOINED, f=demuxer)
    outputs = []
    if probe.first("video") is not None:
        outputs.append(_picture_output(source, offset_us=offset_us, length_us=length_us))
    if probe.first("audio") is not None:
        outputs.append(_sound_output(source, length_us=offset_us + length_us))
    return ffmpeg.merge_outputs(*outputs).overwrite_output() if outputs else None


def _picture_output(source: Any, *, offset_us: int, length_us: int) -> Any:
    """Grey thumbnails, one for each bin, to standard output; the times of hard cuts, exact to the frame, to a file."""
    rate = 1_000_000 // BIN_US
    return (
        source["v:0"]
        .filter("scale", PICTURE_WIDTH, PICTURE_HEIGHT, flags="fast_bilinear")
        .filter("format", "gray")
        .filter("scdet", threshold=_CUT_THRESHOLD)
        .filter("metadata", mode="print", key="lavfi.scd.time", file=_CUTS)
        .filter("fps", rate, start_time=f"{offset_us / 1e6:.6f}")
        .output("pipe:1", f="rawvideo", fps_mode="passthrough", **{"frames:v": max(1, length_us // BIN_US)})
    )


def _sound_output(source: Any, *, length_us: int) -> Any:
    """Mono PCM from FFmpeg's time 0 on, holes filled with silence, to a file."""
    return (
        source["a:0"]
        .filter("aresample", SAMPLE_RATE_HZ, **{"async": 1, "first_pts": 0})
        .output(_SOUND, f="s16le", ac=1, ar=SAMPLE_RATE_HZ, t=f"{length_us / 1e6:.6f}")
    )


def _series(window: MediaWindow, grey: bytes, offset_us: int) -> Measurements:
    loudness, onsets = loudness_and_onsets(_sound_of_window(window.work_dir / _SOUND, offset_us))
    return Measurements(
        bin_us=BIN_US,
        loudness_dbfs=loudness,
        onsets=onsets,
        changed=changed_shares(grey),
        cuts_us=tuple(_cuts_of_window(window, offset_us)),
    )


def _sound_of_window(path: Path, offset_us: int) -> bytes:
    if not path.exists():
        return b""
    skipped = max(0, offset_us) * SAMPLE_RATE_HZ // 1_000_000 * _BYTES_PER_SAMPLE
    return path.read_bytes()[skipped:]


def _cuts_of_window(window: MediaWindow, offset_us: int) -> Iterator[int]:
    path = window.work_dir / _CUTS
    told = path.read_text() if path.exists() else ""
    for seconds in _CUT_TIME.findall(told):
        cut_us = round(float(seconds) * 1e6) - offset_us
        if 0 < cut_us < window.length_us:
            yield cut_us


def _wanted(measured: Measurements, profile: Profile) -> Measurements:
    return measured if profile.include_audio else replace(measured, loudness_dbfs=(), onsets=())


def _missing(measured: Measurements) -> str:
    if measured.has_sound and measured.has_picture:
        return ""
    return "judged by the picture alone" if measured.has_picture else "judged by the sound alone"
