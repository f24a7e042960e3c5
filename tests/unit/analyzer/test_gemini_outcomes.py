"""Finish and block reasons: every one that the SDK knows has a meaning of its own, and new ones are no answer."""

import pytest
from google.genai import types

from analyzer.domain.gemini.outcomes import BLOCK_REASONS, FINISH_REASONS, Outcome, outcome_of


def test_every_finish_reason_of_the_sdk_stands_in_the_table() -> None:
    assert {reason.value for reason in types.FinishReason} == FINISH_REASONS.keys()


def test_every_block_reason_of_the_sdk_stands_in_the_table() -> None:
    assert {reason.value for reason in types.BlockedReason} == BLOCK_REASONS.keys()


@pytest.mark.parametrize("reason", [reason.value for reason in types.FinishReason])
def test_only_stop_is_a_whole_answer(reason: str) -> None:
    outcome = outcome_of(finish_reason=reason, block_reason=None)

    assert (reason == "STOP") == (outcome is Outcome.ANSWERED)
    assert (reason in ("MAX_TOKENS", "CONTINUATION")) == (outcome is Outcome.CUT)


@pytest.mark.parametrize("reason", [None, "", "REASON_OF_NEXT_YEAR", "stop"])
def test_what_the_table_does_not_know_is_no_answer(reason: str | None) -> None:
    assert Outcome.INVALID is outcome_of(finish_reason=reason, block_reason=None)


def test_a_blocked_prompt_counts_whatever_the_candidate_says() -> None:
    assert Outcome.REFUSED is outcome_of(finish_reason="STOP", block_reason="SAFETY")
    assert Outcome.INVALID is outcome_of(finish_reason="STOP", block_reason="REASON_OF_NEXT_YEAR")
