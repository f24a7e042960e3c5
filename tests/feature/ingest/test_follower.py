"""The follower on scripted sources: what is archived, what becomes a gap, and why a run ends."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from ingest.workflow.ports import LeaseLost
from shared.addresses import BlockedAddress
from shared.events import (
    SegmentMissed,
    SegmentReady,
    SegmentRef,
    StreamEnded,
    StreamFlowing,
)
from tests.fakes.ingest.http import Answer
from tests.fakes.ingest.media import fmp4_init, fmp4_segment, ts_segment
from tests.fakes.ingest.stage import BASE, LEASE, POLICY, SEGMENT_US, URL, Stage, window

MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8?t={token}\n"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def test_all_segments_are_archived_in_order_and_told_in_windows(stage: Stage) -> None:
    ended = await stage.run()
    assert list(range(15)) == stage.journal.sequences
    assert [(0, 20_000_000), (16_000_000, 30_000_000)] == [
        (event.start_us, event.end_us) for event in stage.of(SegmentReady)
    ]
    assert ("endlist", 30_000_000, 15, 2) == (
        ended.cause,
        ended.media_duration_us,
        ended.segments,
        len(ended.windows),
    )


async def test_that_media_flows_is_told_with_the_first_segment(stage: Stage) -> None:
    await stage.run()
    first = next(entry for entry in stage.journal.entries if entry.segment)
    assert stage.of(StreamFlowing) == list(first.events)
    assert [(0, 0)] == [(event.run, event.at_us) for event in stage.of(StreamFlowing)]


async def test_the_measured_clock_places_segments_not_the_listed_durations(stage: Stage) -> None:
    stage.rewrite = lambda text: text.replace("2.000000", "2.1")
    ended = await stage.run()
    assert 30_000_000 == ended.media_duration_us


def encrypted(body: bytes, key: bytes, sequence: int) -> bytes:
    encryptor = Cipher(AES128(key), CBC(sequence.to_bytes(16, "big"))).encryptor()
    padder = PKCS7(128).padder()
    return encryptor.update(padder.update(body) + padder.finalize()) + encryptor.finalize()


async def test_an_encrypted_stream_is_archived_in_the_clear(stage: Stage) -> None:
    key = bytes(range(16))
    stage.http.pages[f"{BASE}/key"] = key
    stage.rewrite = lambda text: text.replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="key"\n#EXTINF')
    plain = {n: ts_segment(n * SEGMENT_US, SEGMENT_US) for n in range(15)}
    for n, body in plain.items():
        stage.http.pages[f"{BASE}/{n:03}.ts"] = encrypted(body, key, n)
    ended = await stage.run()
    assert (15, plain[7]) == (ended.segments, stage.body_of(7))
    assert stage.http.asked.count(f"{BASE}/key") <= POLICY.parallel_fetches


async def test_keys_may_rotate_in_mid_stream(stage: Stage) -> None:
    keys = {"a": bytes(range(16)), "b": bytes(range(16, 32))}
    name_of = {n: "a" if n < 7 else "b" for n in range(15)}

    def rewrite(text: str) -> str:
        for n, name in name_of.items():
            old = f"#EXTINF:2.000000,\n{n:03}.ts"
            text = text.replace(old, f'#EXT-X-KEY:METHOD=AES-128,URI="key-{name}"\n{old}')
        return text

    stage.rewrite = rewrite
    for name, key in keys.items():
        stage.http.pages[f"{BASE}/key-{name}"] = key
    for n, name in name_of.items():
        body = ts_segment(n * SEGMENT_US, SEGMENT_US)
        stage.http.pages[f"{BASE}/{n:03}.ts"] = encrypted(body, keys[name], n)

    ended = await stage.run()

    assert (15, ()) == (ended.segments, ended.gap_indexes)
    assert ts_segment(9 * SEGMENT_US, SEGMENT_US) == stage.body_of(9)


async def test_a_wrong_key_costs_the_segments_and_is_told(stage: Stage) -> None:
    stage.http.pages[f"{BASE}/key"] = bytes(16)
    stage.rewrite = lambda text: text.replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="key"\n#EXTINF')
    ended = await stage.run()
    assert (0, 30_000_000) == (ended.segments, ended.offered_us)
    assert {"corrupt"} == {event.cause for event in stage.of(SegmentMissed)}


def fragmented(stage: Stage, *maps: tuple[int, str], tags: str = "") -> None:
    """The stage in fragmented MP4: from each of these sequences on, this EXT-X-MAP holds."""

    def rewrite(text: str) -> str:
        for entry in text.split("#EXTINF")[1:]:
            name = entry.split()[1]
            uri = [uri for since, uri in maps if since <= int(name[:3])][-1]
            begins = tags and int(name[:3]) in [since for since, _ in maps[1:]]
            head = f"{tags if begins else ''}#EXT-X-MAP:URI={uri}\n"
            text = text.replace(f"#EXTINF{entry}", f"{head}#EXTINF{entry}")
        return text

    stage.rewrite = rewrite
    for each in stage.live.segments:
        stage.http.pages[f"{BASE}/{each.uri}"] = fmp4_segment(each.start_us, each.duration_us)


def refs_of(stage: Stage) -> list[SegmentRef]:
    return [entry.segment.ref for entry in stage.journal.entries if entry.segment]


async def test_fragmented_mp4_keeps_its_init_section_once(stage: Stage) -> None:
    stage.http.pages[f"{BASE}/init.mp4"] = fmp4_init()
    fragmented(stage, (0, '"init.mp4"'))

    ended = await stage.run()

    refs = refs_of(stage)
    assert (15, 30_000_000) == (ended.segments, ended.media_duration_us)
    assert {("fmp4", False)} == {(ref.container, ref.discontinuity) for ref in refs}
    (init_key,) = {ref.init_key for ref in refs}
    assert fmp4_init() == (stage.folder / "objects" / init_key).read_bytes()
    assert 1 == len([key async for key in stage.store.list("archive/") if key.endswith(".init.mp4")])


async def test_fragmented_mp4_is_placed_by_its_own_clock(stage: Stage) -> None:
    stage.http.pages[f"{BASE}/init.mp4"] = fmp4_init()
    fragmented(stage, (0, '"init.mp4"'))
    with_maps = stage.rewrite
    stage.rewrite = lambda text: with_maps(text).replace("2.000000", "2.1")

    ended = await stage.run()

    assert [n * 2_000_000 for n in range(15)] == [ref.start_us for ref in refs_of(stage)]
    assert 30_000_000 == ended.media_duration_us


async def test_another_init_section_in_mid_stream_breaks_the_windows(stage: Stage) -> None:
    stage.http.pages |= {f"{BASE}/a.mp4": fmp4_init(), f"{BASE}/b.mp4": fmp4_init(note=b"b")}
    fragmented(stage, (0, '"a.mp4"'), (7, '"b.mp4"'))

    await stage.run()

    refs = refs_of(stage)
    assert [7] == [ref.sequence for ref in refs if ref.discontinuity]
    assert [7, 8] == [
        sum(ref.init_key == key for ref in refs) for key in dict.fromkeys(r.init_key for r in refs)
    ]
    for event in stage.of(SegmentReady):
        assert 1 == len({ref.init_key for ref in event.segments})


async def test_an_init_section_may_be_a_part_of_a_file(stage: Stage) -> None:
    init = fmp4_init()
    stage.http.pages[f"{BASE}/all.mp4"] = b"before" + init + b"behind"
    fragmented(stage, (0, f'"all.mp4",BYTERANGE="{len(init)}@6"'))

    ended = await stage.run()

    (init_key,) = {ref.init_key for ref in refs_of(stage)}
    assert (15, init) == (ended.segments, (stage.folder / "objects" / init_key).read_bytes())


async def test_an_encoder_that_starts_anew_may_use_the_address_of_its_init_section_again(
    stage: Stage,
) -> None:
    inits = [fmp4_init(), fmp4_init(note=b"new")]
    stage.http.pages[f"{BASE}/init.mp4"] = lambda: inits.pop(0) if len(inits) > 1 else inits[0]
    fragmented(stage, (0, '"init.mp4"'), (7, '"init.mp4"'), tags="#EXT-X-DISCONTINUITY\n")

    await stage.run(policy=replace(POLICY, parallel_fetches=1))

    keys = [ref.init_key for ref in refs_of(stage)]
    assert [[keys[0]] * 7, [keys[-1]] * 8] == [keys[:7], keys[7:]]
    assert keys[0] != keys[-1]


async def test_an_error_page_in_place_of_the_init_section_is_asked_for_again(stage: Stage) -> None:
    answers = [b"<html>busy</html>", fmp4_init()]
    stage.http.pages[f"{BASE}/init.mp4"] = lambda: answers.pop(0) if len(answers) > 1 else answers[0]
    fragmented(stage, (0, '"init.mp4"'))

    ended = await stage.run(policy=replace(POLICY, parallel_fetches=1))

    assert (15, ()) == (ended.segments, ended.gap_indexes)


async def test_the_variant_nearest_below_the_target_is_taken(stage: Stage) -> None:
    heights = (360, 720, 1080)
    lines = [f"#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=1x{h}\n{h}.m3u8" for h in heights]
    stage.http.pages[f"{BASE}/720.m3u8"] = stage.playlist
    stage.http.pages[URL] = ("#EXTM3U\n" + "\n".join(lines).replace("1x", "4000x")).encode()
    ended = await stage.run()
    assert (15, 1) == (ended.segments, stage.http.asked.count(URL))


async def test_a_denied_segment_is_had_with_the_fresh_address_of_the_master(stage: Stage) -> None:
    stage.live = window(15, head_start_us=30_000_000, window=15)
    tokens = iter(range(1, 100))
    stage.http.pages[f"{BASE}/v.m3u8"] = stage.playlist
    stage.http.pages[URL] = lambda: MASTER.format(token=next(tokens)).encode()
    stage.rewrite = lambda text: text.replace(".ts", f".ts?t={stage.http.asked[-1].rpartition('=')[2]}")
    good = stage.http.pages[f"{BASE}/004.ts"]
    stage.http.pages[f"{BASE}/004.ts?t=1"] = 403
    stage.http.pages[f"{BASE}/004.ts"] = good
    ended = await stage.run()
    assert (15, ()) == (ended.segments, ended.gap_indexes)


async def test_html_in_place_of_a_playlist_ends_the_run_and_says_so(stage: Stage) -> None:
    stage.http.pages[URL] = b"<html>"
    ended = await stage.run()
    assert ("source_unreachable", "it answers with something that is no HLS playlist") == (
        ended.cause,
        ended.detail,
    )


async def test_a_playlist_that_is_never_there_ends_the_run(stage: Stage) -> None:
    stage.http.pages[URL] = 404
    ended = await stage.run()
    assert ("source_unreachable", "the playlist is not there (HTTP 404)") == (ended.cause, ended.detail)


async def test_a_blocked_address_ends_the_run_at_once(stage: Stage) -> None:
    stage.http.pages[URL] = BlockedAddress("10.0.0.1 is not public")
    ended = await stage.run()
    assert ("source_refused", "10.0.0.1 is not public", 1) == (
        ended.cause,
        ended.detail,
        len(stage.http.asked),
    )


async def test_drm_ends_the_run_with_its_name(stage: Stage) -> None:
    stage.rewrite = lambda text: text.replace("#EXTINF", '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"\n#EXTINF')
    ended = await stage.run()
    assert "unsupported_encryption" == ended.cause
    assert "SAMPLE-AES" in ended.detail


async def test_a_segment_that_is_no_media_becomes_a_gap(stage: Stage) -> None:
    stage.http.pages[f"{BASE}/006.ts"] = b"<html>not found</html>"
    ended = await stage.run()
    (gap,) = stage.of(SegmentMissed)
    assert ((6, 6, "corrupt"), (0,)) == ((gap.from_sequence, gap.to_sequence, gap.cause), ended.gap_indexes)


async def test_headers_go_to_the_sources_own_origin_only(stage: Stage) -> None:
    stage.rewrite = lambda text: text.replace("003.ts", "https://other.example/003.ts")
    stage.http.pages["https://other.example/003.ts"] = ts_segment(3 * SEGMENT_US, SEGMENT_US)
    await stage.run()
    assert {"X-Token": "t"} == stage.http.headers[f"{BASE}/002.ts"]
    assert {} == stage.http.headers["https://other.example/003.ts"]


async def test_while_the_store_is_away_bodies_wait_on_disk_and_rows_for_them(stage: Stage) -> None:
    stage.store.is_away = True
    running = asyncio.create_task((await stage.follower()).run())
    async with asyncio.timeout(20):
        while len(stage.spooled) < 15:
            await asyncio.sleep(0.01)
    assert [] == stage.journal.sequences
    stage.store.is_away = False
    await asyncio.wait_for(running, 20)
    assert (list(range(15)), []) == (stage.journal.sequences, stage.spooled)
    assert ts_segment(4 * SEGMENT_US, SEGMENT_US) == stage.body_of(4)


async def test_what_finds_no_room_becomes_a_gap(tmp_path: Path) -> None:
    one = len(ts_segment(0, SEGMENT_US))
    stage = Stage(tmp_path, spool_bytes=4 * one)
    stage.store.is_away = True
    follower = await stage.follower()
    running = asyncio.create_task(follower.run())
    async with asyncio.timeout(20):
        while "finishing" != follower._tracker.phase or follower._tracker.fetching_count:
            await asyncio.sleep(0.01)
        while "ended" != follower._tracker.phase:
            await asyncio.sleep(0.01)
    stage.store.is_away = False
    await asyncio.wait_for(running, 20)
    (ended,) = stage.of(StreamEnded)
    assert (4, True, 30_000_000) == (ended.segments, len(ended.gap_indexes) > 0, ended.offered_us)


async def test_one_slow_segment_of_a_recording_holds_up_no_more_than_it_must(tmp_path: Path) -> None:
    stage = Stage(tmp_path, live=window(200, head_start_us=400_000_000, window=200))
    answers = iter([503, 503, 503])
    good = ts_segment(0, SEGMENT_US)
    stage.http.pages[f"{BASE}/000.ts"] = lambda: next(answers, good)
    ended = await stage.run(policy=replace(POLICY, pending_entries=16, windows_ahead=99))
    assert (200, ()) == (ended.segments, ended.gap_indexes)


async def test_the_wait_for_others_at_the_gate_costs_a_segment_none_of_its_tries(tmp_path: Path) -> None:
    stage = Stage(tmp_path, live=window(1))
    answers: list[Answer] = [ts_segment(0, SEGMENT_US), 503]
    stage.http.pages[f"{BASE}/000.ts"] = answers.pop
    tracker, gate = replace(POLICY.tracker, segment_budget_s=0.5), asyncio.Semaphore(0)
    asyncio.get_running_loop().call_later(0.7, gate.release)
    async with asyncio.timeout(20):
        await (await stage.follower(policy=replace(POLICY, tracker=tracker), gate=gate)).run()
    assert ([], [0]) == (answers, stage.journal.sequences)


async def test_a_full_queue_stops_fetching_and_the_loss_is_told(stage: Stage) -> None:
    stage.live = window(60)
    for each in stage.live.segments:
        stage.http.pages[f"{BASE}/{each.uri}"] = ts_segment(each.start_us, each.duration_us)
    follower = await stage.follower(policy=replace(POLICY, pending_entries=8))
    stage.journal.is_away = True
    running = asyncio.create_task(follower.run())
    async with asyncio.timeout(20):
        while follower.pending_count < 8:
            await asyncio.sleep(0.01)
        for _ in range(3):
            follower._news.set()
            await asyncio.sleep(0.01)
    assert follower.pending_count < 8 + POLICY.parallel_fetches + 1
    stage.journal.is_away = False
    await asyncio.wait_for(running, 20)
    (ended,) = stage.of(StreamEnded)
    assert 60 == ended.segments + sum(e.to_sequence - e.from_sequence + 1 for e in stage.of(SegmentMissed))


async def test_a_lost_lease_stops_the_follower(stage: Stage) -> None:
    stage.journal.is_lost = True
    with pytest.raises(LeaseLost):
        await stage.run()
    assert [] == stage.journal.entries


async def test_a_cancelled_follower_leaves_no_bodies_behind(stage: Stage) -> None:
    stage.journal.is_away = stage.store.is_away = True
    running = asyncio.create_task((await stage.follower()).run())
    async with asyncio.timeout(20):
        while len(stage.spooled) < 5:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [] == stage.spooled


async def test_a_commit_that_waits_for_the_database_keeps_no_follower_from_stopping(stage: Stage) -> None:
    stage.journal.is_away = True
    follower = await stage.follower(policy=replace(POLICY, last_commit_s=0.1))
    running = asyncio.create_task(follower.run())
    async with asyncio.timeout(20):
        while follower.pending_count < 2:
            await asyncio.sleep(0.01)
        follower.stop()
        await running
    assert [] == stage.journal.entries


async def test_whoever_resumes_makes_the_same_rows_and_ids(tmp_path: Path) -> None:
    whole, parted = Stage(tmp_path / "a"), Stage(tmp_path / "b")
    for stage in (whole, parted):
        stage.folder.mkdir()
    await whole.run()
    first = await parted.follower()
    running = asyncio.create_task(first.run())
    async with asyncio.timeout(20):
        while len(parted.journal.sequences) < 12:
            await parted.journal.committed.wait()
            parted.journal.committed.clear()
    first.stop()
    await running
    assert [] == parted.of(StreamEnded)
    await parted.run()
    assert list(range(15)) == parted.journal.sequences
    assert [event.event_id for event in whole.of(StreamFlowing)] == [
        event.event_id for event in parted.of(StreamFlowing)
    ]
    assert [event.event_id for event in whole.of(SegmentReady)] == [
        event.event_id for event in parted.of(SegmentReady)
    ]
    assert [event.segments for event in whole.of(SegmentReady)] == [
        tuple(ref.model_copy(update={"wall_at": ref.wall_at}) for ref in event.segments)
        for event in parted.of(SegmentReady)
    ]


async def test_a_stream_that_is_offline_already_is_drained_and_ends(stage: Stage) -> None:
    stage.live = window(15, endlist=False)
    policy = replace(POLICY, tracker=replace(POLICY.tracker, drain_targets=0.1))
    follower = await stage.follower(lease=replace(LEASE, is_offline=True), policy=policy)
    await asyncio.wait_for(follower.run(), 20)
    (ended,) = stage.of(StreamEnded)
    assert ("stopped", True) == (ended.cause, ended.segments > 0)
