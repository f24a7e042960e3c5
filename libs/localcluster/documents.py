"""Writes the documents that are generated from code: events, settings, metrics, `.env.example`, OpenAPI, AsyncAPI.

`python -m localcluster.documents` writes them; with `--check` it writes nothing, names those that differ from the
code, and exits with 1. It stands here because it reads the settings of all services, which no service may do.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, NewType, TypeGuard, Union, get_args, get_origin
from uuid import UUID

from prometheus_client.metrics import MetricWrapperBase
from pydantic import AwareDatetime, BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from gateway.app import openapi_text
from localcluster.asyncapi import asyncapi_document
from localcluster.event_words import about, meaning
from localcluster.events_page import events_page
from shared import metrics
from shared.bootstrap import BootstrapSettings
from shared.contract import EVENTS, PUBLIC_EXCHANGE, SERVICES, EventSpec, Service, routing_key
from shared.events import Event, Lane, Part, StreamEvent
from shared.settings import ServiceSettings

REPOSITORY = Path(__file__).resolve().parents[2]
GENERATED = "<!-- Generated from the code by `make openapi`. Change the code, not this file. -->"
REQUIRED = "**required**"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; bars inside cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _document(*parts: Sequence[str]) -> str:
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


# -- types and defaults in words ---------------------------------------------------------------------


def type_words(annotation: Any) -> str:
    """The type as people read it: `list of SegmentRef`, `text or null`, `live, vod`."""
    if isinstance(annotation, NewType):
        return str(annotation.__name__)
    if get_origin(annotation) is None:
        return _plain_type_words(annotation)
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return type_words(arguments[0])
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    return _container_words(get_origin(annotation), arguments)


def _plain_type_words(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return _WORDS.get(annotation, str(getattr(annotation, "__name__", annotation)))


def _container_words(origin: Any, arguments: tuple[Any, ...]) -> str:
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(type_words(argument) for argument in arguments))
    if origin is dict:
        return f"map of {type_words(arguments[0])} to {type_words(arguments[1])}"
    return f"list of {type_words(arguments[0])}"


_WORDS: Mapping[Any, str] = MappingProxyType(
    {
        AwareDatetime: "time",
        UUID: "UUID",
        str: "text",
        int: "integer",
        float: "number",
        bool: "boolean",
        NoneType: "null",
        SecretStr: "secret text",
    }
)


def default_words(field: FieldInfo) -> str:
    if field.is_required():
        return REQUIRED
    return f"`{json.dumps(plain_default(field), ensure_ascii=False)}`"


def plain_default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True, validated_data={})
    return default.get_secret_value() if isinstance(default, SecretStr) else default


# -- events ------------------------------------------------------------------------------------------


def events_document() -> str:
    return _document(
        ["# Events", "", GENERATED],
        [
            "Services speak to one another through these events and through nothing else.",
            f"`{PUBLIC_EXCHANGE}` is open to consumers outside the product: bind a queue of your own to it, "
            "as [consumers](consumers.md) tells.",
            "`tldr.internal` is not: its events may change without notice.",
            "Both are topic exchanges; the routing key is the event's name and its lane, as in "
            f"`{routing_key('segment.ready', Lane.LIVE)}`.",
            "A planned consumer has no queue yet: its code is still to come.",
        ],
        table(("event", "from", "to", "planned", "exchange"), map(_event_row, EVENTS)),
        [
            "These words mean the same wherever they stand:",
            "",
            "- `run` counts the attempts at a whole stream, `index` the windows, gaps or stalls of a run, "
            "`revision` the repairs of one thing; all of them from 0.",
            "- Names that end with `_us` are integer microseconds of media time, from the stream's first segment.",
            "- Names that end with `_at` are wall-clock times with a zone, in UTC.",
            "- `key` and names that end with `_key` are keys of the object store.",
            "- Scores and confidences lie between 0 and 1.",
            "- `event_id` is the same when the same work is done again; a consumer that has seen it drops the event.",
        ],
        ["## Fields of every event"],
        _fields(Event, beside=()),
        ["Events of a stream carry its id as well."],
        _fields(StreamEvent, beside=tuple(Event.model_fields)),
        *_event_sections(),
        ["## Parts of events"],
        *_part_sections(),
    )


def _event_row(spec: EventSpec) -> tuple[str, ...]:
    anchor = spec.name.replace(".", "")
    return (
        f"[`{spec.name}`](#{anchor})",
        _names(spec.producers),
        _names(spec.consumers),
        _names(spec.planned),
        f"`{spec.exchange}`",
    )


def _names(services: Iterable[Service]) -> str:
    return ", ".join(services) or "–"


def _event_sections() -> Iterator[Sequence[str]]:
    for spec in EVENTS:
        base = StreamEvent if issubclass(spec.model, StreamEvent) else Event
        yield [f"## {spec.name}", *_about(spec.model)]
        yield _fields(spec.model, beside=tuple(base.model_fields))


def _about(model: type[BaseModel]) -> list[str]:
    return ["", about(model)] if about(model) else []


def _fields(model: type[BaseModel], *, beside: Sequence[str]) -> list[str]:
    own = {name: field for name, field in model.model_fields.items() if name not in beside}
    rows = [
        (f"`{name}`", type_words(field.annotation), default_words(field), meaning(model, name, field))
        for name, field in own.items()
    ]
    return table(("field", "type", "default", "meaning"), rows) if rows else []


def _part_sections() -> Iterator[Sequence[str]]:
    for part in sorted(_parts(Part), key=lambda model: model.__name__):
        yield [f"### {part.__name__}", *_about(part)]
        yield _fields(part, beside=())


def _parts(model: type[Part]) -> Iterator[type[Part]]:
    for child in model.__subclasses__():
        if child.__module__ == Part.__module__ and not issubclass(child, Event):
            yield child
            yield from _parts(child)


# -- settings ----------------------------------------------------------------------------------------


def settings_of(service: Service) -> type[ServiceSettings]:
    """The one settings model in `<service>/settings.py`."""
    module = import_module(f"{service}.settings")
    (model,) = [value for value in vars(module).values() if _is_settings(value, module=module.__name__)]
    return model


def _is_settings(value: object, *, module: str) -> TypeGuard[type[ServiceSettings]]:
    return isinstance(value, type) and issubclass(value, ServiceSettings) and value.__module__ == module


def own_settings(model: type[BaseSettings]) -> dict[str, FieldInfo]:
    """Settings that this model has beyond those of all services, or describes anew."""
    shared = ServiceSettings.model_fields
    return {
        name: field
        for name, field in model.model_fields.items()
        if name not in shared or _setting_row(name, field) != _setting_row(name, shared[name])
    }


def setting_groups() -> Iterator[tuple[str, Mapping[str, FieldInfo]]]:
    """Titles and settings: those of all services, of each service, and of the step before all services."""
    yield "All services", ServiceSettings.model_fields
    for service in SERVICES:
        yield service, own_settings(settings_of(service))
    yield "Bootstrap and migrations", BootstrapSettings.model_fields


def settings_document() -> str:
    sections: list[Sequence[str]] = []
    for title, fields in setting_groups():
        sections += [[f"## {title}"], _settings_table(fields)]
    return _document(
        ["# Settings", "", GENERATED],
        [
            "Every setting is an environment variable, or a line of `.env` in the folder where the service starts.",
            "A service reads its settings once, when it starts, and ends with status 2 and the list of all faults "
            "where any is missing or wrong.",
        ],
        *sections,
    )


def _settings_table(fields: Mapping[str, FieldInfo]) -> list[str]:
    rows = [_setting_row(name, field) for name, field in fields.items()]
    return table(("variable", "type", "default", "meaning"), rows) if rows else ["None of its own."]


def _setting_row(name: str, field: FieldInfo) -> tuple[str, ...]:
    return f"`{name.upper()}`", type_words(field.annotation), default_words(field), field.description or ""


def env_example() -> str:
    lines = [
        "# Generated from the code by `make openapi`: every setting with its default.",
        "# Copy it to .env, fill in what is required, and take the # away where you want another value.",
        "# DATABASE_URL and OPS_PORT differ from service to service; give those in each service's environment.",
    ]
    told: set[str] = set()
    for title, fields in setting_groups():
        fresh = {name: field for name, field in fields.items() if name not in told}
        if fresh:
            lines += ["", f"# -- {title} --", *map(_env_lines, fresh, fresh.values())]
        told |= fresh.keys()
    return "\n".join(lines) + "\n"


def _env_lines(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return f"\n# {field.description} Required.\n{name.upper()}="
    default = plain_default(field)
    # An empty variable counts as absent; `null` would be a text like any other.
    text = "" if default is None else default if isinstance(default, str) else json.dumps(default)
    return f"\n# {field.description}\n# {name.upper()}={text}"


# -- metrics -----------------------------------------------------------------------------------------


def metrics_document() -> str:
    return _document(
        ["# Metrics", "", GENERATED],
        ["Every service answers `/metrics` on its ops port, in Prometheus' text format."],
        table(("metric", "type", "labels", "meaning"), map(_metric_row, _declared())),
    )


def _declared() -> Iterator[MetricWrapperBase]:
    return (value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase))


def _metric_row(metric: MetricWrapperBase) -> tuple[str, ...]:
    (family,) = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "–"
    return f"`{name}`", family.type, labels, family.documentation


# -- all of them -------------------------------------------------------------------------------------

DOCUMENTS: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "docs/events.md": events_document,
        "docs/settings.md": settings_document,
        "docs/metrics.md": metrics_document,
        "docs/asyncapi.json": asyncapi_document,
        "services/gateway/routes/docs_page/asyncapi.json": asyncapi_document,
        "services/gateway/routes/docs_page/events.html": events_page,
        "docs/openapi.json": openapi_text,
        ".env.example": env_example,
    }
)


def outdated(root: Path = REPOSITORY) -> tuple[str, ...]:
    """Paths of the documents that are not what the code would write."""
    return tuple(path for path, make in DOCUMENTS.items() if _text_at(root / path) != make())


def _text_at(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def write(root: Path = REPOSITORY) -> None:
    for path, make in DOCUMENTS.items():
        (root / path).write_text(make(), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0, or 1 with `--check` where a document is outdated."""
    if "--check" not in arguments:
        write()
        return 0
    found = outdated()
    for path in found:
        sys.stderr.write(f"{path} differs from the code: run `make openapi`\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
