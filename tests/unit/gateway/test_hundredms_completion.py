"""A stream that failed at its platform says so in the end, whether or not media of it was archived."""

from typing import Any

import pytest

from gateway.domain.completion import RunFacts, decide
from gateway.domain.stream_status import Ended, StreamRecord, StreamStatus
from tests.builders import NOW, ORGANIZATION, STREAM


def record(**changes: Any) -> StreamRecord:
    fields: dict[str, Any] = {
        "stream_id": STREAM,
        "organization_id": ORGANIZATION,
        "platform": "100ms",
        "display_url": "https://cdn.example.com/live.m3u8",
        "status": StreamStatus.PROCESSING,
        "created_at": NOW,
        "updated_at": NOW,
        "started_at": NOW,
        "deadline_at": NOW,
        "ended": Ended(cause="stopped", segments=3),
        "source_end": "failure: INTERNAL_ERROR",
        "source_failed": True,
    }
    return StreamRecord(**fields | changes)


def test_with_media_it_is_complete_in_part() -> None:
    found = decide(record(), RunFacts())
    assert found is not None
    assert (StreamStatus.COMPLETED, True, "source_failed") == (found.status, found.partial, found.cause)
    assert "INTERNAL_ERROR" in str(found.error)


def test_without_media_it_is_an_error_and_not_cancelled() -> None:
    found = decide(record(started_at=None, ended=Ended(cause="stopped")), RunFacts())
    assert found is not None
    assert (StreamStatus.ERROR, "source_failed") == (found.status, found.cause)


@pytest.mark.parametrize("reason", ["client request", "room ended", None])
def test_an_end_that_was_no_failure_leaves_it_whole(reason: str | None) -> None:
    found = decide(record(source_end=reason, source_failed=False), RunFacts())
    assert found is not None
    assert (StreamStatus.COMPLETED, False) == (found.status, found.partial)
