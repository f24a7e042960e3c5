"""What a file is told to be, how FFmpeg is asked, and in what words an owner hears why not."""

import pytest

from ingest.domain.remux_plan import (
    NotAMediaFile,
    RemuxPlan,
    asks_for_encoding,
    explain_refusal,
    is_other_sound,
    output_arguments,
    seek_arguments,
    sniff,
    unfit_codecs,
)

PACKETS = (b"\x47" + bytes(187)) * 4
HEADS = {
    "mov": b"\x00\x00\x00\x20ftypisom",
    "matroska": b"\x1aE\xdf\xa3\x01",
    "flv": b"FLV\x01\x05",
    "mpegts": PACKETS,
    "wav": b"RIFF\x00\x00\x00\x00WAVEfmt ",
    "avi": b"RIFF\x00\x00\x00\x00AVI LIST",
    "mpeg": b"\x00\x00\x01\xba\x44",
    "ogg": b"OggS\x00",
    "mp3": b"ID3\x04",
    "flac": b"fLaC\x00",
}


@pytest.mark.parametrize("demuxer", HEADS)
def test_the_first_bytes_name_the_demuxer(demuxer: str) -> None:
    assert demuxer == sniff(HEADS[demuxer])


def test_transport_packets_with_times_before_them_are_known() -> None:
    assert "mpegts" == sniff((bytes(4) + b"\x47" + bytes(187)) * 4)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf#EXTM3U\n", "HLS playlist"),
        (b"  <!DocType HTML>", "web page"),
        (b"<?xml version='1.0'?>\n<MPD xmlns='x'>", "DASH"),
        (b"ffconcat version 1.0", "list of files"),
        (b"\x89PNG\r\n", "not a media file"),
    ],
)
def test_what_is_no_media_is_named(head: bytes, words: str) -> None:
    with pytest.raises(NotAMediaFile, match=words):
        sniff(head)


def test_reading_begins_where_the_fragments_clock_says() -> None:
    assert ("-copyts",) == seek_arguments(RemuxPlan())
    assert "12.500000" == seek_arguments(RemuxPlan(seek_us=22_500_000))[-1]


def test_what_fits_is_copied_and_what_does_not_is_encoded() -> None:
    assert ("-c", "copy") == output_arguments(RemuxPlan())[10:12]
    assert "aac_adtstoasc" in output_arguments(RemuxPlan(unwraps_aac=True))
    assert "libx264" in output_arguments(RemuxPlan(transcodes=True, unwraps_aac=True))
    assert ("mp4v",) == unfit_codecs(("avc1", "mp4v", "mp4a"))


def test_what_ffmpeg_says_is_understood() -> None:
    assert asks_for_encoding("Could not find tag for codec vp8 in stream #0, codec not currently supported")
    assert is_other_sound("Codec 'mp2' (86016) is not supported by the bitstream filter 'aac_adtstoasc'")
    assert "moov" in explain_refusal("[mov @ 0x1] moov atom not found")
    assert "it could not be read to its end" == explain_refusal("something else")
