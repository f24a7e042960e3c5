"""Who sends each event, who receives it, by which exchange: the one table for topology and docs."""

from dataclasses import dataclass
from typing import Literal

from shared import events
from shared.events import Event, Lane

Service = Literal["gateway", "ingest", "analyzer", "selector", "clipper", "notifier"]
SERVICES: tuple[Service, ...] = ("gateway", "ingest", "analyzer", "selector", "clipper", "notifier")

PUBLIC_EXCHANGE = "tldr.events"
INTERNAL_EXCHANGE = "tldr.internal"


@dataclass(frozen=True)
class EventSpec:
    """One row of the table. `planned` names consumers whose code is still to come: they get no queue yet."""

    model: type[Event]
    producers: tuple[Service, ...]
    consumers: tuple[Service, ...]
    exchange: str = PUBLIC_EXCHANGE
    planned: tuple[Service, ...] = ()

    @property
    def name(self) -> str:
        return self.model.name


def _internal(
    model: type[Event],
    producers: tuple[Service, ...],
    consumers: tuple[Service, ...] = (),
    planned: tuple[Service, ...] = (),
) -> EventSpec:
    return EventSpec(model, producers, consumers, INTERNAL_EXCHANGE, planned)


EVENTS: tuple[EventSpec, ...] = (
    EventSpec(events.StreamOnline, ("gateway",), ("ingest", "selector")),
    EventSpec(events.StreamOffline, ("gateway",), ("ingest",)),
    EventSpec(events.SignalReceived, ("gateway", "ingest"), ("gateway",), planned=("selector",)),
    EventSpec(events.StreamFlowing, ("ingest",), ("gateway",)),
    EventSpec(events.SegmentReady, ("ingest",), ("analyzer", "selector", "gateway")),
    EventSpec(events.SegmentMissed, ("ingest",), ("selector", "gateway")),
    EventSpec(events.SegmentAnnotated, ("ingest",), ("gateway",), planned=("selector",)),
    EventSpec(events.SegmentRepaired, ("ingest",), ("selector", "gateway")),
    EventSpec(events.StreamStalled, ("ingest",), ("gateway",), planned=("selector",)),
    EventSpec(events.StreamResumed, ("ingest",), ("gateway",), planned=("selector",)),
    EventSpec(events.StreamEnded, ("ingest",), ("selector", "gateway")),
    EventSpec(events.CandidateScored, ("analyzer",), ("selector", "gateway")),
    EventSpec(events.SegmentAnalyzed, ("analyzer",), ("selector", "gateway", "ingest")),
    EventSpec(events.CandidateJudged, ("selector",), ("gateway",)),
    EventSpec(events.HighlightConfirmed, ("selector",), ("clipper", "gateway")),
    EventSpec(events.HighlightRevised, ("selector",), ("clipper", "gateway")),
    EventSpec(events.HighlightRetracted, ("selector",), ("gateway",), planned=("clipper",)),
    EventSpec(events.SelectionClosed, ("selector",), ("gateway",)),
    EventSpec(events.ClipReady, ("clipper",), ("gateway",)),
    EventSpec(events.ClipFailed, ("clipper",), ("gateway",)),
    EventSpec(
        events.StreamClosed,
        ("gateway",),
        ("ingest", "analyzer", "selector", "clipper"),
        planned=("notifier",),
    ),
    EventSpec(
        events.StreamErased,
        ("gateway",),
        (),
        planned=("ingest", "analyzer", "selector", "clipper", "notifier"),
    ),
    EventSpec(
        events.OrganizationChanged,
        ("gateway",),
        (),
        planned=("ingest", "analyzer", "selector", "clipper", "notifier"),
    ),
    EventSpec(
        events.UsageRecorded,
        ("ingest", "analyzer", "selector", "clipper", "notifier"),
        (),
        planned=("gateway",),
    ),
    _internal(events.RecordingAvailable, ("gateway",), ("ingest",)),
    _internal(events.EndpointChanged, ("gateway",), ("notifier",)),
    _internal(events.NotificationRequested, ("gateway",), ("notifier",)),
    _internal(events.DeliveryFinished, ("notifier",), ("gateway",)),
    _internal(events.SelectionRequested, ("gateway",), planned=("selector",)),
    _internal(events.SelectionProposed, ("selector",), planned=("gateway",)),
    _internal(events.FeedbackGiven, ("gateway",), planned=("selector",)),
    _internal(events.ExportRequested, ("gateway",), planned=("clipper",)),
    _internal(events.ExportProgressed, ("clipper",), planned=("gateway",)),
    _internal(events.ExportFinished, ("clipper",), planned=("gateway",)),
    _internal(
        events.ErasureDone, ("ingest", "analyzer", "selector", "clipper", "notifier"), planned=("gateway",)
    ),
    _internal(events.MessageParked, SERVICES, ("gateway",)),
)

_BY_NAME = {spec.name: spec for spec in EVENTS}


class UnknownEvent(LookupError):
    """No event of this name is in the contract."""


def spec_of(name: str) -> EventSpec:
    try:
        return _BY_NAME[name]
    except KeyError as error:
        raise UnknownEvent(f"no event {name!r} in the contract") from error


def routing_key(name: str, lane: Lane) -> str:
    return f"{name}.{lane.value}"


def queue_name(service: Service, name: str, lane: Lane, *, version: int = 1) -> str:
    """The queue's arguments cannot be changed in place, so its name carries a version."""
    return f"{service}.{name}.{lane.value}.v{version}"


def consumed_by(service: Service) -> tuple[EventSpec, ...]:
    return tuple(spec for spec in EVENTS if service in spec.consumers)


def active() -> tuple[EventSpec, ...]:
    """Events that somebody receives today; the others are declared for those who build on them."""
    return tuple(spec for spec in EVENTS if spec.consumers)
