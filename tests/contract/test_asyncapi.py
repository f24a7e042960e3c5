"""The AsyncAPI document: whole, right about what is sent, and held together by references that resolve."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from jsonschema import Draft7Validator
from pydantic import Field

from localcluster import asyncapi as subject
from localcluster.documents import DOCUMENTS
from localcluster.event_words import MEANINGS, about, meaning
from shared import events
from shared.contract import EVENTS, INTERNAL_EXCHANGE, PUBLIC_EXCHANGE, EventSpec, active, routing_key
from shared.events import Lane, Part
from tests.conftest import REPOSITORY

DOCUMENT: dict[str, Any] = json.loads((REPOSITORY / "docs" / "asyncapi.json").read_text(encoding="utf-8"))
SAMPLES = REPOSITORY / "tests" / "samples" / "events"
PUBLIC = [spec for spec in active() if spec.exchange == PUBLIC_EXCHANGE]
NAMES = [spec.name for spec in PUBLIC]


def resolved(reference: str) -> Any:
    found: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for name, value in node.items() if name == "$ref")
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from references(child)


def validator(name: str) -> Draft7Validator:
    """A judge of one event's payload, with all schemas at hand."""
    payload = DOCUMENT["components"]["messages"][name]["payload"]
    return Draft7Validator({**payload, "components": DOCUMENT["components"]})


def test_every_public_event_that_is_sent_is_there_and_no_other() -> None:
    assert NAMES == list(DOCUMENT["components"]["messages"])
    assert [*NAMES, subject.QUEUE] == list(DOCUMENT["channels"])
    assert [*(f"receive.{name}" for name in NAMES), "consume"] == list(DOCUMENT["operations"])


def test_nothing_internal_is_told() -> None:
    text = json.dumps(DOCUMENT)
    internal = [spec for spec in EVENTS if spec.exchange == INTERNAL_EXCHANGE]
    told = [spec.name for spec in internal if spec.name in text or spec.model.__name__ in text]
    assert [] == told
    assert INTERNAL_EXCHANGE not in text


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert found
    for reference in found:
        assert resolved(reference), reference


def test_every_schema_is_used() -> None:
    used = {reference.rsplit("/", 1)[-1] for reference in references(DOCUMENT)}
    assert set() == DOCUMENT["components"]["schemas"].keys() - used


@pytest.mark.parametrize("spec", PUBLIC, ids=NAMES)
def test_addresses_are_the_routing_keys_of_all_lanes(spec: EventSpec) -> None:
    channel = DOCUMENT["channels"][spec.name]
    lanes = channel["parameters"]["lane"]["enum"]
    keys = [channel["address"].replace("{lane}", lane) for lane in lanes]
    assert [routing_key(spec.name, lane) for lane in Lane] == keys
    assert PUBLIC_EXCHANGE == channel["bindings"]["amqp"]["exchange"]["name"]
    assert list(spec.producers) == channel["x-producers"]


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_the_examples_and_obey_their_schema(name: str) -> None:
    examples = {
        each["name"]: each["payload"] for each in DOCUMENT["components"]["messages"][name]["examples"]
    }
    samples = {path.stem: json.loads(path.read_bytes()) for path in SAMPLES.glob(f"{name}*.json")}
    assert samples
    assert samples == examples
    for payload in samples.values():
        assert [] == [error.message for error in validator(name).iter_errors(payload)]


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_refuses_what_lacks_a_required_field_or_has_a_wrong_one(name: str) -> None:
    sample = json.loads((SAMPLES / f"{name}.json").read_bytes())
    without = {field: value for field, value in sample.items() if field != "event_id"}
    assert not validator(name).is_valid(without)
    assert not validator(name).is_valid(sample | {"lane": "fast"})
    assert validator(name).is_valid(sample | {"added_in_the_future": 1})


def test_examples_of_headers_obey_their_schema() -> None:
    judge = Draft7Validator(DOCUMENT["components"]["schemas"]["Headers"])
    for message in DOCUMENT["components"]["messages"].values():
        for example in message["examples"]:
            assert judge.is_valid(example["headers"])
    assert not judge.is_valid({"traceparent": "00-0"})


@pytest.mark.parametrize("spec", PUBLIC, ids=NAMES)
def test_a_message_is_correlated_by_an_id_that_it_has(spec: EventSpec) -> None:
    message = DOCUMENT["components"]["messages"][spec.name]
    location = resolved(message["correlationId"]["$ref"])["location"]
    assert location.removeprefix("$message.payload#/") in resolved(message["payload"]["$ref"])["required"]


# -- every word is said ------------------------------------------------------------------------------


def public_models() -> list[type[Part]]:
    """Events of the public exchange, also those that nobody sends yet, and the parts that they name."""
    models: list[type[Part]] = [spec.model for spec in EVENTS if spec.exchange == PUBLIC_EXCHANGE]
    named = {name for model in models for name in model.model_json_schema().get("$defs", {})}
    found = [getattr(events, name) for name in sorted(named)]
    return models + [model for model in found if issubclass(model, Part)]


def test_every_public_event_part_and_field_has_a_meaning() -> None:
    silent = [model.__name__ for model in public_models() if not about(model)]
    silent += [
        f"{model.__name__}.{name}"
        for model in public_models()
        for name, field in model.model_fields.items()
        if not meaning(model, name, field)
    ]
    assert [] == silent, "describe them in shared/events.py, or in localcluster/event_words.py"


def test_every_meaning_belongs_to_a_field() -> None:
    models = [model for model in vars(events).values() if isinstance(model, type) and issubclass(model, Part)]
    fields = {name for model in models for name in model.model_fields}
    fields |= {f"{model.__name__}.{name}" for model in models for name in model.model_fields}
    assert set() == MEANINGS.keys() - fields


# -- drift -------------------------------------------------------------------------------------------


def test_a_change_of_an_event_changes_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed(events.HighlightConfirmed):
        """What an event would be with one field more and a changed one."""

        subtitle: str
        title: Annotated[str, Field(max_length=9)]

    monkeypatch.setattr(events, "Changed", Changed, raising=False)
    (before,) = (subject.asyncapi((spec,)) for spec in PUBLIC if spec.model is events.HighlightConfirmed)
    after = subject.asyncapi((EventSpec(Changed, ("selector",), ("gateway",)),))
    old, new = (
        document["components"]["schemas"][name]
        for document, name in ((before, "HighlightConfirmed"), (after, "Changed"))
    )
    assert {"subtitle"} == new["properties"].keys() - old["properties"].keys()
    assert {"subtitle"} == set(new["required"]) - set(old["required"])
    assert 9 == new["properties"]["title"]["maxLength"]


def test_document_and_page_are_checked_for_drift() -> None:
    folder = "services/gateway/routes/docs_page"
    assert {"docs/asyncapi.json", f"{folder}/asyncapi.json", f"{folder}/events.html"} <= DOCUMENTS.keys()
