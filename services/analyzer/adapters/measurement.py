"""Raw samples to series: loudness, onsets and change of the picture per bin. Bytes in, numbers out; no I/O.

Raw PCM and grey pictures have no structure that could be malformed, so numpy may read them inside the process.
"""

import numpy as np
import numpy.typing as npt

from analyzer.domain.signals.series import SILENCE_DBFS

BIN_US = 100_000
SAMPLE_RATE_HZ = 16_000
PICTURE_WIDTH = 160
PICTURE_HEIGHT = 90

_BIN_SAMPLES = SAMPLE_RATE_HZ * BIN_US // 1_000_000
_FRAMES_PER_BIN = 4
_FRAME_SAMPLES = _BIN_SAMPLES // _FRAMES_PER_BIN
_FLUX_GAIN = 100.0
_CHANGE_STEPS = 12
"""A point changed when its grey differs by more than 12 of 255 steps: above the noise of compression."""


def loudness_and_onsets(pcm: bytes) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(dBFS, positive spectral flux) per bin of 16-bit little-endian mono PCM at SAMPLE_RATE_HZ.

    Loudness is the RMS against full scale, floored at SILENCE_DBFS. The flux is the mean rise of log(1 + 100 |X|)
    over all frequencies between neighbouring frames of 25 ms (Hann window). A rest shorter than a bin is left out.
    """
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float64) / 32768
    bins = len(samples) // _BIN_SAMPLES
    if not bins:
        return (), ()
    samples = samples[: bins * _BIN_SAMPLES]
    rms = np.sqrt(np.mean(samples.reshape(bins, _BIN_SAMPLES) ** 2, axis=1))
    loudness = 20 * np.log10(np.maximum(rms, 10 ** (SILENCE_DBFS / 20)))
    return _numbers(loudness), _numbers(_flux(samples, bins))


def changed_shares(grey: bytes) -> tuple[float, ...]:
    """Share in [0, 1] of points that changed since the picture before; the first takes the value of the second."""
    size = PICTURE_WIDTH * PICTURE_HEIGHT
    count = len(grey) // size
    if count < 2:
        return (0.0,) * count
    pictures = np.frombuffer(grey, np.uint8, count=count * size).reshape(count, size).astype(np.int16)
    shares = np.mean(np.abs(np.diff(pictures, axis=0)) > _CHANGE_STEPS, axis=1)
    return _numbers(np.concatenate((shares[:1], shares)))


def _flux(samples: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.float64]:
    frames = samples.reshape(-1, _FRAME_SAMPLES) * np.hanning(_FRAME_SAMPLES)
    spectra = np.log1p(_FLUX_GAIN * np.abs(np.fft.rfft(frames, axis=1)))
    rises = np.maximum(0.0, np.diff(spectra, axis=0, prepend=spectra[:1]))
    flux: npt.NDArray[np.float64] = rises.mean(axis=1).reshape(bins, _FRAMES_PER_BIN).mean(axis=1)
    return flux


def _numbers(values: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)
