"""Which events ingest handles, and by what."""

from ingest.workflow.intake import Intake
from shared.consumer import Consumer
from shared.events import SegmentAnalyzed, StreamClosed, StreamOffline, StreamOnline


def register(consumer: Consumer, intake: Intake) -> None:
    consumer.state(StreamOnline, intake.on_stream_online)
    consumer.state(StreamOffline, intake.on_stream_offline)
    consumer.state(StreamClosed, intake.on_stream_closed)
    consumer.state(SegmentAnalyzed, intake.on_segment_analyzed)
