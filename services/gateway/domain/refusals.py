"""The kinds of *no* that a customer can get. Which HTTP status each has stands in `routes/problems.py`."""

from collections.abc import Mapping
from typing import ClassVar

from shared.errors import PermanentError


class Refused(PermanentError):
    """A request that is answered with a reason; the message is shown to the customer."""

    code: ClassVar[str] = "refused"


class Unauthenticated(Refused):
    code: ClassVar[str] = "unauthenticated"


class Forbidden(Refused):
    code: ClassVar[str] = "forbidden"


class NotFound(Refused):
    """No such thing, or not this organization's: the two look alike."""

    code: ClassVar[str] = "not_found"


class Gone(Refused):
    """It was there, and is not kept any more."""

    code: ClassVar[str] = "gone"


class Conflict(Refused):
    code: ClassVar[str] = "conflict"


class Locked(Refused):
    """Somebody else works on it at this moment."""

    code: ClassVar[str] = "locked"


class TooLong(Refused):
    """More bytes than are taken."""

    code: ClassVar[str] = "too_long"


class WrongMediaType(Refused):
    """The body is of another content type than the one that is read here."""

    code: ClassVar[str] = "unsupported_media_type"


class WrongVersion(Refused):
    """The request speaks a version of a protocol that is not spoken here; `told` are headers that say which one is."""

    code: ClassVar[str] = "unsupported_version"

    def __init__(self, message: str, *, told: Mapping[str, str]) -> None:
        super().__init__(message)
        self.told = dict(told)


class Malformed(Refused):
    """The body is not what its content type says."""

    code: ClassVar[str] = "malformed"


class Unacceptable(Refused):
    """The request is readable, and one field of it cannot be accepted."""

    code: ClassVar[str] = "unacceptable"

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field
