"""The catalogue of faults that the fault origin can do: one frozen model for each, with what may be set.

Three families: what goes wrong with an answer, with what a playlist says, and with the source itself. When each
strikes is told by `Span`. Nothing is done here: `sandbox.faults_answer`, `faults_playlist` and `faults_timeline` do.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Target = Literal["master", "playlist", "segment", "key", "init", "captions", "audio"]


class Span(BaseModel):
    """From when on, and for how long: in wall seconds since going live, or in segments of the source.

    A fault of segments named by `from_segment` strikes these segments whenever they are asked for; any other
    strikes in the time in which these segments are the newest. Without `for_s` and `count` it stays.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_s: float | None = Field(default=None, ge=0, description="Wall seconds since going live.")
    from_segment: int | None = Field(
        default=None, ge=0, description="Or: first segment, counted from 0 over the whole stream."
    )
    for_s: float | None = Field(default=None, gt=0, description="Length in wall seconds.")
    count: int | None = Field(default=None, ge=1, description="Or: length in segments.")

    @model_validator(mode="after")
    def _one_clock(self) -> "Span":
        if (self.at_s is None) == (self.from_segment is None):
            raise ValueError("give one of at_s and from_segment")
        if self.for_s is not None and self.count is not None:
            raise ValueError("give at most one of for_s and count")
        if self.at_s is not None and self.count is not None and not self.counts_anyway:
            raise ValueError("count goes with from_segment, for_s with at_s")
        if self.from_segment is not None and self.for_s is not None and not self.counts_anyway:
            raise ValueError("for_s goes with at_s, count with from_segment")
        return self

    counts_anyway: ClassVar[bool] = False


# -- what goes wrong with an answer -----------------------------------------------------------------------


class AnswerFault(Span):
    """`tries`: only the first so many requests for an address; `chance`: of each request, drawn from the seed."""

    target: Target = "segment"
    variant: int | None = Field(default=None, ge=0, description="Only this variant; 0 is the best.")
    tries: int | None = Field(default=None, ge=1, description="Only the first so many requests per address.")
    chance: float = Field(default=1.0, gt=0, le=1, description="Share of the requests that are struck.")
    causes: ClassVar[frozenset[str]] = frozenset()


class Status(AnswerFault):
    """Another status than 200: 404, 403, 410, 429, 500, 503 …"""

    fault: Literal["status"]
    code: int = Field(ge=400, le=599)
    retry_after_s: int | None = Field(default=None, ge=0, description="Sent as Retry-After.")


class Delay(AnswerFault):
    """The first byte comes late."""

    fault: Literal["delay"]
    delay_s: float = Field(gt=0, le=600)


class Reset(AnswerFault):
    """The connection is reset (RST) after some bytes of the body."""

    fault: Literal["reset"]
    after_bytes: int = Field(default=0, ge=0)


class Truncate(AnswerFault):
    """The body stops early: the Content-Length still tells the whole (`announce`), or only what comes."""

    fault: Literal["truncate"]
    keep: float = Field(default=0.5, ge=0, lt=1, description="Share of the bytes that is sent.")
    announce: bool = Field(default=True, description="Whether Content-Length tells the whole length.")


class Corrupt(AnswerFault):
    """Bytes are flipped at random places, the first packet's sync byte always among them."""

    fault: Literal["corrupt"]
    flips: int = Field(default=64, ge=1, le=100_000)


class Garbage(AnswerFault):
    """A body of random bytes: no media, no playlist."""

    fault: Literal["garbage"]
    size_bytes: int = Field(default=20_000, ge=1, le=10_000_000)


class Html(AnswerFault):
    """An error page with status 200."""

    fault: Literal["html"]


class EmptyBody(AnswerFault):
    """Status 200 and nothing else."""

    fault: Literal["empty_body"]


class Redirect(AnswerFault):
    """Once to the same address (default), to another one (`to`), or round in a circle (`loop`)."""

    fault: Literal["redirect"]
    to: str = Field(default="", description="Absolute address; empty: the same again.")
    loop: bool = False
    code: Literal[301, 302, 303, 307, 308] = 302


class Drip(AnswerFault):
    """The body comes drop by drop."""

    fault: Literal["drip"]
    bytes_per_s: int = Field(default=100, ge=1)


class Endless(AnswerFault):
    """The body never ends."""

    fault: Literal["endless"]


# -- what goes wrong with what a playlist says ------------------------------------------------------------


class PlaylistFault(Span):
    target: Literal["playlist"] = "playlist"
    chance: float = Field(default=1.0, gt=0, le=1, description="Share of the reloads that are struck.")
    variant: int | None = Field(default=None, ge=0, description="Only this variant; 0 is the best.")


class Freeze(PlaylistFault):
    """The playlist stays as it was while the source goes on; after that it jumps."""

    fault: Literal["freeze"]


class Stale(PlaylistFault):
    """An older copy, as an edge that lags behind gives it."""

    fault: Literal["stale"]
    behind: int = Field(default=2, ge=1, description="Segments by which the copy is older.")


class EmptyPlaylist(PlaylistFault):
    """A playlist without any segment."""

    fault: Literal["empty_playlist"]


class Skip(PlaylistFault):
    """A delta update (EXT-X-SKIP), asked for or not."""

    fault: Literal["skip"]
    skipped: int = Field(default=2, ge=1)


class BadLines(PlaylistFault):
    """EXTINF without a number, dates that are none, tags that nobody knows."""

    fault: Literal["bad_lines"]


class Huge(PlaylistFault):
    """The playlist is blown up with comments to so many bytes."""

    fault: Literal["huge"]
    size_bytes: int = Field(default=8_000_000, ge=1_000, le=200_000_000)


# -- what goes wrong with the source ----------------------------------------------------------------------


class SourceFault(Span):
    """Begins with the segment `from_segment`, or with the first one that is complete after `at_s`."""

    target: Literal["source"] = "source"
    counts_anyway: ClassVar[bool] = True


class Stall(SourceFault):
    """The encoder pauses: nothing new, no ENDLIST, no media lost."""

    fault: Literal["stall"]
    for_s: float = Field(gt=0, description="Length of the pause.")


class LateStart(SourceFault):
    """Nothing but 404 at first; the media begins that much later."""

    fault: Literal["late_start"]
    at_s: float | None = Field(default=0.0, ge=0, le=0)
    for_s: float = Field(gt=0, description="How late.")


class SequenceReset(SourceFault):
    """The encoder restarts: numbers begin anew, the list too; its files have new names or the same again."""

    fault: Literal["sequence_reset"]
    to: int = Field(default=0, ge=0, description="The first new media sequence number.")
    names: Literal["new", "same"] = "new"
    discontinuity: bool = Field(default=False, description="Whether EXT-X-DISCONTINUITY tells of it.")
    pts: Literal["continue", "restart"] = "restart"


class Renumber(SourceFault):
    """The same segments go on under other numbers."""

    fault: Literal["renumber"]
    by: int = Field(description="Added to each number from then on.")


class Gap(SourceFault):
    """Segments are listed with EXT-X-GAP and were never there. (Without the tag: `status` 404.)"""

    fault: Literal["gap"]
    count: int = Field(default=1, ge=1)


class WindowJump(SourceFault):
    """Segments that no playlist ever lists: the window jumps over them."""

    fault: Literal["window_jump"]
    count: int = Field(default=3, ge=1)


class Discontinuity(SourceFault):
    """EXT-X-DISCONTINUITY, and the media's clock jumps: back to its start, or by `pts_by_s`."""

    fault: Literal["discontinuity"]
    pts_by_s: float | None = Field(default=None, description="Jump in seconds; none: back to the start.")


class PtsJump(SourceFault):
    """The media's clock jumps, and no tag tells of it."""

    fault: Literal["pts_jump"]
    by_s: float = Field(default=3600.0)


class PtsWrap(SourceFault):
    """The media's clock is such that it wraps (2^33) within this segment."""

    fault: Literal["pts_wrap"]


class Ads(SourceFault):
    """So many segments are advertising: EXT-X-CUE-OUT before the first, EXT-X-CUE-IN after the last."""

    fault: Literal["ads"]
    count: int = Field(default=3, ge=1)


class TimedMetadata(SourceFault):
    """An EXT-X-DATERANGE with an X-100MSLIVE-PAYLOAD."""

    fault: Literal["date_range"]
    payload: str = Field(default="hello", max_length=1000)
    duration_s: float = Field(default=2.0, gt=0)


class TokenExpiry(SourceFault):
    """All addresses handed out so far are 403 from now on; the master playlist has fresh ones.

    With it, every address below the master carries a token from the start.
    """

    fault: Literal["token_expiry"]


class End(SourceFault):
    """The source ends here; whether ENDLIST tells of it is an option of the stream."""

    fault: Literal["end"]


Fault = Annotated[
    Status
    | Delay
    | Reset
    | Truncate
    | Corrupt
    | Garbage
    | Html
    | EmptyBody
    | Redirect
    | Drip
    | Endless
    | Freeze
    | Stale
    | EmptyPlaylist
    | Skip
    | BadLines
    | Huge
    | Stall
    | LateStart
    | SequenceReset
    | Renumber
    | Gap
    | WindowJump
    | Discontinuity
    | PtsJump
    | PtsWrap
    | Ads
    | TimedMetadata
    | TokenExpiry
    | End,
    Field(discriminator="fault"),
]
