"""Reasons in words for people."""

import pytest

from ingest.domain.actions import EndCause, FailureKind, FetchFailure
from ingest.domain.wording import explain


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind is not FailureKind.STATUS])
def test_every_kind_of_failure_has_words(kind: FailureKind) -> None:
    assert " " in explain(EndCause.SOURCE_UNREACHABLE, FetchFailure(kind=kind).label)


@pytest.mark.parametrize("status", [401, 403, 404, 410, 503])
def test_a_status_is_named(status: int) -> None:
    label = FetchFailure(kind=FailureKind.STATUS, status=status).label
    assert f"HTTP {status}" in explain(EndCause.SOURCE_UNREACHABLE, label)


def test_drm_is_named() -> None:
    assert "SAMPLE-AES" in explain(EndCause.UNSUPPORTED_ENCRYPTION, "SAMPLE-AES (identity)")


def test_a_regular_end_needs_no_words() -> None:
    assert "" == explain(EndCause.ENDLIST, "")
