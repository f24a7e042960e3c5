"""How a file or a pushed stream is turned into fragmented MP4: which demuxer, copied or encoded anew, and in
what words its owner hears why not. Running FFmpeg and moving bytes live in adapters.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

from shared.errors import PermanentError

MICROSECONDS: Final = 1_000_000
SNIFFED_BYTES: Final = 4096
# Decoding begins before presentation, at negative times in some files; shifted, all are positive.
OFFSET_S: Final = 10
OFFSET_US: Final = OFFSET_S * MICROSECONDS
ENCRYPTED_MARK: Final = (
    b"sinf\x00\x00\x00\x0cfrma"  # a protected sample entry of MP4 (ISO/IEC 14496-12, 8.12)
)
_TS_PACKET: Final = 188
_TS_SYNC: Final = 0x47
_LONGEST_FRAGMENT_S: Final = 12
_LARGEST_FRAGMENT_BYTES: Final = 64 * 1024 * 1024
_KEY_FRAMES_S: Final = 4
_TALLEST: Final = 720

# Sample entries that decoders and players of fragmented MP4 know.
_COPIED: Final = frozenset(
    {
        *("avc1", "avc3", "hvc1", "hev1", "vp09", "av01"),
        *("mp4a", "ac-3", "ec-3", "Opus", "fLaC", ".mp3"),
    }
)
_MOV_BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"pnot"})
_MAGIC: Final = (
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"FLV\x01", "flv"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"fLaC", "flac"),
    (b"\x00\x00\x01\xba", "mpeg"),
)
_RIFF_FORMS: Final = {b"WAVE": "wav", b"AVI ": "avi"}
_TEXTS: Final = (
    (b"#EXTM3U", "it is an HLS playlist, not a media file"),
    (b"ffconcat", "it is a list of files, not a media file"),
    (b"<MPD", "it is a DASH manifest, not a media file"),
    (b"<!doctype html", "it is a web page, not a media file"),
    (b"<html", "it is a web page, not a media file"),
)
_UNKNOWN: Final = "it is not a media file that we read (MP4, MOV, MKV, WebM, FLV, AVI, MPEG-PS or MPEG-TS)"
_SAID: Final = (
    ("moov atom not found", "its index (moov) is missing: the file is cut off or was never finished"),
    ("does not contain any stream", "it holds neither video nor audio"),
    ("no decoder", "its codec is not supported"),
    ("Decoder not found", "its codec is not supported"),
    ("401 Unauthorized", "it demands a login (401)"),
    ("403 Forbidden", "it denies access (403)"),
    ("404 Not Found", "there is no such stream (404)"),
    ("could not find codec parameters", "it is damaged, or no media that we read"),
    ("Invalid data found", "it is damaged, or no media that we read"),
)
CARRY_FRAMED_AAC: Final = frozenset({"mpegts", "aac"})
_UNFIT: Final = ("Could not find tag for codec", "codec not currently supported in container")


class NotAMediaFile(PermanentError):
    """The first bytes are of nothing that is read here; the message is a clause for the stream's owner."""

    code: ClassVar[str] = "not_a_media_file"


@dataclass(frozen=True, kw_only=True)
class RemuxPlan:
    """What FFmpeg shall do. `seek_us` is on the fragments' clock; None reads from the start.

    `unwraps_aac` takes AAC out of the frames in which transport streams carry it.
    """

    transcodes: bool = False
    unwraps_aac: bool = False
    seek_us: int | None = None


def sniff(head: bytes) -> str:
    """The demuxer for a file that begins with these bytes. Raises NotAMediaFile."""
    if head[4:8] in _MOV_BOXES:
        return "mov"
    for magic, demuxer in _MAGIC:
        if head.startswith(magic):
            return demuxer
    if head.startswith(b"RIFF") and head[8:12] in _RIFF_FORMS:
        return _RIFF_FORMS[head[8:12]]
    if _is_transport_stream(head):
        return "mpegts"
    raise NotAMediaFile(_what_instead(head))


def _is_transport_stream(head: bytes) -> bool:
    """Packets of 188 bytes, or of 192 with a time before each (M2TS)."""
    return any(
        len(head) > start + 3 * step and all(head[start + n * step] == _TS_SYNC for n in range(3))
        for start, step in ((0, _TS_PACKET), (4, _TS_PACKET + 4))
    )


def _what_instead(head: bytes) -> str:
    if not head:
        return "it is empty"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, words in _TEXTS:
        if text.startswith(mark.lower()) or (mark == b"<MPD" and b"<mpd" in text):
            return words
    return _UNKNOWN


def seek_arguments(plan: RemuxPlan) -> tuple[str, ...]:
    """Options before the input; its own times are kept, so that they mean the same wherever reading begins."""
    if plan.seek_us is None:
        return ("-copyts",)
    seconds = (plan.seek_us - OFFSET_US) / MICROSECONDS
    return ("-copyts", "-seek_timestamp", "1", "-ss", f"{seconds:.6f}")


def output_arguments(plan: RemuxPlan) -> tuple[str, ...]:
    """Options after the input: one picture and one sound track, a fragment for each key frame, to stdout."""
    flags = "+frag_keyframe+empty_moov+default_base_moof+delay_moov+frag_discont+skip_trailer"
    return (
        *("-map", "0:V:0?", "-map", "0:a:0?", "-dn", "-sn", "-map_metadata", "-1", "-map_chapters", "-1"),
        *(_encoded() if plan.transcodes else _copied(plan)),
        *("-avoid_negative_ts", "disabled", "-output_ts_offset", str(OFFSET_S), "-fflags", "+bitexact"),
        *("-max_muxing_queue_size", "4096", "-f", "mp4", "-movflags", flags, "-use_editlist", "0"),
        *("-frag_duration", str(_LONGEST_FRAGMENT_S * MICROSECONDS)),
        *("-frag_size", str(_LARGEST_FRAGMENT_BYTES), "-flush_packets", "1", "pipe:1"),
    )


def _copied(plan: RemuxPlan) -> tuple[str, ...]:
    return ("-c", "copy", "-bsf:a", "aac_adtstoasc") if plan.unwraps_aac else ("-c", "copy")


def _encoded() -> tuple[str, ...]:
    """Key frames at multiples of four seconds of the media's own clock, wherever encoding began."""
    every = f"floor(t/{_KEY_FRAMES_S})"
    forced = f"expr:if(isnan(prev_forced_t),1,gt({every},floor(prev_forced_t/{_KEY_FRAMES_S})))"
    return (
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "21", "-pix_fmt", "yuv420p", "-threads", "2"),
        *("-vf", f"scale=-2:'min({_TALLEST},trunc(ih/2)*2)'", "-g", "1000", "-sc_threshold", "0"),
        *("-force_key_frames", forced, "-c:a", "aac", "-b:a", "160k", "-ac", "2", "-ar", "48000"),
    )


def unfit_codecs(codecs: Iterable[str]) -> tuple[str, ...]:
    """Those that must be encoded anew to be played and cut."""
    return tuple(codec for codec in codecs if codec not in _COPIED)


def asks_for_encoding(said: str) -> bool:
    """Whether FFmpeg refused to copy a codec into MP4."""
    return any(mark in said for mark in _UNFIT)


def is_other_sound(said: str) -> bool:
    """Whether the sound is not AAC, although frames of AAC were to be unwrapped."""
    return "is not supported by the bitstream filter" in said


def explain_refusal(said: str) -> str:
    """A clause for the owner on what FFmpeg said at its end."""
    for mark, words in _SAID:
        if mark in said:
            return words
    return "it could not be read to its end"
