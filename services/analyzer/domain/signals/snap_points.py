"""Instants where a clip's edge does not hurt: hard cuts of the picture and pauses of the sound."""

from collections.abc import Iterator

from analyzer.domain.signals.calibration import Calibration
from analyzer.domain.signals.series import SILENCE_DBFS, Measurements, median


def snap_points(measured: Measurements, *, calibration: Calibration) -> tuple[int, ...]:
    """Microseconds from the window's start, ascending, without duplicates, at most `snap_points_max`."""
    points = sorted({*measured.cuts_us, *_pauses(measured, calibration)})
    return tuple(points[: calibration.snap_points_max])


def _pauses(measured: Measurements, calibration: Calibration) -> Iterator[int]:
    """The middle of each run of quiet bins that has sound on both sides of it."""
    loudness = measured.loudness_dbfs
    if not loudness:
        return
    bound = min(calibration.pause_dbfs, median(loudness) - calibration.pause_depth_db)
    start: int | None = None
    for at, value in enumerate(loudness):
        quiet = value <= max(bound, SILENCE_DBFS)
        if quiet and start is None:
            start = at
        elif not quiet and start is not None:
            if start > 0:
                yield (start + at) * measured.bin_us // 2
            start = None
