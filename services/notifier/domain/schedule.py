"""When to try again: the slow schedule, its jitter, and what an endpoint's Retry-After may change in it."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Seconds before attempt 1, 2, … 11: 75.6 h in all. The example of Standard Webhooks 1.0, with two more steps.
DELAYS_S = (0, 5, 30, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
HINT_FACTOR = 2


def retry_delay_s(attempts: int, *, spread: float, hint_s: float | None = None) -> float:
    """Seconds to the next attempt after `attempts` (from 1) have failed, ±20 % by `spread` in [0, 1].

    `hint_s` may lengthen the delay to at most twice the slot, and never shortens it.
    """
    slot_s = DELAYS_S[min(attempts, len(DELAYS_S) - 1)]
    jittered_s = slot_s * (1 - JITTER + 2 * JITTER * spread)
    return max(jittered_s, min(hint_s or 0.0, HINT_FACTOR * slot_s))


def retry_after_s(header: str, *, at: datetime) -> float | None:
    """The header's meaning in seconds from `at`: digits or an HTTP date (RFC 9110, 10.2.3); None if neither."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        wanted = parsedate_to_datetime(text)
    except ValueError:
        return None
    if wanted.tzinfo is None:
        wanted = wanted.replace(tzinfo=UTC)
    return max(0.0, (wanted - at).total_seconds())
