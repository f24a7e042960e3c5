"""What the answer of a source means, and that nothing but a web page or a blocked address refuses a stream."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import process_time

import pytest

from gateway.domain.reachability import Answer, ChannelNow, SourceStatus, judge
from gateway.domain.refusals import Unacceptable
from gateway.domain.source import SourceAddress, SourceKind, read_source
from gateway.workflow.reachability import Survey
from shared.addresses import BlockedAddress
from shared.http_client import BadRedirect, ConnectFailed, HttpTimeout

UNHINTED = read_source("https://example.com/watch/17", allowed=frozenset())
PLAYLIST = read_source("https://example.com/a.m3u8", allowed=frozenset())
FILE = read_source("https://example.com/a.mp4", allowed=frozenset())
TWITCH = read_source("https://www.twitch.tv/somebody", allowed=frozenset())
MP4 = b"\x00\x00\x00\x20ftypisom"
TS = (b"\x47" + bytes(187)) * 2


def answer(start: bytes = b"", content_type: str = "", status: int = 200) -> Answer:
    return Answer(status=status, headers={"content-type": content_type}, start=start)


@pytest.mark.parametrize(
    ("source", "found", "kind"),
    [
        (UNHINTED, answer(b"#EXTM3U\n"), SourceKind.HLS),
        (UNHINTED, answer(b"\xef\xbb\xbf#EXTM3U\n", "text/plain"), SourceKind.HLS),
        (UNHINTED, answer(b"", "Application/vnd.apple.mpegURL; charset=utf-8"), SourceKind.HLS),
        (UNHINTED, answer(MP4), SourceKind.FILE),
        (UNHINTED, answer(TS), SourceKind.FILE),
        (UNHINTED, answer(b"\x1aE\xdf\xa3", "text/html"), SourceKind.FILE),
        (UNHINTED, answer(b"", "video/mp4"), SourceKind.FILE),
        (UNHINTED, answer(b"\x01\x02", "application/octet-stream"), None),
        (FILE, answer(b"#EXTM3U\n", "video/mp4"), SourceKind.HLS),
        (PLAYLIST, answer(b"", "video/mp2t"), None),
    ],
)
def test_the_kind_is_told_by_the_first_bytes_and_else_by_the_type(
    source: SourceAddress, found: Answer, kind: SourceKind | None
) -> None:
    findings = judge(source, found)

    assert (kind, SourceStatus.REACHABLE) == (findings.kind, findings.check.status)


@pytest.mark.parametrize(
    "found", [answer(b"", "text/html; charset=utf-8"), answer(b"  <!-- x -->\n<!DOCTYPE html><html>")]
)
def test_a_web_page_is_refused_only_where_nothing_hints_at_media(found: Answer) -> None:
    with pytest.raises(Unacceptable, match="web page"):
        judge(UNHINTED, found)
    for source in (PLAYLIST, FILE):
        assert SourceStatus.UNREACHABLE is judge(source, found).check.status


@pytest.mark.parametrize("start", [b"<!---->" * 585, b"<!--" * 1024, b" " * 4096, b"<!-- x --> " * 372])
def test_a_page_that_is_made_to_hold_the_judge_up_does_not(start: bytes) -> None:
    began_s = process_time()
    judge(PLAYLIST, answer(start))
    assert process_time() - began_s < 1


def test_comments_before_a_page_do_not_hide_it() -> None:
    with pytest.raises(Unacceptable):
        judge(UNHINTED, answer(b" <!-- a --> <!-- b -->\n<!DOCTYPE html>"))


@pytest.mark.parametrize("status", [401, 403, 404, 410, 500, 503])
def test_a_source_that_is_not_there_yet_is_told_and_not_refused(status: int) -> None:
    check = judge(UNHINTED, answer(b"<html>", "text/html", status)).check

    assert (SourceStatus.UNREACHABLE, f"the source answered {status}") == (check.status, check.detail)


@dataclass
class Origin:
    outcome: Answer | Exception
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    async def look(self, url: str, *, headers: Mapping[str, str], is_hinted: bool, within_s: float) -> Answer:
        self.asked.append((url, headers))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@dataclass
class Channels:
    outcome: ChannelNow | Exception | None
    waits: bool = False

    async def now(self, login: str) -> ChannelNow | None:
        if self.waits:
            await asyncio.Event().wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize("error", [ConnectFailed("refused"), HttpTimeout("late"), BadRedirect("too many")])
async def test_what_fails_on_the_way_is_no_reason_to_refuse(error: Exception) -> None:
    findings = await Survey(origins=Origin(error)).of(PLAYLIST, headers={})

    assert (SourceStatus.UNREACHABLE, str(error)) == (findings.check.status, findings.check.detail)


async def test_a_name_that_leads_inside_is_refused() -> None:
    with pytest.raises(Unacceptable, match="not a public address") as refusal:
        await Survey(origins=Origin(BlockedAddress("10.0.0.1:80 is not a public address"))).of(
            PLAYLIST, headers={}
        )
    assert "source_url" == refusal.value.field


async def test_the_customers_headers_go_along_and_other_kinds_are_not_asked() -> None:
    origin = Origin(answer(b"#EXTM3U"))
    survey = Survey(origins=origin)

    await survey.of(PLAYLIST, headers={"Authorization": "x"})
    for url in ("rtmp://example.com/a", "upload:upl_0123456789ab", "https://youtu.be/dQw4w9WgXcQ"):
        found = await survey.of(read_source(url, allowed=frozenset()), headers={})
        assert SourceStatus.UNCHECKED is found.check.status
    assert [(PLAYLIST.url, {"Authorization": "x"})] == origin.asked


async def test_nothing_is_asked_when_the_check_is_turned_off() -> None:
    origin = Origin(answer())
    survey = Survey(origins=origin, twitch=Channels(None), within_s=0)

    found = [await survey.of(source, headers={}) for source in (PLAYLIST, TWITCH)]

    assert ([SourceStatus.UNCHECKED] * 2, []) == ([each.check.status for each in found], origin.asked)


async def test_what_others_wrote_is_told_without_what_no_database_stores() -> None:
    hostile = ChannelNow(name="a\x00b", title="c\x00d \U0001f469\u200d\U0001f680", game_name="e\x00f")

    away = await Survey(origins=Origin(ConnectFailed("to \x00\udcff"))).of(PLAYLIST, headers={})
    live = await Survey(twitch=Channels(hostile)).of(TWITCH, headers={})

    assert ("to ?", "ab is not live just now") == (away.check.detail, live.check.detail)
    assert ChannelNow(name="ab", title="cd \U0001f469\u200d\U0001f680", game_name="ef") == live.channel


async def test_a_channel_tells_title_and_game_and_an_unknown_one_is_refused() -> None:
    channel = ChannelNow(name="Somebody", title="t", game_name="Chess", started_at=datetime.now(UTC))

    live = await Survey(twitch=Channels(channel)).of(TWITCH, headers={})
    away = await Survey(twitch=Channels(ChannelNow(name="Somebody"))).of(TWITCH, headers={})

    assert (SourceStatus.REACHABLE, channel) == (live.check.status, live.channel)
    assert (SourceStatus.UNREACHABLE, "Somebody is not live just now") == (
        away.check.status,
        away.check.detail,
    )
    with pytest.raises(Unacceptable, match="no channel somebody"):
        await Survey(twitch=Channels(None)).of(TWITCH, headers={})


@pytest.mark.parametrize("twitch", [Channels(ConnectFailed("away")), Channels(None, waits=True)])
async def test_a_twitch_that_does_not_answer_blocks_nothing(twitch: Channels) -> None:
    found = await Survey(twitch=twitch, within_s=0.05).of(TWITCH, headers={})

    assert SourceStatus.UNCHECKED is found.check.status
