"""Measured series of one window, and the arithmetic on them: moving means, medians, decibels."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

SILENCE_DBFS = -80.0


@dataclass(frozen=True, slots=True)
class Measurements:
    """One value per bin of `bin_us`, from the window's start. An empty series was not there to be measured.

    `loudness_dbfs`: RMS of the bin, not below SILENCE_DBFS. `onsets`: mean positive spectral flux, 0 for silence.
    `changed`: share in [0, 1] of picture points that differ from the bin before. `cuts_us`: hard cuts, ascending.
    """

    bin_us: int
    loudness_dbfs: tuple[float, ...] = ()
    onsets: tuple[float, ...] = ()
    changed: tuple[float, ...] = ()
    cuts_us: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Bins of the longest series."""
        return max(len(self.loudness_dbfs), len(self.changed))

    @property
    def has_sound(self) -> bool:
        return bool(self.loudness_dbfs)

    @property
    def has_picture(self) -> bool:
        return bool(self.changed)

    def cuts_between(self, from_us: int, to_us: int) -> int:
        return bisect_right(self.cuts_us, to_us) - bisect_left(self.cuts_us, from_us)


def moving_mean(values: Sequence[float], width: int) -> tuple[float, ...]:
    """The mean over `width` bins around each bin; near the edges over the bins that exist."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    half = width // 2
    bounds = ((max(0, at - half), min(len(values), at - half + width)) for at in range(len(values)))
    return tuple((sums[to] - sums[start]) / (to - start) for start, to in bounds)


def moving_loudness(loudness_dbfs: Sequence[float], width: int) -> tuple[float, ...]:
    """dBFS of the mean power over `width` bins: what is loud counts, as the ear does it, and pauses do not."""
    powers = [10 ** (value / 10) for value in loudness_dbfs]
    floor = 10 ** (SILENCE_DBFS / 10)
    return tuple(10 * math.log10(max(power, floor)) for power in moving_mean(powers, width))


def median(values: Sequence[float]) -> float:
    """The middle value; of an even number the upper of the two."""
    return sorted(values)[len(values) // 2]


def padded(values: Sequence[float], length: int) -> tuple[float, ...]:
    """The series at `length` bins, its last value repeated: sound and picture seldom end together."""
    last = values[-1] if values else 0.0
    return (*values[:length], *([last] * (length - len(values) if values else 0)))
