"""How the loose values of 100ms are read: ids, moments, numbers and texts, in whatever type they come."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from math import isfinite

MAX_ID = 200
_YEARS = range(2000, 2200)  # an absent moment is written as year 1


def moment_of(value: object) -> datetime | None:
    """The moment in UTC; None for none, and for the year 1 that stands for none."""
    moment = read_moment(value)
    return moment if moment and moment.year in _YEARS else None


def read_moment(value: object) -> datetime | None:
    """RFC 3339, Go's way of writing, or Unix time in seconds to nanoseconds."""
    text = text_of(value)
    for read in (_unix_time, _written_time, _go_time):
        with suppress(ValueError, OverflowError):
            return read(text)
    return None


def number_of(value: object) -> float | None:
    """A number, also where it is written as text."""
    with suppress(ValueError, OverflowError):
        number = float(text_of(value))
        return number if isfinite(number) else None
    return None


def _unix_time(text: str) -> datetime:
    """Raises ValueError for what is no moment of our age."""
    number = float(text)
    for unit in (1, 1_000, 1_000_000, 1_000_000_000):
        if 1e8 < number / unit < 1e10:
            return datetime.fromtimestamp(round(number / unit, 3), tz=UTC)
    raise ValueError(f"{text} is no Unix time")


def _written_time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def _go_time(text: str) -> datetime:
    """`2021-11-30 12:59:57.79 +0000 UTC`: the zone's name says nothing more."""
    day, time, zone, *_ = text.split()
    return _written_time(f"{day}T{time}{zone}")


def text_of(value: object, *, limit: int = MAX_ID) -> str:
    """The value as storable text: None and containers are nothing, numbers are what they look like."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(storable(str(value))).strip()[:limit]


def storable(payload: object) -> object:
    """The payload without what PostgreSQL's jsonb refuses: U+0000, lone surrogates, numbers without an end."""
    if isinstance(payload, str):
        return payload.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(payload, Mapping):
        return {str(storable(str(key))): storable(value) for key, value in payload.items()}
    if isinstance(payload, list):
        return [storable(item) for item in payload]
    if isinstance(payload, float) and not isfinite(payload):
        return str(payload)
    return payload
