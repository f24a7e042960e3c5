"""How an answer of Gemini ended, and what that means: one table for finish reasons, one for blocked prompts.

Whatever the tables do not know (the API adds reasons without notice) is an answer that cannot be believed.
"""

from enum import Enum, auto


class Outcome(Enum):
    ANSWERED = auto()
    CUT = auto()  # the text may hold whole moments before the cut
    REFUSED = auto()  # policy: another try on the same media gives the same
    INVALID = auto()  # no answer, and the next may be better
    BARRED = auto()  # the account, not the window: somebody must act


FINISH_REASONS = {
    "STOP": Outcome.ANSWERED,
    "MAX_TOKENS": Outcome.CUT,
    "CONTINUATION": Outcome.CUT,
    "SAFETY": Outcome.REFUSED,
    "LANGUAGE": Outcome.REFUSED,
    "BLOCKLIST": Outcome.REFUSED,
    "PROHIBITED_CONTENT": Outcome.REFUSED,
    "SPII": Outcome.REFUSED,
    "IMAGE_SAFETY": Outcome.REFUSED,
    "IMAGE_PROHIBITED_CONTENT": Outcome.REFUSED,
    "ESCALATION": Outcome.REFUSED,
    "MODEL_ARMOR": Outcome.REFUSED,
    # Sampling differs from try to try: the next answer need not recite.
    "RECITATION": Outcome.INVALID,
    "IMAGE_RECITATION": Outcome.INVALID,
    "OTHER": Outcome.INVALID,
    "IMAGE_OTHER": Outcome.INVALID,
    "NO_IMAGE": Outcome.INVALID,
    "MALFORMED_FUNCTION_CALL": Outcome.INVALID,
    "UNEXPECTED_TOOL_CALL": Outcome.INVALID,
    "TOO_MANY_TOOL_CALLS": Outcome.INVALID,
    "MISSING_THOUGHT_SIGNATURE": Outcome.INVALID,
    "MALFORMED_RESPONSE": Outcome.INVALID,
    "FINISH_REASON_UNSPECIFIED": Outcome.INVALID,
    "PUP_LIMITED_DISABLED": Outcome.BARRED,
}
BLOCK_REASONS = {
    "SAFETY": Outcome.REFUSED,
    "BLOCKLIST": Outcome.REFUSED,
    "PROHIBITED_CONTENT": Outcome.REFUSED,
    "IMAGE_SAFETY": Outcome.REFUSED,
    "MODEL_ARMOR": Outcome.REFUSED,
    "JAILBREAK": Outcome.REFUSED,
    "OTHER": Outcome.INVALID,
    "BLOCKED_REASON_UNSPECIFIED": Outcome.INVALID,
}


def outcome_of(*, finish_reason: str | None, block_reason: str | None) -> Outcome:
    """What the reasons mean together; a blocked prompt has no finish reason, and no reason at all is invalid."""
    if block_reason is not None:
        return BLOCK_REASONS.get(block_reason, Outcome.INVALID)
    return FINISH_REASONS.get(finish_reason or "", Outcome.INVALID)
