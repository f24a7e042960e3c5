"""The analyzer's use case on a folder store and a fake provider."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from analyzer.domain.analysis import Analysis, Moment, Usage
from analyzer.workflow import Analyst, AnswerInvalid, ProviderRefused, ProviderUnavailable
from shared.errors import PipelineError
from shared.events import CandidateScored, Lane, SegmentAnalyzed, SegmentReady, SegmentRef, Verdict
from shared.ids import OrganizationId, Position, StreamId, candidate_id, event_id
from shared.object_store import FolderObjectStore, ObjectMissing
from shared.profile import Quality
from tests.fakes.analyzer.provider import FakeProvider
from tests.fakes.shared.stored_profiles import FakeProfiles, default_profile

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STREAM = StreamId("str_0123456789ab")
MOMENT = Moment(
    start_us=2_000_000,
    end_us=6_000_000,
    peak_us=4_000_000,
    scores={"rarity": 0.9},
    confidence=0.8,
    title="A title",
    reason="loud",
    tags=("loud",),
)
ANSWER = Analysis(
    moments=(MOMENT,),
    provider="fake",
    model="m1",
    snap_points_us=(3_000_000, 1_000_000, 99_000_000),
    usage=Usage(input_tokens=10, output_tokens=2, cost_microusd=5),
)


def window_event() -> SegmentReady:
    segments = tuple(
        SegmentRef(
            key=f"archive/{at}.ts",
            epoch=0,
            sequence=at,
            start_us=100_000_000 + at * 10_000_000,
            duration_us=10_000_000,
            size_bytes=1,
            sha256="0" * 64,
        )
        for at in range(2)
    )
    return SegmentReady(
        event_id=UUID(int=1),
        organization_id=OrganizationId("org_1"),
        occurred_at=NOW,
        lane=Lane.VOD,
        stream_id=STREAM,
        run=1,
        index=7,
        revision=2,
        start_us=102_000_000,
        end_us=120_000_000,
        profile_key="profiles/p.json",
        segments=segments,
    )


@pytest.fixture
def store(tmp_path: Path) -> FolderObjectStore:
    root = tmp_path / "objects"
    return FolderObjectStore(root, public_base_url="http://test", signing_secret="s", clock=lambda: NOW)


async def analyst(
    store: FolderObjectStore,
    provider: FakeProvider,
    work_root: Path,
    *,
    model: FakeProvider | None = None,
    quality: Quality = Quality.HIGH,
) -> Analyst:
    for at in range(2):
        await store.put(f"archive/{at}.ts", f"media {at}".encode())
    profile = default_profile().model_copy(update={"quality": quality})
    profiles = FakeProfiles({"profiles/p.json": profile})
    return Analyst(
        store=store,
        profiles=profiles,
        provider=provider,
        model=model,
        clock=lambda: NOW,
        work_root=work_root,
    )


async def test_moments_become_candidates_on_the_streams_clock(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    subject = await analyst(store, FakeProvider(ANSWER), tmp_path)

    candidate, verdict = await subject.analyze(window_event())

    position = Position(1, 7, 2)
    assert isinstance(candidate, CandidateScored)
    assert candidate.candidate_id == candidate_id(STREAM, position, 0)
    assert candidate.event_id == event_id(STREAM, "candidate.scored", position, 0)
    assert (candidate.start_us, candidate.peak_us, candidate.end_us) == (
        104_000_000,
        106_000_000,
        108_000_000,
    )
    assert isinstance(verdict, SegmentAnalyzed)
    assert verdict.verdict is Verdict.ANALYSED
    assert verdict.candidates == (candidate.candidate_id,)
    assert verdict.snap_points_us == (103_000_000, 105_000_000)
    assert (verdict.input_tokens, verdict.output_tokens, verdict.cost_microusd) == (10, 2, 5)
    assert candidate.lane is verdict.lane is Lane.VOD
    assert verdict.occurred_at == NOW


async def test_the_provider_gets_the_segments_in_order_and_the_folder_vanishes(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    provider = FakeProvider(ANSWER)
    subject = await analyst(store, provider, tmp_path)

    await subject.analyze(window_event())

    assert provider.contents == [(b"media 0", b"media 1")]
    assert provider.windows[0].media_start_us == 100_000_000
    assert not provider.windows[0].work_dir.exists()


async def test_the_same_window_gives_the_same_events_again(store: FolderObjectStore, tmp_path: Path) -> None:
    subject = await analyst(store, FakeProvider(ANSWER), tmp_path)

    assert await subject.analyze(window_event()) == await subject.analyze(window_event())


async def test_a_window_without_moments_is_analysed_with_no_candidates(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    subject = await analyst(store, FakeProvider(replace(ANSWER, moments=())), tmp_path)

    (verdict,) = await subject.analyze(window_event())

    assert isinstance(verdict, SegmentAnalyzed)
    assert (verdict.verdict, verdict.candidates) == (Verdict.ANALYSED, ())


async def test_a_moment_outside_the_window_is_rejected_and_named_not_clamped(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    late = replace(MOMENT, end_us=19_000_000)
    subject = await analyst(store, FakeProvider(replace(ANSWER, moments=(late, MOMENT))), tmp_path)

    *candidates, verdict = await subject.analyze(window_event())

    assert len(candidates) == 1
    assert isinstance(verdict, SegmentAnalyzed)
    assert "1 of 2 moments rejected" in verdict.reason
    assert "is not inside the window of 18.000 s" in verdict.reason


async def test_an_answer_without_any_credible_moment_is_an_error_and_no_empty_verdict(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    subject = await analyst(
        store, FakeProvider(replace(ANSWER, moments=(replace(MOMENT, start_us=-1),))), tmp_path
    )

    with pytest.raises(AnswerInvalid):
        await subject.analyze(window_event())


async def test_long_texts_are_shortened_to_what_the_event_holds(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    wordy = replace(MOMENT, title="t" * 600, description="d" * 3000, reason="r" * 3000)
    subject = await analyst(store, FakeProvider(replace(ANSWER, moments=(wordy,))), tmp_path)

    candidate, _ = await subject.analyze(window_event())

    assert isinstance(candidate, CandidateScored)
    assert (len(candidate.title), len(candidate.description), len(candidate.reason)) == (500, 2000, 2000)


async def test_errors_of_provider_and_store_pass_through_and_leave_no_folder(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    work_root = tmp_path / "work"
    work_root.mkdir()
    subject = await analyst(store, FakeProvider(ProviderUnavailable("busy")), work_root)

    with pytest.raises(ProviderUnavailable):
        await subject.analyze(window_event())
    await store.delete("archive/1.ts")
    with pytest.raises(ObjectMissing):
        await subject.analyze(window_event())

    assert list(work_root.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ProviderUnavailable("busy"), "provider_unavailable: busy"),
        (PipelineError("odd"), "internal: odd"),
        (KeyError("secret"), "internal: KeyError"),
    ],
)
async def test_giving_up_is_a_failed_verdict_with_its_reason_and_without_a_score(
    store: FolderObjectStore, tmp_path: Path, error: Exception, reason: str
) -> None:
    subject = await analyst(store, FakeProvider(ANSWER), tmp_path)

    (verdict,) = subject.give_up(window_event(), error)

    assert isinstance(verdict, SegmentAnalyzed)
    assert (verdict.verdict, verdict.reason, verdict.provider) == (Verdict.FAILED, reason, "fake")
    assert verdict.candidates == ()


LOCAL = Analysis(moments=(MOMENT,), provider="local", degraded=True)
PAID = Usage(
    input_tokens=100, output_tokens=20, cost_microusd=50, calls=1, input_by_modality=(("VIDEO", 90),)
)


@pytest.mark.parametrize(
    ("quality", "asked"),
    [
        (Quality.FAST, "local"),
        (Quality.STANDARD, "both"),
        (Quality.HIGH, "model"),
        (Quality.PREMIUM, "model"),
        (Quality.CUSTOM, "model"),
    ],
)
async def test_the_tier_decides_who_is_asked(
    store: FolderObjectStore, tmp_path: Path, quality: Quality, asked: str
) -> None:
    local, model = FakeProvider(LOCAL, name="local"), FakeProvider(ANSWER, name="model")
    subject = await analyst(store, local, tmp_path, model=model, quality=quality)

    *_, verdict = await subject.analyze(window_event())

    assert (asked in ("local", "both"), asked in ("model", "both")) == (
        bool(local.windows),
        bool(model.windows),
    )
    assert isinstance(verdict, SegmentAnalyzed)
    assert ("local" if asked == "local" else "fake") == verdict.provider


async def test_standard_does_not_pay_for_a_window_in_which_nothing_stirs(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    local, model = FakeProvider(replace(LOCAL, moments=()), name="local"), FakeProvider(ANSWER, name="model")
    subject = await analyst(store, local, tmp_path, model=model, quality=Quality.STANDARD)

    (verdict,) = await subject.analyze(window_event())

    assert isinstance(verdict, SegmentAnalyzed)
    assert [] == model.windows
    assert (Verdict.ANALYSED, "local", False) == (verdict.verdict, verdict.provider, verdict.degraded)
    assert "the model was not asked" in verdict.reason


async def test_standard_asks_the_model_where_nothing_can_be_measured(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    local, model = FakeProvider(ProviderRefused("no dimension")), FakeProvider(ANSWER)
    subject = await analyst(store, local, tmp_path, model=model, quality=Quality.STANDARD)

    assert 2 == len(await subject.analyze(window_event()))


async def test_what_failed_attempts_cost_is_told_by_the_verdict_that_follows(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    error = AnswerInvalid("nothing")
    error.usage = PAID
    model = FakeProvider(error, name="model")
    subject = await analyst(store, FakeProvider(LOCAL), tmp_path, model=model)
    for _ in range(2):
        with pytest.raises(AnswerInvalid):
            await subject.analyze(window_event())
    model.answer = replace(ANSWER, usage=PAID)

    *_, verdict = await subject.analyze(window_event())
    *_, again = await subject.analyze(window_event())

    assert isinstance(verdict, SegmentAnalyzed)
    assert (300, 60, 150, 3) == (
        verdict.input_tokens,
        verdict.output_tokens,
        verdict.cost_microusd,
        verdict.model_calls,
    )
    assert {"VIDEO": 270} == verdict.input_tokens_by_modality
    assert isinstance(again, SegmentAnalyzed)
    assert 1 == again.model_calls


async def test_a_failed_window_tells_its_provider_and_what_it_cost(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    error = ProviderUnavailable("busy")
    error.usage = replace(PAID, cost_known=False)
    subject = await analyst(store, FakeProvider(LOCAL), tmp_path, model=FakeProvider(error, name="model"))
    with pytest.raises(ProviderUnavailable):
        await subject.analyze(window_event())

    (verdict,) = subject.give_up(window_event(), error)

    assert isinstance(verdict, SegmentAnalyzed)
    assert ("model", 50, False) == (verdict.provider, verdict.cost_microusd, verdict.cost_known)


async def test_an_answer_that_is_paid_and_not_credible_is_on_the_bill(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    answer = replace(ANSWER, moments=(), faults=("item 0: no title",), usage=PAID)
    subject = await analyst(store, FakeProvider(LOCAL), tmp_path, model=FakeProvider(answer))
    with pytest.raises(AnswerInvalid, match="item 0: no title") as raised:
        await subject.analyze(window_event())

    (verdict,) = subject.give_up(window_event(), raised.value)

    assert isinstance(verdict, SegmentAnalyzed)
    assert 50 == verdict.cost_microusd
