"""What the Gemini double answers by itself: moments that are really in the video, found by measuring it.

It fills the schema that the request brings, as the model would; a request without one gets an empty object.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from analyzer.adapters.signals import SignalsProvider
from analyzer.domain.analysis import Moment
from analyzer.domain.signals.calibration import DEFAULT
from analyzer.domain.signals.moments import VISIBLE_DIMENSIONS, find_moments
from analyzer.workflow import MediaWindow
from sandbox.gemini_request import Asked
from shared.ids import Position, StreamId
from shared.media_runner import MediaRunner, Sandbox

_MVHD_TIMES = struct.Struct(">II")


async def answer_from_signals(asked: Asked) -> str:
    """JSON of the moments that loudness, onsets, cuts and motion show, scored on the schema's dimensions."""
    item = _item(asked.schema)
    if item is None or asked.video is None:
        return "{}"
    names = tuple(item["scores"]["properties"])
    from_us, to_us = (round(item["start_s"][bound] * 1e6) for bound in ("minimum", "maximum"))
    moments = await _measured(asked.video, from_us=from_us, to_us=to_us)
    return json.dumps({"moments": [_as_answer(each, names=names, from_us=from_us) for each in moments]})


def duration_s(video: bytes | None) -> float:
    """Length that an MP4 tells in its `mvhd` box (version 0); 0 for anything else."""
    at = (video or b"").find(b"mvhd")
    if video is None or at < 0 or video[at + 4] != 0:
        return 0.0
    timescale, duration = _MVHD_TIMES.unpack_from(video, at + 16)
    return float(duration / timescale) if timescale else 0.0


def has_sound(video: bytes | None) -> bool:
    """Whether an MP4 names a sound track."""
    return b"soun" in (video or b"")


def _item(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The properties of one moment in the analyzer's schema."""
    moments = schema.get("properties", {}).get("moments", {})
    found = moments.get("items", {}).get("properties")
    return found if found and {"scores", "start_s"} <= found.keys() else None


async def _measured(video: bytes, *, from_us: int, to_us: int) -> tuple[Moment, ...]:
    with TemporaryDirectory(prefix="gemini-double-") as folder:
        clip = Path(folder) / "asked.mp4"
        clip.write_bytes(video)
        window = MediaWindow(
            stream_id=StreamId("double"),
            position=Position(0, 0),
            start_us=from_us,
            end_us=to_us,
            media_start_us=0,
            files=(clip,),
            container="fmp4",
            init=None,
            work_dir=Path(folder),
        )
        measured = await SignalsProvider(MediaRunner(sandbox=Sandbox.LIMITS_ONLY)).measure(window)
        return find_moments(measured, dimensions=VISIBLE_DIMENSIONS, calibration=DEFAULT)


def _as_answer(moment: Moment, *, names: tuple[str, ...], from_us: int) -> dict[str, Any]:
    """Dimensions that cannot be measured get the mean of those that can."""
    middle = round(mean(moment.scores.values()), 3)
    return {
        "start_s": (from_us + moment.start_us) / 1e6,
        "end_s": (from_us + moment.end_us) / 1e6,
        "peak_s": (from_us + moment.peak_us) / 1e6,
        "scores": {name: moment.scores.get(name, middle) for name in names},
        "confidence": moment.confidence,
        "title": f"Seen by the double: {moment.title}",
        "description": moment.description,
        "reason": moment.reason,
        "tags": list(moment.tags),
    }
