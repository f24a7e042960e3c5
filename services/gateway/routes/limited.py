"""Routes that count each request before its body is read, so that every answer of theirs can tell what is left."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection
from starlette.types import Scope

from gateway.domain.rate_limit import Verdict
from gateway.domain.refusals import Refused
from gateway.workflow.authentication import Caller
from gateway.workflow.rate_limits import Admission, RateLimits

API_KEY_HEADER = "X-API-Key"
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class LimitedByKey(APIRoute):
    """A request counts for its key and the key's organization; without a valid key for its address."""

    def get_route_handler(self) -> Handler:
        return _counted(super().get_route_handler(), caller_of)


class LimitedByAddress(APIRoute):
    """A request that needs no key counts for the address that it comes from."""

    def get_route_handler(self) -> Handler:
        return _counted(super().get_route_handler(), _admit_address)


def _counted(handle: Handler, count: Callable[[Request], Awaitable[object]]) -> Handler:
    async def counted(request: Request) -> Response:
        await count(request)
        return await handle(request)

    return counted


async def caller_of(request: HTTPConnection) -> Caller:
    """The caller; counted once, however often it is asked for. Raises what refuses the request."""
    if _admission(request.scope) is None:
        key = request.headers.get(API_KEY_HEADER)
        request.state.admission = await _limits(request).admit_key(key, address=_address(request))
    return cast("Caller", _outcome(request))


async def _admit_address(request: HTTPConnection) -> None:
    request.state.admission = await _limits(request).admit_registration(address=_address(request))
    _outcome(request)


def _outcome(request: HTTPConnection) -> Caller | None:
    outcome: Caller | Refused | None = request.state.admission.outcome
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


def verdict_on(scope: Scope) -> Verdict | None:
    """The verdict on a request that was counted."""
    admission = _admission(scope)
    return admission.verdict if admission else None


def _admission(scope: Scope) -> Admission | None:
    return cast("Admission | None", scope.get("state", {}).get("admission"))


def _limits(request: HTTPConnection) -> RateLimits:
    return cast("RateLimits", request.app.state.use_cases.rate_limits)


def _address(request: HTTPConnection) -> str | None:
    return request.client.host if request.client else None
