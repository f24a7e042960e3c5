"""Which model the demo's analyzer is told of."""

import pytest

from sandbox.demo.model import model_settings
from sandbox.demo.options import OptionInvalid, Options


async def test_without_a_word_there_is_no_model() -> None:
    async with model_settings(Options.from_environment({})) as told:
        assert {} == told


async def test_a_key_is_passed_on_and_not_shown() -> None:
    options = Options.from_environment({"GEMINI_API_KEY": "the-key", "GEMINI_MODEL": "", "HOME": "/root"})

    async with model_settings(options) as told:
        assert {"GEMINI_API_KEY": "the-key"} == told
    assert "the-key" not in repr(options)


async def test_the_double_takes_the_place_of_a_key_and_keeps_the_other_options() -> None:
    options = Options.from_environment(
        {"GEMINI": "double", "GEMINI_API_KEY": "the-key", "GEMINI_MODEL": "gemini-3.8-flash"}
    )

    async with model_settings(options) as told:
        assert "the-key" != told["GEMINI_API_KEY"]
        assert told["GEMINI_BASE_URL"].startswith("http://127.0.0.1:")
        assert "gemini-3.8-flash" == told["GEMINI_MODEL"]


def test_where_traces_and_error_reports_go_is_passed_on_and_not_shown() -> None:
    telemetry = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "LOGFIRE_TOKEN": "the-token",
        "SENTRY_DSN": "http://the-key@127.0.0.1:1/1",
        "TRACE_SAMPLE_RATIO": "1",
    }

    options = Options.from_environment({**telemetry, "HOME": "/root", "SENTRY_ENVIRONMENT": ""})

    assert telemetry == options.telemetry
    assert "the-token" not in repr(options)
    assert "the-key" not in repr(options)


@pytest.mark.parametrize("environment", [{"GEMINI": "real"}, {"GEMINI": "double", "DEMO_TARGET": "compose"}])
def test_what_cannot_be_done_is_told(environment: dict[str, str]) -> None:
    with pytest.raises(OptionInvalid, match="GEMINI"):
        Options.from_environment(environment)
