"""Another run of a stream that failed."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter

from gateway.domain.public_views import PublicStream
from gateway.routes.limited import LimitedByKey
from gateway.routes.problems import Problem
from gateway.routes.streams import StreamWriter
from gateway.routes.use_cases import Use
from shared.ids import StreamId

_CONFLICT: dict[int | str, dict[str, Any]] = {
    int(HTTPStatus.CONFLICT): {"model": Problem, "description": "It did not end with an error"}
}
router = APIRouter(tags=["streams"], route_class=LimitedByKey)


@router.post("/streams/{stream_id}/retry", responses=_CONFLICT)
async def retry_stream(stream_id: str, use: Use, caller: StreamWriter) -> PublicStream:
    """Run a stream once more that ended with `error`, under its own id, with its source, options and webhooks.

    Nothing of such a stream was archived, so the new run begins where the source does. A stream that ended
    otherwise keeps what it has, and is not run again: 409 says what to do instead.
    """
    return await use.retries.retry(caller, StreamId(stream_id))
