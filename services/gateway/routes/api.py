"""The whole API: every router under its prefixes, errors, limits and headers around them."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp

from gateway.routes import (
    accounts,
    docs,
    health,
    hundredms,
    limit_headers,
    objects,
    playback,
    problems,
    retries,
    streams,
    timeline,
    uploads,
    webhooks,
)
from gateway.routes.any_origin import AnyOrigin
from gateway.routes.edge import TRACE_HEADER, BodyLimit, Edge
from gateway.routes.problems import MEDIA_TYPE, problems_of
from gateway.routes.use_cases import UseCases
from gateway.workflow.uploads import ChecksumWrong

ALIASES = ("/v1", "/api/v1")
DESCRIPTION = (
    "Watches livestreams and VODs, finds the moments worth sharing, cuts them, "
    "and tells you within seconds.\n\n"
    "Send your key in `X-API-Key`. Errors are problem documents (RFC 9457). "
    "Requests are limited per key and per organization: every answer tells what is left."
)
_OF_BODIES = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)
_PROBLEMS = problems_of(
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    *_OF_BODIES,
)
_LINK_PROBLEMS = problems_of(
    HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE
)
_WEBHOOK_PROBLEMS = problems_of(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
) | {403: {"model": problems.Problem, "description": "Not from an address of the connection's networks"}}


# FastAPI makes the span of a request itself. Numbers are Prometheus' business; the other spans say little.
_TELEMETRY: TelemetryConfig = {
    "operation_spans": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}


class Api(FastAPI):
    """With the edge around everything, also around the last resort for unforeseen errors."""

    def build_middleware_stack(self) -> ASGIApp:
        return Edge(super().build_middleware_stack())

    def openapi(self) -> dict[str, Any]:
        """With each route's own problems only, in the media type in which they are sent."""
        if not self.openapi_schema:
            described = super().openapi()
            for item in described["paths"].values():
                for operation in item.values():
                    operation["responses"] = _fitting(operation)
                    if limit_headers.is_limited(operation):
                        operation["responses"] = limit_headers.with_limits(operation["responses"])
            described["components"]["headers"] = limit_headers.components()
        return super().openapi()


def _fitting(operation: dict[str, Any]) -> dict[str, Any]:
    """What cannot happen to an operation without key, id or body is left out."""
    answers: dict[str, Any] = operation["responses"]
    left_out = set()
    if (
        "security" not in operation and {"401", "404"} <= answers.keys()
    ):  # of webhooks and links: not about a key
        left_out |= {"401", "403"}
    if "requestBody" not in operation:
        left_out |= {str(int(status)) for status in _OF_BODIES}
    if not any(each["in"] == "path" for each in operation.get("parameters", ())):
        left_out.add("404")
    return {status: _typed(answer) for status, answer in answers.items() if status not in left_out}


def _typed(answer: dict[str, Any]) -> dict[str, Any]:
    """A problem in the media type in which it is sent; other answers as they are."""
    content = answer.get("content", {}).get("application/json", {})
    if not content.get("schema", {}).get("$ref", "").endswith("/Problem"):
        return answer
    return {**answer, "content": {MEDIA_TYPE: content}}


def create_api(
    use_cases: UseCases | None,
    *,
    title: str,
    version: str,
    prefix: str,
    allowed_origins: tuple[str, ...],
    max_body_bytes: int,
) -> FastAPI:
    """The ASGI application. Without use cases it can only describe itself."""
    app = Api(
        title=title,
        version=version,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        telemetry=_TELEMETRY,
    )
    app.state.use_cases = use_cases
    _include_routers(app, prefix=prefix)
    problems.install(app)
    app.add_exception_handler(ChecksumWrong, uploads.mismatch)  # type: ignore[arg-type]
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes, is_bounded_elsewhere=uploads.is_chunk)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(allowed_origins),
        allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        allow_headers=[
            *("X-API-Key", "Content-Type", "Idempotency-Key", "traceparent"),
            *uploads.ASKED_HEADERS,
        ],
        expose_headers=[TRACE_HEADER, "Retry-After", *limit_headers.NAMES, *uploads.TOLD_HEADERS],
        max_age=600,
    )
    app.add_middleware(AnyOrigin)
    return app


def _include_routers(app: FastAPI, *, prefix: str) -> None:
    """Canonical paths are in the documents; the aliases are the same routes under other names."""
    versioned = APIRouter(responses=_PROBLEMS)
    versioned.include_router(accounts.registration)
    versioned.include_router(uploads.description)
    for module in (accounts, streams, retries, timeline, uploads, webhooks, hundredms):
        versioned.include_router(module.router)
    app.include_router(health.router)
    app.include_router(docs.router)
    app.include_router(objects.router)
    app.include_router(hundredms.webhook_router, responses=_WEBHOOK_PROBLEMS)
    for path in dict.fromkeys((prefix, *ALIASES)):
        app.include_router(hundredms.webhook_router, prefix=path, include_in_schema=False)
        app.include_router(versioned, prefix=path, include_in_schema=path == prefix)
        app.include_router(
            playback.router, prefix=path, responses=_LINK_PROBLEMS, include_in_schema=path == prefix
        )
