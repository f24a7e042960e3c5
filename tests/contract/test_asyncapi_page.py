"""The page of the events: made from the document, escaped, whole, and in need of nothing else."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gateway.routes import docs
from localcluster.asyncapi import asyncapi, public_events
from localcluster.events_page import COMMON, element, events_page, page
from shared.contract import EventSpec
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "services" / "gateway" / "routes" / "docs_page"
VOID = {"meta", "link"}


class Reader(HTMLParser):
    """Collects what the tests ask for; an end tag that ends nothing open is a fault."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, attribute: str) -> list[str]:
        return [found for _, attributes in self.tags if (found := attributes.get(attribute))]


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(events_page())


def test_it_is_well_formed_and_names_each_place_once(reader: Reader) -> None:
    ids = reader.values("id")
    assert [] == reader.open
    assert len(ids) == len(set(ids))


def test_every_link_leads_to_a_place_or_a_neighbour(reader: Reader) -> None:
    ids = set(reader.values("id"))
    links = set(reader.values("href"))
    assert set() == {link.removeprefix("#") for link in links if link.startswith("#")} - ids
    assert {"events.css", "asyncapi.json", "../docs"} == {link for link in links if not link.startswith("#")}


def test_it_has_no_script_no_inline_style_and_no_other_host(reader: Reader) -> None:
    names = {name for _, attributes in reader.tags for name in attributes}
    assert not {tag for tag, _ in reader.tags} & {"script", "style", "img", "iframe", "form"}
    assert not {name for name in names if name.startswith("on") or name in ("style", "src")}
    assert not re.search(r"url\(|@import|//", (FOLDER / "events.css").read_text(encoding="utf-8"))


@pytest.mark.parametrize("spec", public_events(), ids=lambda spec: spec.name)
def test_it_shows_every_event_with_its_keys_senders_and_fields(spec: EventSpec) -> None:
    (section,) = re.findall(rf'<section id="{spec.name}" .*?</section>', events_page(), re.DOTALL)
    own = [name for name in spec.model.model_fields if name not in COMMON]
    for word in (f"{spec.name}.live", f"{spec.name}.vod", *own):
        assert f"<code>{word}</code>" in section
    assert all(sender in section for sender in spec.producers)


def test_examples_are_shown_as_they_are(reader: Reader) -> None:
    text = "".join(reader.words)
    for message in asyncapi(public_events())["components"]["messages"].values():
        for example in message["examples"]:
            assert json.dumps(example["payload"], indent=2, ensure_ascii=False) in text


def with_text(node: Any, text: str) -> Any:
    """The document with `text` at the end of every description and summary, and in every example."""
    if isinstance(node, dict):
        told = {"description", "summary"}
        return {
            name: f"{value} {text}" if name in told and isinstance(value, str) else with_text(value, text)
            for name, value in node.items()
        }
    return [with_text(each, text) for each in node] if isinstance(node, list) else node


def test_words_and_examples_cannot_become_markup() -> None:
    evil = '<script>alert("x")</script> `<b>` & " \' ]]>'
    html = page(with_text(asyncapi(public_events()), evil))

    assert "<script" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in html


def test_elements_escape_texts_and_attributes() -> None:
    made = element("a", "<&>", element("b", '"'), href='"><i>', class_="x")
    assert '<a href="&quot;&gt;&lt;i&gt;" class="x">&lt;&amp;&gt;<b>&quot;</b></a>' == made


@pytest.mark.parametrize(
    ("path", "name", "media_type"),
    [
        ("/docs/events", "events.html", "text/html; charset=utf-8"),
        ("/docs/events.css", "events.css", "text/css; charset=utf-8"),
        ("/docs/asyncapi.json", "asyncapi.json", "application/json"),
    ],
)
def test_the_gateway_serves_it_under_a_policy_that_lets_nothing_else_in(
    path: str, name: str, media_type: str
) -> None:
    app = FastAPI()
    app.include_router(docs.router)
    answer = TestClient(app).get(path)

    assert (200, media_type) == (answer.status_code, answer.headers["content-type"])
    assert (FOLDER / name).read_bytes() == answer.content
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe-inline" not in answer.headers["content-security-policy"]
