"""HTTP errors of Gemini: what they mean, when to come back, and that Google's words go no further."""

from datetime import UTC, datetime
from typing import Any

import pytest

from analyzer.domain.gemini.failures import HINT_MAX_S, Failure, Kind, judge

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def body(name: str = "UNAVAILABLE", *details: dict[str, str]) -> dict[str, Any]:
    return {
        "error": {"code": 1, "status": name, "message": "key AIza123 of project 4711", "details": [*details]}
    }


def failure(status: int, details: object = None, *, retry_after: str | None = None) -> Failure:
    return judge(status, details, retry_after=retry_after, now=NOW)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Kind.REFUSED),
        (401, Kind.OPERATOR),
        (403, Kind.OPERATOR),
        (404, Kind.OPERATOR),
        (408, Kind.BUSY),
        (409, Kind.REFUSED),
        (413, Kind.REFUSED),
        (429, Kind.BUSY),
        (500, Kind.BUSY),
        (503, Kind.BUSY),
        (529, Kind.BUSY),
    ],
)
def test_a_status_says_who_can_help(status: int, kind: Kind) -> None:
    assert kind is failure(status, body()).kind


@pytest.mark.parametrize("reason", ["API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "BILLING_DISABLED"])
def test_a_400_about_the_key_is_the_operators(reason: str) -> None:
    told = failure(400, body("INVALID_ARGUMENT", {"reason": reason}))

    assert Kind.OPERATOR is told.kind
    assert "GEMINI_API_KEY" in told.words


def test_a_404_names_the_settings_of_model_and_version() -> None:
    assert "GEMINI_MODEL" in failure(404, body("NOT_FOUND")).words


def test_googles_message_is_not_repeated() -> None:
    words = [failure(status, body()).words for status in (400, 403, 429, 503)]

    assert not [each for each in words if "AIza" in each or "4711" in each]


@pytest.mark.parametrize(
    ("retry_after", "delay", "expected_s"),
    [
        (None, None, None),
        ("12", None, 12.0),
        (None, "7s", 7.0),
        (None, "7.5s", 7.5),
        ("3", "7s", 7.0),
        ("30", "7s", 30.0),
        ("Fri, 20 Nov 2026 12:00:30 GMT", None, 30.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", None, 0.0),
        ("-5", None, None),
        ("soon", "soon", None),
        ("999999", None, HINT_MAX_S),
        (None, "86400s", HINT_MAX_S),
    ],
)
def test_the_longest_hint_counts_within_bounds(
    retry_after: str | None, delay: str | None, expected_s: float | None
) -> None:
    details = body("RESOURCE_EXHAUSTED", *([{"retryDelay": delay}] if delay else []))

    assert expected_s == failure(429, details, retry_after=retry_after).retry_after_s


@pytest.mark.parametrize(
    "details",
    [None, [], "text", 7, {}, {"error": None}, {"error": "text"}, {"error": {"details": "text"}},
     {"error": {"details": [None, 7, {"retryDelay": 7}, {"retryDelay": None}]}}, {"error": {"status": 7}}],
)  # fmt: skip
def test_a_body_of_any_shape_has_a_meaning(details: object) -> None:
    assert Failure(Kind.BUSY, "Gemini answered 503: busy or out of quota") == failure(503, details)
