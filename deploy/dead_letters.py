"""Dead letters: reading, counting and describing them, and publishing the records again."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, cast
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, Message

from connectors.catalog.pii import PiiClass, highest_class
from connectors.clock import now_ms
from schemas import records, wire
from schemas.codec import Decoder, SchemaLookup
from schemas.dead_letter import Step, payload_is_whole
from schemas.errors import TunemeshError
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contracts, Role, load_contracts
from verification.endpoints import Endpoints
from verification.positions import (
    FLUSH_SECONDS,
    TopicReader,
    create_producer,
    produce,
    topic_beginnings,
)
from verification.progress import Progress, silent
from verification.progress import Step as ProgressStep
from verification.replay import connect_registry

REPLAYED_FROM_HEADER = "tunemesh-replayed-from"
"""The position at which a replayed record was rejected: topic:partition:offset."""

MAX_SHOWN_BYTES = 512

KEPT_MS = 31 * 86_400_000
"""How long a replay is recorded: a day longer than the topic keeps the dead letter."""


class DeadLetterError(TunemeshError):
    """A dead letter cannot be found, decoded or replayed."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter; topic, partition and offset are those of the rejected record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    payload: bytes | None
    step: str
    error_code: str
    message: str
    event_id: str | None
    first_seen: int

    @property
    def id(self) -> str:
        """topic:partition:offset of the rejected record."""
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters of one topic, step and reason; ``replayed``: how many of them were replayed."""

    topic: str
    step: str
    error_code: str
    count: int
    replayed: int
    latest: DeadLetter


@dataclass(frozen=True, slots=True)
class Replayed:
    """Ids of the dead letters that were replayed, and of the others.

    ``skipped``: replayed before. ``unpublished``: refused by a back end, so they are on no topic.
    """

    replayed: tuple[str, ...]
    skipped: tuple[str, ...]
    unpublished: tuple[str, ...] = ()


def read_dead_letters(
    endpoints: Endpoints,
    *,
    registry: SchemaLookup | None = None,
    contracts: Contracts | None = None,
) -> list[DeadLetter]:
    """Return all dead letters on the topic, the oldest first.

    A record may have several over restarts of a job: the first one is returned. Records of the same
    position have different timestamps when the topic was created anew.
    """
    contracts = contracts or load_contracts()
    contract = contracts.only(Role.DEAD_LETTER)
    decoder = Decoder(contract, registry or connect_registry(endpoints))
    start = topic_beginnings(endpoints.bootstrap_servers, [contract.topic])[contract.topic]
    letters: dict[tuple[str, int], DeadLetter] = {}
    with TopicReader(endpoints.bootstrap_servers, contract.topic, start) as reader:
        for message in reader.read():
            try:
                record = decoder.decode(message.value())
            except InvalidRecord as error:
                position = f"{message.topic()}:{message.partition()}:{message.offset()}"
                raise DeadLetterError(
                    f"the dead letter at {position} does not decode: {error}"
                ) from None
            letter = DeadLetter(**record)
            record_id = letter.id, letter.timestamp
            first = letters.setdefault(record_id, letter)
            if letter.first_seen < first.first_seen:
                letters[record_id] = letter
    return sorted(letters.values(), key=lambda letter: (letter.first_seen, letter.id))


def select(
    letters: Iterable[DeadLetter], reason: str | None = None, ids: Collection[str] = ()
) -> list[DeadLetter]:
    """Return the dead letters with a reason (None: any) and with these ids (none: any).

    Raises DeadLetterError for an unknown id, and for a reason that is neither one of the decode
    step nor of any dead letter.
    """
    letters = list(letters)
    present = {letter.error_code for letter in letters}
    if reason is not None and reason not in present | set(Reason):
        others = ", ".join(sorted(present)) or "none"
        raise DeadLetterError(
            f"no dead letter has the reason {reason!r}. Reasons of the present ones: {others}; of"
            f" the decode step: {', '.join(Reason)}"
        )
    chosen = [letter for letter in letters if reason in (None, letter.error_code)]
    if not ids:
        return chosen
    # The newest record of a position that has had several.
    by_id = {letter.id: letter for letter in chosen}
    if unknown := [name for name in ids if name not in by_id]:
        raise DeadLetterError(
            f"there is no dead letter {unknown[0]}; an id is topic:partition:offset of the rejected"
            " record. `tunemesh dlq list` shows the latest of each kind"
        )
    return [by_id[name] for name in dict.fromkeys(ids)]


def group(letters: Iterable[DeadLetter], endpoints: Endpoints) -> list[Group]:
    """Group dead letters by topic, step and reason, the largest group first."""
    groups: dict[tuple[str, str, str], list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault((letter.topic, letter.step, letter.error_code), []).append(letter)
    with _ReplayLog(endpoints.home / "dlq.sqlite") as log:
        return sorted(
            (
                Group(
                    *names,
                    count=len(members),
                    replayed=sum(map(log.has, members)),
                    latest=max(members, key=lambda letter: letter.first_seen),
                )
                for names, members in groups.items()
            ),
            key=lambda group: (-group.count, group.topic, group.error_code),
        )


def data_class(topic: str, contracts: Contracts) -> PiiClass:
    """The PII class of the records of a topic, and so of its dead letters."""
    for contract in contracts:
        if contract.topic == topic:
            return highest_class(contract)
    return PiiClass.PERSONAL


def describe(
    letter: DeadLetter, contracts: Contracts, registry: SchemaLookup | None = None
) -> Iterator[str]:
    """Yield the lines of a description: fields, payload as hex, fields of the payload."""
    yield f"id          {letter.id}"
    yield f"step        {letter.step}"
    yield f"reason      {letter.error_code}"
    yield f"data        {data_class(letter.topic, contracts)}"
    yield f"message     {letter.message}"
    yield f"event_id    {letter.event_id or '-'}"
    yield f"published   {_time_text(letter.timestamp)}"
    yield f"first seen  {_time_text(letter.first_seen)}"
    yield f"key         {'null' if letter.key is None else repr(letter.key)[1:]}"
    payload = letter.payload
    if payload is None:
        yield "payload     null"
        return
    yield f"payload     {len(payload):,} bytes"
    yield from (f"  {line}" for line in _hex_lines(payload[:MAX_SHOWN_BYTES]))
    if len(payload) > MAX_SHOWN_BYTES:
        yield f"  ... {len(payload) - MAX_SHOWN_BYTES:,} more bytes"
    if letter.step == Step.PUBLISH:
        return
    if len(payload) >= wire.HEADER_SIZE and payload[0] == wire.HEADER_VERSION:
        version_id = UUID(bytes=payload[2 : wire.HEADER_SIZE])
        yield f"header      version 0x03, compression 0x{payload[1]:02x}, schema {version_id}"
    if registry is None:
        return
    try:
        fields: dict[str, Any] = Decoder(contracts.for_topic(letter.topic), registry).decode(
            payload
        )
    except InvalidRecord as error:
        yield f"fields      do not decode: {error}"
        return
    yield "fields"
    for name, value in fields.items():
        text = json.dumps(value, ensure_ascii=False, default=repr)
        yield f"  {name:<18}{text if len(text) <= 200 else text[:200] + ' ...'}"


def _hex_lines(payload: bytes) -> Iterator[str]:
    """Yield lines of sixteen bytes: offset, hex, printable ASCII."""
    for offset in range(0, len(payload), 16):
        part = payload[offset : offset + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{offset:06x}  {part.hex(' '):<47}  {text}"


def _time_text(milliseconds: int) -> str:
    seconds = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(milliseconds / 1000))
    return f"{seconds}.{milliseconds % 1000:03d} UTC"


def replay_dead_letters(
    letters: Iterable[DeadLetter],
    endpoints: Endpoints,
    *,
    again: bool = False,
    progress: Progress = silent,
) -> Replayed:
    """Publish rejected records again on their topics, unchanged, with their keys.

    A record rejected at delivery is published on the enriched topic, and one that a back end
    rejected on none: its store has it. A header has the position of the rejected record. The
    records are kept in ``dlq.sqlite``; a letter in it is skipped unless ``again``. If a letter has
    only the head of a large record, the record is read from its topic. Raises DeadLetterError when
    the broker does not accept a record.
    """
    with _ReplayLog(endpoints.home / "dlq.sqlite") as log:
        due, skipped, unpublished = [], [], []
        for letter in letters:
            if letter.step == Step.PUBLISH:
                unpublished.append(letter.id)
            elif log.has(letter) and not again:
                skipped.append(letter.id)
            elif payload_is_whole(cast("records.DeadLetter", asdict(letter))):
                due.append(letter)
            else:
                due.append(_read_whole(letter, endpoints))
        replayed = _publish(due, endpoints, log, progress) if due else []
    return Replayed(tuple(replayed), tuple(skipped), tuple(unpublished))


def _read_whole(letter: DeadLetter, endpoints: Endpoints) -> DeadLetter:
    """Return the letter with key and payload as on the topic of the rejected record."""
    start = {letter.partition: letter.offset}
    with TopicReader(endpoints.bootstrap_servers, letter.topic, start) as reader:
        message = next(iter(reader.read()), None)
    kept = letter.payload or b""
    if (
        message is None
        or message.offset() != letter.offset
        or not (message.value() or b"").startswith(kept)
    ):
        raise DeadLetterError(
            f"{letter.id}: the dead letter has only the head of the record, which is no longer on"
            f" {letter.topic}"
        )
    return replace(letter, key=message.key(), payload=message.value())


def _publish(
    letters: list[DeadLetter], endpoints: Endpoints, log: _ReplayLog, progress: Progress
) -> list[str]:
    published: list[str] = []
    failures: list[str] = []
    # An oversize record is published as it was; the topic's own limit decides.
    producer = create_producer(
        endpoints.bootstrap_servers, {"client.id": "tunemesh-dlq", "message.max.bytes": 10_000_000}
    )

    def on_delivery(letter: DeadLetter, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures.append(f"{letter.id}: {error}")
            return
        log.add(letter, message.topic(), message.partition(), message.offset())
        published.append(letter.id)

    for letter in letters:
        try:
            produce(
                producer,
                letter.topic,
                key=letter.key,
                value=letter.payload,
                headers=[(REPLAYED_FROM_HEADER, letter.id.encode())],
                on_delivery=partial(on_delivery, letter),
            )
        except KafkaException as error:
            failures.append(f"{letter.id}: {error.args[0]}")
        producer.poll(0)
        progress(ProgressStep("replaying dead letters", len(published), len(letters)))
    producer.flush(FLUSH_SECONDS)
    progress(ProgressStep("replaying dead letters", len(published), len(letters)))
    if failures:
        raise DeadLetterError(
            f"{len(failures):,} records were not published; the first is {failures[0]}"
        )
    if len(published) < len(letters):
        raise DeadLetterError(
            f"{len(letters) - len(published):,} records were not acknowledged within"
            f" {FLUSH_SECONDS:.0f} s. Is Kafka running? See: tunemesh status"
        )
    return published


class _ReplayLog:
    """The records that were replayed, and the positions of the new records.

    A record is its position and its timestamp: a topic that was created anew has other records at
    the same positions. An entry is removed when the dead letter has expired on its topic.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS replayed"
            " (id TEXT, at_ms INTEGER, topic TEXT, partition INTEGER, offset INTEGER,"
            " timestamp INTEGER)"
        )
        columns = [row[1] for row in self._connection.execute("PRAGMA table_info(replayed)")]
        if "timestamp" not in columns:
            # Of a version that compared the position alone.
            self._connection.execute("ALTER TABLE replayed ADD COLUMN timestamp INTEGER")
        self._connection.execute("DELETE FROM replayed WHERE at_ms < ?", (now_ms() - KEPT_MS,))
        self._connection.execute("CREATE INDEX IF NOT EXISTS replayed_id ON replayed (id)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def has(self, letter: DeadLetter) -> bool:
        """Whether the record of a dead letter was replayed."""
        rows = self._connection.execute(
            "SELECT timestamp, at_ms FROM replayed WHERE id = ?", (letter.id,)
        )
        return any(
            at_ms >= letter.timestamp if timestamp is None else timestamp == letter.timestamp
            for timestamp, at_ms in rows
        )

    def add(
        self,
        letter: DeadLetter,
        topic: str | None,
        partition: int | None,
        offset: int | None,
    ) -> None:
        """Record that a dead letter was replayed, at this position."""
        row = (letter.id, now_ms(), topic, partition, offset, letter.timestamp)
        self._connection.execute("INSERT INTO replayed VALUES (?, ?, ?, ?, ?, ?)", row)
