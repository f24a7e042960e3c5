"""When to stop asking a service that fails, and when to try it again: a state machine fed with outcomes and times."""

FAILURES_TO_OPEN = 6
"""Two windows whose three tries all failed; one alone may be bad luck."""
OPEN_S = 30.0


class Breaker:
    """Closed: all may call. Open: nobody for `open_s`, then one, whose outcome closes it or keeps it open.

    Times are monotonic seconds.
    """

    def __init__(self, *, failures_to_open: int = FAILURES_TO_OPEN, open_s: float = OPEN_S) -> None:
        self._failures_to_open = failures_to_open
        self._open_s = open_s
        self._failures = 0
        self._opens_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= self._failures_to_open

    def wait_s(self, now: float) -> float:
        """Seconds until a call may be made; 0 lets the caller call, and whoever asks next wait for its outcome."""
        rest_s = self.rest_s(now)
        if self.is_open and rest_s == 0:
            self._opens_at = now + self._open_s
        return rest_s

    def rest_s(self, now: float) -> float:
        """As `wait_s`, for who only wants to know."""
        return max(0.0, self._opens_at - now) if self.is_open else 0.0

    def succeeded(self) -> None:
        """The service answered, whatever it said."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """The service was busy, broken or silent."""
        self._failures += 1
        if self.is_open:
            self._opens_at = now + self._open_s
