"""What an HTTP error of Gemini means: try again (and when), refuse the window, or call the operator.

The words made here are read by the stream's owner, so they hold status and rule, and nothing that Google wrote:
its messages name keys and projects.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto

HINT_MAX_S = 300.0
"""A longer wait (a quota of the day) is not followed: the selector would have sealed the window long before."""

_BUSY = frozenset({408, 429, 499, 500, 502, 503, 504})
_ABOUT_THE_KEY = frozenset({401, 402, 403, 404})
_KEY_REASONS = re.compile(r"API_KEY|SERVICE_DISABLED|BILLING|CONSUMER|ACCESS_TOKEN|LOCATION")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")


class Kind(Enum):
    BUSY = auto()
    REFUSED = auto()
    OPERATOR = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """`retry_after_s` is what the service asks for, at most HINT_MAX_S; None where it asks for nothing."""

    kind: Kind
    words: str
    retry_after_s: float | None = None


def judge(status: int, details: object, *, retry_after: str | None, now: datetime) -> Failure:
    """`details` is the parsed error body, of any shape; `retry_after` the header's value; `now` aware UTC."""
    error = _error(details)
    name = error.get("status")
    told = f"Gemini answered {status}" + (f" {name}" if isinstance(name, str) and name.isupper() else "")
    if status in _BUSY or status >= 500:
        return Failure(Kind.BUSY, f"{told}: busy or out of quota", _hint_s(error, retry_after, now=now))
    if _is_about_the_key(status, error):
        return Failure(Kind.OPERATOR, f"{told}: {_ADVICE.get(status, _KEY_ADVICE)}")
    return Failure(Kind.REFUSED, f"{told}: the request is not accepted")


_KEY_ADVICE = "the operator must check GEMINI_API_KEY, its project and its quota"
_ADVICE = {404: "the operator must check GEMINI_MODEL, GEMINI_API_VERSION and GEMINI_BASE_URL"}


def _is_about_the_key(status: int, error: Mapping[str, object]) -> bool:
    """A wrong key is a 400 with a reason; so are a closed account and a forbidden region."""
    if status in _ABOUT_THE_KEY:
        return True
    reasons = [detail.get("reason") for detail in _details(error)]
    return error.get("status") == "FAILED_PRECONDITION" or any(
        isinstance(reason, str) and _KEY_REASONS.search(reason) for reason in reasons
    )


def _hint_s(error: Mapping[str, object], header: str | None, *, now: datetime) -> float | None:
    hints = [_seconds(detail.get("retryDelay")) for detail in _details(error)]
    hints.append(_header_s(header, now=now))
    known = [hint for hint in hints if hint is not None]
    return min(max(known), HINT_MAX_S) if known else None


def _seconds(text: object) -> float | None:
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    return float(match[1]) if match else None


def _header_s(text: str | None, *, now: datetime) -> float | None:
    """Seconds, or a date as HTTP writes them."""
    if text is None:
        return None
    if text.isascii() and text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _error(details: object) -> Mapping[str, object]:
    if not isinstance(details, Mapping):
        return {}
    inner = details.get("error", details)
    return inner if isinstance(inner, Mapping) else {}


def _details(error: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    listed = error.get("details")
    if isinstance(listed, list):
        yield from (detail for detail in listed if isinstance(detail, Mapping))
