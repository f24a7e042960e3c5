"""Subscribes the projection to every event that the contract sends to the gateway."""

from gateway.workflow.projection import Projection
from shared import events
from shared.consumer import Consumer


def register(consumer: Consumer, projection: Projection) -> None:
    consumer.state(events.StreamFlowing, projection.on_stream_flowing)
    consumer.state(events.SegmentReady, projection.on_segment_ready)
    consumer.state(events.SegmentMissed, projection.on_segment_missed)
    consumer.state(events.SegmentAnnotated, projection.on_segment_annotated)
    consumer.state(events.SegmentRepaired, projection.on_segment_repaired)
    consumer.state(events.SignalReceived, projection.on_signal_received)
    consumer.state(events.StreamStalled, projection.on_stream_stalled)
    consumer.state(events.StreamResumed, projection.on_stream_resumed)
    consumer.state(events.StreamEnded, projection.on_stream_ended)
    consumer.state(events.CandidateScored, projection.on_candidate_scored)
    consumer.state(events.SegmentAnalyzed, projection.on_segment_analyzed)
    consumer.state(events.CandidateJudged, projection.on_candidate_judged)
    consumer.state(events.HighlightConfirmed, projection.on_highlight_confirmed)
    consumer.state(events.HighlightRevised, projection.on_highlight_revised)
    consumer.state(events.HighlightRetracted, projection.on_highlight_retracted)
    consumer.state(events.SelectionClosed, projection.on_selection_closed)
    consumer.state(events.ClipReady, projection.on_clip_ready)
    consumer.state(events.ClipFailed, projection.on_clip_failed)
    consumer.state(events.DeliveryFinished, projection.on_delivery_finished)
    consumer.state(events.MessageParked, projection.on_message_parked)
