"""Segments with nothing but time stamps: enough to be examined, small enough for any test."""

from collections.abc import Iterable

PACKET_BYTES = 188
VIDEO_PID, AUDIO_PID = 256, 257
VIDEO_ID, AUDIO_ID = 0xE0, 0xC0


def time_stamp(pts: int) -> bytes:
    """PTS alone, as five bytes."""
    return bytes(
        [
            0x21 | (pts >> 29) & 0x0E,
            (pts >> 22) & 0xFF,
            0x01 | (pts >> 14) & 0xFE,
            (pts >> 7) & 0xFF,
            0x01 | (pts << 1) & 0xFE,
        ]
    )


def packet(pid: int, stream_id: int, pts: int) -> bytes:
    """A packet that begins a PES packet."""
    head = bytes([0x47, 0x40 | pid >> 8, pid & 0xFF, 0x10])
    pes = b"\x00\x00\x01" + bytes([stream_id, 0, 0, 0x80, 0x80, 5]) + time_stamp(pts % 2**33)
    return (head + pes).ljust(PACKET_BYTES, b"\xff")


def ts_body(video: Iterable[int] = (), audio: Iterable[int] = ()) -> bytes:
    """Packets for these times in ticks of 1/90000 s, video first."""
    packets = [packet(VIDEO_PID, VIDEO_ID, pts) for pts in video]
    packets += [packet(AUDIO_PID, AUDIO_ID, pts) for pts in audio]
    return b"".join(packets)


def ts_segment(start_us: int, duration_us: int, *, frame_ticks: int = 3600) -> bytes:
    """Video at a constant rate, on a clock that begins at 10 s."""
    start = (10_000_000 + start_us) * 9 // 100
    return ts_body(range(start, start + duration_us * 9 // 100, frame_ticks))


def box(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def full_box(kind: bytes, *numbers: int, version: int = 0, flags: int = 0) -> bytes:
    """A box of 32-bit numbers behind version and flags; negative ones are signed."""
    head = bytes([version]) + flags.to_bytes(3, "big")
    return box(kind, head, *((number % 2**32).to_bytes(4, "big") for number in numbers))


def fmp4_track(track_id: int, handler: bytes, timescale: int) -> bytes:
    media = (full_box(b"mdhd", 0, 0, timescale, 0), full_box(b"hdlr", 0, int.from_bytes(handler, "big"), 0))
    return box(b"trak", full_box(b"tkhd", 0, 0, track_id, 0), box(b"mdia", *media))


def fmp4_init(*tracks: bytes, default_duration: int = 0, note: bytes = b"") -> bytes:
    """Picture as track 1 at 12800 ticks a second and sound as track 2, or other tracks; `note` changes the bytes."""
    named = tracks or (fmp4_track(1, b"vide", 12_800), fmp4_track(2, b"soun", 48_000))
    extends = box(b"mvex", full_box(b"trex", 1, 1, default_duration, 0, 0))
    return box(b"ftyp", b"iso5") + box(b"moov", *named, extends) + (box(b"free", note) if note else b"")


def fmp4_fragment(
    decode_time: int, samples: Iterable[tuple[int, int]], *, track_id: int = 1, long_time: bool = True
) -> bytes:
    """A movie fragment; samples are (duration, shift of presentation) in ticks."""
    rows = [number for duration, shift in samples for number in (duration, shift)]
    header = full_box(b"tfhd", track_id, flags=0x20000)
    high, low = divmod(decode_time, 2**32)
    time = full_box(b"tfdt", *((high, low) if long_time else (low,)), version=int(long_time))
    run = full_box(b"trun", len(rows) // 2, *rows, version=1, flags=0x900)
    return box(b"moof", full_box(b"mfhd", 1), box(b"traf", header, time, run)) + box(b"mdat", b"media")


def fmp4_segment(start_us: int, duration_us: int) -> bytes:
    """Video of 25 pictures a second on a clock that begins at 10 s; each is shown two pictures after it is decoded."""
    pictures = duration_us // 40_000
    start = (10_000_000 + start_us) * 128 // 10_000
    return box(b"styp", b"msdh") + fmp4_fragment(start - 1024, [(512, 1024)] * pictures)
