"""Errors as RFC 9457 problem documents: what is wrong in `detail`, the trace to ask for, faults field by field."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from gateway.domain import refusals
from gateway.domain.rate_limit import RateLimitExceeded, Subject
from shared.errors import RetryableError
from shared.trace import current_trace_id

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
NO_SUCH_PATH = "There is nothing at this path; /docs lists what there is"
NOT_JSON = "The body is not JSON"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_JSON_EXPECTED = "Send a JSON object with the header Content-Type: application/json"
_CODES = MappingProxyType(
    {HTTPStatus.BAD_REQUEST: "malformed", HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large"}
)
_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "missing": "is required",
        "extra_forbidden": "is not a known field",
        "model_attributes_type": "must be a JSON object",
        "dict_type": "must be a JSON object",
        "tuple_type": "must be a list",
    }
)
MEANINGS: Mapping[HTTPStatus, str] = MappingProxyType(
    {
        HTTPStatus.BAD_REQUEST: "The body is not JSON",
        HTTPStatus.UNAUTHORIZED: "No key or secret, or not a valid one",
        HTTPStatus.FORBIDDEN: "The key lacks a scope",
        HTTPStatus.NOT_FOUND: "No such thing, or not yours",
        HTTPStatus.CONFLICT: "It exists already",
        HTTPStatus.GONE: "It is not kept any more",
        HTTPStatus.LOCKED: "Another request works on it",
        HTTPStatus.PRECONDITION_FAILED: "A version of a protocol that is not spoken here",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too long",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The content type is not application/json",
        HTTPStatus.UNPROCESSABLE_ENTITY: "A field is wrong",
        HTTPStatus.TOO_MANY_REQUESTS: "Rate limit exceeded: try again after `Retry-After` seconds",
        HTTPStatus.SERVICE_UNAVAILABLE: "Try again after `Retry-After` seconds",
    }
)
_STATUS: tuple[tuple[type[refusals.Refused], HTTPStatus], ...] = (
    (refusals.Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (refusals.Forbidden, HTTPStatus.FORBIDDEN),
    (refusals.NotFound, HTTPStatus.NOT_FOUND),
    (refusals.Gone, HTTPStatus.GONE),
    (refusals.Conflict, HTTPStatus.CONFLICT),
    (refusals.Locked, HTTPStatus.LOCKED),
    (refusals.TooLong, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (refusals.WrongMediaType, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (refusals.WrongVersion, HTTPStatus.PRECONDITION_FAILED),
    (refusals.Malformed, HTTPStatus.BAD_REQUEST),
    (refusals.Unacceptable, HTTPStatus.UNPROCESSABLE_ENTITY),
    (refusals.Refused, HTTPStatus.BAD_REQUEST),
)


class FieldFault(BaseModel):
    field: str = Field(description="Path of the field, such as `options.clip_duration`.")
    message: str


class Problem(BaseModel):
    """What went wrong. `type` is stable and meant for programs, `detail` for people."""

    type: str = Field(
        description="`urn:tldr:problem:` and a stable word.", examples=["urn:tldr:problem:not_found"]
    )
    title: str = Field(description="The status in words.", examples=["Not Found"])
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str = Field(description="What is wrong, for people.", examples=["Stream not found"])
    trace_id: str | None = Field(default=None, description="Tell us this when you ask about an error.")
    errors: list[FieldFault] | None = Field(default=None, description="Each wrong field, with status 422.")
    subject: Subject | None = Field(default=None, description="Whose budget is used up, with status 429.")


def problem(
    status: int,
    *,
    code: str,
    detail: str,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    subject: Subject | None = None,
) -> JSONResponse:
    body = Problem(
        type=f"urn:tldr:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        trace_id=current_trace_id(),
        errors=[FieldFault(**error) for error in errors] or None,
        subject=subject,
    )
    return JSONResponse(
        body.model_dump(exclude_none=True), status_code=status, media_type=MEDIA_TYPE, headers=headers
    )


def problems_of(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """What a route's description says of these statuses."""
    return {int(status): {"model": Problem, "description": MEANINGS[status]} for status in statuses}


def install(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""
    for kind, handler in (
        (RateLimitExceeded, _limited),
        (refusals.Refused, _refused),
        (RetryableError, _unavailable),
        (RequestValidationError, _invalid),
        (HTTPException, _http),
        (Exception, _unexpected),
    ):
        app.add_exception_handler(kind, cast("Callable[[Request, Exception], Awaitable[Response]]", handler))


async def _refused(_request: Request, error: refusals.Refused) -> Response:
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    faults = (
        [{"field": error.field, "message": str(error)}] if isinstance(error, refusals.Unacceptable) else []
    )
    return problem(
        status, code=error.code, detail=str(error), errors=faults, headers=_told(error, status=status)
    )


def _told(error: refusals.Refused, *, status: HTTPStatus) -> Mapping[str, str] | None:
    if isinstance(error, refusals.WrongVersion):
        return error.told
    return {"WWW-Authenticate": "ApiKey"} if status is HTTPStatus.UNAUTHORIZED else None


async def _limited(_request: Request, error: RateLimitExceeded) -> Response:
    return problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        code=error.code,
        detail=str(error),
        headers={"Retry-After": str(error.retry_after_s)},
        subject=error.subject,
    )


async def _unavailable(_request: Request, error: RetryableError) -> Response:
    log.warning("request_unavailable", code=error.code, reason=str(error))
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        code=error.code,
        detail="Service temporarily unavailable",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


async def _invalid(_request: Request, error: RequestValidationError) -> Response:
    faults = [_fault(fault) for fault in error.errors()]
    if any(fault["type"] == "json_invalid" for fault in error.errors()):
        return problem(HTTPStatus.BAD_REQUEST, code="malformed", detail=NOT_JSON)
    if isinstance(error.body, bytes) and error.body:
        return problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, code="unsupported_media_type", detail=_JSON_EXPECTED
        )
    detail = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults[:5])
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, code="invalid_request", detail=detail[:1000], errors=faults[:50]
    )


def _fault(fault: Mapping[str, Any]) -> dict[str, str]:
    """Field and message; never the value, which may be a secret."""
    place = [str(part) for part in fault["loc"] if part not in ("body", "query", "path", "header")]
    return {"field": ".".join(place) or "body", "message": _text(fault)}


def _text(fault: Mapping[str, Any]) -> str:
    """In words of JSON; the validator speaks of tuples, and of the length of what it does not show as items."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in ("too_short", "too_long"):
        bound = (
            f"{context['min_length']} or more" if kind == "too_short" else f"at most {context['max_length']}"
        )
        return f"must have {bound} {'characters' if context['field_type'] == 'Value' else 'entries'}"
    return _TEXTS.get(kind, str(fault["msg"]))


async def _http(request: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    code = _CODES.get(status, status.name.lower())
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_allowed_methods(request))
        detail = f"{request.method} is not possible here: use {allowed}"
        return problem(status, code=code, detail=detail, headers={"Allow": allowed})
    return problem(status, code=code, detail=_detail(error), headers=error.headers)


def _allowed_methods(request: Request) -> tuple[str, ...]:
    """Of all routes with this path: the framework names those of the first only."""

    def is_served(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return tuple(filter(is_served, _METHODS))


def _detail(error: HTTPException) -> str:
    """The framework answers 400 for bodies that its parser gives up on, and 404 where no route is."""
    framework_says = {HTTPStatus.BAD_REQUEST: NOT_JSON, HTTPStatus.NOT_FOUND: NO_SUCH_PATH}
    return framework_says.get(HTTPStatus(error.status_code), str(error.detail))


async def _unexpected(_request: Request, error: Exception) -> Response:
    log.error("request_failed", exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        code="internal",
        detail="An internal error happened; we have a trace",
    )
