"""A window's segments as one file in its work folder, and where on FFmpeg's clock the window lies in it."""

import shutil
from pathlib import Path

from analyzer.workflow import MediaWindow
from shared.media_runner import Probe

JOINED = "window.media"
DEMUXERS = {"mpegts": "mpegts", "fmp4": "mov"}


def join(window: MediaWindow, joined: Path) -> None:
    """Segments of one run without a discontinuity may simply stand one after the other, TS as well as fmp4."""
    with joined.open("wb") as target:
        for path in (*((window.init,) if window.init else ()), *window.files):
            with path.open("rb") as source:
                shutil.copyfileobj(source, target)


def lead_us(probe: Probe) -> int:
    """From FFmpeg's time 0, the file's first packet of any kind, to the first picture (else the first sample).

    A segment's media time is that of its first picture; sound often starts a little earlier, so the clocks differ.
    """
    first = probe.first("video") or probe.first("audio")
    if first is None or first.start_us is None or probe.start_us is None:
        return 0
    return first.start_us - probe.start_us


def window_start_us(window: MediaWindow, probe: Probe) -> int:
    """Where the window starts on FFmpeg's clock."""
    return window.start_us - window.media_start_us + lead_us(probe)
