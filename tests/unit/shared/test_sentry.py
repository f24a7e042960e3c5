"""Error reports: how many, and what is cut from them. What arrives is proven in the integration test."""

import pytest
from sentry_sdk import Client

from shared.sentry import MAX_PER_MINUTE, WITHHELD, ErrorReports, scrub


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    events: list[object] = []
    monkeypatch.setattr(Client, "capture_event", lambda _self, event, *_rest: events.append(event))
    return events


def test_a_bug_that_every_event_meets_is_reported_so_often_a_minute(captured: list[object]) -> None:
    now = [0.0]
    reports = ErrorReports(
        "http://key@127.0.0.1:1/1", service="clipper", environment="test", version="1", now_s=lambda: now[0]
    )
    for _ in range(MAX_PER_MINUTE + 5):
        reports(ValueError("a bug"), {"event": "unexpected_error"})
    first = len(captured)
    now[0] = 60.0
    reports(ValueError("a bug"), {"event": "unexpected_error"})
    reports.close()
    assert (MAX_PER_MINUTE, MAX_PER_MINUTE + 1) == (first, len(captured))


@pytest.mark.parametrize(
    ("line", "tags"),
    [
        pytest.param("unexpected_error", {"service", "event", "stream_id"}, id="ours"),
        pytest.param(
            "Task exception was never retrieved\nfuture: <Task finished exception=ValueError('canary')>",
            {"service", "stream_id"},
            id="a library's, which repeats the error's words",
        ),
    ],
)
def test_a_line_is_a_tag_only_where_it_is_a_name(captured: list[object], line: str, tags: set[str]) -> None:
    reports = ErrorReports("http://key@127.0.0.1:1/1", service="clipper", environment="test", version="1")
    reports(ValueError("a bug"), {"event": line, "stream_id": "str_1"})
    reports.close()
    event = captured[0]
    assert isinstance(event, dict)
    assert tags == set(event["tags"])


def test_what_is_not_named_is_cut() -> None:
    event = {
        "request": {"headers": {"Cookie": "canary"}, "query_string": "canary"},
        "extra": {"body": "canary"},
        "breadcrumbs": {"values": ["canary"]},
        "user": {"ip_address": "canary"},
        "tags": {"service": "clipper"},
        "exception": {
            "values": [
                {
                    "type": "ValueError",
                    "value": "canary",
                    "stacktrace": {"frames": [{"function": "f", "vars": {"secret": "canary"}}]},
                }
            ]
        },
    }
    left = scrub(event, {})  # type: ignore[arg-type]
    assert {"tags", "exception"} == set(left)
    assert "canary" not in str(left)
    assert WITHHELD in str(left)
