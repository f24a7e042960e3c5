"""The constants of the signals provider in one place, each with its unit and its reason.

Windows are judged one by one, so the scales are absolute. They were set on three recordings that differ much: a
first-person shooter, an animated film with quiet talk, a fight and loud credits, and a silent screen recording.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ramp:
    """A straight line from 0 at `low` to 1 at `high`, flat outside."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


@dataclass(frozen=True, slots=True)
class Curve:
    """Straight lines between (input, score) knots whose inputs rise; flat beyond the first and the last."""

    knots: tuple[tuple[float, float], ...]

    def __call__(self, value: float) -> float:
        below = self.knots[0]
        for above in self.knots[1:]:
            if value < above[0]:
                return below[1] + (above[1] - below[1]) * Ramp(below[0], above[0])(value)
            below = above
        return below[1]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Everything that turns measurements into scores."""

    smoothing_us: int = 4_000_000
    """Action lasts seconds: on the shooter, 4 s told fights from the rest best (tried: 0.1, 2, 3, 4, 6, 8 s)."""
    instant_us: int = 500_000
    """Within a moment the peak is the instant of half a second that is busiest."""

    loudness: Ramp = Ramp(-36.0, -10.0)
    """dBFS of the mean power. Quiet talk lies near -32, games and fights at -18 to -13, the mix's limit near -10."""
    outburst: Ramp = Ramp(6.0, 30.0)
    """dB above the median of the window's bins that make an outburst, none to full."""
    outburst_lift_db: float = 6.0
    """A full outburst counts as this much louder than it is: quietly mixed streams have their moments too."""
    onsets: Ramp = Ramp(0.15, 0.55)
    """Mean positive spectral flux. Tones and wind stay below 0.2, music lies near 0.35, shots above 0.4."""
    picture: Ramp = Ramp(0.02, 0.38)
    """Share of picture points that change within 100 ms. It saturates early: in a first-person game everything
    moves all the time and more movement means nothing, but where nothing moves nothing happens."""

    loudness_exponent: float = 0.35
    onsets_exponent: float = 0.35
    picture_exponent: float = 0.30
    """Activity is a weighted geometric mean: sound without picture (credits) or picture without sound is little."""

    level: Curve = Curve(((0.30, 0.0), (0.60, 0.28), (0.73, 0.55), (0.80, 0.90), (0.92, 1.0)))
    """Activity to score. It is steep between 0.73 and 0.80, where constant play and a fight lie close together."""
    contrast: Ramp = Ramp(0.0, 0.12)
    """How far the peak's activity stands above the window's median: 0.12 is an outburst."""
    shift: Ramp = Ramp(0.0, 0.15)
    """How much the activity differs between the seconds before the peak and after it."""
    contrast_share: float = 0.35
    shift_share: float = 0.5
    """Contrast and shift qualify the level, they do not replace it: this share of a score depends on them."""
    shift_reach_us: int = 5_000_000

    candidate_floor: float = 0.30
    """A peak whose level is below this is not a moment; a quiet static film has none."""
    peaks_max: int = 2
    peak_distance_us: int = 8_000_000
    edge_us: int = 2_000_000
    """Peaks this close to the window's edge are left to the neighbour, which overlaps and sees them whole."""
    span_share: float = 0.6
    """A moment reaches as far as the level stays above this share of its peak's level."""
    span_max_us: int = 12_000_000
    span_min_us: int = 3_000_000

    cuts_reach_us: int = 5_000_000
    pause_dbfs: float = -38.0
    pause_depth_db: float = 12.0
    """A pause is below -38 dBFS and 12 dB below the window's median loudness."""
    snap_points_max: int = 64


DEFAULT = Calibration()
