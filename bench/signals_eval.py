"""Judges labelled recordings by the signals provider and prints hit rates of its best moments against chance.

Run from the repository's root: `.venv/bin/python bench/signals_eval.py`. A table for people, then one line of JSON.
Windows are 20 s long and overlap by 4 s, as the ingest makes them. A hit is a moment whose peak lies in a labelled
window; chance is a moment at a random time (mean of many draws with the same spacing, fixed seed).
"""

import argparse
import asyncio
import json
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from analyzer.adapters.signals import SignalsProvider
from analyzer.workflow import MediaWindow
from sandbox.segmenter import parse_segments, segment_media
from shared.ids import Position, StreamId
from shared.media_runner import MediaRunner, Sandbox
from shared.profile import Dimension, Profile, combined_score

MEDIA = Path(__file__).resolve().parents[1] / "../shared/media"
RECORDINGS = (
    ("arena_dev.mp4", "arena_dev.truth.json"),
    ("agent327_hls/360p.m3u8", "agent327.truth.json"),
    ("autoeditor_example.mp4", None),
)
WINDOW_S, OVERLAP_S, SPACING_S = 20.0, 4.0, 30.0
THRESHOLD = 0.70
RANKS = (1, 3, 5, 10)
DRAWS = 2000
WEIGHTS = {
    "skill_execution": 0.20,
    "game_impact": 0.20,
    "rarity": 0.15,
    "visual_spectacle": 0.15,
    "emotional_intensity": 0.10,
    "narrative_value": 0.10,
    "timing_importance": 0.05,
    "momentum_shift": 0.05,
}


@dataclass(frozen=True)
class Segment:
    path: Path
    start_s: float
    duration_s: float


@dataclass(frozen=True)
class Pick:
    score: float
    peak_s: float
    title: str


@dataclass(frozen=True)
class Truth:
    """Labelled windows (from, to, weight) and windows that must not be chosen."""

    windows: tuple[tuple[float, float, float], ...] = ()
    traps: tuple[tuple[float, float], ...] = ()

    def hit(self, time_s: float, *, least_weight: float = 0.0) -> bool:
        return any(a <= time_s <= b and weight >= least_weight for a, b, weight in self.windows)

    def trapped(self, time_s: float) -> bool:
        return any(a <= time_s <= b for a, b in self.traps)


def default_profile() -> Profile:
    dimensions = tuple(Dimension(name=n, definition=n, weight=w) for n, w in WEIGHTS.items())
    return Profile(name="default", dimensions=dimensions)


def read_truth(path: Path | None) -> Truth:
    if path is None:
        return Truth()
    told = json.loads(path.read_text())
    return Truth(
        windows=tuple((*moment["window"], moment["weight"]) for moment in told["moments"]),
        traps=tuple(tuple(trap["window"]) for trap in told.get("must_not_be_picked", ())),
    )


async def segments_of(media: Path, folder: Path) -> tuple[Segment, ...]:
    """A playlist's own segments, or the file cut into segments of about 2 s without transcoding."""
    if media.suffix == ".m3u8":
        made, where = parse_segments(await asyncio.to_thread(media.read_text)), media.parent
    else:
        made, where = (await segment_media(media, folder=folder)).segments, folder
    return tuple(Segment(where / one.uri, one.start_us / 1e6, one.duration_us / 1e6) for one in made)


def windows_of(end_s: float) -> Iterator[tuple[float, float]]:
    start_s = 0.0
    while True:
        yield start_s, min(start_s + WINDOW_S, end_s)
        if start_s + WINDOW_S >= end_s:
            return
        start_s += WINDOW_S - OVERLAP_S


async def judge(media: Path, folder: Path, provider: SignalsProvider) -> tuple[tuple[Pick, ...], float]:
    """All moments of a recording, and its length in seconds."""
    segments = await segments_of(media, folder)
    end_s = segments[-1].start_s + segments[-1].duration_s
    profile = default_profile()
    picks: list[Pick] = []
    for index, (start_s, to_s) in enumerate(windows_of(end_s)):
        with tempfile.TemporaryDirectory(dir=folder) as work:
            window = open_window(segments, start_s, to_s, index=index, work_dir=Path(work))
            analysis = await provider.score(window, profile)
        picks += [
            Pick(combined_score(profile, moment.scores), start_s + moment.peak_us / 1e6, moment.title)
            for moment in analysis.moments
        ]
    return tuple(picks), end_s


def open_window(
    segments: Sequence[Segment], start_s: float, to_s: float, *, index: int, work_dir: Path
) -> MediaWindow:
    needed = [one for one in segments if one.start_s < to_s and one.start_s + one.duration_s > start_s]
    files = tuple(Path(shutil.copy(one.path, work_dir)) for one in needed)
    return MediaWindow(
        stream_id=StreamId("str_000000000000"),
        position=Position(0, index),
        start_us=round(start_s * 1e6),
        end_us=round(to_s * 1e6),
        media_start_us=round(needed[0].start_s * 1e6),
        files=files,
        container="mpegts",
        init=None,
        work_dir=work_dir,
    )


def best(picks: Sequence[Pick]) -> tuple[Pick, ...]:
    """Best first, none closer than SPACING_S to a better one."""
    chosen: list[Pick] = []
    for pick in sorted(picks, key=lambda pick: -pick.score):
        if all(abs(pick.peak_s - other.peak_s) >= SPACING_S for other in chosen):
            chosen.append(pick)
    return tuple(chosen)


def chance(truth: Truth, end_s: float, count: int, *, least_weight: float) -> float:
    """Mean share of hits of `count` random peaks that keep the same spacing."""
    dice = random.Random(0)
    hits = 0
    for _ in range(DRAWS):
        anywhere = [Pick(dice.random(), dice.uniform(0, end_s), "") for _ in range(count * 4)]
        hits += sum(truth.hit(pick.peak_s, least_weight=least_weight) for pick in best(anywhere)[:count])
    return hits / (DRAWS * count)


def rates(chosen: Sequence[Pick], truth: Truth, end_s: float) -> dict[str, object]:
    rows: dict[str, object] = {}
    for rank in RANKS:
        top = chosen[:rank]
        if len(top) < rank:
            break
        for name, weight in (("any", 0.0), ("weight_2", 2.0)):
            share = sum(truth.hit(pick.peak_s, least_weight=weight) for pick in top) / rank
            by_chance = chance(truth, end_s, rank, least_weight=weight)
            rows[f"hit_{name}_at_{rank}"] = round(share, 3)
            rows[f"chance_{name}_at_{rank}"] = round(by_chance, 3)
            print(f"  top {rank:2d}  {name:9s} hits {share:5.0%}   chance {by_chance:5.0%}")
    return rows


async def evaluate(media: Path, truth: Truth, provider: SignalsProvider) -> dict[str, object]:
    wall_s, cpu_s = time.monotonic(), _cpu_s()
    with tempfile.TemporaryDirectory() as folder:
        picks, end_s = await judge(media, Path(folder), provider)
    wall_s, cpu_s = time.monotonic() - wall_s, _cpu_s() - cpu_s
    chosen = best(picks)
    above = sum(pick.score >= THRESHOLD for pick in picks)
    print(f"\n{media.name}: {end_s:.0f} s, {len(picks)} moments, {above} of them >= {THRESHOLD}")
    print(f"  {end_s / cpu_s:.0f}x real time per core, {end_s / wall_s:.0f}x by the clock (cutting included)")
    for pick in [pick for pick in chosen if pick.score >= THRESHOLD][:10]:
        mark = "hit" if truth.hit(pick.peak_s) else "TRAP" if truth.trapped(pick.peak_s) else ""
        print(f"  {pick.score:.3f} at {pick.peak_s:6.1f} s  {mark:4s}  {pick.title}")
    kept = [pick for pick in chosen if pick.score >= THRESHOLD]
    return {
        "media": media.name,
        "moments": len(picks),
        "above_threshold": above,
        "trapped": sum(truth.trapped(pick.peak_s) for pick in kept),
        "realtime_per_core": round(end_s / cpu_s, 1),
        **(rates(chosen, truth, end_s) if truth.windows else {}),
    }


def _cpu_s() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--media", type=Path, help="a recording (default: the three that are known)")
    parser.add_argument("--truth", type=Path, help="its labels")
    arguments = parser.parse_args()
    # bubblewrap does not wait for its child, so the child's CPU time would be missing from our accounts.
    provider = SignalsProvider(MediaRunner(sandbox=Sandbox.LIMITS_ONLY))
    if arguments.media is not None:
        cases = [(arguments.media, arguments.truth)]
    else:
        cases = [(MEDIA / media, MEDIA / truth if truth else None) for media, truth in RECORDINGS]
    results = [await evaluate(media, read_truth(truth), provider) for media, truth in cases]
    print(json.dumps({"recordings": results}))


if __name__ == "__main__":
    asyncio.run(main())
