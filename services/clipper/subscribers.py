"""Which events the clipper handles, and by what."""

from clipper.workflow import Editor
from shared.closures import Closures
from shared.consumer import Consumer
from shared.events import HighlightConfirmed, HighlightRevised, StreamClosed
from shared.middleware import UnitOfWork


def register(consumer: Consumer, editor: Editor, closures: Closures) -> None:
    async def on_stream_closed(event: StreamClosed, unit: UnitOfWork) -> None:
        await closures.record(unit.session, event)

    consumer.work(HighlightConfirmed, editor.cut, give_up=editor.give_up)
    consumer.work(HighlightRevised, editor.cut, give_up=editor.give_up)
    consumer.state(StreamClosed, on_stream_closed)
