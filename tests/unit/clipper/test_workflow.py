"""The clipper's use case on a folder store and a fake cutter."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from clipper.domain.cut_plan import NothingToCut
from clipper.domain.frames import FrameSpan
from clipper.workflow import Editor
from shared import keys
from shared.errors import PermanentError, PipelineError, RetryableError
from shared.events import ClipFailed, ClipReady, HighlightConfirmed, HighlightRevised, Lane, SegmentRef
from shared.ids import HighlightId, OrganizationId, StreamId, event_id
from shared.object_store import FolderObjectStore, ObjectMissing
from shared.profile import Quality
from tests.fakes.clipper.cutter import FakeCutter
from tests.fakes.shared.stored_profiles import FakeProfiles, default_profile

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ORGANIZATION, STREAM = OrganizationId("org_1"), StreamId("str_0123456789ab")
HIGHLIGHT = HighlightId("hl_1")
SPAN = FrameSpan(
    start_pts=0,
    end_pts=4,
    start_us=3_000_000,
    length_us=4_000_000,
    offsets_us=(0, 1_000_000, 2_000_000, 3_000_000),
)
FIELDS = {
    "event_id": UUID(int=1),
    "organization_id": ORGANIZATION,
    "occurred_at": NOW,
    "lane": Lane.VOD,
    "stream_id": STREAM,
    "highlight_id": HIGHLIGHT,
    "run": 0,
    "profile_key": "profiles/p.json",
    "start_us": 3_000_000,
    "end_us": 7_000_000,
    "peak_us": 5_500_000,
    "score": 0.9,
    "confidence": 0.5,
    "scores": {},
    "type": "action",
    "title": "A title",
    "segments": tuple(
        SegmentRef(
            key=f"archive/{at}.ts",
            epoch=0,
            sequence=at,
            start_us=at * 2_000_000,
            duration_us=2_000_000,
            size_bytes=1,
            sha256="0" * 64,
        )
        for at in range(5)
    ),
}
CONFIRMED = HighlightConfirmed.model_validate({**FIELDS, "revision": 0})
REVISED = HighlightRevised.model_validate({**FIELDS, "revision": 1})


@pytest.fixture
async def store(tmp_path: Path) -> FolderObjectStore:
    root = tmp_path / "objects"
    store = FolderObjectStore(root, public_base_url="http://test", signing_secret="s", clock=lambda: NOW)
    for at in range(5):
        await store.put(f"archive/{at}.ts", f"<{at}>".encode())
    return store


def editor(store: FolderObjectStore, cutter: FakeCutter, work_root: Path) -> Editor:
    work_root.mkdir(exist_ok=True)
    profiles = FakeProfiles({"profiles/p.json": default_profile()})
    return Editor(store=store, profiles=profiles, cutter=cutter, clock=lambda: NOW, work_root=work_root)


async def test_a_highlight_becomes_a_clip_and_a_thumbnail_under_their_keys(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    cutter = FakeCutter((SPAN,))

    (ready,) = await editor(store, cutter, tmp_path / "work").cut(CONFIRMED)

    assert isinstance(ready, ClipReady)
    assert ready.video_key == keys.clip_video(ORGANIZATION, STREAM, HIGHLIGHT, revision=0)
    assert await store.get(ready.video_key) == b"<0><1><2><3>"
    assert await store.get(ready.thumbnail_key) == b"jpeg"
    assert (ready.start_us, ready.duration_us, ready.size_bytes) == (3_000_000, 4_000_000, 12)
    assert (ready.width, ready.height, ready.renditions[0].name) == (640, 360, "original")
    assert ready.event_id == event_id(STREAM, "clip.ready", HIGHLIGHT, 0)
    assert ready.lane is Lane.VOD


async def test_the_thumbnail_shows_the_frame_that_stands_at_the_peak(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    cutter = FakeCutter((SPAN,))

    await editor(store, cutter, tmp_path / "work").cut(CONFIRMED)

    assert cutter.thumbnails_us == [2_000_000]
    assert cutter.qualities == [Quality.HIGH]


async def test_the_same_event_gives_the_same_clip_again(store: FolderObjectStore, tmp_path: Path) -> None:
    subject = editor(store, FakeCutter((SPAN,)), tmp_path / "work")

    assert await subject.cut(CONFIRMED) == await subject.cut(CONFIRMED)


async def test_a_revision_is_a_clip_of_its_own(store: FolderObjectStore, tmp_path: Path) -> None:
    subject = editor(store, FakeCutter((SPAN,)), tmp_path / "work")

    (first,) = await subject.cut(CONFIRMED)
    (second,) = await subject.cut(REVISED)

    assert first.event_id != second.event_id
    assert isinstance(second, ClipReady)
    assert (second.revision, second.video_key.split("/")[-2]) == (1, "r1")


@pytest.mark.parametrize("step", ["cut", "verify", "thumbnail"])
async def test_a_failed_step_stores_nothing_keeps_its_family_and_names_its_stage(
    store: FolderObjectStore, tmp_path: Path, step: str
) -> None:
    work_root = tmp_path / "work"
    subject = editor(store, FakeCutter((SPAN,), failures={step: RetryableError("again")}), work_root)

    with pytest.raises(RetryableError) as caught:
        await subject.cut(CONFIRMED)
    (failed,) = subject.give_up(CONFIRMED, caught.value)

    assert isinstance(failed, ClipFailed)
    assert (failed.stage, failed.code, failed.reason) == (step, "temporarily_unavailable", "again")
    assert [key async for key in store.list("clips/")] == []
    assert list(work_root.iterdir()) == []


async def test_a_missing_segment_fails_in_the_fetch(store: FolderObjectStore, tmp_path: Path) -> None:
    subject = editor(store, FakeCutter((SPAN,)), tmp_path / "work")
    await store.delete("archive/2.ts")

    with pytest.raises(ObjectMissing) as caught:
        await subject.cut(CONFIRMED)
    (failed,) = subject.give_up(CONFIRMED, caught.value)

    assert isinstance(failed, ClipFailed)
    assert (failed.stage, failed.code) == ("fetch", "object_missing")


async def test_a_span_without_archived_media_is_refused_for_good(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    beyond = CONFIRMED.model_copy(update={"start_us": 50_000_000, "end_us": 60_000_000})

    with pytest.raises(NothingToCut) as caught:
        await editor(store, FakeCutter((SPAN,)), tmp_path / "work").cut(beyond)

    assert isinstance(caught.value, PermanentError)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [(PipelineError("odd"), "internal", "odd"), (KeyError("secret"), "internal", "KeyError")],
)
def test_giving_up_on_an_error_without_a_stage_says_cut(
    tmp_path: Path, error: Exception, code: str, reason: str
) -> None:
    store = FolderObjectStore(tmp_path, public_base_url="http://test", signing_secret="s", clock=lambda: NOW)

    (failed,) = editor(store, FakeCutter((SPAN,)), tmp_path / "work").give_up(CONFIRMED, error)

    assert isinstance(failed, ClipFailed)
    assert (failed.stage, failed.code, failed.reason) == ("cut", code, reason)
