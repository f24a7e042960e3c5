"""Signals as customers see them: what was received beside the picture, in the order in which it came in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from pydantic import AwareDatetime, Field

from gateway.domain.public_views import PublicPart, seconds

MAX_SIGNALS: Final = 500
SignalKind = Literal["chat", "odds", "bet", "score", "metadata", "caption", "custom"]


@dataclass(frozen=True, kw_only=True)
class SignalRecord:
    """One row of the signals table. `number` counts the stream's signals from 1."""

    number: int
    run: int
    kind: SignalKind
    at_us: int | None
    wall_at: datetime | None
    duration_us: int
    weight: float
    text: str
    origin: str
    external_id: str
    author: str


@dataclass(frozen=True, kw_only=True)
class SignalRows:
    """`more`: whether others follow. `seen`: how many the stream has had, kept or not; `kept`: of all kinds."""

    records: tuple[SignalRecord, ...] = ()
    more: bool = False
    seen: int = 0
    kept: int = 0


class PublicSignal(PublicPart):
    """Something beside the picture: chat, odds, bets, scores, timed metadata, captions."""

    number: int = Field(description="Counts the stream's signals from 1, as they came in; with holes.")
    run: int = Field(description="The attempt at the stream whose media it belongs to, from 0.")
    kind: SignalKind
    at_s: float | None = Field(description="Where in the media it belongs, where that is known.")
    wall_at: AwareDatetime | None = Field(description="When it happened, by the clock of whoever told it.")
    duration_s: float = Field(description="How long it lasts; 0 for an instant.")
    weight: float = Field(description="How much it says that something happens, from 0 to 1.")
    text: str
    origin: str = Field(description="`api`, `playlist`, `captions` or `recording`.")
    external_id: str = Field(description="What the origin calls it, where it has an id.")
    author: str = Field(description="Who wrote it, as a pseudonym.")


class SignalPage(PublicPart):
    items: list[PublicSignal]
    next: int | None = Field(description="Pass as `after` for the next page; null on the last one.")
    kept: int = Field(description="Signals of the stream that are kept, of all kinds.")
    not_kept: int = Field(description="Signals beyond the most that are kept of one stream.")


def signal_page(rows: SignalRows) -> SignalPage:
    return SignalPage(
        items=_public(rows.records),
        next=rows.records[-1].number if rows.more and rows.records else None,
        kept=rows.kept,
        not_kept=max(0, rows.seen - rows.kept),
    )


def _public(records: Sequence[SignalRecord]) -> list[PublicSignal]:
    return [
        PublicSignal(
            number=each.number,
            run=each.run,
            kind=each.kind,
            at_s=None if each.at_us is None else seconds(each.at_us),
            wall_at=each.wall_at,
            duration_s=seconds(each.duration_us),
            weight=each.weight,
            text=each.text,
            origin=each.origin,
            external_id=each.external_id,
            author=each.author,
        )
        for each in records
    ]
