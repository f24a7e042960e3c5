from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.completion import (
    ClipFact,
    Completion,
    ParkedFact,
    RunFacts,
    awaited,
    decide,
    give_up,
    grave_parked,
)
from gateway.domain.stream_status import Ended, Selection, StreamRecord, StreamStatus
from shared.ids import HighlightId, WindowId
from tests.builders import NOW, ORGANIZATION, STREAM

GOAL, SAVE = HighlightId("hl_goal"), HighlightId("hl_save")
WINDOWS = tuple(WindowId(f"win_{number}") for number in range(3))


def record(**changes: Any) -> StreamRecord:
    fields: dict[str, Any] = {
        "stream_id": STREAM,
        "organization_id": ORGANIZATION,
        "platform": "hls",
        "display_url": "https://example.com/live.m3u8",
        "status": StreamStatus.PROCESSING,
        "created_at": NOW,
        "updated_at": NOW,
        "started_at": NOW,
        "deadline_at": NOW,
        "ended": ended(),
        "selection": Selection(final=((GOAL, 1), (SAVE, 0)), windows_analysed=3),
    }
    return StreamRecord(**fields | changes)


def ended(**changes: Any) -> Ended:
    fields: dict[str, Any] = {
        "cause": "endlist",
        "windows": WINDOWS,
        "offered_us": 60_000_000,
        "segments": 30,
    }
    return Ended(**fields | changes)


def clip(name: HighlightId, revision: int, *, ready: bool = True, reason: str = "") -> ClipFact:
    return ClipFact(highlight_id=name, revision=revision, ready=ready, reason=reason)


FINISHED = RunFacts(
    windows_analysed=3, highlights={GOAL: 1, SAVE: 0}, clips=(clip(GOAL, 0), clip(GOAL, 1), clip(SAVE, 0))
)
NOTHING = record(status=StreamStatus.PENDING, started_at=None, selection=None)


def nothing_archived(**changes: Any) -> StreamRecord:
    return replace(NOTHING, ended=ended(**{"windows": (), "segments": 0, "offered_us": 0} | changes))


def stages(stream: StreamRecord, facts: RunFacts) -> list[str]:
    return [entry.stage for entry in awaited(stream, facts)]


def test_a_whole_stream_completes_without_a_cause() -> None:
    assert decide(record(), FINISHED) == Completion(status=StreamStatus.COMPLETED)


def test_nothing_is_decided_before_the_end_of_the_stream() -> None:
    stream = record(ended=None)

    assert (decide(stream, FINISHED), stages(stream, FINISHED)) == (None, ["ingest"])


def test_windows_without_verdict_are_owed_by_the_analyzer() -> None:
    facts = replace(FINISHED, windows_analysed=2)

    assert stages(record(selection=None), facts) == ["analyzer"]


def test_an_open_selection_is_owed_by_the_selector() -> None:
    assert stages(record(selection=None), FINISHED) == ["selector"]


def test_a_clip_that_is_not_cut_is_owed_by_the_clipper() -> None:
    facts = replace(FINISHED, clips=(clip(GOAL, 1),))

    assert stages(record(), facts) == ["clipper"]


def test_a_clip_of_an_older_revision_does_not_count() -> None:
    facts = replace(FINISHED, clips=(clip(GOAL, 0), clip(SAVE, 0)))

    assert stages(record(), facts) == ["clipper"]


def test_a_clip_of_a_newer_revision_counts() -> None:
    facts = replace(FINISHED, highlights={GOAL: 2, SAVE: 0}, clips=(clip(GOAL, 2), clip(SAVE, 0)))

    assert decide(record(), facts) == Completion(status=StreamStatus.COMPLETED)


@pytest.mark.parametrize(
    "facts",
    [
        replace(FINISHED, highlights={SAVE: 0}),
        replace(FINISHED, highlights={GOAL: 0, SAVE: 0}),
        replace(FINISHED, windows_analysed=2),
    ],
    ids=["a highlight", "its newest revision", "a verdict"],
)
def test_what_the_selector_knew_must_have_reached_the_gateway(facts: RunFacts) -> None:
    assert stages(record(), facts) == ["gateway"]


def test_reports_of_all_gaps_are_waited_for() -> None:
    stream = record(ended=ended(gap_indexes=(0, 1)))

    assert stages(stream, replace(FINISHED, gaps=1)) == ["gateway"]


def test_a_retracted_highlight_needs_no_clip() -> None:
    facts = replace(FINISHED, clips=(clip(GOAL, 1),), retracted=frozenset({SAVE}))

    assert decide(record(), facts) == Completion(status=StreamStatus.COMPLETED)


def test_a_verdict_that_never_came_counts_as_a_failed_window() -> None:
    selection = Selection(final=(), windows_analysed=2, windows_failed=1, failure_reason="timeout")

    outcome = decide(record(selection=selection), RunFacts(windows_analysed=2))

    assert outcome == Completion(
        status=StreamStatus.COMPLETED,
        partial=True,
        cause="analysis_failed",
        error="1 of 3 windows could not be analysed (timeout). "
        "Submit the stream again to have this repaired.",
    )


def test_media_without_windows_completes_without_a_selection() -> None:
    stream = record(ended=ended(windows=()), selection=None)

    assert decide(stream, RunFacts()) == Completion(status=StreamStatus.COMPLETED)


def test_a_stop_before_any_media_cancels() -> None:
    assert decide(nothing_archived(cause="stopped"), RunFacts()) == Completion(
        status=StreamStatus.CANCELLED, cause="stopped"
    )


def test_a_stop_after_all_media_was_lost_is_an_error() -> None:
    stream = nothing_archived(cause="stopped", gap_indexes=(0,))

    outcome = decide(stream, RunFacts(gaps=1, gaps_us=4_000_000))

    assert outcome == Completion(
        status=StreamStatus.ERROR,
        cause="stopped",
        error="The stream was stopped, and none of the media offered until then could be stored. "
        "Check that the source serves its segments. Lost: 4.0 s of media in 1 gap.",
    )


def test_a_source_that_was_never_reached_is_an_error_with_advice() -> None:
    stream = nothing_archived(cause="source_unreachable", detail="http_404")

    assert decide(stream, RunFacts()) == Completion(
        status=StreamStatus.ERROR,
        cause="source_unreachable",
        error="The source could not be reached. Check that its address is right and public, "
        "then submit the stream again. Detail: http_404",
    )


def test_an_unknown_cause_is_told_as_it_is() -> None:
    outcome = decide(nothing_archived(cause="moon_phase"), RunFacts())

    assert outcome is not None
    assert "moon_phase" in (outcome.error or "")


def test_a_stopped_stream_with_media_is_whole() -> None:
    stream = record(ended=ended(cause="stopped"))

    assert decide(stream, FINISHED) == Completion(status=StreamStatus.COMPLETED)


def test_every_flaw_is_told_and_the_gravest_names_the_cause() -> None:
    stream = record(ended=ended(cause="source_dead", detail="timeout", gap_indexes=(0,)))
    facts = replace(
        FINISHED,
        gaps=1,
        gaps_us=12_000_000,
        windows_failed=1,
        failure_reason="the model refused",
        clips=(clip(GOAL, 1), clip(SAVE, 0, ready=False, reason="cut: no key frame")),
        parked=(ParkedFact(service="selector", event_name="candidate.scored", reason="no such span"),),
    )

    outcome = decide(stream, facts)

    assert outcome is not None
    assert (outcome.status, outcome.partial, outcome.cause) == (StreamStatus.COMPLETED, True, "source_dead")
    assert [
        text in (outcome.error or "")
        for text in (
            "stopped answering before it had told its end (timeout)",
            "12.0 s of media in 1 gap",
            "1 of 3 windows could not be analysed (the model refused)",
            "1 of 2 clips could not be cut (cut: no key frame)",
            "1 message could not be processed (selector, candidate.scored: no such span)",
        )
    ] == [True] * 5


def test_a_failed_clip_with_a_ready_one_beside_it_is_no_flaw() -> None:
    facts = replace(FINISHED, clips=(*FINISHED.clips, clip(SAVE, 1, ready=False)))

    assert decide(record(), facts) == Completion(status=StreamStatus.COMPLETED)


def test_a_webhook_that_was_given_up_leaves_the_stream_whole() -> None:
    parked = ParkedFact(service="notifier", event_name="notification.requested", reason="unparsable")
    facts = replace(FINISHED, parked=(parked,))

    assert (decide(record(), facts), grave_parked(facts)) == (Completion(status=StreamStatus.COMPLETED), ())


def test_a_stream_that_ingest_could_not_take_on_fails_at_once() -> None:
    stream = replace(NOTHING, ended=None)
    parked = ParkedFact(
        service="ingest", event_name="stream.online", reason="the source cannot be decrypted."
    )

    assert decide(stream, RunFacts(parked=(parked,))) == Completion(
        status=StreamStatus.ERROR,
        cause="parked",
        error="The stream could not be taken on: the source cannot be decrypted. "
        "Correct the source and submit it again.",
    )


def test_the_watchdog_names_the_silent_stage_of_a_stream_without_media() -> None:
    outcome = give_up(replace(NOTHING, ended=None), RunFacts())

    assert outcome == Completion(
        status=StreamStatus.ERROR,
        cause="watchdog",
        error="No media arrived in time (ingest: ingest has not told the end of the stream). Check that the "
        "address serves a live or finished playlist, then submit the stream again.",
    )


def test_the_watchdog_keeps_what_was_found() -> None:
    outcome = give_up(record(), replace(FINISHED, clips=(clip(GOAL, 1),)))

    assert (outcome.status, outcome.partial, outcome.cause) == (StreamStatus.COMPLETED, True, "watchdog")
    assert "clipper: 1 of 2 clips are not cut" in (outcome.error or "")


def test_the_watchdog_finishes_what_was_finished_unnoticed() -> None:
    assert give_up(record(), FINISHED) == Completion(status=StreamStatus.COMPLETED)


def test_long_reasons_do_not_make_endless_texts() -> None:
    stream = record(ended=ended(cause="source_dead", detail="x" * 5000))
    facts = replace(FINISHED, windows_failed=1, failure_reason="y" * 5000)

    outcome = decide(stream, facts)

    assert outcome is not None
    assert len(outcome.error or "") <= 1000


def test_a_repaired_gap_is_no_flaw_and_its_report_still_counts() -> None:
    stream = record(ended=ended(gap_indexes=(0,)))
    facts = replace(FINISHED, gaps_repaired=1)

    assert decide(stream, facts) == Completion(status=StreamStatus.COMPLETED)


def test_what_a_repair_brought_is_awaited_until_it_is_judged_and_selected() -> None:
    facts = replace(FINISHED, gaps_repaired=1, repair_windows=2)
    stream = record(ended=ended(gap_indexes=(0,)))
    selected = Selection(final=((GOAL, 1), (SAVE, 0)), windows_analysed=5, revision=2)
    judged = replace(facts, windows_analysed=FINISHED.windows_analysed + 2)

    assert stages(stream, facts) == ["selector"]
    assert stages(replace(stream, selection=selected), facts) == ["gateway"]
    assert stages(replace(stream, selection=selected), judged) == []


def test_a_window_of_a_repair_that_the_selector_gave_up_is_not_awaited_for_ever() -> None:
    facts = replace(FINISHED, gaps_repaired=1, repair_windows=2)
    given_up = Selection(final=((GOAL, 1), (SAVE, 0)), windows_analysed=3, windows_failed=2, revision=2)

    assert stages(record(ended=ended(gap_indexes=(0,)), selection=given_up), facts) == []


def test_a_repair_of_a_run_that_had_no_windows_is_awaited_too() -> None:
    stream = record(
        ended=ended(windows=(), gap_indexes=(0,)), selection=Selection(final=(), windows_analysed=0)
    )

    assert stages(stream, RunFacts(gaps_repaired=1, repair_windows=1)) == ["selector"]
