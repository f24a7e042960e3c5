"""The event contract: samples parse for ever, the table is whole, producers and consumers are who it says."""

import ast
import json

import pytest
from pydantic import BaseModel

from shared import events
from shared.contract import (
    EVENTS,
    INTERNAL_EXCHANGE,
    SERVICES,
    Service,
    active,
    consumed_by,
    queue_name,
    spec_of,
)
from shared.events import Event, Lane
from tests.conftest import REPOSITORY

SAMPLES = REPOSITORY / "tests" / "samples" / "events"
NAMES = [spec.name for spec in EVENTS]


def _concrete(model: type[Event]) -> list[type[Event]]:
    found = [model] if isinstance(vars(model).get("name"), str) else []
    return found + [each for child in model.__subclasses__() for each in _concrete(child)]


def test_every_event_class_stands_in_the_table_once() -> None:
    assert sorted(NAMES) == sorted(model.name for model in _concrete(Event))


@pytest.mark.parametrize("name", NAMES)
def test_samples_of_every_version_parse(name: str) -> None:
    paths = sorted(SAMPLES.glob(f"{name}*.json"))
    assert paths, f"no sample of {name} in tests/samples/events"
    for path in paths:
        spec_of(name).model.model_validate_json(path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_unknown_keys_of_a_newer_producer_are_ignored(name: str) -> None:
    body = json.loads((SAMPLES / f"{name}.json").read_bytes())
    spec_of(name).model.model_validate(body | {"added_in_the_future": {"a": 1}})


@pytest.mark.parametrize("name", NAMES)
def test_events_are_frozen(name: str) -> None:
    event = spec_of(name).model.model_validate_json((SAMPLES / f"{name}.json").read_bytes())
    with pytest.raises(ValueError, match="frozen"):
        event.lane = Lane.VOD  # type: ignore[misc]


def test_nothing_on_the_public_exchange_carries_a_secret_in_the_clear() -> None:
    for spec in EVENTS:
        if spec.exchange != INTERNAL_EXCHANGE:
            assert not [name for name in _fields(spec.model) if "secret" in name or name == "headers"]


def _fields(model: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    for name, field in model.model_fields.items():
        names.add(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names |= _fields(field.annotation)
    return names


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_subscribes_to_exactly_what_the_contract_sends_it(service: Service) -> None:
    source = (REPOSITORY / "services" / service / "subscribers.py").read_text()
    named = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    named |= {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    subscribed = {model.name for model in _concrete(Event) if model.__name__ in named}
    assert {spec.name for spec in consumed_by(service)} == subscribed


def test_queues_have_one_name_for_each_service_event_and_lane() -> None:
    names = [queue_name(s, spec.name, lane) for spec in active() for s in spec.consumers for lane in Lane]
    assert len(names) == len(set(names))


def test_media_times_are_whole_microseconds() -> None:
    for spec in EVENTS:
        for name, field in spec.model.model_fields.items():
            if name.endswith("_us"):
                assert "float" not in str(field.annotation), f"{spec.name}.{name}"


def test_event_module_names_its_classes_after_their_events() -> None:
    for model in _concrete(Event):
        assert model.name.replace(".", "") == model.__name__.lower()
    assert events.Event in Event.__mro__
