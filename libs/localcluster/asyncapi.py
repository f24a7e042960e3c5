"""The AsyncAPI document of the public exchange, made from the contract, the event models and the samples.

It is written from the consumer's side: `receive` is what a consumer does. Internal events are not in it.
"""

import json
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from localcluster.event_words import about, meaning, unit
from shared import events, trace
from shared.contract import PUBLIC_EXCHANGE, EventSpec, active, routing_key
from shared.events import Event, Lane, StreamEvent

SAMPLES = Path(__file__).resolve().parents[2] / "tests" / "samples" / "events"
CONTENT_TYPE = "application/json"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
AMQP_BINDING = "0.3.0"
QUEUE = "consumer-queue"

Document = dict[str, Any]

DESCRIPTION = f"""\
What the product tells about streams, windows, highlights and clips while it works.

Bind a queue of your own to the topic exchange `{PUBLIC_EXCHANGE}`.
The routing key of a message is the event's name and its lane, such as \
`{routing_key("highlight.confirmed", Lane.LIVE)}`; bind `highlight.confirmed.#` for all lanes.

- Messages come at least once: drop those whose `event_id` you have seen.
- Messages come in any order: where something has a `revision`, keep the highest.
- Within a version events only grow: ignore fields, enumeration values and events that you do not know.
- No message carries a secret in the clear.
"""

# What `shared/broker.py` sets on every message beside its body and headers.
PROPERTIES: Mapping[str, str] = {
    "message_id": "The `event_id` of the body.",
    "type": "Name of the event.",
    "content_type": f"`{CONTENT_TYPE}`, in UTF-8.",
    "delivery_mode": "2: persistent.",
    "timestamp": "When the message was published; `occurred_at` tells when the event happened.",
    "app_id": "`faststream`, the library that publishes; it may change.",
    "correlation_id": "New for each publication, and of no use: correlate by ids and by `traceparent`.",
}


def public_events() -> tuple[EventSpec, ...]:
    """What is really published on the public exchange, in flow order."""
    return tuple(spec for spec in active() if spec.exchange == PUBLIC_EXCHANGE)


def asyncapi_document() -> str:
    return json.dumps(asyncapi(public_events()), indent=2, ensure_ascii=False) + "\n"


def asyncapi(public: tuple[EventSpec, ...]) -> Document:
    return {
        "asyncapi": "3.0.0",
        "id": "urn:tldr:highlight-api:events",
        "info": {"title": "TL;DR Highlight API: events", "version": "1.0.0", "description": DESCRIPTION},
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "tls": _server("amqps", "The broker of your installation, encrypted."),
            "plain": _server("amqp", "The broker of your installation, inside a private network."),
        },
        "channels": {spec.name: _channel(spec) for spec in public} | {QUEUE: _queue_channel(public)},
        "operations": {f"receive.{spec.name}": _operation(spec) for spec in public}
        | {"consume": _consume(public)},
        "components": {
            "messages": {spec.name: _message(spec) for spec in public},
            "schemas": {"Headers": _headers()} | _schemas(tuple(spec.model for spec in public)),
            "securitySchemes": {"brokerUser": _security()},
            "correlationIds": {
                "stream": _correlation("stream_id", "Joins everything about one stream."),
                "organization": _correlation("organization_id", "Joins everything about one customer."),
            },
        },
        "x-amqp-properties": dict(PROPERTIES),
    }


def _server(protocol: str, description: str) -> Document:
    return {
        "host": "{host}",
        "pathname": "/{vhost}",
        "protocol": protocol,
        "protocolVersion": "0-9-1",
        "description": description,
        "variables": {
            "host": {"description": "Host and port.", "examples": ["rabbitmq.example.com:5671"]},
            "vhost": {"description": "Virtual host of the product, percent-encoded.", "default": "%2F"},
        },
        "security": [{"$ref": "#/components/securitySchemes/brokerUser"}],
    }


def _security() -> Document:
    return {
        "type": "userPassword",
        "description": "A broker user of your own, which may make its own queues and bind them to "
        f"`{PUBLIC_EXCHANGE}`, and nothing else.",
    }


def _correlation(name: str, description: str) -> Document:
    return {"location": f"$message.payload#/{name}", "description": description}


# -- channels and operations -------------------------------------------------------------------------


def _channel(spec: EventSpec) -> Document:
    return {
        "address": f"{spec.name}.{{lane}}",
        "title": spec.name,
        "description": about(spec.model),
        "parameters": {
            "lane": {"enum": [lane.value for lane in Lane], "description": "Live work, or recordings."}
        },
        "messages": {spec.name: {"$ref": f"#/components/messages/{spec.name}"}},
        "tags": [{"name": f"from:{service}"} for service in spec.producers],
        "bindings": {"amqp": _exchange(spec.exchange)},
        "x-producers": list(spec.producers),
        "x-consumers": list(spec.consumers),
    }


def _exchange(name: str) -> Document:
    exchange = {"name": name, "type": "topic", "durable": True, "autoDelete": False}
    return {"is": "routingKey", "exchange": exchange, "bindingVersion": AMQP_BINDING}


def _queue_channel(public: Iterable[EventSpec]) -> Document:
    queue = {"name": "{queue}", "durable": True, "exclusive": False, "autoDelete": False}
    return {
        "address": "{queue}",
        "title": "Your queue",
        "description": "A quorum queue of your own, which holds what you bound it to.",
        "parameters": {
            "queue": {"description": "Begins with your name.", "examples": ["acme.highlights.v1"]}
        },
        "messages": {spec.name: {"$ref": f"#/components/messages/{spec.name}"} for spec in public},
        "bindings": {"amqp": {"is": "queue", "queue": queue, "bindingVersion": AMQP_BINDING}},
    }


def _operation(spec: EventSpec) -> Document:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{spec.name}"},
        "title": f"Receive {spec.name}",
        "summary": f"Sent by {' and '.join(spec.producers)}.",
        "messages": [{"$ref": f"#/channels/{spec.name}/messages/{spec.name}"}],
        "bindings": {"amqp": _acknowledged()},
    }


def _consume(public: Iterable[EventSpec]) -> Document:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{QUEUE}"},
        "title": "Consume your queue",
        "summary": "Acknowledge each message once its effect is durable.",
        "messages": [{"$ref": f"#/channels/{QUEUE}/messages/{spec.name}"} for spec in public],
        "bindings": {"amqp": _acknowledged()},
    }


def _acknowledged() -> Document:
    return {"ack": True, "bindingVersion": AMQP_BINDING}


# -- messages ----------------------------------------------------------------------------------------


def _message(spec: EventSpec) -> Document:
    scope = "stream" if issubclass(spec.model, StreamEvent) else "organization"
    return {
        "name": spec.name,
        "title": spec.name,
        "summary": about(spec.model),
        "contentType": CONTENT_TYPE,
        "headers": {"$ref": "#/components/schemas/Headers"},
        "payload": {"$ref": f"#/components/schemas/{spec.model.__name__}"},
        "correlationId": {"$ref": f"#/components/correlationIds/{scope}"},
        "bindings": {"amqp": {"messageType": spec.name, "bindingVersion": AMQP_BINDING}},
        "examples": [_example(path) for path in sorted(SAMPLES.glob(f"{spec.name}*.json"))],
    }


def _example(path: Path) -> Document:
    payload = json.loads(path.read_text(encoding="utf-8"))
    return {"name": path.stem, "headers": {trace.HEADER: TRACEPARENT}, "payload": payload}


def _headers() -> Document:
    return {
        "type": "object",
        "description": "Application headers of a message. The broker adds `x-delivery-count` to repetitions.",
        "properties": {
            trace.HEADER: {
                "type": "string",
                "description": "W3C trace context of the work that sent the event. Absent where none was traced.",
                "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
                "examples": [TRACEPARENT],
            }
        },
    }


# -- schemas -----------------------------------------------------------------------------------------


def _schemas(models: tuple[type[Event], ...]) -> Document:
    """Events in flow order, then the parts that they name."""
    _, found = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas: Document = found.get("$defs", {})
    order = [model.__name__ for model in models]
    names = [*order, *sorted(schemas.keys() - set(order))]
    return {name: _told(getattr(events, name), schemas[name]) for name in names}


def _told(model: type[BaseModel | Enum], schema: Document) -> Document:
    """The schema with what people want to know of it."""
    told = {**schema, "description": about(model)}
    if not issubclass(model, BaseModel):
        return told
    fields = {
        name: _field(schema["properties"][name], meaning=meaning(model, name, field), unit=unit(name))
        for name, field in model.model_fields.items()
    }
    return {**told, "properties": fields}


def _field(schema: Document, *, meaning: str, unit: str) -> Document:
    """One property. JSON Schema's draft 7 ignores what stands beside a reference, so that is wrapped."""
    kept = {name: value for name, value in schema.items() if name not in ("title", "description", "$ref")}
    reference = {"allOf": [{"$ref": schema["$ref"]}]} if "$ref" in schema else {}
    told = {"description": meaning, "x-unit": unit}
    return reference | kept | {name: text for name, text in told.items() if text}
