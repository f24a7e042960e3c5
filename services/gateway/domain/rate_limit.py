"""How many requests a caller may make: the budgets that apply to it, and what a sliding window leaves of them.

The window is a sliding window counter: it holds the requests of the current window, and those of the window before
in proportion to how much of that one still lies within the last `window_s`. The storages keep the two counts and
decide in one step; what follows from counts stands here, in whole milliseconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from types import MappingProxyType
from typing import ClassVar

from gateway.domain.refusals import Refused

HOUR_S = 3600
DEFAULT_LIMIT = 1000
# Of the default limit, for each key; what an organization's keys may do together is a multiple of one key's.
PLAN_MULTIPLES: Mapping[str, int] = MappingProxyType({"starter": 1, "professional": 10, "enterprise": 100})
ORGANIZATION_MULTIPLE = 10
MAX_LIMIT = 10_000_000
# A household or a server has a network of this length, and changes its address in it at will.
_IPV6_PREFIX = 64


class Subject(StrEnum):
    """Whose requests are counted together."""

    KEY = "key"
    ORGANIZATION = "organization"
    ADDRESS = "address"


_WORDS: Mapping[Subject, str] = MappingProxyType(
    {
        Subject.KEY: "this API key",
        Subject.ORGANIZATION: "your organization",
        Subject.ADDRESS: "your network address",
    }
)


@dataclass(frozen=True)
class Budget:
    """At most `limit` requests in `window_s`; `identity` tells one subject of a kind from another."""

    subject: Subject
    identity: str
    limit: int
    window_s: int = HOUR_S

    @property
    def name(self) -> str:
        return f"{self.subject}:{self.identity}"


@dataclass(frozen=True)
class Allowance:
    """What is stored about a caller's limits; None where it has none of its own."""

    plan: str
    key: int | None
    organization: int | None


@dataclass(frozen=True)
class LimitPolicy:
    """The limits of one installation, in requests per hour."""

    default: int = DEFAULT_LIMIT
    registration: int = DEFAULT_LIMIT

    def key_limit(self, allowance: Allowance) -> int:
        """The key's own limit, else its plan's."""
        return self._of_plan(allowance.plan) if allowance.key is None else allowance.key

    def organization_limit(self, allowance: Allowance) -> int:
        """The organization's own limit, else `ORGANIZATION_MULTIPLE` times what its plan gives a key."""
        if allowance.organization is not None:
            return allowance.organization
        return ORGANIZATION_MULTIPLE * self._of_plan(allowance.plan)

    def _of_plan(self, plan: str) -> int:
        return PLAN_MULTIPLES.get(plan, 1) * self.default


def budgets_of_key(
    policy: LimitPolicy, allowance: Allowance, *, key_id: str, organization_id: str
) -> tuple[Budget, ...]:
    """Both must have room. The order is the order in which storages lock them."""
    return (
        Budget(Subject.KEY, key_id, policy.key_limit(allowance)),
        Budget(Subject.ORGANIZATION, organization_id, policy.organization_limit(allowance)),
    )


def budget_of_address(host: str | None, *, purpose: str, limit: int) -> Budget:
    """For requests without a key; each purpose has a budget of its own."""
    return Budget(Subject.ADDRESS, f"{purpose}:{network_of(host)}", limit)


def network_of(host: str | None) -> str:
    """An IPv4 address as it is, of an IPv6 address the network; `unknown` for what is no address."""
    try:
        address: IPv4Address | IPv6Address = ip_address(host or "")
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _IPV6_PREFIX), strict=False))
    return str(address)


@dataclass(frozen=True)
class Count:
    """A budget's two counts after a decision, `elapsed_ms` into its current window."""

    previous: int
    current: int
    elapsed_ms: int

    def used(self, window_ms: int) -> int:
        return self.previous * (window_ms - self.elapsed_ms) // window_ms + self.current


@dataclass(frozen=True)
class Taken:
    """A storage's decision: all budgets were charged one request, or none was. `now_ms` is the storage's clock."""

    allowed: bool
    counts: tuple[Count, ...]
    now_ms: int


@dataclass(frozen=True)
class Standing:
    """What is left of a budget, and how long until one more request fits than fits now."""

    budget: Budget
    remaining: int
    more_in_ms: int


@dataclass(frozen=True)
class Verdict:
    """Whether a request may pass, and the standing of the tightest budget: of a refusal, the one that refused."""

    allowed: bool
    budgets: tuple[Budget, ...]
    tightest: Standing
    now_ms: int

    @property
    def reset_at_s(self) -> int:
        """Unix time from which one more request fits than now; after a refusal, from which the next one passes."""
        return _whole_seconds(self.now_ms + self.tightest.more_in_ms)

    @property
    def more_in_s(self) -> int:
        """Seconds until then, rounded up."""
        return _whole_seconds(self.tightest.more_in_ms)


class RateLimitExceeded(Refused):
    """The budget of a subject is used up for now."""

    code: ClassVar[str] = "rate_limit_exceeded"

    def __init__(self, verdict: Verdict) -> None:
        budget = verdict.tightest.budget
        super().__init__(
            f"Rate limit exceeded: {_WORDS[budget.subject]} may make {budget.limit} requests "
            f"{_span(budget.window_s)}. Try again in {verdict.more_in_s} s"
        )
        self.subject = budget.subject
        self.retry_after_s = verdict.more_in_s


def verdict_of(budgets: Sequence[Budget], taken: Taken) -> Verdict:
    """What the counts mean. Of two refusals, the one that lasts longer."""
    standings = [standing_of(budget, count) for budget, count in zip(budgets, taken.counts, strict=True)]
    tightest = min(standings, key=lambda each: (each.remaining, -each.more_in_ms))
    return Verdict(taken.allowed, tuple(budgets), tightest, taken.now_ms)


def standing_of(budget: Budget, count: Count) -> Standing:
    window_ms = budget.window_s * 1000
    used = count.used(window_ms)
    at_most = min(used, budget.limit) - 1
    more_in_ms = _until_used(count, at_most, window_ms=window_ms) if used else 0
    return Standing(budget, max(0, budget.limit - used), more_in_ms)


def _until_used(count: Count, at_most: int, *, window_ms: int) -> int:
    """Milliseconds until no more than `at_most` are in use, if nothing else comes; fewer than now."""
    of_previous = at_most - count.current
    if of_previous >= 0:
        return _faded_at(count.previous, to=of_previous, window_ms=window_ms) - count.elapsed_ms
    rest_ms = window_ms - count.elapsed_ms
    return rest_ms + _faded_at(count.current, to=at_most, window_ms=window_ms)


def _faded_at(count: int, *, to: int, window_ms: int) -> int:
    """The first millisecond of a window in which `count` requests of the one before weigh no more than `to`."""
    return window_ms + 1 + -(to + 1) * window_ms // count


def _whole_seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)


def _span(window_s: int) -> str:
    return "per hour" if window_s == HOUR_S else f"in {window_s} s"
