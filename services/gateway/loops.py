"""What runs by itself in the gateway: the watchdog that leaves no stream without an end, and the 100ms backlog."""

from gateway.workflow.hundredms_reception import Backlog
from gateway.workflow.watchdog import Watchdog
from shared.loops import Loop

WATCHDOG_PAUSE_S = 5.0
BACKLOG_PAUSE_S = 1.0


def loops(watchdog: Watchdog, backlog: Backlog) -> tuple[Loop, ...]:
    return (
        Loop("watchdog", watchdog.turn, pause_s=WATCHDOG_PAUSE_S),
        Loop("hundredms_backlog", backlog.turn, pause_s=BACKLOG_PAUSE_S),
    )
