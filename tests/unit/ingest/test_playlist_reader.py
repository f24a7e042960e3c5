"""Reading a long list again and again gives what reading it whole gives, and costs what is new."""

import sys
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.domain.playlist import MediaPlaylist, PlaylistReader, parse_playlist
from ingest.domain.playlist.media import MediaReader

URL = "https://cdn.example/live/list.m3u8"
OVERLAP = 8


@dataclass
class LongList:
    """A list of thousands of segments that grows, and whose window may move on."""

    entries: list[str] = field(default_factory=list)
    first: int = 0
    dropped_discontinuities: int = 0
    head_notes: str = ""

    def grow(self, count: int, *, tag: str = "") -> None:
        for n in range(count):
            number = self.first + len(self.entries)
            hour, minute, second = number // 1800 % 24, number // 30 % 60, number * 2 % 60
            date = f"#EXT-X-PROGRAM-DATE-TIME:2026-05-01T{hour:02}:{minute:02}:{second:02}Z\n"
            self.entries.append(
                (tag if n == 0 else "") + f"{date}#EXTINF:2.0,\nmedia/segment-{number:08}.ts\n"
            )

    def slide(self, count: int) -> None:
        """Key and init section that still hold are named again, as RFC 8216 wants it."""
        gone, self.entries = self.entries[:count], self.entries[count:]
        for tag in ("#EXT-X-KEY", "#EXT-X-MAP"):
            lines = [
                line for entry in gone for line in entry.splitlines(keepends=True) if line.startswith(tag)
            ]
            self.entries[0] = "".join(lines[-1:]) + self.entries[0]
        self.first += len(gone)
        self.dropped_discontinuities += sum("DISCONTINUITY\n" in entry for entry in gone)

    @property
    def text(self) -> str:
        head = f"#EXTM3U\n{self.head_notes}#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{self.first}\n"
        return f"{head}#EXT-X-DISCONTINUITY-SEQUENCE:{self.dropped_discontinuities}\n" + "".join(self.entries)

    @property
    def wanted(self) -> int:
        return max(0, self.first + len(self.entries) - OVERLAP)


TAGS = {
    "key": '#EXT-X-KEY:METHOD=AES-128,URI="key{0}"\n',
    "map": '#EXT-X-MAP:URI="init{0}.mp4"\n',
    "break": "#EXT-X-DISCONTINUITY\n",
    "range": '#EXT-X-DATERANGE:ID="{0}",START-DATE="2026-05-01T00:00:00Z"\n',
    "cue": "#EXT-X-CUE-OUT:30\n",
    "bytes": "#EXT-X-BYTERANGE:100@{0}\n",
}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([*TAGS, "grow"]), st.integers(1, 20)),
        st.tuples(st.just("slide"), st.integers(1, 60)),
        st.tuples(st.just("note"), st.integers(0, 3)),
        st.tuples(st.just("insert"), st.integers(0, 900)),
        st.tuples(st.just("restart"), st.integers(1, 9)),
    ),
    max_size=12,
)


def apply(listed: LongList, name: str, amount: int) -> None:
    if name == "slide":
        listed.slide(amount)
    elif name == "note":
        listed.head_notes = f'#EXT-X-DATERANGE:ID="head{amount}",START-DATE="2026-05-01T00:00:00Z"\n'
    elif name == "insert":
        listed.entries[amount % len(listed.entries)] = (
            '#EXT-X-DATERANGE:ID="late",START-DATE="2026-05-01T00:00:00Z"\n'
            + listed.entries[amount % len(listed.entries)]
        )
    elif name == "restart":
        listed.entries, listed.first = listed.entries[-amount:], 0
        listed.grow(800)
    else:
        listed.grow(amount, tag=TAGS.get(name, "").format(amount))


@settings(max_examples=30, deadline=None)
@given(STEPS)
@example([("key", 1), ("restart", 1), ("slide", 1)])
def test_whatever_happens_to_a_list_it_reads_as_if_for_the_first_time(steps: list[tuple[str, int]]) -> None:
    listed, reader = LongList(), PlaylistReader()
    listed.grow(900)
    for name, amount in [("grow", 0), *steps]:
        apply(listed, name, amount)
        again = reader.read(listed.text, url=URL, from_sequence=listed.wanted)
        anew = parse_playlist(listed.text, url=URL, from_sequence=listed.wanted)
        assert isinstance(again, MediaPlaylist) and isinstance(anew, MediaPlaylist)
        known = set(again.date_ranges)
        assert known <= set(anew.date_ranges)
        assert anew.__dict__ | {"date_ranges": ()} == again.__dict__ | {"date_ranges": ()}


def test_a_date_range_in_the_passed_over_part_of_a_moved_window_is_found() -> None:
    listed, reader = LongList(), PlaylistReader()
    listed.grow(900)
    reader.read(listed.text, url=URL, from_sequence=listed.wanted)
    listed.slide(1)
    apply(listed, "insert", 400)
    listed.grow(1)
    again = reader.read(listed.text, url=URL, from_sequence=listed.wanted)
    assert isinstance(again, MediaPlaylist)
    assert 1 == sum('ID="late"' in line for line in again.date_ranges)


def lines_read(listed: LongList, reader: PlaylistReader, monkey: list[int]) -> int:
    monkey.clear()
    reader.read(listed.text, url=URL, from_sequence=listed.wanted)
    return sum(monkey)


def test_the_lines_that_are_read_do_not_grow_with_a_list_of_twelve_hours(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    counted: list[int] = []
    original = MediaReader._read_lines

    def counting(self: MediaReader, lines: list[str], *, text: str, at: int) -> None:
        counted.append(len(lines))
        original(self, lines, text=text, at=at)

    monkeypatch.setattr(MediaReader, "_read_lines", counting)
    listed, reader = LongList(), PlaylistReader()
    listed.grow(21_590)
    lines_read(listed, reader, counted)
    grown = []
    for _ in range(10):
        listed.grow(1)
        grown.append(lines_read(listed, reader, counted))
    listed.slide(1)
    listed.grow(1)
    moved = lines_read(listed, reader, counted)

    assert max(grown) <= 3 * (OVERLAP + 2) + 10
    assert moved <= 3 * (OVERLAP + 2) + 10


def test_what_is_remembered_of_a_long_list_is_a_few_lines() -> None:
    listed, reader = LongList(), PlaylistReader()
    listed.grow(21_600)
    reader.read(listed.text, url=URL, from_sequence=listed.wanted)
    checkpoint = reader._checkpoint
    assert checkpoint is not None
    assert sys.getsizeof(checkpoint.anchor) + sys.getsizeof(checkpoint.head) < 2048


def test_another_address_or_an_earlier_start_is_read_whole() -> None:
    listed, reader = LongList(), PlaylistReader()
    listed.grow(900)
    reader.read(listed.text, url=URL, from_sequence=listed.wanted)
    elsewhere = reader.read(listed.text, url="https://edge.example/x/list.m3u8", from_sequence=listed.wanted)
    whole = reader.read(listed.text, url=URL, from_sequence=0)
    assert isinstance(elsewhere, MediaPlaylist) and isinstance(whole, MediaPlaylist)
    assert elsewhere.segments[0].location.url.startswith("https://edge.example/x/")
    assert 900 == len(whole.segments)
