"""How this process takes memory from the system and gives it back, for services that move large bodies all the time.

Knows nothing of what the memory holds. Where the C library has no such knobs (musl), nothing is changed.
"""

import ctypes
import gc
from typing import Final

MIB: Final = 1024 * 1024
# malloc.h of glibc
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_LARGEST_FROM_HEAP: Final = 32 * MIB  # the most that glibc accepts
_COLLECT_AFTER: Final = 20_000


def reuse_freed_memory(*, kept_bytes: int = 32 * MIB) -> bool:
    """Keep up to `kept_bytes` of freed memory at hand instead of returning it; answers whether that could be set.

    By default each body of a megabyte is mapped, zeroed page by page and unmapped again, which costs five times as
    much as receiving it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = (
        (_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP),
        (_M_TRIM_THRESHOLD, kept_bytes),
        (_M_TOP_PAD, 4 * MIB),
    )
    return all(mallopt(name, value) == 1 for name, value in settings)


def return_free_memory(*, kept_bytes: int = 32 * MIB) -> None:
    """Give back what lies free among what is used, as after a burst; takes some milliseconds."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(kept_bytes)


def collect_rarely() -> None:
    """Leave what is loaded by now to itself, and look for cycles less often: nearly nothing here makes any."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
