"""What happened to a stream's media, and what was received beside it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from gateway.domain.scopes import Scope
from gateway.domain.signals import MAX_SIGNALS, SignalKind, SignalPage
from gateway.domain.timeline import PublicTimeline
from gateway.routes.limited import LimitedByKey
from gateway.routes.use_cases import Use, needs
from gateway.workflow.authentication import Caller
from shared.ids import StreamId

MOST_S = 10_000_000.0

router = APIRouter(tags=["streams"], route_class=LimitedByKey)
StreamReader = Annotated[Caller, Depends(needs(Scope.STREAMS_READ))]
From = Annotated[
    float, Query(alias="from", ge=0, le=MOST_S, description="Seconds from the start of the stream.")
]
To = Annotated[float | None, Query(alias="to", gt=0, le=MOST_S, description="Up to here; the end if absent.")]


@dataclass(frozen=True)
class SignalQuery:
    """Which signals: one kind or all, behind which, how many."""

    kind: Annotated[SignalKind | None, Query(description="Only signals of this kind.")] = None
    after: Annotated[int, Query(ge=0, le=2**62, description="The `next` of the page before.")] = 0
    limit: Annotated[int, Query(ge=1, le=MAX_SIGNALS)] = 100


Wanted = Annotated[SignalQuery, Depends()]


@router.get("/streams/{stream_id}/timeline")
async def get_timeline(
    stream_id: str, use: Use, caller: StreamReader, from_s: From = 0.0, to_s: To = None
) -> PublicTimeline:
    """What of a stream is archived, missing, excluded and judged, and why; also while it runs.

    A long timeline comes in several answers: go on with `from` = `next_from_s`.
    """
    return await use.timelines.timeline(
        caller,
        StreamId(stream_id),
        from_us=round(from_s * 1_000_000),
        to_us=None if to_s is None else round(to_s * 1_000_000),
    )


@router.get("/streams/{stream_id}/signals")
async def list_signals(stream_id: str, use: Use, caller: StreamReader, wanted: Wanted) -> SignalPage:
    """What was received beside the picture, in the order in which it came in; also while the stream runs."""
    return await use.timelines.signals(
        caller, StreamId(stream_id), kind=wanted.kind, after=wanted.after, most=wanted.limit
    )
