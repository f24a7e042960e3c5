"""What runs by itself in the gateway: the watchdog that leaves no stream without an end."""

from gateway.workflow.watchdog import Watchdog
from shared.loops import Loop

WATCHDOG_PAUSE_S = 5.0


def loops(watchdog: Watchdog) -> tuple[Loop, ...]:
    return (Loop("watchdog", watchdog.turn, pause_s=WATCHDOG_PAUSE_S),)
