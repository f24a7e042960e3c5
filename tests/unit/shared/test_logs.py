"""Logs: one JSON object a line, ids of the work at hand, no secrets."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from shared import logs, trace


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configured)
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_is_json_with_the_ids_of_stream_organization_and_trace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("clipper")
    trace.configure()
    with trace.span("work"), logs.bound(stream_id="str_1", organization_id="org_1", missing=None):
        structlog.get_logger().info("cut", clip=3)
        expected_trace = trace.current_trace_id()
    [line] = lines(capsys)
    assert ("cut", "clipper", "str_1", "org_1", 3) == (
        line["event"],
        line["service"],
        line["stream_id"],
        line["organization_id"],
        line["clip"],
    )
    assert expected_trace == line["trace_id"]
    assert "missing" not in line


def test_lines_of_the_standard_library_have_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("clipper")
    logging.getLogger("elsewhere").warning("hello %s", "you")
    [line] = lines(capsys)
    assert ("hello you", "warning", "clipper") == (line["event"], line["level"], line["service"])


def test_secrets_are_blanked_by_name_and_by_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("gateway")
    structlog.get_logger().info(
        "seen",
        api_key="anything",
        webhook_secret="whsec_abc",
        url="amqp://user:hunter2@host/vhost",
        text="key tldr_live_0123456789ab_abcDEF123 in the middle",
    )
    told = capsys.readouterr().out
    for secret in ("anything", "whsec_abc", "hunter2", "abcDEF123"):
        assert secret not in told
    assert "in the middle" in told


def test_an_exception_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("gateway")
    structlog.get_logger().error("failed", exc_info=ValueError("why"))
    [line] = lines(capsys)
    assert "ValueError: why" in str(line["exception"])
