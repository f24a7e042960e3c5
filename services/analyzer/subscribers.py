"""Which events the analyzer handles, and by what."""

from analyzer.workflow import Analyst
from shared.closures import Closures
from shared.consumer import Consumer
from shared.events import SegmentReady, StreamClosed
from shared.middleware import UnitOfWork


def register(consumer: Consumer, analyst: Analyst, closures: Closures) -> None:
    async def on_stream_closed(event: StreamClosed, unit: UnitOfWork) -> None:
        await closures.record(unit.session, event)

    consumer.work(SegmentReady, analyst.analyze, give_up=analyst.give_up)
    consumer.state(StreamClosed, on_stream_closed)
