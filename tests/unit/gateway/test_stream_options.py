"""Options of a stream."""

import pytest
from pydantic import ValidationError

from gateway.domain.stream_options import StreamOptions


def test_the_effective_options_show_no_secret() -> None:
    options = StreamOptions.model_validate(
        {
            "custom_headers": {"Authorization": "hidden"},
            "webhook_url": "https://example.com/hook?key=hidden",
            "metadata": {"a": 1},
        }
    )

    shown = options.effective()

    assert "hidden" not in str(shown) and "hidden" not in repr(options.custom_headers)
    assert shown["webhook_url"] == "https://example.com/hook"
    assert "metadata" not in shown
    assert options.headers() == {"Authorization": "hidden"}


def test_stored_options_are_read_back() -> None:
    options = StreamOptions(custom_tags=("a",), max_highlights=3)

    assert StreamOptions.model_validate(options.effective()) == options


@pytest.mark.parametrize(
    "wrong",
    [
        {"clip_duration": 121},
        {"frame_interval": float("inf")},
        {"custom_tags": [""]},
        {"analysis_quality": "best"},
        {"metadata": {str(n): n for n in range(51)}},
        {"unknown": 1},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        StreamOptions.model_validate(wrong)
