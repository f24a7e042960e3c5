"""How something that went away is left alone for a while: shared by all who would ask it."""

from collections.abc import Callable

AWAY_S = 5.0


class Absence:
    """After `AWAY_S` one caller tries again, and the others go on waiting until that try has shown something."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._until: float | None = None

    def permits_try(self) -> bool:
        if self._until is None:
            return True
        if self._clock() < self._until:
            return False
        self._until = self._clock() + AWAY_S
        return True

    def begin(self) -> bool:
        """It failed. Whether this is news."""
        is_news = self._until is None
        self._until = self._clock() + AWAY_S
        return is_news

    def end(self) -> bool:
        """It answered. Whether this is news."""
        is_news = self._until is not None
        self._until = None
        return is_news
