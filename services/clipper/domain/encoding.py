"""How a clip is encoded: what the quality tier is worth, and what the workload allows within a step."""

from dataclasses import dataclass

from shared.profile import Quality

SUPERFAST_MEGAPIXELS_MAX = 2_000
"""x264 `superfast` with decoding takes about 15 ms of CPU for a megapixel, so this is 30 s of CPU.
Longer or larger clips take the cheaper preset, so that one step stays under a minute on two cores. `veryfast` would
make files a sixth smaller for two thirds more time; a clip that is there sooner is worth more while the stream runs."""
THUMBNAIL_WIDTH_MAX = 640

_CRF = {
    Quality.PREMIUM: 18,
    Quality.HIGH: 20,
    Quality.STANDARD: 22,
    Quality.FAST: 24,
    Quality.CUSTOM: 20,
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """H.264 and AAC settings; the picture's size is even in both directions, as yuv420p demands."""

    width: int
    height: int
    crf: int
    preset: str
    audio_kbps: int = 128


def choose_encoding(quality: Quality, *, width: int, height: int, frames: int) -> Encoding:
    """The settings for a clip of `frames` pictures of this source size."""
    megapixels = width * height * frames / 1e6
    return Encoding(
        width=width // 2 * 2,
        height=height // 2 * 2,
        crf=_CRF[quality],
        preset="superfast" if megapixels <= SUPERFAST_MEGAPIXELS_MAX else "ultrafast",
    )
