"""FFmpeg's packet listing."""

from fractions import Fraction

import pytest

from clipper.adapters.packet_list import parse_packet_list
from shared.media_runner import MediaRejected

LISTING = """#extradata 0:       36, 0xb7f90aef
#software: Lavf59.27.100
#tb 0: 1/90000
#media_type 0: video
#codec_id 0: h264
#dimensions 0: 640x360
#sar 0: 0/1
0,      -3600,       3600,     3600,    31944, 0x62095854, S=1,        1, 0x00e000e0
0,          0,      14400,     3600,      944, 0x62095854, F=0x0
0,       3600,       7200,     3600,      944, 0x62095854, F=0x0
0,       7200,      10800,        0,      944, 0x62095854, F=0x0
"""


def test_times_are_sorted_and_the_earliest_is_remembered() -> None:
    table = parse_packet_list(LISTING)

    assert table.tick_s == Fraction(1, 90_000)
    assert table.first_pts == 3600
    assert table.pts == (3600, 7200, 10800, 14400)
    assert table.last_duration == 3600


def test_leading_pictures_of_an_open_group_count_for_the_clock_and_are_not_shown() -> None:
    listing = LISTING.replace("0,          0,      14400,", "0,          0,          0,")

    table = parse_packet_list(listing)

    assert table.first_pts == 0
    assert table.pts == (3600, 7200, 10800)


def test_a_last_frame_without_duration_stands_as_long_as_the_step_before_it() -> None:
    listing = LISTING.replace("14400,     3600", "14400,        0")

    assert parse_packet_list(listing).last_duration == 3600


@pytest.mark.parametrize("listing", ["", "#tb 0: 1/90000\n", "0, 0, 0, 1, 1, 0x0\n"])
def test_a_listing_without_times_is_refused(listing: str) -> None:
    with pytest.raises(MediaRejected):
        parse_packet_list(listing)
