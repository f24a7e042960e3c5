"""What all request bodies share: no unknown fields, and only text and numbers that can be stored."""

from math import isfinite
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

MAX_DEPTH = 20
_MAX_SHOWN_PLACE = 100


class RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        _check(value, place=())
        return value


def _check(value: object, *, place: tuple[str, ...]) -> None:
    """Raise ValueError for what PostgreSQL's text and jsonb cannot hold, and for bottomless nesting."""
    if len(place) > MAX_DEPTH:
        raise _refusal(place[:3], f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for name, item in value.items():
            _check_text(name, place=place)
            _check(item, place=(*place, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _check(item, place=(*place, str(number)))
    elif isinstance(value, str):
        _check_text(value, place=place)
    elif isinstance(value, float) and not isfinite(value):
        raise _refusal(place, "numbers must be finite")


def _check_text(text: str, *, place: tuple[str, ...]) -> None:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise _refusal(place, "text must not contain U+0000 or lone surrogates")


def _refusal(place: tuple[str, ...], message: str) -> ValueError:
    where = ".".join(place)[:_MAX_SHOWN_PLACE]
    return ValueError(f"{where}: {message}" if where else message)
