"""WebVTT files, as servers write them and as adversaries would."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.webvtt import LONGEST_TEXT, CaptionCue, NotCaptions, parse_webvtt

SHARED = Path(__file__).resolve().parents[3] / "../shared"
SECOND = 1_000_000


def cues(text: str) -> list[tuple[int, int, str]]:
    return [(cue.start_us, cue.end_us, cue.text) for cue in parse_webvtt(text).cues]


def test_the_documented_100ms_captions_are_read() -> None:
    path = SHARED / "samples/100ms/playlists/output.vtt"
    if not path.exists():
        pytest.skip("needs ../shared/samples")
    file = parse_webvtt(path.read_text())
    first = CaptionCue(start_us=0, end_us=1_022_000, text="If you if you're")
    assert (first, 3, 0) == (file.cues[0], len(file.cues), file.clock_us)


def test_tags_entities_and_lines_become_plain_text() -> None:
    body = "WEBVTT\n\n1\n01:00.000 --> 00:01:02.500 align:start\n<v Ann><b>Tom &amp; Jerry</b></v>\nsecond\tline\n"
    assert [(60 * SECOND, 62 * SECOND + 500_000, "Tom & Jerry second line")] == cues(body)


def test_notes_styles_and_broken_cues_are_passed_over() -> None:
    body = (
        "WEBVTT title\n\nNOTE hello\nworld\n\nSTYLE\n::cue {}\n\n00:03.000 --> 00:01.000\nbackwards\n\n"
        "00:99.000 --> 01:99.000\nno time\n\n00:01.000 --> 00:02.000\n\n00:05.000 --> 00:06.000\nfine\n"
    )
    assert [(5 * SECOND, 6 * SECOND, "fine")] == cues(body)


def test_windows_line_ends_and_a_byte_order_mark_are_accepted() -> None:
    assert [(0, SECOND, "x")] == cues("\ufeffWEBVTT\r\n\r\n00:00.000 --> 00:01.000\r\nx\r\n")


def test_the_map_says_what_the_medias_clock_shows_at_the_files_zero() -> None:
    file = parse_webvtt("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:04.000\n\n")
    assert 6 * SECOND == file.clock_us


def test_a_page_is_no_captions() -> None:
    with pytest.raises(NotCaptions):
        parse_webvtt("<html></html>")


def test_texts_and_numbers_of_cues_are_bounded() -> None:
    many = "WEBVTT\n\n" + "".join(f"00:00.000 --> 00:01.000\n{n} {'x' * 5000}\n\n" for n in range(600))
    read = parse_webvtt(many).cues
    assert (500, LONGEST_TEXT) == (len(read), len(read[0].text))


@given(st.text(alphabet="WEBVT0123456789:.-> \n<&;/", max_size=300))
def test_no_text_raises_anything_but_the_typed_error(text: str) -> None:
    with suppress(NotCaptions):
        parse_webvtt("WEBVTT\n" + text)
