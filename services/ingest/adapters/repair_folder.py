"""The folder in which recordings are cut, rid of what processes that were killed have left in it."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from shared.scratch import scratch_folder

ABANDONED_AFTER: Final = timedelta(hours=2)  # an attempt at a recording takes minutes


def repair_folder(path: str, *, now: datetime) -> Path:
    """The folder, made where it is missing; what another process works on just now stays. Raises OSError."""
    folder = scratch_folder(path)
    bound_s = (now - ABANDONED_AFTER).timestamp()
    for left in folder.glob("recording-*"):
        if left.stat().st_mtime < bound_s:
            shutil.rmtree(left, ignore_errors=True)
    return folder
