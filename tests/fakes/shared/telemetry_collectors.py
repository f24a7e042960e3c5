"""Doubles of what takes telemetry: an OTLP/HTTP collector, Sentry, and a server that never answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from sandbox.http_server import HttpServer


@dataclass(frozen=True)
class Exported:
    """One request to the collector: its headers, and what its protobuf said."""

    headers: dict[str, str]
    message: ExportTraceServiceRequest

    @property
    def resource(self) -> dict[str, str]:
        return {
            each.key: each.value.string_value for each in self.message.resource_spans[0].resource.attributes
        }

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for resource in self.message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class OtlpCollector(HttpServer):
    """Takes traces at /v1/traces."""

    def __init__(self) -> None:
        super().__init__(host="127.0.0.1", port=0)
        self.received: list[Exported] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert ("POST", "/v1/traces") == (request.method, request.path)
        message = ExportTraceServiceRequest.FromString(await request.read())
        self.received.append(Exported({k.lower(): v for k, v in request.headers.items()}, message))
        body = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=body, content_type="application/x-protobuf")


class SentryDouble(HttpServer):
    """Takes envelopes of project 1; `bodies` are the raw bytes, `events` what they held."""

    def __init__(self) -> None:
        super().__init__(host="127.0.0.1", port=0)
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert ("POST", "/api/1/envelope/") == (request.method, request.path)
        self.bodies.append(await request.read())
        self.headers.append({k.lower(): v for k, v in request.headers.items()})
        return web.json_response({})

    @property
    def dsn(self) -> str:
        return self.base_url.replace("http://", "http://public@") + "/1"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The items that are events: each follows the line that names its type."""
        lines = [line for body in self.bodies for line in body.split(b"\n") if line]
        parsed = [json.loads(line) for line in lines]
        return [event for head, event in pairwise(parsed) if head.get("type") == "event"]


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """The address of a server that takes connections and requests, and never says a word."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
