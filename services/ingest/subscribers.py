"""Which events ingest handles, and by what."""

from ingest.workflow.intake import Intake
from ingest.workflow.repair import RecordingIntake
from shared.consumer import Consumer
from shared.events import RecordingAvailable, SegmentAnalyzed, StreamClosed, StreamOffline, StreamOnline


def register(consumer: Consumer, intake: Intake, recordings: RecordingIntake) -> None:
    consumer.state(StreamOnline, intake.on_stream_online)
    consumer.state(StreamOffline, intake.on_stream_offline)
    consumer.state(StreamClosed, intake.on_stream_closed)
    consumer.state(SegmentAnalyzed, intake.on_segment_analyzed)
    consumer.state(RecordingAvailable, recordings.on_recording_available)
