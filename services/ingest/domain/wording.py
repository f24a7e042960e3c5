"""Why a source could not be followed, in words for the stream's owner."""

from typing import Final

from ingest.domain.actions import EndCause, FailureKind

_FAILURES: Final = {
    FailureKind.TIMEOUT: "it did not answer in time",
    FailureKind.NETWORK: "no connection could be made",
    FailureKind.CORRUPT: "its answers were broken",
    FailureKind.NOT_A_PLAYLIST: "it answers with something that is no HLS playlist",
    FailureKind.REFUSED: "it may not be read",
    "empty playlist": "its playlist lists no segments",
    "unchanged": "its playlist did not change any more",
}
_STATUSES: Final = {
    "http_401": "it demands a login (HTTP 401)",
    "http_403": "it denies access (HTTP 403)",
    "http_404": "the playlist is not there (HTTP 404)",
    "http_410": "the playlist is gone (HTTP 410)",
}


def explain(cause: EndCause, detail: str) -> str:
    """A short clause on the detail that the tracker gave; empty where the cause says it all."""
    if cause is EndCause.UNSUPPORTED_ENCRYPTION:
        return f"encrypted by {detail}, which only the rights holder's players can read"
    if detail.startswith("http_"):
        return _STATUSES.get(detail, f"it answers with HTTP {detail.removeprefix('http_')}")
    return _FAILURES.get(detail, detail)
