"""What attempts at a window have cost that did not end in its verdict: the verdict shall tell the whole price.

Kept in memory and bounded: an attempt in another process is in the metrics and the log, and not here.
"""

from collections import OrderedDict
from dataclasses import dataclass

from analyzer.domain.analysis import Usage
from shared.ids import WindowId

OPEN_MAX = 1000


@dataclass(frozen=True, slots=True)
class Bill:
    """The provider of the latest attempt, and the usage of all."""

    provider: str
    usage: Usage


class Bills:
    """Open bills by window, the oldest dropped above `OPEN_MAX`."""

    def __init__(self) -> None:
        self._open: OrderedDict[WindowId, Bill] = OrderedDict()

    def add(self, window: WindowId, *, provider: str, usage: Usage) -> None:
        earlier = self._open.pop(window, None)
        self._open[window] = Bill(provider, usage + earlier.usage if earlier else usage)
        if len(self._open) > OPEN_MAX:
            self._open.popitem(last=False)

    def settle(self, window: WindowId) -> Bill | None:
        """Take the window's bill away; None where nothing is open."""
        return self._open.pop(window, None)
