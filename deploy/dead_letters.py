"""Dead letters: what is there, one of them in full, and publishing the originals again."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.clock import now_ms
from schemas import wire
from schemas.codec import Decoder, SchemaLookup
from schemas.dead_letter import payload_is_whole
from schemas.errors import TunemeshError
from schemas.invalid import InvalidRecord
from schemas.model import Contracts, Role, load_contracts
from verification.endpoints import Endpoints
from verification.positions import TopicReader, topic_beginnings
from verification.progress import Progress, Step, silent
from verification.replay import connect_registry

REPLAYED_FROM_HEADER = "tunemesh-replayed-from"
"""Where a replayed record was refused: topic:partition:offset."""

_SHOWN_BYTES = 512


class DeadLetterError(TunemeshError):
    """A dead letter cannot be found or replayed; the message says which and why."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused record; the id is topic:partition:offset of the record that was refused."""

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
        """topic:partition:offset."""
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters of one topic, step and reason."""

    topic: str
    step: str
    error_code: str
    count: int
    latest: DeadLetter


@dataclass(frozen=True, slots=True)
class ReplayedLetters:
    """What ``replay_letters`` did; ``refused`` had been replayed before."""

    replayed: tuple[str, ...]
    refused: tuple[str, ...]


def read_letters(
    endpoints: Endpoints,
    *,
    registry: SchemaLookup | None = None,
    contracts: Contracts | None = None,
) -> list[DeadLetter]:
    """All dead letters that are on the topic, each refused record once, oldest first.

    A record may have been refused several times over restarts: the first one counts.
    """
    contracts = contracts or load_contracts()
    contract = contracts.only(Role.DEAD_LETTER)
    decoder = Decoder(contract, registry or connect_registry(endpoints))
    start = topic_beginnings(endpoints.bootstrap_servers, [contract.topic])[contract.topic]
    found: dict[str, DeadLetter] = {}
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
            kept = found.get(letter.id)
            if kept is None or letter.first_seen < kept.first_seen:
                found[letter.id] = letter
    return sorted(found.values(), key=lambda letter: (letter.first_seen, letter.id))


def selected(
    letters: Iterable[DeadLetter], reason: str | None = None, ids: Collection[str] = ()
) -> list[DeadLetter]:
    """Letters of that reason (None: any) and with those ids (none given: any).

    Raises DeadLetterError for an id that no letter has.
    """
    kept = [letter for letter in letters if reason is None or letter.error_code == reason]
    if not ids:
        return kept
    by_id = {letter.id: letter for letter in kept}
    if unknown := [name for name in ids if name not in by_id]:
        raise DeadLetterError(
            f"there is no dead letter {unknown[0]}; ids are topic:partition:offset of the refused"
            " record, `tunemesh dlq list` shows the latest of each kind"
        )
    return [by_id[name] for name in dict.fromkeys(ids)]


def grouped(letters: Iterable[DeadLetter]) -> list[Group]:
    """Letters by topic, step and reason, the largest group first."""
    groups: dict[tuple[str, str, str], list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault((letter.topic, letter.step, letter.error_code), []).append(letter)
    return sorted(
        (
            Group(*names, count=len(members), latest=max(members, key=lambda m: m.first_seen))
            for names, members in groups.items()
        ),
        key=lambda group: (-group.count, group.topic, group.error_code),
    )


def description(
    letter: DeadLetter, contracts: Contracts, registry: SchemaLookup | None = None
) -> Iterator[str]:
    """What is known of a letter, as lines: fields, payload as hex, what decodes of it."""
    yield f"id          {letter.id}"
    yield f"step        {letter.step}"
    yield f"reason      {letter.error_code}"
    yield f"message     {letter.message}"
    yield f"event_id    {letter.event_id or '-'}"
    yield f"published   {_moment(letter.timestamp)}"
    yield f"first seen  {_moment(letter.first_seen)}"
    yield f"key         {'null' if letter.key is None else repr(letter.key)[1:]}"
    payload = letter.payload
    if payload is None:
        yield "payload     null"
        return
    yield f"payload     {len(payload):,} bytes"
    yield from (f"  {line}" for line in hex_lines(payload[:_SHOWN_BYTES]))
    if len(payload) > _SHOWN_BYTES:
        yield f"  ... {len(payload) - _SHOWN_BYTES:,} bytes more"
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


def hex_lines(payload: bytes) -> Iterator[str]:
    """Sixteen bytes a line: offset, hex, printable ASCII."""
    for offset in range(0, len(payload), 16):
        part = payload[offset : offset + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{offset:06x}  {part.hex(' '):<47}  {text}"


def _moment(milliseconds: int) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(milliseconds / 1000))
    return f"{moment}.{milliseconds % 1000:03d} UTC"


def replay_letters(
    letters: Iterable[DeadLetter],
    endpoints: Endpoints,
    *,
    again: bool = False,
    progress: Progress = silent,
) -> ReplayedLetters:
    """Publish the refused records again where they came from, as they were, key included.

    A record refused at delivery goes back to the enriched topic. Headers keep when and where it was
    first refused. What has been replayed is remembered, and refused a second time unless ``again``.
    A letter that holds only the head of a large record is published from the source topic, where
    the record still is. Raises DeadLetterError when the broker does not take them.
    """
    with _Memory(endpoints.home / "dlq.sqlite") as memory:
        known = memory.replayed()
        chosen = list(letters)
        refused = [letter.id for letter in chosen if letter.id in known and not again]
        due = [letter for letter in chosen if again or letter.id not in known]
        due = [letter if _is_whole(letter) else _original(letter, endpoints) for letter in due]
        done = _publish(due, endpoints, memory, progress)
    return ReplayedLetters(tuple(done), tuple(refused))


def _is_whole(letter: DeadLetter) -> bool:
    return payload_is_whole(asdict(letter))


def _original(letter: DeadLetter, endpoints: Endpoints) -> DeadLetter:
    """The letter with key and payload of the record itself, read where it was refused."""
    start = {letter.partition: letter.offset}
    with TopicReader(endpoints.bootstrap_servers, letter.topic, start) as reader:
        for message in reader.read():
            if message.offset() == letter.offset:
                return replace(letter, key=message.key(), payload=message.value())
            break
    raise DeadLetterError(
        f"{letter.id}: the dead letter holds only the head of it, and the record is no longer on"
        f" {letter.topic}"
    )


def _publish(
    letters: list[DeadLetter], endpoints: Endpoints, memory: _Memory, progress: Progress
) -> list[str]:
    done: list[str] = []
    failed: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": endpoints.bootstrap_servers,
            "client.id": "tunemesh-dlq",
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            # An oversize record is replayed as it was; the topic's own limit decides.
            "message.max.bytes": 10_000_000,
        }
    )

    def delivered(letter: DeadLetter, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failed.append(f"{letter.id}: {error}")
            return
        memory.remember(letter.id, message.topic(), message.partition(), message.offset())
        done.append(letter.id)

    for letter in letters:
        while True:
            try:
                producer.produce(
                    letter.topic,
                    key=letter.key,
                    value=letter.payload,
                    headers=[(REPLAYED_FROM_HEADER, letter.id.encode())],
                    on_delivery=lambda error, message, letter=letter: delivered(
                        letter, error, message
                    ),
                )
                break
            except BufferError:
                producer.poll(0.05)
            except KafkaException as error:
                failed.append(f"{letter.id}: {error.args[0]}")
                break
        producer.poll(0)
        progress(Step("replaying dead letters", len(done), len(letters)))
    producer.flush(60)
    progress(Step("replaying dead letters", len(done), len(letters)))
    if failed:
        raise DeadLetterError(f"{len(failed):,} were not published again, the first: {failed[0]}")
    if len(done) < len(letters):
        raise DeadLetterError(
            f"{len(letters) - len(done):,} were not acknowledged; is Kafka still there?"
            " `tunemesh status` says"
        )
    return done


class _Memory:
    """Which dead letters were replayed, and where to."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS replayed"
            " (id TEXT, at_ms INTEGER, topic TEXT, partition INTEGER, offset INTEGER)"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def replayed(self) -> set[str]:
        """Ids of all letters that were replayed."""
        return {name for (name,) in self._connection.execute("SELECT id FROM replayed")}

    def remember(
        self, letter_id: str, topic: str | None, partition: int | None, offset: int | None
    ) -> None:
        """Note that a letter was published again, at that position."""
        row = (letter_id, now_ms(), topic, partition, offset)
        self._connection.execute("INSERT INTO replayed VALUES (?, ?, ?, ?, ?)", row)
