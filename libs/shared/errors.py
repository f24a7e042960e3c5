"""The two error families of the pipeline; the middleware turns them into *retry later* or *park*.

Concrete errors stand beside the code that raises them. Nothing here knows a transport or a database.
"""

from typing import ClassVar


class PipelineError(Exception):
    """An error with a stable, machine-readable code that may be shown to the stream's owner."""

    code: ClassVar[str] = "internal"


class RetryableError(PipelineError):
    """Trying again later may help. `retry_after_s` is a hint in seconds; None leaves it to the schedule."""

    code: ClassVar[str] = "temporarily_unavailable"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(PipelineError):
    """Trying again cannot help: the work is parked and the stream's owner is told."""

    code: ClassVar[str] = "permanent"
