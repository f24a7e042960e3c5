"""The page that shows the AsyncAPI document to people: plain HTML that needs no script and no other host.

Made from the document alone, so that page and document cannot differ. Every text is escaped.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from itertools import groupby
from typing import Any

from localcluster.asyncapi import QUEUE, asyncapi, public_events

Document = Mapping[str, Any]

GENERATED = "<!-- Generated from the code by `make openapi`. Change the code, not this file. -->"
COMMON = ("event_id", "organization_id", "stream_id", "occurred_at", "lane")
_MANY: Mapping[str, str] = {"integer": "integers", "number": "numbers"}
_VOID = frozenset({"meta", "link"})
_CODE = re.compile(r"`([^`]+)`")
_JSON = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*|true|false|null)')


class Html(str):
    """Text that is markup already; every other text is escaped when it becomes part of an element."""

    __slots__ = ()


Content = str | Html | Iterable["Content"]


def element(tag: str, *children: Content, **attributes: str) -> Html:
    """One element; names of attributes lose a trailing `_`."""
    written = "".join(f' {name.rstrip("_")}="{escape(value)}"' for name, value in attributes.items())
    end = "" if tag in _VOID else f"</{tag}>"
    return Html(f"<{tag}{written}>{_joined(children)}{end}")


def _joined(content: Content) -> str:
    if isinstance(content, Html):
        return str(content)
    if isinstance(content, str):
        return escape(content)
    return "".join(_joined(each) for each in content)


def events_page() -> str:
    return page(asyncapi(public_events()))


def page(document: Document) -> str:
    body = (
        element("a", "To the events", href="#flow", class_="skip"),
        element("div", _navigation(document), _main(document), class_="columns"),
    )
    html = element("html", _head(document), "\n", element("body", *body), lang="en")
    return f"<!doctype html>\n{GENERATED}\n{html}\n"


def _head(document: Document) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", document["info"]["title"]),
        element("link", rel="stylesheet", href="events.css"),
    )


def _navigation(document: Document) -> Html:
    channels = document["channels"]
    groups = groupby(_events(document), key=lambda name: str(channels[name]["x-producers"][0]))
    lists = [(element("h2", f"from {sender}"), _link_list(names)) for sender, names in groups]
    places = (
        ("#bind", "Bind a queue"),
        ("#message", "A message"),
        ("#flow", "All events"),
        ("#every", "Every event"),
    )
    top = element("ul", *(element("li", element("a", words, href=place)) for place, words in places))
    parts = (element("h2", "Parts"), _link_list(_parts(document)))
    return element("nav", top, *lists, *parts)


def _link_list(names: Iterable[str]) -> Html:
    return element("ul", *(element("li", element("a", name, href=f"#{name}")) for name in names), "\n")


def _main(document: Document) -> Html:
    sections = (
        _header(document),
        _bind(document),
        _message(document),
        _flow(document),
        _every(document),
        *(_event(document, name) for name in _events(document)),
        element("h2", "Parts of events", id="parts"),
        *(_part(document, name) for name in _parts(document)),
    )
    return element("main", *((section, "\n") for section in sections))


# -- what holds for all events -----------------------------------------------------------------------


def _header(document: Document) -> Html:
    info = document["info"]
    return element(
        "header",
        element("h1", info["title"], " ", element("small", info["version"])),
        _prose(info["description"]),
        element(
            "p",
            element("a", "asyncapi.json", href="asyncapi.json"),
            " holds the same for programs. Webhooks and the HTTP API have ",
            element("a", "a page of their own", href="../docs"),
            ".",
            class_="quiet",
        ),
    )


def _prose(text: str) -> Iterator[Html]:
    """Paragraphs and lists of the document's Markdown, which has nothing else but code."""
    for block in re.split(r"\n{2,}", text.strip()):
        if block.startswith("- "):
            yield element("ul", *(element("li", _words(line[2:])) for line in block.splitlines()))
        else:
            yield element("p", _words(block))


def _words(text: str) -> list[Content]:
    """Text in which what stands between backticks is code."""
    return [element("code", part) if at % 2 else part for at, part in enumerate(_CODE.split(text))]


def _bind(document: Document) -> Html:
    exchange = document["channels"][_events(document)[0]]["bindings"]["amqp"]["exchange"]
    rows = (
        ("Exchange", (element("code", exchange["name"]), f", {exchange['type']}, durable")),
        ("Routing key", (element("code", "event.lane"), ": ", _keys(document, _events(document)[0]))),
        ("All lanes of an event", element("code", f"{_events(document)[0]}.#")),
        ("One lane of everything", element("code", "#.live")),
        ("Your queue", _words(f"{document['channels'][QUEUE]['description']} Name it `you.purpose.v1`.")),
    )
    return element("section", element("h2", "Bind a queue"), _pairs(rows), id="bind")


def _pairs(rows: Iterable[tuple[str, Content]]) -> Html:
    cells = (element("tr", element("th", name, scope="row"), element("td", value)) for name, value in rows)
    return element("table", *cells, class_="pairs")


def _message(document: Document) -> Html:
    properties = [(name, _words(words)) for name, words in document["x-amqp-properties"].items()]
    headers = document["components"]["schemas"]["Headers"]["properties"]
    told = [(f"header {name}", _words(schema["description"])) for name, schema in headers.items()]
    return element(
        "section",
        element("h2", "A message"),
        element("p", "The body is one JSON object, the event. Beside it the message has:"),
        _pairs([*properties, *told]),
        id="message",
    )


def _flow(document: Document) -> Html:
    rows = [_flow_row(document, name) for name in _events(document)]
    return element(
        "section",
        element("h2", "All events"),
        element("p", "In the order in which a stream brings them about."),
        _table(("event", "what it says", "from", "within the product, to"), rows, kind="flow"),
        id="flow",
    )


def _flow_row(document: Document, name: str) -> list[Content]:
    channel = document["channels"][name]
    senders, receivers = channel["x-producers"], channel["x-consumers"]
    link = element("a", element("code", name), href=f"#{name}")
    return [link, _words(channel["description"]), ", ".join(senders), ", ".join(receivers)]


def _every(document: Document) -> Html:
    return element(
        "section",
        element("h2", "Fields of every event"),
        _fields(_payload(document, _events(document)[0]), only=COMMON),
        id="every",
    )


# -- one event, one part -----------------------------------------------------------------------------


def _event(document: Document, name: str) -> Html:
    channel, message = document["channels"][name], document["components"]["messages"][name]
    facts = (
        ("Sent by", ", ".join(channel["x-producers"])),
        ("Routing keys", _keys(document, name)),
    )
    return element(
        "section",
        _title(name),
        element("p", _words(message["summary"])),
        _pairs(facts),
        _fields(_payload(document, name), beside=COMMON),
        element("p", "And the ", element("a", "fields of every event", href="#every"), ".", class_="quiet"),
        *(_example(example) for example in message["examples"]),
        id=name,
        class_="event",
    )


def _title(name: str) -> Html:
    return element("h2", element("a", element("code", name), href=f"#{name}", title="Link to this place"))


def _keys(document: Document, name: str) -> list[Content]:
    channel = document["channels"][name]
    keys = [channel["address"].replace("{lane}", lane) for lane in channel["parameters"]["lane"]["enum"]]
    return [(element("code", key), " ") for key in keys]


def _example(example: Document) -> Html:
    text = json.dumps(example["payload"], indent=2, ensure_ascii=False)
    return element("details", element("summary", "Example"), element("pre", element("code", _coloured(text))))


def _coloured(text: str) -> Html:
    """JSON with its names, texts and other values marked."""
    pieces, end = [], 0
    for found in _JSON.finditer(text):
        pieces.append(escape(text[end : found.start()]))
        kind = "name" if found[2] else "text" if found[1] else "value"
        pieces.append(element("span", found[1] or found[3], class_=kind) + escape(found[2] or ""))
        end = found.end()
    return Html("".join(pieces) + escape(text[end:]))


def _part(document: Document, name: str) -> Html:
    schema = document["components"]["schemas"][name]
    return element(
        "section", _title(name), element("p", _words(schema["description"])), _part_body(schema), id=name
    )


def _part_body(schema: Document) -> Html:
    if "properties" in schema:
        return _fields(schema)
    return element("p", "One of ", [(element("code", value), " ") for value in schema["enum"]])


def _fields(schema: Document, *, only: Iterable[str] = (), beside: Iterable[str] = ()) -> Html:
    properties, required = schema["properties"], schema.get("required", ())
    names = [name for name in (only or properties) if name not in beside]
    rows = [_field_row(name, properties[name], required=name in required) for name in names]
    return _table(("field", "type", "unit", "required", "meaning"), rows, kind="fields")


def _field_row(name: str, schema: Document, *, required: bool) -> list[Content]:
    needed = "yes" if required else ("no", _default(schema))
    meaning = _words(schema.get("description", ""))
    return [element("code", name), _type(schema), schema.get("x-unit", ""), needed, meaning]


def _default(schema: Document) -> Content:
    if schema.get("default") is None:
        return ""
    return (", else ", element("code", json.dumps(schema["default"], ensure_ascii=False)))


def _table(header: Iterable[str], rows: Iterable[Iterable[Content]], *, kind: str) -> Html:
    head = element("thead", element("tr", *(element("th", words, scope="col") for words in header)))
    body = element("tbody", *(element("tr", *(element("td", cell) for cell in row)) for row in rows))
    return element("div", element("table", head, body), class_=f"wide {kind}")


# -- types in words ----------------------------------------------------------------------------------


def _type(schema: Document) -> list[Content]:
    if "anyOf" in schema:
        options = {_joined(_type(option)): option for option in schema["anyOf"]}
        kinds = [_type(option) for option in options.values()]
        return [*kinds[0], *((" or ", kind) for kind in kinds[1:])]
    (reference,) = schema.get("allOf", [schema])
    if "$ref" in reference:
        name = reference["$ref"].rsplit("/", 1)[-1]
        return [element("a", name, href=f"#{name}")]
    if "enum" in schema:
        return [(element("code", value), " ") for value in schema["enum"]]
    return [*_plain_type(schema), _limits(schema)]


def _plain_type(schema: Document) -> list[Content]:
    if schema["type"] == "array":
        return ["list of ", _MANY.get(schema["items"].get("type"), _type(schema["items"]))]
    if schema["type"] == "object":
        return ["map of text to ", *_type(schema["additionalProperties"])]
    words = {"string": "text", "uuid": "UUID", "date-time": "time"}
    kind: str = schema.get("format", schema["type"])
    return [words.get(kind, kind)]


def _limits(schema: Document) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f", {schema['minimum']} to {schema['maximum']}"
    words = {
        "minimum": " ≥ {}",
        "exclusiveMinimum": " > {}",
        "maxLength": ", at most {} characters",
        "minItems": ", at least {}",
    }
    return "".join(text.format(schema[name]) for name, text in words.items() if name in schema)


def _payload(document: Document, name: str) -> Document:
    reference = document["components"]["messages"][name]["payload"]["$ref"]
    found: Document = document["components"]["schemas"][reference.rsplit("/", 1)[-1]]
    return found


def _events(document: Document) -> list[str]:
    return list(document["components"]["messages"])


def _parts(document: Document) -> list[str]:
    payloads = {message["payload"]["$ref"] for message in document["components"]["messages"].values()}
    names = [name for name in document["components"]["schemas"] if name != "Headers"]
    return [name for name in names if f"#/components/schemas/{name}" not in payloads]
