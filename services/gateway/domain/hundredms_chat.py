"""The chat that 100ms records beside a stream, as CSV: read loosely, bounded, and turned into signals.

Documented columns: SenderPeerID, SenderName, SenderUserID, Roles, SentAt, Type, Message.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from io import StringIO
from itertools import islice
from typing import ClassVar

from gateway.domain.hundredms_values import moment_of, storable
from shared.errors import PermanentError
from shared.events import Lane, SignalReceived
from shared.ids import OrganizationId, StreamId, derived_id, event_id

MAX_MESSAGES = 50_000
MAX_TEXT = 2_000
MAX_CELL = 8_000  # longer than any text, so that what is cut off is beyond it
_SENDERS = ("senderpeerid", "senderuserid", "sendername")
_READ = ("sentat", "message", *_SENDERS)


class ChatUnreadable(PermanentError):
    """The file has no columns that we know."""

    code: ClassVar[str] = "chat_unreadable"


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    """One message. `ordinal` counts equal ones, so that each has an identity of its own."""

    sent_at: datetime
    sender: str
    text: str
    ordinal: int


@dataclass(frozen=True, kw_only=True)
class Chat:
    """`left_out` are lines without a readable moment or text, and what is beyond the limit."""

    messages: tuple[ChatMessage, ...]
    left_out: int


def read_chat(body: bytes) -> Chat:
    """Raises ChatUnreadable."""
    text = str(storable(body.decode("utf-8-sig", "replace")))
    lines = csv.reader(StringIO(text, newline=""))
    try:
        columns = _columns(next(lines, []))
        rows = (cells for cells in lines if cells)
        first = [_row(columns, cells) for cells in islice(rows, MAX_MESSAGES)]
        beyond = sum(1 for _ in rows)
    except csv.Error as error:
        raise ChatUnreadable(f"the chat is not CSV: {error}") from error
    messages = tuple(_messages(first))
    return Chat(messages=messages, left_out=len(first) + beyond - len(messages))


def _columns(header: list[str]) -> dict[str, int]:
    """Where each column that we read stands: no line makes more of itself than these."""
    named = [name.strip().lower() for name in header]
    columns = {name: named.index(name) for name in _READ if name in named}
    if not {"sentat", "message"} <= set(columns):
        raise ChatUnreadable("the chat has no columns SentAt and Message")
    return columns


def _row(columns: Mapping[str, int], cells: list[str]) -> dict[str, str]:
    return {name: cells[place][:MAX_CELL] for name, place in columns.items() if place < len(cells)}


def _messages(rows: Iterable[Mapping[str, str]]) -> Iterator[ChatMessage]:
    equal: Counter[tuple[datetime, str, str]] = Counter()
    for row in rows:
        sent_at, text = moment_of(row.get("sentat")), row.get("message", "").strip()[:MAX_TEXT]
        if sent_at is None or not text:
            continue
        sender = _sender(row)
        yield ChatMessage(sent_at=sent_at, sender=sender, text=text, ordinal=equal[(sent_at, sender, text)])
        equal[(sent_at, sender, text)] += 1


def _sender(row: Mapping[str, str]) -> str:
    return next((row[name].strip() for name in _SENDERS if row.get(name, "").strip()), "")


def chat_signal(
    message: ChatMessage,
    *,
    stream_id: StreamId,
    organization_id: OrganizationId,
    run: int,
    lane: Lane,
    at: datetime,
) -> SignalReceived:
    """The same event, whichever recording brings the message. Authors become pseudonyms of this stream."""
    said = f"{message.sent_at.isoformat()}|{message.sender}|{message.text}"
    digest = sha256(said.encode()).hexdigest()
    return SignalReceived(
        event_id=event_id(stream_id, SignalReceived.name, run, "chat", digest, message.ordinal),
        organization_id=organization_id,
        occurred_at=at,
        lane=lane,
        stream_id=stream_id,
        run=run,
        kind="chat",
        wall_at=message.sent_at,
        text=message.text,
        origin="recording",
        author=derived_id("usr", stream_id, message.sender) if message.sender else "",
    )
