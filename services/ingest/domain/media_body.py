"""What the bytes of a fetched segment are, judged before they are archived. Decryption comes before this."""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from ingest.domain.fmp4 import BoxesMalformed, FragmentClock, read_fragment_clock
from ingest.domain.ts import Clock, is_transport_stream, is_whole_transport_stream, read_clock
from shared.errors import RetryableError

Container = Literal["mpegts", "fmp4"]
EXTENSIONS: Final[dict[Container, str]] = {"mpegts": "ts", "fmp4": "m4s"}
_BOXES: Final = frozenset({b"ftyp", b"styp", b"moof", b"sidx", b"emsg", b"prft", b"moov", b"mdat", b"free"})
_LONGEST_FACTOR: Final = 4
_SHORT_FLOOR_US: Final = 500_000
_SHORT_SHARE: Final = 0.2


class NotMedia(RetryableError):
    """Neither a transport stream nor fragmented MP4: an error page, a broken body, a wrong key."""

    code: ClassVar[str] = "not_media"


@dataclass(frozen=True, kw_only=True)
class MediaBody:
    """Container of a segment, and what its own clock says; None where it says nothing.

    `looks_broken`: it ends within a packet, or much earlier than it is listed, or loses its step in between, as
    after a broken transfer whose length nobody told.
    """

    container: Container
    pts_us: int | None = None
    duration_us: int | None = None
    looks_broken: bool = False


def container_of(body: bytes) -> Container:
    """Raises NotMedia."""
    if is_transport_stream(body):
        return "mpegts"
    if body[4:8] in _BOXES:
        return "fmp4"
    raise NotMedia(f"a body of {len(body)} bytes is neither MPEG-TS nor fragmented MP4")


def examine(body: bytes, *, listed_us: int, init: bytes | None = None) -> MediaBody:
    """Container and clock; fragmented MP4 tells its clock by the init section.

    A length that is absurd against the listed one is left out. Raises NotMedia.
    """
    container = container_of(body)
    is_partial = container == "mpegts" and not is_whole_transport_stream(body)
    clock = _clock(body, container, init=init)
    if clock is None:
        return MediaBody(container=container, looks_broken=is_partial)
    is_plausible = 0 < clock.duration_us <= _LONGEST_FACTOR * listed_us + 1_000_000
    return MediaBody(
        container=container,
        pts_us=clock.pts_us,
        duration_us=clock.duration_us if is_plausible else None,
        looks_broken=is_partial or _is_short(clock.duration_us, listed_us=listed_us),
    )


def _is_short(duration_us: int, *, listed_us: int) -> bool:
    return 0 < duration_us < listed_us - max(_SHORT_FLOOR_US, _SHORT_SHARE * listed_us)


def _clock(body: bytes, container: Container, *, init: bytes | None) -> Clock | FragmentClock | None:
    if container == "mpegts":
        return read_clock(body)
    try:
        return read_fragment_clock(body, init=init)
    except BoxesMalformed as error:
        raise NotMedia(f"fragmented MP4 of {len(body)} bytes: {error}") from error
