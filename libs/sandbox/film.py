"""Makes test films that can be read back exactly: numbered frames, and a click each second.

The readers work on any file that FFmpeg decodes (film, clip, segment), also on a scaled picture.
Frame numbers are exact. A click's time is right to 0.2 ms (measured through one and two generations of AAC in
MP4 and TS, 64 to 128 kbit/s), to 1.5 ms where it touches the first or last sample of the file.
"""

import re
import subprocess
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 180
COUNTER_BITS, BLOCK_PX = 16, 16
MARGIN_PX = (WIDTH - COUNTER_BITS * BLOCK_PX) // 2
GOP_FRAMES = 50
CUT_EVERY_FRAMES = 12
SAMPLE_RATE = 48_000
CLICK_HZ = 1_000
CLICK_SAMPLES = SAMPLE_RATE // 100
CLICK_LEVEL = 0.5
CALM_LEVEL, MOMENT_LEVEL = 0.003, 0.4
BURSTS_PER_S = 4

Moments = Sequence[tuple[float, float]]
Frame = NDArray[np.uint8]
Sound = NDArray[np.float64]


class FilmError(Exception):
    """FFmpeg could not make or read a film; the message ends with what it said."""


@dataclass(frozen=True)
class _Shown:
    """What FFmpeg's showinfo filters told: presentation times (s) and sizes of the frames, in order."""

    pts_s: tuple[float, ...]
    samples: tuple[int, ...]


def make_film(path: Path, *, duration_s: float, moments: Moments = (), fps: int = 25) -> Path:
    """Write a film (H.264 320x180 with a key frame every 50 frames, AAC 48 kHz stereo) and return `path`.

    The suffix of `path` chooses the container (.mp4, .ts, .mkv). Within `moments` (start and end in
    seconds) the sound is some 40 dB louder and beats, the picture moves fast and is cut about twice a second.
    Raises FilmError if FFmpeg fails, ValueError if the counter's 16 bits do not suffice.
    """
    frame_count = round(duration_s * fps)
    if not 0 < frame_count <= 2**COUNTER_BITS:
        raise ValueError(f"a film has 1 to {2**COUNTER_BITS} frames, not {frame_count}")
    with tempfile.TemporaryDirectory(prefix="tldr-film-") as folder:
        sound = Path(folder) / "sound.wav"
        _write_sound(sound, duration_s=frame_count / fps, moments=moments)
        frames = (_frame(n, excited=_within(n / fps, moments)) for n in range(frame_count))
        _encode(path, frames=frames, sound=sound, fps=fps)
    return path


def read_frame_numbers(path: Path) -> tuple[tuple[float, int], ...]:
    """Return (presentation time in seconds as the file has it, frame number) of every frame, in order.

    Raises FilmError if the file has no video or FFmpeg refuses it.
    """
    picture = f"scale={WIDTH}:{HEIGHT}:flags=area,format=gray,showinfo"
    pixels, shown = _decode(path, "-map", "0:v:0", "-vf", picture, "-vsync", "passthrough", "-f", "rawvideo")
    frames = np.frombuffer(pixels, dtype=np.uint8).reshape(-1, HEIGHT, WIDTH)
    return tuple(zip(shown.pts_s, map(_counter, frames), strict=True))


def read_click_times_s(path: Path) -> tuple[float, ...]:
    """Return when each click begins, in seconds on the same time line as `read_frame_numbers`.

    A click that the file's start or end cuts into is left out. Raises FilmError if there is no audio.
    """
    pcm, shown = _decode(path, "-map", "0:a:0", "-af", _sound_filter(), "-f", "s16le")
    sound = np.frombuffer(pcm, dtype="<i2").astype(np.float64) / 32768
    first_samples = np.concatenate(([0], np.cumsum(shown.samples)))
    times: list[float] = []
    for start in _click_starts(sound):
        frame = int(np.searchsorted(first_samples, start, side="right")) - 1
        times.append(shown.pts_s[frame] + float(start - first_samples[frame]) / SAMPLE_RATE)
    return tuple(times)


def sync_error_s(path: Path, *, fps: int = 25) -> float:
    """Return how far the worst click is from its whole second of the film, as the frame counter tells it.

    Right for any excerpt without a cut inside. Raises FilmError if there is no click or no frame.
    """
    frames, clicks = read_frame_numbers(path), read_click_times_s(path)
    if not frames or not clicks:
        raise FilmError(f"{path.name} has {len(frames)} frames and {len(clicks)} clicks")
    pts_s, number = frames[0]
    film_times_s = [number / fps + click_s - pts_s for click_s in clicks]
    return max(abs(time_s - round(time_s)) for time_s in film_times_s)


def _within(time_s: float, moments: Moments) -> bool:
    return any(start_s <= time_s < end_s for start_s, end_s in moments)


def _frame(number: int, *, excited: bool) -> Frame:
    """Draw frame `number`: the counter in the top row, calm or excitement below it."""
    frame = _excitement(number) if excited else _calm(number)
    bits = (number >> np.arange(COUNTER_BITS)[::-1]) & 1
    blocks = np.kron(bits * 255, np.ones((BLOCK_PX, BLOCK_PX)))
    frame[:BLOCK_PX] = 0
    frame[:BLOCK_PX, MARGIN_PX:-MARGIN_PX] = blocks
    return frame


def _calm(number: int) -> Frame:
    """A still gradient with a slow dot."""
    frame = np.tile(np.linspace(60, 120, WIDTH), (HEIGHT, 1)).astype(np.uint8)
    x = number // 4 % (WIDTH - 8)
    frame[100:108, x : x + 8] = 200
    return frame


def _excitement(number: int) -> Frame:
    """Large random tiles that run sideways, new ones at each cut, light and dark in turn."""
    shot, step = divmod(number, CUT_EVERY_FRAMES)
    tiles = np.random.default_rng(shot).integers(0, 160, size=(HEIGHT // 20, WIDTH // 20))
    picture = np.kron(tiles + 90 * (shot % 2), np.ones((20, 20)))
    return np.roll(picture, 9 * step, axis=1).astype(np.uint8)


def _counter(frame: Frame) -> int:
    """Read the number from the middle of each block."""
    row = frame[4 : BLOCK_PX - 4, MARGIN_PX:-MARGIN_PX].mean(axis=0)
    bits = row.reshape(COUNTER_BITS, BLOCK_PX)[:, 4:-4].mean(axis=1) > 127
    return int(bits @ (1 << np.arange(COUNTER_BITS)[::-1]))


def _write_sound(path: Path, *, duration_s: float, moments: Moments) -> None:
    """Write 16-bit PCM, both channels alike: faint noise, beating noise in moments, a click each second."""
    count = round(duration_s * SAMPLE_RATE)
    time_s = np.arange(count) / SAMPLE_RATE
    level = np.full(count, CALM_LEVEL)
    for start_s, end_s in moments:
        inside = (time_s >= start_s) & (time_s < end_s)
        level[inside] = MOMENT_LEVEL * (1 - (time_s[inside] * BURSTS_PER_S) % 1 * 0.8)
    sound = level * np.random.default_rng(0).uniform(-1, 1, count)
    click = CLICK_LEVEL * np.sin(2 * np.pi * CLICK_HZ * np.arange(CLICK_SAMPLES) / SAMPLE_RATE)
    for start in range(0, count - CLICK_SAMPLES, SAMPLE_RATE):
        sound[start : start + CLICK_SAMPLES] += click
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.repeat(sound * 32767, 2).astype("<i2").tobytes())


def _click_starts(sound: Sound) -> tuple[int, ...]:
    """Return the first samples of all clicks: peaks of the 1 kHz energy over one click's length.

    The energy is a triangle around a click whose top stands where the click begins; noise of a moment
    reaches a tenth of it.
    """
    if len(sound) <= CLICK_SAMPLES:
        return ()
    phase = np.exp(-2j * np.pi * CLICK_HZ * np.arange(len(sound)) / SAMPLE_RATE)
    sums = np.concatenate(([0], np.cumsum(sound * phase)))
    energy = np.abs(sums[CLICK_SAMPLES:] - sums[:-CLICK_SAMPLES])
    loud = np.flatnonzero(energy > CLICK_LEVEL * CLICK_SAMPLES / 4)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > SAMPLE_RATE // 2) + 1) if len(loud) else []
    peaks = (int(group[np.argmax(energy[group])]) for group in groups)
    return tuple(peak for peak in peaks if 0 < peak < len(energy) - 1 or energy[peak] > _whole_click())


def _whole_click() -> float:
    """Energy that only a click with all its samples reaches; AAC takes some of the ideal."""
    return 0.85 * CLICK_LEVEL * CLICK_SAMPLES / 2


def _encode(path: Path, *, frames: Iterator[Frame], sound: Path, fps: int) -> None:
    command = [
        *("ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{WIDTH}x{HEIGHT}"),
        *("-r", f"{fps}", "-i", "pipe:0", "-i", str(sound), "-map", "0:v", "-map", "1:a"),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p"),
        *("-g", f"{GOP_FRAMES}", "-keyint_min", f"{GOP_FRAMES}", "-sc_threshold", "0"),
        *("-c:a", "aac", "-b:a", "128k", str(path)),
    ]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors) as process:
            assert process.stdin is not None
            try:
                for frame in frames:
                    process.stdin.write(frame.tobytes())
                process.stdin.close()
            except BrokenPipeError:
                process.kill()
        errors.seek(0)
        said = errors.read()
    if process.returncode:
        raise FilmError(f"making {path.name} failed: {said.decode(errors='replace')[-500:]}")


def _sound_filter() -> str:
    return f"aresample={SAMPLE_RATE},aformat=channel_layouts=mono,ashowinfo"


def _decode(path: Path, *options: str) -> tuple[bytes, _Shown]:
    """Decode one stream to raw bytes, with the times that its last filter (showinfo) told on stderr."""
    command = ["ffmpeg", "-hide_banner", "-nostats", "-copyts", "-i", str(path), *options, "pipe:1"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    said = result.stderr.decode(errors="replace")
    if result.returncode:
        raise FilmError(f"reading {path.name} failed: {said[-500:]}")
    return result.stdout, _parse_shown(said)


def _parse_shown(said: str) -> _Shown:
    """Read showinfo's lines; its `pts_time` has six digits only, so times come from the integer `pts`."""
    time_base = re.search(r"showinfo.*config in time_base: (\d+)/(\d+)", said)
    tick = Fraction(int(time_base[1]), int(time_base[2])) if time_base else Fraction(1, SAMPLE_RATE)
    pts = re.findall(r"showinfo_\d+ @ .*?\] n: *\d+ +pts: *(-?\d+)", said)
    samples = re.findall(r"nb_samples: *(\d+)", said)
    return _Shown(pts_s=tuple(float(int(p) * tick) for p in pts), samples=tuple(map(int, samples)))
