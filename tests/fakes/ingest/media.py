"""Transport stream segments with nothing but PES headers: enough to be examined, small enough for any test."""

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
