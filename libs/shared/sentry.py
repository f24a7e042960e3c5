"""Reports unexpected errors to Sentry: kind, stack and ids, and nothing of what was being worked on.

Only `telemetry.py` imports this, and only where a DSN is set. Tracing is done elsewhere.
"""

import re
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final, cast

from sentry_sdk import Client, Scope
from sentry_sdk.types import Event, Hint
from sentry_sdk.utils import event_from_exception

from shared.trace import current_span_id, current_trace_id

CLOSE_S: Final = 2.0
# A bug that every event meets is understood from the first reports; making one takes the loop about a millisecond.
MAX_PER_MINUTE: Final = 60
TAGS: Final = (
    "organization_id",
    "stream_id",
    "event_name",
    "event",
    "loop",
    "delivery_id",
)
# Our own lines are names; those of libraries are sentences, and repeat what the error says.
NAME: Final = re.compile(r"[\w.:-]{1,200}")
KEPT: Final = frozenset(
    {
        *("event_id", "timestamp", "level", "platform", "exception", "tags", "contexts"),
        *("release", "environment", "server_name", "sdk"),
    }
)
REPORTED: Final = "_tldr_reported"
WITHHELD: Final = "(in the logs of this trace)"


class ErrorReports:
    """A client of its own: it patches nothing, listens to nothing, and sends only what it is given."""

    def __init__(
        self,
        dsn: str,
        *,
        service: str,
        environment: str,
        version: str,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._service = service
        self._now_s = now_s
        self._minute = -1
        self._in_minute = 0
        self._client = Client(
            dsn=dsn,
            environment=environment,
            release=f"tldr-highlight-api@{version}",
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            auto_session_tracking=False,
            send_client_reports=False,
            enable_backpressure_handling=False,
            before_send=scrub,
        )

    def __call__(self, error: BaseException, entry: Mapping[str, object]) -> None:
        """Queue a report, once for each error; `entry` is the log line that told of it. Never waits."""
        if getattr(error, REPORTED, False) or not self._has_room():
            return
        setattr(error, REPORTED, True)
        event, hint = event_from_exception(
            error, client_options=self._client.options, mechanism={"type": "log", "handled": True}
        )
        event["tags"] = {"service": self._service} | _tags(entry)
        trace_id, span_id = current_trace_id(), current_span_id()
        if trace_id and span_id:
            event["contexts"] = {"trace": {"trace_id": trace_id, "span_id": span_id}}
            event["tags"]["trace_id"] = trace_id
        self._client.capture_event(event, hint, Scope())

    def _has_room(self) -> bool:
        minute = int(self._now_s() // 60)
        self._in_minute = self._in_minute + 1 if minute == self._minute else 1
        self._minute = minute
        return self._in_minute <= MAX_PER_MINUTE

    def close(self) -> None:
        self._client.close(timeout=CLOSE_S)


def _tags(entry: Mapping[str, object]) -> dict[str, str]:
    return {name: text for name in TAGS if NAME.fullmatch(text := str(entry.get(name, "")))}


def scrub(event: Event, _hint: Hint) -> Event:
    """Keep kind and stack. The words of an error may hold statements, addresses and what customers sent."""
    kept = {name: value for name, value in event.items() if name in KEPT}
    for each in event.get("exception", {}).get("values", ()):
        each["value"] = WITHHELD
        for frame in (each.get("stacktrace") or {}).get("frames", ()):
            frame.pop("vars", None)
    return cast("Event", kept)
