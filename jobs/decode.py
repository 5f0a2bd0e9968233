"""Decodes the bytes of a topic to what the join needs. Pure: no Flink, no clock.

Each decoder returns :data:`Decoded` and never raises for a malformed record: that becomes a
complete dead letter. All text is Latin-1, one character a byte, because SQL can join and cut
strings but not bytes; the last step of the SQL turns it back into bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, cast
from uuid import UUID

from connectors.personalize import DatasetRecord
from schemas import wire
from schemas.codec import (
    Decoder,
    Record,
    SchemaLookup,
    decode_body,
    encode_body,
    parse_plain,
)
from schemas.dead_letter import DeadLetters, SourceRecord, source_record
from schemas.flat_reader import FieldReader, RecordDecoder
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract, Contracts, Role
from schemas.projection import is_deleted, project_item, project_user, record_id, updated_at
from schemas.records import Deletion, Interaction
from schemas.rules import (
    MAX_CLOCK_AHEAD_MS,
    check_id,
    check_interaction,
    check_version,
    is_usable_interaction,
)

ANONYMOUS = "\x1f"
"""Starts the join key of an event without user; no id does, so it never joins a user."""

VERSION_DIGITS = 19
"""Digits of a 64-bit number: versions compare as text."""

STATE_PREFIX = 2 * VERSION_DIGITS
"""Characters before the Avro bytes in a user's or item's state: updated_at, then offset."""

NO_BRANCH = b"\x00"
BRANCH = b"\x02"
"""Index of the null and of the record branch of ``["null", record]``, as Avro writes them."""


Decoded = tuple[bool, str | None, str | None, str]
"""The result of a decode function for a record, a column each in SQL: ok, key, item_id, payload.

``ok``: the record is usable. Then ``key`` is what the enriched record is keyed and joined by
(user), ``item_id`` the item's id, ``payload`` the bytes for the join. Otherwise ``key`` is the
original Kafka key and ``payload`` the complete dead letter. No named tuple: creating one takes a
tenth of the time of decoding.
"""


class DecodeRecord(Protocol):
    """A decoder of the records of one or more topics."""

    def __call__(
        self, key: bytes | None, value: bytes | None, origin: str, timestamp_ms: int
    ) -> Decoded:
        """Decode a record; ``origin`` is its topic/partition/offset."""


class InteractionDecoder:
    """Decodes interactions; the payload is the enriched record up to its user and item.

    An Avro record is its fields one after the other, so the head is: registry header of
    interactions-enriched, the interaction's own bytes, origin, published_at. SQL appends the user
    and the item.
    """

    FIELDS = ("event_id", "user_id", "session_id", "item_id", "occurred_at")
    """Those that :func:`check_interaction` checks; the others are passed on unread."""

    def __init__(
        self,
        contracts: Contracts,
        lookup: SchemaLookup,
        dead_letters: DeadLetters,
        enriched_id: UUID,
    ) -> None:
        contract = contracts.only(Role.INTERACTION)
        self._decoder = Decoder(contract, lookup)
        self._reader = FieldReader(self._decoder, self.FIELDS)
        self.dead_letters = dead_letters
        self._header = wire.header(enriched_id).decode("latin-1")
        check_enriched_layout(contract, contracts.only(Role.ENRICHED))

    def __call__(
        self, key: bytes | None, value: bytes | None, origin: str, timestamp_ms: int
    ) -> Decoded:
        """Decode a record of the interactions topic."""
        try:
            fields = self._reader.read(value)
            if fields is not None and value is not None:
                body = value[wire.HEADER_SIZE :]
            else:
                record, body = self._decoder.decode_with_body(value, timestamp_ms)
                self._reader.add_decoded(value)
                fields = tuple(record[name] for name in self.FIELDS)
            event_id, user_id, session_id, item_id, occurred_at = fields
            if not is_usable_interaction(
                event_id, user_id, session_id, item_id, occurred_at, timestamp_ms
            ):
                named = dict(zip(self.FIELDS, fields, strict=True))
                check_interaction(cast("Interaction", named), timestamp_ms)
        except InvalidRecord as error:
            source = source_record(key, value, origin, timestamp_ms)
            return _refused(self.dead_letters, source, error)
        payload = (
            f"{self._header}{body.decode('latin-1')}"
            f"{_long_text(len(origin))}{origin}{_long_text(timestamp_ms)}"
        )
        return True, ANONYMOUS + session_id if user_id is None else user_id, item_id, payload


class DimensionDecoder:
    """Decodes users or items; the payload is a sortable version and the projection's bytes.

    The version is updated_at (the Kafka timestamp if the record has none, or if updated_at is ahead
    of it) and then the offset, each as 19 digits: the greatest payload is the newest version, in
    any order of arrival. A deletion is the null branch. ``clock_ahead`` counts the records that are
    ahead by more than MAX_CLOCK_AHEAD_MS.
    """

    def __init__(
        self, contracts: Contracts, role: Role, lookup: SchemaLookup, dead_letters: DeadLetters
    ) -> None:
        self._role = role
        self._decoders = {
            contract.topic: RecordDecoder(Decoder(contract, lookup))
            for contract in contracts.with_role(role)
        }
        self.dead_letters = dead_letters
        self.clock_ahead = 0
        self._schema = parse_plain(projection_schema(contracts, role))

    def __call__(
        self, key: bytes | None, value: bytes | None, origin: str, timestamp_ms: int
    ) -> Decoded:
        """Decode a record of one of the role's topics; a record without a value is a deletion."""
        source = source_record(key, value, origin, timestamp_ms)
        try:
            if source.payload is None:
                deleted_at = max(0, source.timestamp_ms)
                return self._row(_tombstone_id(source), deleted_at, source, NO_BRANCH)
            decoder = self._decoders[source.topic]
            record = decoder.decode(source.payload, source.timestamp_ms)
            identity = record_id(decoder.contract, record)
            updated = updated_at(decoder.contract, record)
            version = source.timestamp_ms if updated is None else updated
            check_version(version, source.timestamp_ms)
            if version > source.timestamp_ms:
                # A producer's clock that is ahead: else a deletion or update published within that
                # time would lose to this record.
                self.clock_ahead += version > source.timestamp_ms + MAX_CLOCK_AHEAD_MS
                version = source.timestamp_ms
            return self._row(
                identity, version, source, self._body(decoder.contract, record, origin)
            )
        except InvalidRecord as error:
            return _refused(self.dead_letters, source, error)

    def _body(self, contract: Contract, record: Record, origin: str) -> bytes:
        if is_deleted(contract, record):
            return NO_BRANCH
        project = project_user if self._role is Role.USER else project_item
        return BRANCH + encode_body(self._schema, project(contract, record, origin))

    def _row(self, identity: str, version: int, source: SourceRecord, body: bytes) -> Decoded:
        prefix = f"{version:0{VERSION_DIGITS}d}{source.offset:0{VERSION_DIGITS}d}"
        payload = prefix + body.decode("latin-1")
        if self._role is Role.USER:
            return True, identity, None, payload
        return True, None, identity, payload


class DatasetDecoder:
    """Decodes users or items to records of their Personalize dataset."""

    def __init__(self, contracts: Contracts, role: Role, decode: DimensionDecoder) -> None:
        self._dataset = "users" if role is Role.USER else "items"
        self._decode = decode
        self._schema = parse_plain(projection_schema(contracts, role))

    def __call__(self, source: SourceRecord) -> DatasetRecord | Deletion | None:
        """The version of a user or item; None if it cannot be decoded."""
        ok, user_id, item_id, payload = self._decode(
            source.key, source.payload, source.origin, source.timestamp_ms
        )
        if not ok:
            return None
        identity = user_id or item_id or ""
        updated = int(payload[:VERSION_DIGITS])
        body = payload[STATE_PREFIX:].encode("latin-1")
        if body == NO_BRANCH:
            return Deletion(
                dataset=self._dataset, id=identity, deleted_at=updated, origin=source.origin
            )
        record = decode_body(self._schema, body[len(BRANCH) :])
        return DatasetRecord(identity, (updated, source.offset), record)


def check_enriched_layout(interaction: Contract, enriched: Contract) -> None:
    """Raise ValueError unless an enriched record starts with the interaction's own bytes."""
    own = parse_plain(interaction.newest.definition)["fields"]
    head = parse_plain(enriched.newest.definition)["fields"][: len(own)]
    if [(f["name"], f["type"]) for f in own] != [(f["name"], f["type"]) for f in head]:
        raise ValueError(
            f"{enriched.name} v{enriched.newest.number} must start with the fields of"
            f" {interaction.name} v{interaction.newest.number}, in the same order"
        )


def projection_schema(contracts: Contracts, role: Role) -> dict[str, object]:
    """The record schema of users or items inside interactions-enriched."""
    field = "user" if role is Role.USER else "item"
    fields = contracts.only(Role.ENRICHED).newest.avro["fields"]
    branches = next(entry["type"] for entry in fields if entry["name"] == field)
    schema: dict[str, object] = next(branch for branch in branches if isinstance(branch, dict))
    return schema


def avro_long(value: int) -> bytes:
    """A whole number as Avro writes it: zigzag, seven bits a byte, lowest first."""
    rest = value << 1 if value >= 0 else ((-value) << 1) - 1
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


@lru_cache(maxsize=128)
def _long_text(value: int) -> str:
    # Most events share their timestamp with the one before.
    return avro_long(value).decode("latin-1")


def _refused(dead_letters: DeadLetters, source: SourceRecord, error: InvalidRecord) -> Decoded:
    value = dead_letters.encode(source, error.reason, error.message)
    key = None if source.key is None else source.key.decode("latin-1")
    return False, key, None, value.decode("latin-1")


def _tombstone_id(source: SourceRecord) -> str:
    if source.key is None:
        raise InvalidRecord(
            Reason.EMPTY_VALUE, "neither key nor value: nothing says what is deleted"
        )
    try:
        return check_id("the key", source.key.decode())
    except UnicodeDecodeError as error:
        raise InvalidRecord(Reason.INVALID_VALUE, f"the key is not UTF-8: {error}") from error
