"""What runs by itself in the gateway: the watchdog that leaves no stream without an end, the 100ms backlog, pruning."""

from collections.abc import Awaitable, Callable

from gateway.workflow.hundredms_reception import Backlog
from gateway.workflow.hundredms_reconciliation import Reconciler
from gateway.workflow.hundredms_recordings import Recordings
from gateway.workflow.watchdog import Watchdog
from shared.loops import Loop

WATCHDOG_PAUSE_S = 5.0
BACKLOG_PAUSE_S = 1.0
DUE_PAUSE_S = 1.0
PRUNE_PAUSE_S = 60.0


Prune = Callable[[], Awaitable[bool]]


def loops(
    watchdog: Watchdog,
    backlog: Backlog,
    *,
    prune_limits: Prune,
    prune_webhooks: Prune,
    prune_uploads: Prune,
) -> tuple[Loop, ...]:
    """A pruning tells whether more may be left."""
    return (
        Loop("watchdog", watchdog.turn, pause_s=WATCHDOG_PAUSE_S),
        Loop("hundredms_backlog", backlog.turn, pause_s=BACKLOG_PAUSE_S),
        Loop("rate_limits", prune_limits, pause_s=PRUNE_PAUSE_S),
        Loop("hundredms_events", prune_webhooks, pause_s=PRUNE_PAUSE_S),
        Loop("uploads", prune_uploads, pause_s=PRUNE_PAUSE_S),
    )


def hundredms_loops(reconciler: Reconciler, recordings: Recordings) -> tuple[Loop, ...]:
    """How often each connection and each recording has its turn stands in the database: replicas share them."""
    return (
        Loop("hundredms_reconciliation", reconciler.turn, pause_s=DUE_PAUSE_S),
        Loop("hundredms_recordings", recordings.turn, pause_s=DUE_PAUSE_S),
    )
