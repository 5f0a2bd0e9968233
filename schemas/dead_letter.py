"""Creates dead letters: records that could not be used, with the reason.

The record's shape is the contract ``dead-letters``; frozen API. A dead letter can be replayed, so
its payload is the refused value as it was. Where that does not fit the topic, the head of it is
kept, the message says so, and the record itself is still where ``topic``, ``partition`` and
``offset`` point to: nothing is cut silently, and :func:`payload_is_whole` recognizes it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.codec import Encoder
from schemas.records import DeadLetter

MAX_MESSAGE_CHARS = 1_000
MAX_EVENT_ID_CHARS = 1_000
MAX_VALUE_BYTES = 2 * 1024 * 1024
"""What the topic ``dead-letters`` carries: ``maxBytes`` of its contract, header included."""

_MAX_KEY_BYTES = 64 * 1024
_CUT = " [cut: "
# Registry header (18), and at the most 10 bytes for each of the numbers and of the lengths.
_FIXED_BYTES = 256


class Step(StrEnum):
    """Which step refused the record; ``publish``: a back end, before it was on a topic."""

    DECODE = "decode"
    DELIVER = "deliver"
    PUBLISH = "publish"


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The refused record as Kafka delivered it; ``timestamp_ms`` since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    payload: bytes | None

    @property
    def origin(self) -> str:
        """Where it was read: topic/partition/offset, as :func:`source_record` takes it."""
        return f"{self.topic}/{self.partition}/{self.offset}"


def source_record(
    key: bytes | None, value: bytes | None, origin: str, timestamp_ms: int
) -> SourceRecord:
    """The record that was read from ``origin``: topic/partition/offset; ValueError for another."""
    topic, partition, offset = origin.split("/")
    return SourceRecord(topic, int(partition), int(offset), timestamp_ms, key, value)


def dead_letter(
    source: SourceRecord,
    step: Step | str,
    code: str,
    message: str,
    first_seen_ms: int,
    event_id: str | None = None,
    *,
    max_value_bytes: int = MAX_VALUE_BYTES,
) -> DeadLetter:
    """The dead letter of a refused record, as the contract ``dead-letters`` version 1 has it.

    ``code`` is machine-readable (a :class:`schemas.invalid.Reason`, or a service's error code),
    ``message`` is for a person and is shortened to 1,000 characters. ``first_seen_ms`` is the time
    of the refusal. The dead letter encodes to at most ``max_value_bytes``. Raises ValueError for
    an unknown step, never for what the record holds.
    """
    step = Step(step)
    # Text that Avro cannot write (half of a surrogate pair, as in a repr of broken JSON) would
    # make a dead letter that is refused itself.
    message, code, topic = _writable(message), _writable(code), _writable(source.topic)
    event_id = None if event_id is None else _writable(event_id)[:MAX_EVENT_ID_CHARS]
    code = code[:MAX_MESSAGE_CHARS]
    notes = []

    key = source.key
    if key is not None and len(key) > _MAX_KEY_BYTES:
        notes.append(_cut_note("key", key, _MAX_KEY_BYTES))
        key = key[:_MAX_KEY_BYTES]

    payload = source.payload
    texts = sum(len(text.encode()) for text in (topic, code, event_id or ""))
    # A character has at most 4 bytes in UTF-8; the message may yet get longer by a note.
    room = max_value_bytes - _FIXED_BYTES - texts - 4 * MAX_MESSAGE_CHARS - len(key or b"")
    if payload is not None and len(payload) > room:
        notes.append(_cut_note("payload", payload, max(room, 0)))
        payload = payload[: max(room, 0)]

    note = "".join(notes)
    return {
        "topic": topic,
        "partition": source.partition,
        "offset": source.offset,
        "timestamp": source.timestamp_ms,
        "key": key,
        "payload": payload,
        "step": str(step),
        "error_code": code,
        "message": _shorten(message, MAX_MESSAGE_CHARS - len(note)) + note,
        "event_id": event_id,
        "first_seen": first_seen_ms,
    }


class DeadLetters:
    """Creates the dead letters of one step as values of their topic, and counts them by code.

    ``latest_code`` is the code of the last one.

    ``encoder`` is that of the contract ``dead-letters``, ``clock`` returns milliseconds since the
    epoch.
    """

    def __init__(self, encoder: Encoder, step: Step, clock: Callable[[], int]) -> None:
        self._encoder = encoder
        self._step = step
        self._clock = clock
        self.counts: dict[str, int] = {}
        self.latest_code = ""

    def encode(
        self, source: SourceRecord, code: str, message: str, event_id: str | None = None
    ) -> bytes:
        """The value of the dead letter of a record."""
        self.counts[code] = self.counts.get(code, 0) + 1
        self.latest_code = code
        record = dead_letter(source, self._step, code, message, self._clock(), event_id)
        return self._encoder.encode(record)


def payload_is_whole(letter: DeadLetter) -> bool:
    """Whether key and payload of a dead letter are the refused record's, byte for byte.

    Otherwise it must not be replayed; its record is read from the source topic.
    """
    # Only our own note ends a message with "]" after the marker, at a length that was cut.
    tail = str(letter["message"]).rpartition(_CUT)[2]
    kept = {f"payload {len(letter['payload'] or b'')} of ", f"key {len(letter['key'] or b'')} of "}
    return not (tail.endswith("]") and any(tail.startswith(start) for start in kept))


def without_values(message: str, values: Mapping[str, Any]) -> str:
    """A message in which each of the values, by field, is replaced by its field's name.

    A service repeats what it refuses, and a message is read by more people than a payload.
    """
    fields = {text: name for name, value in values.items() for text in _texts(value)}
    if not fields:
        return message
    longest_first = "|".join(map(re.escape, sorted(fields, key=len, reverse=True)))
    return re.sub(
        rf"(?<!\w)(?:{longest_first})(?!\w)", lambda match: f"<{fields[match[0]]}>", message
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif value is not None and not isinstance(value, bool) and str(value):
        yield str(value)


def _cut_note(what: str, value: bytes, kept: int) -> str:
    digest = hashlib.sha256(value).hexdigest()
    return f"{_CUT}{what} {kept} of {len(value)} bytes, sha256 {digest}]"


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _writable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
