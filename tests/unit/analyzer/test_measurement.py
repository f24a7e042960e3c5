"""Raw samples to series."""

import numpy as np
import pytest

from analyzer.adapters.measurement import (
    PICTURE_HEIGHT,
    PICTURE_WIDTH,
    SAMPLE_RATE_HZ,
    changed_shares,
    loudness_and_onsets,
)


def pcm(samples: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def test_a_full_scale_sine_is_at_minus_3_dbfs() -> None:
    time_s = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ

    loudness, onsets = loudness_and_onsets(pcm(np.sin(2 * np.pi * 1000 * time_s)))

    assert len(loudness) == len(onsets) == 10
    assert loudness[5] == pytest.approx(-3.0, abs=0.05)


def test_silence_is_at_the_floor_and_has_no_onsets() -> None:
    loudness, onsets = loudness_and_onsets(bytes(SAMPLE_RATE_HZ * 2))

    assert set(loudness) == {-80.0}
    assert set(onsets) == {0.0}


def test_bursts_have_more_onsets_than_a_steady_noise_of_the_same_level() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, SAMPLE_RATE_HZ)
    beating = noise * (np.arange(SAMPLE_RATE_HZ) // 800 % 2)

    _, steady = loudness_and_onsets(pcm(noise))
    _, bursts = loudness_and_onsets(pcm(beating))

    assert sum(bursts) > 1.5 * sum(steady)


def test_the_share_of_changed_points_is_measured_against_the_picture_before() -> None:
    still = np.zeros((PICTURE_HEIGHT, PICTURE_WIDTH), np.uint8)
    half = still.copy()
    half[:, : PICTURE_WIDTH // 2] = 200

    shares = changed_shares(still.tobytes() + still.tobytes() + half.tobytes())

    assert shares == (0.0, 0.0, 0.5)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_pictures_show_no_change(count: int) -> None:
    assert changed_shares(bytes(PICTURE_WIDTH * PICTURE_HEIGHT * count)) == (0.0,) * count


def test_a_rest_shorter_than_a_bin_or_a_sample_is_left_out() -> None:
    assert loudness_and_onsets(bytes(101)) == ((), ())
