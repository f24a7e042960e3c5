"""Every message delivered one to five times, in shuffled order: the final rows are those of the orderly run."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

import shared.foundation
from sandbox.film import make_film
from sandbox.origin import VodOrigin
from sandbox.receiver import WebhookReceiver
from sandbox.segmenter import segment_media
from shared.broker import Publisher
from shared.outbox import Outgoing
from tests.conftest import Installation
from tests.pipeline.product import Product, customer_of, product, until, until_terminal

pytestmark = pytest.mark.faults

SEEDS = (1, 2, 3)
MOMENTS = ((14.0, 18.0), (100.0, 104.0))

# Rows without what two runs cannot share: random ids, ids derived from them, and times of day.
FINAL_ROWS = {
    "segments": "SELECT epoch, sequence, start_us, duration_us, sha256 FROM ingest.segments ORDER BY 1, 2",
    "windows": "SELECT run, index, revision, start_us, end_us, verdict FROM gateway.windows ORDER BY 1, 2",
    "highlights": "SELECT run, revision, start_us, end_us, peak_us, score, type, title, reason, retracted "
    "FROM gateway.highlights ORDER BY start_us",
    "clips": "SELECT h.start_us, c.revision, c.status, c.duration_us, c.width, c.height "
    "FROM gateway.clips c JOIN gateway.highlights h USING (highlight_id) ORDER BY 1, 2",
    "judgements": "SELECT c.body ->> 'peak_us' AS peak, j.ordinal, j.decision, j.rule, j.score "
    "FROM gateway.judgements j JOIN gateway.candidates c USING (candidate_id) ORDER BY 1, 2",
    "public events": "SELECT type, count(*) FROM gateway.public_events GROUP BY 1 ORDER BY 1",
    "deliveries": "SELECT type, state, count(*) FROM notifier.deliveries GROUP BY 1, 2 ORDER BY 1",
    "stream": "SELECT status, partial, cause, offered_us, media_duration_us FROM gateway.streams",
}


class UnrulyPublisher(Publisher):
    """Delivers each row one to five times, each copy after a random wait, so that rows overtake one another."""

    chance = random.Random(0)
    last: set[asyncio.Task[None]] = set()  # noqa: RUF012 - shared by the six publishers of one test

    async def publish(self, row: Outgoing) -> None:
        await super().publish(row)
        for _ in range(self.chance.randrange(5)):
            task = asyncio.create_task(self._again(row, self.chance.uniform(0, 3)))
            self.last.add(task)
            task.add_done_callback(self.last.discard)
        await asyncio.sleep(self.chance.uniform(0, 0.3))

    async def _again(self, row: Outgoing, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        await super().publish(row)


async def _final_rows(installation: Installation, folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    async with (
        VodOrigin(folder, playlist="stream.m3u8") as origin,
        WebhookReceiver() as receiver,
        product(installation, reachable=(origin.url, receiver.url)) as made,
        customer_of(made) as customer,
    ):
        receiver.secrets[:] = [await customer.add_webhook(receiver.url)]
        stream = await customer.call("POST", "/v1/streams", {"source_url": origin.url, "live": False})
        await until_terminal(customer, stream["id"], timeout_s=180)
        await receiver.wait_for(lambda one: one.type == "stream.completed", timeout_s=60)
        if UnrulyPublisher.last:
            await asyncio.gather(*UnrulyPublisher.last)
        await until(lambda: _quiet(made), timeout_s=60)
        rows = {name: [tuple(row) for row in await made.rows(query)] for name, query in FINAL_ROWS.items()}
    assert len(receiver.received) == len(receiver.distinct()), "a webhook was delivered twice"
    return rows


async def _quiet(made: Product) -> bool:
    """Whether nothing waits in any outbox or inbox, and every delivery has ended."""
    waiting = [
        await made.rows(f"SELECT 1 FROM {service}.{table} WHERE {condition} LIMIT 1")
        for service in made.services
        for table, condition in (("outbox", "published_at IS NULL"), ("inbox", "state <> 'done'"))
    ]
    return not any(waiting)


@pytest.fixture(scope="module")
async def vod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vod")
    film = await asyncio.to_thread(make_film, folder / "film.mp4", duration_s=120, moments=MOMENTS)
    media = await segment_media(film, folder=folder, segment_s=2.0, duration_s=None)
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:3", "#EXT-X-MEDIA-SEQUENCE:0"]
    for segment in media.segments:
        lines += [f"#EXTINF:{segment.duration_us / 1e6:.6f},", segment.uri]
    (folder / "stream.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    return folder


@pytest.fixture(scope="module")
def orderly() -> dict[str, dict[str, list[tuple[Any, ...]]]]:
    return {}


@pytest.mark.parametrize("seed", [None, *SEEDS])
async def test_the_final_rows_do_not_depend_on_delivery(
    installation: Installation,
    vod: Path,
    orderly: dict[str, dict[str, list[tuple[Any, ...]]]],
    seed: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if seed is not None:
        UnrulyPublisher.chance = random.Random(seed)
        monkeypatch.setattr(shared.foundation, "Publisher", UnrulyPublisher)
    rows = await _final_rows(installation, vod)
    expected = orderly.setdefault("rows", rows)
    assert len(rows["highlights"]) >= 2
    for name in FINAL_ROWS:
        assert expected[name] == rows[name], f"{name} (seed {seed})"
