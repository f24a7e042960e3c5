"""How much happens, bin by bin: sound and picture as a geometric mean, so that neither alone makes a moment."""

from dataclasses import dataclass

from analyzer.domain.signals.calibration import Calibration
from analyzer.domain.signals.series import Measurements, median, moving_loudness, moving_mean, padded

LONE_PICTURE_CEILING = 0.85
"""Without any sound track the picture is judged alone, and held below what both together can reach."""


@dataclass(frozen=True, slots=True)
class Activity:
    """Series of equal length in [0, 1], except `loudness_dbfs`, `onsets` and `changed`, the smoothed measurements."""

    total: tuple[float, ...]
    sound: tuple[float, ...]
    picture: tuple[float, ...]
    loudness_dbfs: tuple[float, ...]
    onsets: tuple[float, ...]
    changed: tuple[float, ...]


def activity_of(measured: Measurements, *, width_us: int, calibration: Calibration) -> Activity:
    """Activity smoothed over `width_us`. A series that was not measured stays empty and does not weigh."""
    width = max(1, width_us // measured.bin_us)
    length = measured.length
    loudness = padded(moving_loudness(measured.loudness_dbfs, width), length)
    onsets = padded(moving_mean(measured.onsets, width), length)
    changed = padded(moving_mean(measured.changed, width), length)
    felt = _felt_loudness(loudness, measured, calibration)
    sound = tuple(_sound(*pair, calibration) for pair in zip(felt, onsets, strict=True))
    picture = tuple(calibration.picture(value) for value in changed)
    total = _total(sound, picture, calibration)
    return Activity(total, sound, picture, loudness, onsets, changed)


def blend(sound: float, picture: float, *, picture_share: float) -> float:
    """The weighted geometric mean of sound and picture activity."""
    return float(sound ** (1 - picture_share) * picture**picture_share)


def _felt_loudness(
    loudness_dbfs: tuple[float, ...], measured: Measurements, calibration: Calibration
) -> tuple[float, ...]:
    """Loudness with outbursts lifted: what stands far above its own window sounds louder than its level.

    The window's median is that of its single bins, so that sparse clicks in a quiet window do not hide an outburst.
    """
    if not loudness_dbfs:
        return ()
    usual = median(measured.loudness_dbfs)
    lift_db = calibration.outburst_lift_db
    return tuple(value + lift_db * calibration.outburst(value - usual) for value in loudness_dbfs)


def _sound(loudness_dbfs: float, onsets: float, calibration: Calibration) -> float:
    weight = calibration.loudness_exponent + calibration.onsets_exponent
    loud = calibration.loudness(loudness_dbfs) ** (calibration.loudness_exponent / weight)
    busy = calibration.onsets(onsets) ** (calibration.onsets_exponent / weight)
    return float(loud * busy)


def _total(
    sound: tuple[float, ...], picture: tuple[float, ...], calibration: Calibration
) -> tuple[float, ...]:
    if not picture:
        return sound
    if not sound:
        return tuple(value * LONE_PICTURE_CEILING for value in picture)
    share = calibration.picture_exponent
    return tuple(blend(*pair, picture_share=share) for pair in zip(sound, picture, strict=True))
