"""Fuzzed records through the decoders, and the enriched records that come of them.

Inputs are written here from the schemas, byte by byte; then most are changed, cut or spliced.
Both readers, the product's and :mod:`tests.support.strict_avro`, must agree on each: a record that
one of them refuses, the other refuses too, and what is passed on has the values that it came with.
"""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from jobs.decode import STATE_PREFIX, DimensionDecoder, InteractionDecoder
from schemas.codec import Encoder, RegisteredSchema, SchemaLookup, UnknownSchemaId
from schemas.dead_letter import DeadLetters, Step
from schemas.invalid import Reason
from schemas.model import Contract, Role, load_contracts
from tests.support.strict_avro import read_strictly

CONTRACTS = load_contracts()
PUBLISHED_MS = 1_780_000_000_123
IDS = 12
HEADER = 18

_TEXTS = ("", "a", "play", "Ação ♥ 愛", "x" * 63, "y" * 64, "é" * 70, "\x00\x01", "🎵", "z" * 300)
_TELLING = bytes((0x00, 0x01, 0x02, 0x03, 0x05, 0x7F, 0x80, 0x81, 0xC3, 0xFE, 0xFF))
NO_STATE: tuple[str, dict[str, Any]] = ("", {})
_OF_THE_BODY = (Reason.TRUNCATED_BODY, Reason.TRAILING_BYTES, Reason.WRONG_TYPE)


@dataclass
class Tally:
    """How many records went in, and what became of them."""

    inputs: int = 0
    enriched: int = 0
    dimensions: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add the numbers of another run."""
        self.inputs += other.inputs
        self.enriched += other.enriched
        self.dimensions += other.dimensions
        self.dead_letters += other.dead_letters


class Versions(SchemaLookup):
    """The registry: of each contract the newest version, and one with a further field."""

    def __init__(self) -> None:
        self.by_number: dict[int, RegisteredSchema] = {}
        self.schemas: dict[int, Any] = {}
        self.numbers: dict[str, tuple[int, int]] = {}
        for position, contract in enumerate(CONTRACTS):
            wider = contract.newest.avro
            wider["fields"].insert(1, {"name": "more", "type": ["null", "int"], "default": None})
            self.numbers[contract.name] = numbers = (2 * position + 1, 2 * position + 2)
            for number, schema in zip(numbers, (contract.newest.avro, wider), strict=True):
                self.by_number[number] = RegisteredSchema(contract.subject, json.dumps(schema))
                self.schemas[number] = schema

    def by_id(self, version_id: bytes) -> RegisteredSchema:
        """The version of an id."""
        try:
            return self.by_number[UUID(bytes=version_id).int]
        except KeyError:
            raise UnknownSchemaId from None

    def newest(self, contract: Contract) -> UUID:
        """The id of a contract's newest version."""
        return UUID(int=self.numbers[contract.name][0])


VERSIONS = Versions()


class Fuzz:
    """A run of one seed; raises AssertionError for the first record that readers disagree on."""

    def __init__(self, seed: int) -> None:
        self.tally = Tally()
        self._rng = random.Random(seed)
        letters = CONTRACTS.only(Role.DEAD_LETTER)
        dead_letters = DeadLetters(
            Encoder(letters, VERSIONS.newest(letters)), Step.DECODE, lambda: 0
        )
        self._enriched = CONTRACTS.only(Role.ENRICHED)
        self._interactions = InteractionDecoder(
            CONTRACTS, VERSIONS, dead_letters, VERSIONS.newest(self._enriched)
        )
        self._dimensions = {
            role: DimensionDecoder(CONTRACTS, role, VERSIONS, dead_letters)
            for role in (Role.USER, Role.ITEM)
        }
        # As MAX in jobs/enrichment.sql keeps it: the greatest payload of an id.
        self._states: dict[Role, dict[str, tuple[str, dict[str, Any]]]] = {
            Role.USER: {},
            Role.ITEM: {},
        }
        self._sources = [c for c in CONTRACTS if c.role in (Role.USER, Role.ITEM)]

    def run(self, enriched: int) -> Tally:
        """Send records until that many enriched ones have come out."""
        while self.tally.enriched < enriched:
            for _ in range(10):
                self._send(CONTRACTS.only(Role.INTERACTION))
            self._send(self._rng.choice(self._sources))
        return self.tally

    def _send(self, contract: Contract) -> None:
        value = self._mutated(self._value(contract), contract)
        key = self._rng.choice((None, b"key", b"\xff\x00"))
        origin = f"{contract.topic}/0/{self.tally.inputs}"
        self.tally.inputs += 1
        interaction = contract.role is Role.INTERACTION
        decode = self._interactions if interaction else self._dimensions[contract.role]
        ok, user_id, item_id, payload = decode(key, value, origin, PUBLISHED_MS)
        if not ok:
            self._check_dead_letter(contract, payload.encode("latin-1"), key, value)
            return
        expected = read_strictly(*_written(value))
        if not interaction:
            identity = user_id or item_id or ""
            states = self._states[contract.role]
            if expected["deleted"]:
                expected = {}
            if payload >= states.get(identity, NO_STATE)[0]:
                states[identity] = (payload, expected)
            self.tally.dimensions += 1
            return
        assert item_id is not None
        user, known_user = self._states[Role.USER].get(user_id or "", NO_STATE)
        item, known_item = self._states[Role.ITEM].get(item_id, NO_STATE)
        payload += (user[STATE_PREFIX:] or "\0") + (item[STATE_PREFIX:] or "\0")
        out = payload.encode("latin-1")
        assert out[:HEADER] == b"\x03\x00" + VERSIONS.newest(self._enriched).bytes
        record = read_strictly(self._enriched.newest.definition, out[HEADER:])
        own = contract.newest.field_names
        assert {name: record[name] for name in own} == {name: expected[name] for name in own}
        assert (record["origin"], record["published_at"]) == (origin, PUBLISHED_MS)
        assert (record["user"] or {}).get("country") == known_user.get("country")
        assert (record["item"] or {}).get("title") == known_item.get("title")
        self.tally.enriched += 1

    def _check_dead_letter(
        self, contract: Contract, out: bytes, key: bytes | None, value: bytes
    ) -> None:
        definition = CONTRACTS.only(Role.DEAD_LETTER).newest.definition
        letter = read_strictly(definition, out[HEADER:])
        assert (letter["key"], letter["payload"]) == (key, value)
        reason = letter["error_code"]
        if reason in _OF_THE_BODY:
            try:
                read_strictly(*_written(value))
            except Exception:  # noqa: BLE001 - whatever it raises, the record is refused
                pass
            else:
                raise AssertionError(f"{reason}, {letter['message']}: {contract.name} {value!r}")
        self.tally.dead_letters[reason] += 1

    def _value(self, contract: Contract) -> bytes:
        number = self._rng.choices(VERSIONS.numbers[contract.name], (4, 1))[0]
        body = self._body(VERSIONS.schemas[number])
        if self._rng.random() < 0.1:
            return b"\x03\x05" + UUID(int=number).bytes + zlib.compress(body)
        return b"\x03\x00" + UUID(int=number).bytes + body

    def _body(self, schema: Any, name: str = "") -> bytes:
        rng = self._rng
        if isinstance(schema, list):
            index = rng.randrange(len(schema))
            return _number(index) + self._body(schema[index], name)
        kind = schema if isinstance(schema, str) else schema["type"]
        match kind:
            case "null":
                return b""
            case "boolean":
                return bytes([rng.random() < 0.05])
            case "int" | "long":
                number = rng.getrandbits(rng.randrange(1, 32 if kind == "int" else 41))
                if name.endswith("_at") and rng.random() < 0.95:
                    # Of a plausible time: a rule refuses those in another unit.
                    number = PUBLISHED_MS - number % 10**11
                return _number(-number if rng.random() < 0.05 else number)
            case "string":
                return self._text(name)
            case "array":
                return self._blocks(schema["items"])
            case "record":
                return b"".join(self._body(f["type"], f["name"]) for f in schema["fields"])
        return self._body(kind, name)

    def _text(self, name: str) -> bytes:
        rng = self._rng
        kind = {"user_id": "u", "item_id": "i", "song_id": "i", "podcast_id": "i"}.get(name)
        if kind:
            text = f"{kind}{rng.randrange(IDS)}".encode()
        elif name.endswith("_id"):
            text = rng.randbytes(rng.randrange(1, 40)).hex().encode()
        else:
            text = rng.choice(_TEXTS).encode()
        return _number(len(text)) + text

    def _blocks(self, items: Any) -> bytes:
        """An array in one or more blocks, some with their size, as encoders may write it."""
        blocks = b""
        for _ in range(self._rng.choice((0, 1, 1, 1, 2))):
            entries = [self._body(items) for _ in range(self._rng.randrange(1, 5))]
            block = b"".join(entries)
            if self._rng.random() < 0.2:
                blocks += _number(-len(entries)) + _number(len(block)) + block
            else:
                blocks += _number(len(entries)) + block
        return blocks + b"\x00"

    def _mutated(self, value: bytes, contract: Contract) -> bytes:
        rng = self._rng
        if rng.random() < 0.1:
            return value
        # Rarely in the header: what follows it is more interesting.
        first = 0 if rng.random() < 0.02 else HEADER
        head, body = value[:first], value[first:]
        if value[1:2] == b"\x05" and first:
            plain = zlib.decompress(body)
            return head + zlib.compress(self._changed(plain, contract))
        return head + self._changed(body, contract)

    def _changed(self, body: bytes, contract: Contract) -> bytes:
        rng = self._rng
        for _ in range(rng.choice((1, 1, 1, 1, 2, 4))):
            at = rng.randrange(len(body) + 1)
            rest = body[at + 1 :]
            match rng.randrange(14):
                case 0:
                    body = body[:at]
                case 1:
                    body = body[:at] + rng.randbytes(1) + rest
                case 2 | 3:
                    body = body[:at] + bytes([rng.choice(_TELLING)]) + rest
                case 4:
                    body = body[:at] + rng.randbytes(rng.randrange(1, 4)) + body[at:]
                case 5:
                    body = body[:at] + body[at + rng.randrange(1, 9) :]
                case 6:
                    other = self._value(contract)[HEADER:]
                    body = body[:at] + other[rng.randrange(len(other) + 1) :]
                case 7:
                    # A number in more bytes than it needs, if one ends here.
                    body = body[:at] + _padded(body[at : at + 1], rng) + rest
                case 8:
                    start = rng.randrange(at + 1)
                    body = body[:at] + body[start:at] + body[at:]
                case _ if at < len(body):
                    # Most of these are texts or numbers still.
                    changed = body[at] ^ rng.choice((1, 2, 4, 16))
                    body = body[:at] + bytes([changed]) + rest
        return body


def _number(value: int) -> bytes:
    bits = value << 1 if value >= 0 else ~(value << 1)
    encoded = b""
    while bits > 0x7F:
        encoded += bytes([bits & 0x7F | 0x80])
        bits >>= 7
    return encoded + bytes([bits])


def _padded(byte: bytes, rng: random.Random) -> bytes:
    if not byte or byte[0] > 0x7F:
        return byte
    return bytes([byte[0] | 0x80]) + b"\x80" * rng.choice((0, 0, 1, 7, 8, 9, 12)) + b"\x00"


def _written(value: bytes) -> tuple[str, bytes]:
    """The definition that a value names, and its body."""
    body = zlib.decompress(value[HEADER:]) if value[1] == 0x05 else value[HEADER:]
    return VERSIONS.by_id(value[2:HEADER]).definition, body


def run(seed: int, enriched: int) -> Tally:
    """The tally of a run; a worker process calls it."""
    return Fuzz(seed).run(enriched)
