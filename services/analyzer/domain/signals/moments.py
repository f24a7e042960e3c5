"""From measurements to moments: peaks of activity, their spans, and what they score on the visible dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.domain.analysis import Moment
from analyzer.domain.signals.activity import Activity, activity_of, blend
from analyzer.domain.signals.calibration import Calibration
from analyzer.domain.signals.series import Measurements, median
from analyzer.domain.signals.wording import Features, describe, give_reason, name_tags, name_title

VISIBLE_DIMENSIONS = frozenset(
    {"visual_spectacle", "emotional_intensity", "timing_importance", "momentum_shift"}
)
SPECTACLE_PICTURE_SHARE = 0.35
EMOTION_PICTURE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Peak:
    """Bins of a peak and of the span around it (`to` not included)."""

    at: int
    start: int
    to: int


@dataclass(frozen=True, slots=True)
class Scene:
    """A window as measured, and its activity over seconds (where moments lie) and over an instant (their peaks)."""

    measured: Measurements
    smooth: Activity
    instant: Activity


def find_moments(
    measured: Measurements, *, dimensions: frozenset[str], calibration: Calibration
) -> tuple[Moment, ...]:
    """The window's moments in time order, scored on those of `dimensions` that sound and picture show."""
    if not measured.length:
        return ()
    scene = Scene(
        measured=measured,
        smooth=activity_of(measured, width_us=calibration.smoothing_us, calibration=calibration),
        instant=activity_of(measured, width_us=calibration.instant_us, calibration=calibration),
    )
    peaks = find_peaks(scene.smooth.total, bin_us=measured.bin_us, calibration=calibration)
    return tuple(_moment(scene, peak, dimensions, calibration) for peak in peaks)


def find_peaks(total: Sequence[float], *, bin_us: int, calibration: Calibration) -> tuple[Peak, ...]:
    """The highest bins above the floor, apart from one another and from the edges, in time order."""
    edge = min(calibration.edge_us // bin_us, len(total) // 4)
    distance = calibration.peak_distance_us // bin_us
    inner = sorted(range(edge, max(edge + 1, len(total) - edge)), key=lambda at: (-total[at], at))
    chosen: list[int] = []
    for at in inner:
        if len(chosen) == calibration.peaks_max or calibration.level(total[at]) < calibration.candidate_floor:
            break
        if all(abs(at - other) >= distance for other in chosen):
            chosen.append(at)
    return tuple(_spanned(total, at, bin_us, calibration) for at in sorted(chosen))


def _spanned(total: Sequence[float], at: int, bin_us: int, calibration: Calibration) -> Peak:
    bound = calibration.level(total[at]) * calibration.span_share
    reach = calibration.span_max_us // 2 // bin_us
    least = calibration.span_min_us // 2 // bin_us
    start = to = at
    while start > max(0, at - reach) and calibration.level(total[start - 1]) >= bound:
        start -= 1
    while to < min(len(total), at + reach) and calibration.level(total[to]) >= bound:
        to += 1
    return Peak(at, max(0, min(start, at - least)), min(len(total), max(to, at + least, at + 1)))


def _moment(scene: Scene, peak: Peak, dimensions: frozenset[str], calibration: Calibration) -> Moment:
    bin_us = scene.measured.bin_us
    features = features_at(scene.measured, scene.smooth, peak, calibration=calibration)
    scores = score(scene.smooth, peak, features, calibration=calibration)
    return Moment(
        start_us=peak.start * bin_us,
        end_us=peak.to * bin_us,
        peak_us=_busiest(scene.instant.total, peak) * bin_us + bin_us // 2,
        scores={name: value for name, value in scores.items() if name in dimensions},
        confidence=_confidence(scene.measured, features),
        title=name_title(features),
        description=describe(features),
        reason=give_reason(features),
        tags=name_tags(features),
    )


def features_at(
    measured: Measurements, smooth: Activity, peak: Peak, *, calibration: Calibration
) -> Features:
    """What can be said in numbers about a peak against its own window."""
    at_us = peak.at * measured.bin_us
    half_us = calibration.cuts_reach_us // 2
    before, after = _around(smooth.total, peak.at, calibration.shift_reach_us // measured.bin_us)
    return Features(
        loudness_dbfs=smooth.loudness_dbfs[peak.at] if smooth.loudness_dbfs else None,
        rise_db=_above_median(smooth.loudness_dbfs, peak.at),
        onsets=smooth.onsets[peak.at] if smooth.onsets else None,
        onset_ratio=_over_median(smooth.onsets, peak.at),
        changed=smooth.changed[peak.at] if smooth.changed else None,
        motion_ratio=_over_median(smooth.changed, peak.at),
        cuts=measured.cuts_between(at_us - half_us, at_us + half_us),
        cuts_span_s=calibration.cuts_reach_us / 1e6,
        contrast=smooth.total[peak.at] - median(smooth.total),
        shift=after - before,
        duration_s=(peak.to - peak.start) * measured.bin_us / 1e6,
    )


def score(smooth: Activity, peak: Peak, features: Features, *, calibration: Calibration) -> dict[str, float]:
    """Scores in [0, 1] of every dimension that the measured series show at the peak."""
    level = calibration.level(smooth.total[peak.at])
    contrast = calibration.contrast(features.contrast)
    shift = calibration.shift(abs(features.shift))
    scores = {
        "timing_importance": _qualified(level, contrast, calibration.contrast_share),
        "momentum_shift": _qualified(level, shift, calibration.shift_share),
    }
    if smooth.picture:
        scores["visual_spectacle"] = _leaning(smooth, peak.at, SPECTACLE_PICTURE_SHARE, calibration)
    if smooth.sound:
        scores["emotional_intensity"] = _leaning(smooth, peak.at, EMOTION_PICTURE_SHARE, calibration)
    return {name: round(value, 4) for name, value in scores.items()}


def _leaning(smooth: Activity, at: int, picture_share: float, calibration: Calibration) -> float:
    """The level of a blend that leans to the picture or to the sound; of the one alone where there is no other."""
    if not (smooth.sound and smooth.picture):
        return calibration.level(smooth.total[at])
    return calibration.level(blend(smooth.sound[at], smooth.picture[at], picture_share=picture_share))


def _qualified(level: float, quality: float, share: float) -> float:
    return level * (1 - share + share * quality)


def _busiest(total: Sequence[float], peak: Peak) -> int:
    return max(range(peak.start, peak.to), key=lambda at: (total[at], -at))


def _around(total: Sequence[float], at: int, reach: int) -> tuple[float, float]:
    """Mean activity of the bins before and after; the value itself where there are none."""
    before, after = total[max(0, at - reach) : at], total[at + 1 : at + 1 + reach]
    return _mean(before, total[at]), _mean(after, total[at])


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _above_median(series: Sequence[float], at: int) -> float:
    return series[at] - median(series) if series else 0.0


def _over_median(series: Sequence[float], at: int) -> float:
    middle = median(series) if series else 0.0
    return series[at] / middle if middle > 0.01 else 1.0


def _confidence(measured: Measurements, features: Features) -> float:
    """Measurements see activity, not meaning: never above 0.6, less when sound or picture is missing."""
    seen = 0.5 if measured.has_sound and measured.has_picture else 0.3
    return round(seen + 0.1 * min(1.0, max(0.0, features.contrast / 0.1)), 3)
