"""A file is followed against a real PostgreSQL: taken over midway, it leaves the rows of one uninterrupted run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ingest.adapters.journal import PostgresJournal
from ingest.adapters.leases import PostgresLeases
from ingest.adapters.remux.dial import Dialler
from ingest.adapters.remux.openers import RemuxedSources
from ingest.adapters.spool import FolderSpool
from ingest.loops import ClaimPolicy, FollowerFactory, Followers
from ingest.workflow.archive import Archive
from ingest.workflow.follower import FollowerPolicy
from ingest.workflow.intake import Wake
from ingest.workflow.ports import OpenSource
from sandbox.film import make_film
from shared.addresses import parse_allowed
from shared.clock import utc_now
from shared.database import Database
from shared.events import Lane, SegmentReady, StreamEnded, StreamOnline
from shared.http_client import SafeHttpClient
from shared.media_runner import MediaRunner, detect_sandbox
from shared.object_store import FolderObjectStore
from shared.outbox import Outbox
from tests.conftest import Installation
from tests.integration.ingest.file_server import FileServer
from tests.integration.ingest.test_following import KEYRING, POLICY, Bench, kill, online

pytestmark = [pytest.mark.faults, pytest.mark.needs_ffmpeg]

FILM_S = 44
ROWS = "SELECT sequence, start_us, duration_us, sha256 FROM ingest.segments WHERE run = {} ORDER BY position"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=FILM_S)


@dataclass
class FileBench(Bench):
    """Replicas that read files."""

    runner: Any = None

    def replica(self, owner: str, *, lease_s: float = 6.0, policy: FollowerPolicy = POLICY) -> Followers:
        folder = self.installation.folder
        store = FolderObjectStore(
            folder / "objects", public_base_url="http://x", signing_secret="s" * 32, clock=utc_now
        )
        (folder / f"spool-{owner}").mkdir()
        factory = FollowerFactory(
            journal=PostgresJournal(self.database, self.outbox),
            archive=Archive(store, FolderSpool(folder / f"spool-{owner}", limit_bytes=10**9)),
            openers=self._openers(folder / f"remux-{owner}", store),
            keyring=KEYRING,
            clock=utc_now,
            policy=policy,
        )
        return Followers(
            owner=owner,
            leases=PostgresLeases(self.database),
            open_follower=factory,
            wake=Wake(),
            policy=ClaimPolicy(lease_s=lease_s, renew_s=lease_s / 3),
        )

    def _openers(self, folder: Path, store: FolderObjectStore) -> Mapping[str, OpenSource]:
        return RemuxedSources.under(
            str(folder),
            http=self.http,
            store=store,
            dialler=Dialler(allowed=frozenset()),
            runner=self.runner,
            limit_bytes=10**9,
            clock=utc_now,
        ).openers()


def file_online(url: str, *, run: int) -> StreamOnline:
    event = online(url, run=run, lane=Lane.VOD)
    return event.model_copy(update={"source": event.source.model_copy(update={"kind": "file"})})


async def test_a_file_that_is_taken_over_in_the_middle_leaves_the_same_rows(
    installation: Installation, film: Path
) -> None:
    database = Database(installation.database_url("ingest"), schema="ingest")
    async with FileServer(film) as server:
        allowed = parse_allowed(server.base_url.removeprefix("http://"))
        async with SafeHttpClient(allowed=allowed, user_agent="test") as http:
            runner = MediaRunner(sandbox=await detect_sandbox())
            bench = FileBench(installation, database, Outbox("ingest"), http, runner=runner)
            held_back = replace(POLICY, windows_ahead=1)
            await bench.handle(bench.intake.on_stream_online, file_online(server.url, run=0))
            first = bench.replica("a", lease_s=0.5, policy=held_back)
            await bench.until(first, "SELECT count(*) >= 4 FROM ingest.segments", True)
            await kill(first)
            stored = await bench.value("SELECT count(*) FROM ingest.segments")
            await bench.until_ended(bench.replica("b"))
            await bench.handle(bench.intake.on_stream_online, file_online(server.url, run=1))
            await bench.until_ended(bench.replica("c"))
            taken_over, whole = await bench.rows(ROWS.format(0)), await bench.rows(ROWS.format(1))
            ended = await bench.events(StreamEnded)
            ready = await bench.events(SegmentReady)
    await database.close()
    assert 4 <= stored < FILM_S // 4
    assert FILM_S // 4 == len(whole)
    assert whole == taken_over
    assert all(after[1] == before[1] + before[2] for before, after in pairwise(whole))
    assert [("endlist", FILM_S * 1_000_000)] * 2 == [(each.cause, each.media_duration_us) for each in ended]
    assert {False} == {ref.discontinuity for event in ready for ref in event.segments}
