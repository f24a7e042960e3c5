"""What the fields of events mean, by name: most names mean the same in every event.

A description that stands at the field itself in `shared/events.py` goes before the one here.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ingest.domain.actions import EndCause, LossCause
from shared.events import MediaTime

_OF_EVERY_MEDIA_TIME = get_args(MediaTime)[1].description

_WHY = "Why, as a word that programs can compare"


def _values(words: type[StrEnum]) -> str:
    return ", ".join(f"`{word}`" for word in words)


ABOUT: Mapping[str, str] = MappingProxyType(
    {
        "StreamStalled": "The source answers and brings nothing new; the stream goes on waiting.",
        "StreamResumed": "Media flows again after a stall.",
        "HighlightConfirmed": "A moment was kept, and the archive covers its clip. It can be played from now on.",
        "HighlightRevised": "A confirmed highlight changed: edges, scores or words. Same id, higher revision.",
        "HighlightRetracted": "A confirmed highlight is none any more.",
        "FinalHighlight": "A highlight and the revision at which it is final.",
        "Rendition": "One quality of a clip.",
        "ClipReady": "The clip of one revision of a highlight can be fetched.",
        "ClipFailed": "The clip of one revision of a highlight could not be made; the highlight stays.",
        "StreamErased": "Everything about a stream was or is being deleted: delete your copies too.",
        "OrganizationChanged": "A customer's plan, limits or place for objects; the highest version counts.",
        "UsageRecorded": "Something was used that is counted or paid for.",
        "Decision": "What the selection did with a candidate.",
        "Verdict": "What became of a window.",
    }
)

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        # every event
        "event_id": "The same when the same work is done again: a consumer that has seen it drops the event.",
        "organization_id": "The customer whose stream this is.",
        "stream_id": "The stream, as the public API names it.",
        "occurred_at": "When it happened, by the sender's clock.",
        "lane": "`live` or `vod`; also the last word of the routing key.",
        # position
        "run": "Counts the attempts at a whole stream from 0; a manual retry is a new one.",
        "index": "Counts the windows of a run from 0.",
        "SegmentMissed.index": "Counts the gaps of a run from 0.",
        "SegmentAnnotated.index": "Counts the annotated stretches of a run from 0.",
        "SegmentAnnotated.kind": "What the stretch shows.",
        "SegmentAnnotated.detail": "How the playlist marked it.",
        "SegmentRepaired.gap_index": "The gap, as its `segment.missed` counted it.",
        "SegmentRepaired.outcome": "Whether the recording filled the gap.",
        "StreamStalled.index": "Counts the stalls of a run from 0.",
        "StreamResumed.index": "The stall that is over.",
        "revision": "Counts the repairs of the same thing from 0: keep the highest.",
        "profile_key": "Object key of the profile by which the stream is judged.",
        "highlight_id": "Stays the same over all revisions of the highlight.",
        "CandidateJudged.highlight_id": "The highlight that the candidate became or was merged into.",
        "candidate_id": "The candidate, unique over all streams.",
        "window_id": "The analysis window that was judged.",
        # time
        "at_us": "Where in the media it happened.",
        "start_us": "Where it begins.",
        "end_us": "Where it ends.",
        "peak_us": "The best instant; the thumbnail is taken there.",
        "from_us": "Where the gap begins.",
        "to_us": "Where the gap ends.",
        "duration_us": "How long it lasts.",
        "SignalReceived.duration_us": "How long it lasts; 0 for an instant.",
        "wall_at": "The source's own clock at the start, where the source tells it.",
        "SignalReceived.wall_at": "When it happened, where media time is not known.",
        "media_duration_us": "Media that was archived in this run.",
        # media
        "segments": "The archived media that covers the span, in order.",
        "StreamEnded.segments": "How many segments were archived.",
        "epoch": "Counts the resets of the playlist's numbering.",
        "sequence": "The playlist's number of the segment; with `epoch` it names the segment for good.",
        "from_sequence": "First missing number of the playlist.",
        "to_sequence": "Last missing number of the playlist.",
        "key": "Object key of the file.",
        "init_key": "Object key of the initialisation section that an fmp4 segment needs.",
        "container": "How the segment is packed.",
        "discontinuity": "Whether timestamps or encoding change right before this segment.",
        "size_bytes": "Size of the file.",
        "sha256": "Hash of the file's content, in hexadecimal.",
        "width": "Width of the picture.",
        "height": "Height of the picture.",
        "name": "Name of the rendition, such as `720p`.",
        "video_key": "Object key of the MP4.",
        "thumbnail_key": "Object key of the picture at the peak.",
        "renditions": "The same clip in other qualities.",
        # source
        "source": "Where the media comes from.",
        "Source.kind": "How the source is read.",
        "sealed_url": "The address as ciphertext, which only our services can open.",
        "sealed_headers": "Headers for the source as ciphertext, which only our services can open.",
        "external_id": "The customer's own name for the stream, or that of its 100ms session.",
        # why
        "cause": f"{_WHY}.",
        "SegmentMissed.cause": f"{_WHY}: {_values(LossCause)}.",
        "StreamEnded.cause": f"{_WHY}: {_values(EndCause)}.",
        "reason": "Why, for people.",
        "CandidateScored.reason": "Why the provider thinks that the moment matters.",
        "HighlightEvent.reason": "Why the moment was kept.",
        "SegmentAnalyzed.reason": "Why the window was skipped or failed; empty where it was analysed.",
        "detail": "More about the cause, for people.",
        "failure_reason": "The most telling reason among the failed windows; empty where none failed.",
        "stage": "The step that failed.",
        "ClipFailed.code": "The kind of error, as a word that programs can compare.",
        # judging
        "windows": "Every window of the run; there will be no others.",
        "gap_indexes": "The index of every gap of the run.",
        "score": "The weighted score.",
        "scores": "Scores by dimension of the profile.",
        "confidence": "How sure the provider is.",
        "type": "The kind of moment, one of the profile's highlight types.",
        "title": "A title for people.",
        "description": "A sentence or two for people.",
        "tags": "Words to search and filter by.",
        "provider": "What judged: `signals` measures sound and picture, others are models.",
        "model": "The provider's model; empty where it has none.",
        "verdict": "What became of the window.",
        "candidates": "The candidates of the window; each has its `candidate.scored`.",
        "snap_points_us": "Cuts and pauses at which a clip begins or ends well.",
        "input_tokens": "Tokens that the model read.",
        "output_tokens": "Tokens that the model wrote.",
        "cost_microusd": "What the judgement cost.",
        "degraded": "Whether less was done than the quality tier promises.",
        "decision": "What the selection decided.",
        "rule": "The rule that decided.",
        "CandidateJudged.score": "The candidate's weighted score.",
        "against": "The other candidate or highlight that the rule compared with.",
        "explanation": "The decision in words, for people.",
        "final": "The highlights that stay, each at its last revision.",
        "windows_analysed": "How many windows were analysed.",
        "windows_skipped": "How many windows were skipped.",
        "windows_failed": "How many windows failed.",
        # signals, usage, organizations
        "SignalReceived.kind": "What kind of signal it is.",
        "weight": "How much the signal says that something happens.",
        "text": "What was said or shown.",
        "UsageRecorded.kind": "What was used.",
        "amount": "How much was used.",
        "unit": "What `amount` counts.",
        "subject": "What is erased.",
        "OrganizationChanged.version": "Rises with every change: keep the highest.",
        "plan": "The customer's plan.",
        "concurrent_streams": "How many streams may run at the same time.",
        "bucket": "The customer's own bucket; null for ours.",
        "suspended": "Whether the customer is suspended.",
    }
)

_UNITS_BY_ENDING: Mapping[str, str] = MappingProxyType(
    {"_us": "µs", "_bytes": "bytes", "_at": "UTC", "_tokens": "tokens", "_microusd": "10⁻⁶ US$"}
)
_UNITS_BY_NAME: Mapping[str, str] = MappingProxyType({"width": "pixels", "height": "pixels"})


def about(model: type[BaseModel | Enum]) -> str:
    """What an event, a part or an enumeration is, in a sentence; empty where nobody has said so."""
    text = vars(model).get("__doc__") or ABOUT.get(model.__name__, "")
    return " ".join(text.split())


def meaning(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    """What a field means; empty where nobody has said so."""
    own = field.description or ""
    if own and own != _OF_EVERY_MEDIA_TIME:
        return own
    specific = (f"{owner.__name__}.{name}" for owner in model.__mro__)
    return next((MEANINGS[key] for key in (*specific, name) if key in MEANINGS), own)


def unit(name: str) -> str:
    """The unit that a field's name says; empty where it has none."""
    endings = (words for ending, words in _UNITS_BY_ENDING.items() if name.endswith(ending))
    return _UNITS_BY_NAME.get(name) or next(endings, "")
