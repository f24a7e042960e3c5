"""Which events the selector handles, and by what."""

from selector.workflow import Selection
from shared.consumer import Consumer
from shared.events import (
    CandidateScored,
    SegmentAnalyzed,
    SegmentMissed,
    SegmentReady,
    SegmentRepaired,
    StreamClosed,
    StreamEnded,
    StreamOnline,
)


def register(consumer: Consumer, selection: Selection) -> None:
    consumer.state(StreamOnline, selection.begin)
    for model in (
        SegmentReady,
        SegmentMissed,
        SegmentRepaired,
        CandidateScored,
        SegmentAnalyzed,
        StreamEnded,
    ):
        consumer.state(model, selection.take)
    consumer.state(StreamClosed, selection.close)
