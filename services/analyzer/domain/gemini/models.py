"""Names of models that cannot be used any more, or not for long, and what to use instead."""

import re

DEFAULT_MODEL = "gemini-3.5-flash-lite"
_RETIRED = re.compile(r"(models/)?gemini-(1\.\d|2\.\d|pro|ultra)\b.*")


def fault_of_model(name: str) -> str | None:
    """Why a model cannot be the default of an installation; None if it can."""
    if not _RETIRED.fullmatch(name):
        return None
    return (
        f"{name} is retired: Gemini 2.5 ends on 2026-12-01, and 2.0 and older have ended; "
        f"use {DEFAULT_MODEL} (cheap) or gemini-3.8-flash (better)"
    )
