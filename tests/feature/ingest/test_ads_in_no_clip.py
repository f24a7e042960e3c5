"""No clip holds advertising: what ingest tells of a stream with a break goes through selection with wide padding."""

import re
from pathlib import Path

import pytest

from selector.domain.inputs import CandidateArrived, Input, RunEnded, VerdictArrived, WindowOffered
from selector.domain.machine import apply, opened
from selector.domain.outputs import HighlightDecided
from shared.events import SegmentAnnotated, SegmentReady, StreamEnded, Verdict
from shared.ids import Position, candidate_id
from shared.profile import ClipRules, Dimension, Profile, SelectionRules
from tests.builders import STREAM
from tests.fakes.ingest.stage import SEGMENT_US, Stage, window

FIRST_AD, BEHIND_ADS = 10, 13
WIDE = Profile(
    name="test",
    dimensions=(Dimension(name="audio", definition="loudness", weight=1.0),),
    clip=ClipRules(lead_in_us=15_000_000, lead_out_us=15_000_000, target_us=40_000_000),
    selection=SelectionRules(merge_gap_us=10_000_000, spacing_us=0, similarity=1.0),
)


def with_break(text: str) -> str:
    for number, tag in ((FIRST_AD, "#EXT-X-CUE-OUT:60"), (BEHIND_ADS, "#EXT-X-CUE-IN")):
        text = re.sub(rf"(#EXTINF:.*\n{number:03}\.ts)", rf"{tag}\n\1", text)
    return text


def candidate(index: int, peak_us: int) -> CandidateArrived:
    return CandidateArrived(
        run=0,
        index=index,
        candidate_id=candidate_id(STREAM, Position(0, index), 0),
        start_us=peak_us - 500_000,
        end_us=peak_us + 500_000,
        peak_us=peak_us,
        scores={"audio": 0.9},
        confidence=0.9,
        title=f"w{index}",
        reason="It got loud.",
        provider="signals",
    )


def inputs_of(stage: Stage, peaks_us: tuple[int, ...]) -> list[Input]:
    inputs: list[Input] = []
    for ready in stage.of(SegmentReady):
        own = tuple(
            candidate(ready.index, peak_us)
            for peak_us in peaks_us
            if ready.start_us < peak_us - 500_000 and peak_us + 500_000 < ready.end_us
        )
        place = {"run": 0, "index": ready.index}
        offered = WindowOffered(
            **place, start_us=ready.start_us, end_us=ready.end_us, segments=ready.segments
        )
        names = tuple(each.candidate_id for each in own)
        inputs += [offered, *own, VerdictArrived(**place, verdict=Verdict.ANALYSED, candidates=names)]
    (ended,) = stage.of(StreamEnded)
    return [*inputs, RunEnded(run=0, windows=ended.windows)]


@pytest.mark.parametrize(
    "peaks_us",
    [
        pytest.param((18_500_000,), id="right before the break"),
        pytest.param((27_500_000,), id="right behind it"),
        pytest.param((18_500_000, 27_500_000), id="on both sides, near enough to merge"),
    ],
)
async def test_no_clip_reaches_into_or_across_a_break(tmp_path: Path, peaks_us: tuple[int, ...]) -> None:
    stage = Stage(tmp_path, live=window(30), rewrite=with_break)
    await stage.run()
    state, clips = opened(STREAM, run=0), []
    for given in inputs_of(stage, peaks_us):
        state, outputs = apply(state, given, profile=WIDE)
        clips += [each for each in outputs if isinstance(each, HighlightDecided)]

    (ads,) = stage.of(SegmentAnnotated)
    assert (FIRST_AD * SEGMENT_US, BEHIND_ADS * SEGMENT_US) == (ads.from_us, ads.to_us)
    assert len(peaks_us) == len(clips)
    assert all(each.end_us <= ads.from_us or each.start_us >= ads.to_us for each in clips)
    shown = {ref.sequence for each in clips for ref in each.segments}
    assert shown
    assert not shown & set(range(FIRST_AD, BEHIND_ADS))
