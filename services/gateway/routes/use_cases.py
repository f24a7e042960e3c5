"""What the routes call, and how a request is tied to its caller."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Query, Request, Security
from fastapi.security import APIKeyHeader

from gateway.domain.page import MAX_PAGE, MAX_PER_PAGE, PageRequest
from gateway.domain.scopes import Scope
from gateway.routes.limited import API_KEY_HEADER, caller_of
from gateway.workflow.accounts import Accounts
from gateway.workflow.authentication import Caller
from gateway.workflow.endpoints import Endpoints
from gateway.workflow.hundredms_connections import HundredmsConnections
from gateway.workflow.hundredms_reception import Reception
from gateway.workflow.objects import SignedObjects
from gateway.workflow.playback import Playback
from gateway.workflow.rate_limits import RateLimits
from gateway.workflow.retries import Retries
from gateway.workflow.streams import Streams
from gateway.workflow.timeline import Timelines
from gateway.workflow.uploads import Uploads


@dataclass(frozen=True)
class UseCases:
    """Everything that the API can do; the composition root fills it."""

    rate_limits: RateLimits
    accounts: Accounts
    streams: Streams
    retries: Retries
    timelines: Timelines
    endpoints: Endpoints
    hundredms: Reception
    hundredms_connections: HundredmsConnections
    objects: SignedObjects
    playback: Playback
    uploads: Uploads


def use_cases(request: Request) -> UseCases:
    return cast("UseCases", request.app.state.use_cases)


Use = Annotated[UseCases, Depends(use_cases)]
_DescribedKey = Security(APIKeyHeader(name=API_KEY_HEADER, auto_error=False, scheme_name="ApiKey"))


def needs(scope: Scope) -> Callable[..., Coroutine[Any, Any, Caller]]:
    """A dependency that gives the caller, or ends the request with 401, 403 or 429."""

    async def permitted(request: Request, _key: Annotated[str | None, _DescribedKey]) -> Caller:
        caller = await caller_of(request)
        caller.check(scope)
        return caller

    return permitted


def _page(
    page: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 1,
    per_page: Annotated[int, Query(ge=1, le=MAX_PER_PAGE)] = 10,
) -> PageRequest:
    return PageRequest(page, per_page)


PageQuery = Annotated[PageRequest, Depends(_page)]
