"""What all request bodies share: no unknown fields, and only text and numbers that can be stored."""

from math import isfinite
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

MAX_DEPTH = 20


class RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        _check(value, depth=0)
        return value


def _check(value: object, *, depth: int) -> None:
    """Raise ValueError for what PostgreSQL's text and jsonb cannot hold, and for bottomless nesting."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for name, item in value.items():
            _check(name, depth=depth + 1)
            _check(item, depth=depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth=depth + 1)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float) and not isfinite(value):
        raise ValueError("numbers must be finite")


def _check_text(text: str) -> None:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("text must not contain U+0000 or lone surrogates")
