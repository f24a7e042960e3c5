"""What answers tell about the limits of their caller, and how the API's description tells of it."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from gateway.domain.rate_limit import Budget, Verdict
from gateway.routes.problems import MEANINGS, MEDIA_TYPE

RETRY_AFTER = "Retry-After"
_TOO_MANY = str(int(HTTPStatus.TOO_MANY_REQUESTS))
_INTEGER, _TEXT = {"type": "integer"}, {"type": "string"}
_DESCRIBED: Mapping[str, tuple[str, dict[str, str]]] = MappingProxyType(
    {
        "X-RateLimit-Limit": ("Requests per hour of the tightest budget.", _INTEGER),
        "X-RateLimit-Remaining": ("Requests that fit into it now.", _INTEGER),
        "X-RateLimit-Reset": (
            "Unix time in seconds from which one more request fits than now, if none comes before; "
            "after a 429, from which the next request passes.",
            _INTEGER,
        ),
        "RateLimit-Policy": ("All budgets that apply: `q` requests in `w` seconds.", _TEXT),
        "RateLimit": ("The tightest budget: `r` requests fit now, one more in `t` seconds.", _TEXT),
    }
)
NAMES = tuple(_DESCRIBED)


def limit_headers(verdict: Verdict) -> dict[str, str]:
    """The headers of every answer to a request that was counted."""
    tightest = verdict.tightest
    values = (
        str(tightest.budget.limit),
        str(tightest.remaining),
        str(verdict.reset_at_s),
        ", ".join(map(_policy, verdict.budgets)),
        f'"{tightest.budget.subject}";r={tightest.remaining};t={verdict.more_in_s}',
    )
    return dict(zip(NAMES, values, strict=True))


def _policy(budget: Budget) -> str:
    return f'"{budget.subject}";q={budget.limit};w={budget.window_s}'


def components() -> dict[str, Any]:
    """The headers, described once for all operations."""
    described = {name: {"description": text, "schema": schema} for name, (text, schema) in _DESCRIBED.items()}
    return described | {
        RETRY_AFTER: {"description": "Seconds after which the next request passes.", "schema": _INTEGER}
    }


def is_limited(operation: Mapping[str, Any]) -> bool:
    """Every operation that needs a key is, and those that say so themselves."""
    return "security" in operation or _TOO_MANY in operation["responses"]


def with_limits(answers: Mapping[str, Any]) -> dict[str, Any]:
    """A limited operation's answers: each tells the limits, and one of them is the refusal."""
    every = _references(NAMES)
    told = {status: {**answer, "headers": every} for status, answer in answers.items()}
    return dict(sorted({**told, _TOO_MANY: _refusal()}.items()))


def _refusal() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": MEANINGS[HTTPStatus.TOO_MANY_REQUESTS],
        "headers": _references((*NAMES, RETRY_AFTER)),
        "content": {MEDIA_TYPE: {"schema": schema}},
    }


def _references(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
