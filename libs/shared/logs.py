"""JSON logs with the ids of stream, organization and trace; secrets are blanked at the formatter."""

import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from shared.errors import PipelineError
from shared.trace import current_span_id, current_trace_id

SECRET_NAME = re.compile(
    r"(secret|password|token|authorization|api_key|signature|cookie|keyring)", re.IGNORECASE
)
SECRET_TEXT = re.compile(r"(tldr_[a-z]+_[0-9a-f]+_\w+|whsec_[\w+/=-]+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@))")
BLANK = "***"


def _blank_secrets(
    _logger: object, _method: str, entry: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name, value in entry.items():
        if SECRET_NAME.search(name):
            entry[name] = BLANK
        elif isinstance(value, str):
            entry[name] = SECRET_TEXT.sub(BLANK, value)
    return entry


def _add_trace(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    trace_id = current_trace_id()
    if trace_id:
        entry["trace_id"] = trace_id
        entry["span_id"] = current_span_id()
    return entry


Report = Callable[[BaseException, Mapping[str, Any]], None]


class _Reporting:
    """Hands errors that nobody foresaw, and the line that tells of them, to whoever collects them."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def __call__(
        self, _logger: object, _method: str, entry: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        error = _error_of(entry.get("exc_info"))
        if error is not None and not isinstance(error, PipelineError):
            self._report(error, entry)
        return entry


def _error_of(given: object) -> BaseException | None:
    """What `exc_info` means: an error, the triple of one, or the one in hand."""
    if isinstance(given, tuple):
        given = given[1]
    elif given is True:
        given = sys.exc_info()[1]
    return given if isinstance(given, Exception) else None


def _name(service: str) -> structlog.typing.Processor:
    """Of which service a line is; threads know no context that others bound."""

    def name(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        entry.setdefault("service", service)
        return entry

    return name


def configure(
    service: str, *, debug: bool = False, as_json: bool = True, report: Report | None = None
) -> None:
    """Send structlog and the standard library's loggers of this process to stdout, one line an entry.

    `report` is given the errors that lines tell of with their stack, but for those of our two families.
    """
    level = logging.DEBUG if debug else logging.INFO
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _name(service),
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *((_Reporting(report),) if report else ()),
        structlog.processors.format_exc_info,
        _add_trace,
        _blank_secrets,
    ]
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("aiormq", "aio_pika", "uvicorn.access", "faststream", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for own in ("opentelemetry", "sentry_sdk.errors", "urllib3"):
        # What they say of a collector that is away, line after line, is told by a metric and once a minute.
        logging.getLogger(own).setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


@contextmanager
def bound(**values: str | None) -> Iterator[None]:
    """Add these ids to every log line inside the block; None leaves an id out."""
    with structlog.contextvars.bound_contextvars(**{k: v for k, v in values.items() if v is not None}):
        yield
