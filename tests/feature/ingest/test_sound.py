"""Sound of a rendition of its own over scripted answers: what is asked, how long it is waited for, what is told."""

from dataclasses import dataclass, field

import pytest

from ingest.domain.sound import SoundCut
from ingest.workflow.ports import FetchedSegment
from ingest.workflow.sound import NotMixed, Pictures
from ingest.workflow.source import HlsSource
from shared import metrics
from tests.fakes.ingest.http import FakeHttp
from tests.fakes.ingest.media import ts_body, ts_segment

BASE, AWAY = "https://cdn.example/live", "https://sound.example"
URL = f"{BASE}/master.m3u8"
COUNT = 6
START = 900_000  # ticks, as in `ts_segment`


def listing(name: str, *, count: int = COUNT, ended: bool = True) -> bytes:
    rows = "".join(f"#EXTINF:2,\n{name}{n}.ts\n" for n in range(count))
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n{rows}{'#EXT-X-ENDLIST' if ended else ''}\n".encode()


def master(sound: str) -> bytes:
    return (
        f'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",DEFAULT=YES,URI="{sound}"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\npictures.m3u8\n'
    ).encode()


@dataclass
class FakeMixer:
    """Puts a track of sound behind the pictures."""

    asked: list[SoundCut | None] = field(default_factory=list)
    refuses: bool = False

    async def mixed(self, pictures: Pictures, sound: SoundCut | None) -> bytes:
        self.asked.append(sound)
        if self.refuses:
            raise NotMixed("no")
        return pictures.content + ts_body((), [START])


@dataclass
class Bench:
    sound: str = "sound.m3u8"
    http: FakeHttp = field(default_factory=FakeHttp)
    mixer: FakeMixer = field(default_factory=FakeMixer)

    def __post_init__(self) -> None:
        self.pages = self.http.pages
        self.pages[URL] = master(self.sound)
        self.pages[f"{BASE}/pictures.m3u8"] = listing("v")
        folder = AWAY if "://" in self.sound else BASE
        self.pages[f"{folder}/sound.m3u8"] = listing("a")
        for n in range(COUNT):
            self.pages[f"{BASE}/v{n}.ts"] = ts_segment(n * 2_000_000, 2_000_000)
            first = START + n * 180_000
            self.pages[f"{folder}/a{n}.ts"] = ts_body((), range(first, first + 180_000, 1_920))
        self.before = metrics.ingest_audio_apart._value.get()
        self.source = HlsSource(self.http, URL, headers={"X-Token": "t"}, target_height=720, mixer=self.mixer)

    async def segment(self, n: int, *, left_s: float = 10.0) -> FetchedSegment:
        playlist = await self.source.playlist(from_sequence=0)
        return await self.source.segment(playlist.segments[n], epoch=0, left_s=left_s)

    @property
    def told_count(self) -> float:
        return metrics.ingest_audio_apart._value.get() - self.before

    def asked(self, name: str) -> int:
        return sum(url.partition("?")[0].endswith(name) for url in self.http.asked)


async def test_sound_is_read_once_for_all_segments_that_need_it() -> None:
    bench = Bench()
    read = [await bench.segment(n) for n in range(COUNT)]
    assert {1} == {bench.asked(f"/a{n}.ts") for n in range(COUNT)}
    assert (COUNT, 0) == (len(bench.mixer.asked), bench.told_count)
    assert [10_000_000 + n * 2_000_000 for n in range(COUNT)] == [each.media.pts_us for each in read]


async def test_pictures_that_have_sound_are_left_as_they_are() -> None:
    bench = Bench()
    whole = ts_body(range(START, START + 180_000, 3_600), range(START, START + 180_000, 1_920))
    bench.pages[f"{BASE}/v0.ts"] = whole
    read = await bench.segment(0)
    assert (whole, [], 0) == (read.body, bench.mixer.asked, bench.told_count)
    assert 0 == bench.asked("sound.m3u8")


async def test_credentials_go_to_the_origin_of_the_stream_only() -> None:
    for sound, sent in (("sound.m3u8", {"X-Token": "t"}), (f"{AWAY}/sound.m3u8", {})):
        bench = Bench(sound)
        await bench.segment(0)
        heard = {url: dict(told) for url, told in bench.http.headers.items() if "/a" in url or "sound" in url}
        assert len(heard) >= 2
        assert [sent] * len(heard) == list(heard.values())


async def test_what_cannot_be_mixed_is_archived_without_sound_and_told() -> None:
    bench = Bench(mixer=FakeMixer(refuses=True))
    read = await bench.segment(0)
    assert (bench.pages[f"{BASE}/v0.ts"], 1) == (read.body, bench.told_count)


@pytest.mark.parametrize("answer", [404, b"<html>", b""])
async def test_a_lost_part_of_the_sound_costs_its_own_segment_only(answer: int | bytes) -> None:
    bench = Bench()
    bench.pages[f"{BASE}/a1.ts"] = answer
    for n in range(4):
        await bench.segment(n, left_s=2.0)
    assert [True, False, True, True] == [n in told(bench) for n in range(4)]
    assert 1 == bench.told_count


def told(bench: Bench) -> list[int]:
    """Segments that got sound."""
    return [round((cut.offset_us + position(cut)) / 2e6) for cut in bench.mixer.asked if cut is not None]


def position(cut: SoundCut) -> int:
    packet = cut.content[:188]
    stamp = packet[13:18]
    high, middle = (stamp[0] & 0x0E) << 29, stamp[1] << 22 | (stamp[2] & 0xFE) << 14
    return round((high | middle | stamp[3] << 7 | stamp[4] >> 1) / 0.09) - 10_000_000


async def test_a_list_that_is_denied_has_a_fresh_address_in_the_master(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingest.workflow.sound.FRESH_ADDRESSES_S", 0.0)
    bench = Bench()
    bench.pages[f"{BASE}/sound.m3u8"] = 403
    await bench.segment(0, left_s=1.0)
    bench.pages[URL] = master("fresh/sound.m3u8")
    bench.pages[f"{BASE}/fresh/sound.m3u8"] = listing("../a")
    await bench.segment(1)
    assert (1, [1]) == (bench.told_count, told(bench))


async def test_a_list_that_fails_once_costs_no_sound() -> None:
    bench = Bench()
    answers = iter([404, b"<html>"])
    bench.pages[f"{BASE}/sound.m3u8"] = lambda: next(answers, listing("a"))
    await bench.segment(0)
    assert ([0], 0) == (told(bench), bench.told_count)


async def test_without_a_mixer_sound_of_its_own_is_not_looked_for() -> None:
    bench = Bench()
    bench.source = HlsSource(bench.http, URL, headers={}, target_height=720)
    read = await bench.segment(0)
    assert (bench.pages[f"{BASE}/v0.ts"], 0) == (read.body, bench.asked("sound.m3u8"))
