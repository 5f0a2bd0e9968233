"""Decoders: the bytes of a topic become the text that SQL joins, or a dead letter."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.decode import (
    ANONYMOUS,
    BRANCH,
    NO_BRANCH,
    STATE_PREFIX,
    DecodeRecord,
    DimensionDecoder,
    InteractionDecoder,
    avro_long,
    check_enriched_layout,
)
from schemas import wire
from schemas.codec import Decoder, Encoder, RegisteredSchema, parse_plain
from schemas.dead_letter import DeadLetters, Step
from schemas.invalid import Reason
from schemas.model import Contract, Contracts, Role, SchemaVersion, load_contracts
from schemas.rules import FEBRUARY_1970_MS, MAX_AHEAD_MS, MAX_ID_LENGTH, MIN_SECONDS
from tests.unit.schemas import test_codec as codec
from verification.malformed import (
    DIMENSION_REASONS,
    INTERACTION_REASONS,
    corrupt_record,
    corrupt_value,
)

CONTRACTS = load_contracts()
USERS, SONGS, PODCASTS = CONTRACTS["users"], CONTRACTS["songs"], CONTRACTS["podcasts"]
INTERACTIONS, ENRICHED = CONTRACTS["interactions"], CONTRACTS["interactions-enriched"]
DEAD_LETTERS = CONTRACTS["dead-letters"]
NOW_MS = 1_790_000_000_000
TIMESTAMP_MS = 1_780_000_000_123


class Decoded(NamedTuple):
    """The columns of a decoded record by name."""

    ok: bool
    key: str | None
    item_id: str | None
    payload: str


class Named:
    """A decoder that returns named columns."""

    def __init__(self, decode: DecodeRecord) -> None:
        self.decode = decode

    def __call__(
        self, key: bytes | None, value: bytes | None, origin: str, timestamp_ms: int
    ) -> Decoded:
        return Decoded(*self.decode(key, value, origin, timestamp_ms))


def version_id(contract: Contract, number: int | None = None) -> UUID:
    """The registry id of a contract's version here; each contract has a hundred."""
    position = sorted(c.name for c in CONTRACTS).index(contract.name)
    return UUID(int=(position + 1) * 100 + (number or len(contract.versions)))


class Registry(codec.Registry):
    """Every version of every contract, and of those that a test adds."""

    def __init__(self, *added: Contract) -> None:
        super().__init__(
            {
                version_id(contract, version.number): RegisteredSchema(
                    contract.subject, version.definition
                )
                for contract in (*CONTRACTS, *added)
                for version in contract.versions
            }
        )


EVENT: dict[str, Any] = {
    "event_id": "ev-1",
    "user_id": "u-1",
    "session_id": "se-1",
    "item_id": "so-1",
    "item_type": "song",
    "event_type": "play",
    "played_ms": 1_234,
    "device": "ios",
    "occurred_at": TIMESTAMP_MS - 500,
    "recommendation_id": "rid-1",
    "impression": ["so-1", "so-2"],
}
USER: dict[str, Any] = {
    "user_id": "u-1",
    "country": "PT",
    "age_band": "25-34",
    "subscription": "premium",
    "created_at": 1_500_000_000_000,
    "updated_at": 1_779_000_000_000,
    "deleted": False,
}
SONG: dict[str, Any] = {
    "song_id": "so-1",
    "title": "Ação ♥ 愛",
    "artist": "Zeca Afonso",
    "genres": ["folk", "protest"],
    "duration_seconds": 211,
    "released_at": 90_000_000_000,
    "updated_at": 1_779_000_000_001,
    "deleted": False,
}
PODCAST: dict[str, Any] = {
    "podcast_id": "po-1",
    "title": "Science",
    "publisher": "Network",
    "host": None,
    "categories": [],
    "language": "pt",
    "updated_at": None,
    "deleted": False,
}


def interactions(contracts: Contracts = CONTRACTS, registry: Registry | None = None) -> Named:
    registry = registry or Registry()
    return Named(InteractionDecoder(contracts, registry, dead_letters(), version_id(ENRICHED)))


def dimension(role: Role) -> Named:
    return Named(DimensionDecoder(CONTRACTS, role, Registry(), dead_letters()))


def dead_letters() -> DeadLetters:
    encoder = Encoder(DEAD_LETTERS, version_id(DEAD_LETTERS))
    return DeadLetters(encoder, Step.DECODE, lambda: NOW_MS)


def value_of(contract: Contract, record: Mapping[str, Any], *, compress: bool = False) -> bytes:
    return Encoder(contract, version_id(contract)).encode(record, compress=compress)


def dead_letter_of(row: Decoded) -> dict[str, Any]:
    """The dead letter that a row carries."""
    assert not row.ok
    return Decoder(DEAD_LETTERS, Registry()).decode(row.payload.encode("latin-1"))


def branch_of(row: Decoded) -> bytes:
    """The union branch that SQL appends: the state without its version."""
    assert row.ok
    return row.payload[STATE_PREFIX:].encode("latin-1")


def decode_user(record: Mapping[str, Any], offset: int = 3) -> Decoded:
    value = value_of(USERS, record)
    return dimension(Role.USER)(b"key", value, f"users/1/{offset}", TIMESTAMP_MS)


def decode_item(contract: Contract, record: Mapping[str, Any], offset: int = 7) -> Decoded:
    value = value_of(contract, record)
    return dimension(Role.ITEM)(b"key", value, f"{contract.topic}/0/{offset}", TIMESTAMP_MS)


def decode_event(record: Mapping[str, Any], value: bytes | None = None) -> Decoded:
    value = value_of(INTERACTIONS, record) if value is None else value
    return interactions()(b"a key", value, "interactions/1/42", TIMESTAMP_MS)


def read(schema_contract: Contract, value: bytes) -> dict[str, Any]:
    """Read by the registered schema alone, as any consumer does; nothing may be left over."""
    assert value[:2] == b"\x03\x00"
    assert value[2:18] == version_id(schema_contract).bytes
    stream = io.BytesIO(value[wire.HEADER_SIZE :])
    record = fastavro.schemaless_reader(
        stream, parse_plain(schema_contract.newest.definition), None
    )
    assert stream.read() == b""
    assert isinstance(record, dict)
    return record


def read_alone(event: Decoded) -> dict[str, Any]:
    """The enriched record of an event without user and item: the null branch, one byte each."""
    return read(ENRICHED, event.payload.encode("latin-1") + NO_BRANCH + NO_BRANCH)


# The parts of an enriched record, byte for byte.


@pytest.mark.parametrize("compress", [False, True])
def test_head_user_and_item_make_an_enriched_record(compress: bool) -> None:
    """SQL joins the parts to a record of the contract interactions-enriched."""
    head = decode_event(EVENT, value_of(INTERACTIONS, EVENT, compress=compress))
    user, item = decode_user(USER), decode_item(SONGS, SONG)
    value = head.payload.encode("latin-1") + branch_of(user) + branch_of(item)
    assert read(ENRICHED, value) == {
        **EVENT,
        "origin": "interactions/1/42",
        "published_at": TIMESTAMP_MS,
        "user": {
            "country": "PT",
            "age_band": "25-34",
            "subscription": "premium",
            "created_at": 1_500_000_000_000,
            "origin": "users/1/3",
        },
        "item": {
            "item_type": "song",
            "title": "Ação ♥ 愛",
            "creator": "Zeca Afonso",
            "genres": ["folk", "protest"],
            "duration_ms": 211_000,
            "language": None,
            "created_at": 90_000_000_000,
            "origin": "songs/0/7",
        },
    }


def test_head_without_user_and_item_makes_an_enriched_record() -> None:
    """Unknown, deleted or anonymous: the null branch, one byte each."""
    record = read_alone(decode_event(EVENT))
    assert (record["user"], record["item"]) == (None, None)
    assert record["event_id"] == "ev-1"


def test_the_bytes_are_frozen() -> None:
    """Header of interactions-enriched, the event's own bytes, origin, published_at."""
    value = value_of(INTERACTIONS, EVENT)
    head = decode_event(EVENT).payload.encode("latin-1")
    assert head.hex() == (
        "0300"
        + version_id(ENRICHED).hex
        + value[wire.HEADER_SIZE :].hex()
        + "22" + b"interactions/1/42".hex()
        + "f6a1a484ce67"
    )  # fmt: skip


def test_every_valid_example_is_enriched() -> None:
    """The examples of the contracts are documentation: they must pass."""
    for record in INTERACTIONS.examples("valid").values():
        row = interactions()(
            None, value_of(INTERACTIONS, record), "interactions/0/1", record["occurred_at"]
        )
        enriched = read_alone(row)
        assert {name: enriched[name] for name in record} == record


# Keys.


def test_an_event_is_joined_by_its_user_and_its_item() -> None:
    """Both as text; the Kafka key is not used."""
    row = decode_event({**EVENT, "user_id": "ü-1", "item_id": "ítem"})
    assert (row.ok, row.key, row.item_id) == (True, "ü-1", "ítem")


def test_an_anonymous_event_is_joined_with_no_user() -> None:
    """It is keyed by its session, with a mark in front that no id may have."""
    row = decode_event({**EVENT, "user_id": None})
    assert row.key == ANONYMOUS + "se-1"
    user = decode_user({**USER, "user_id": ANONYMOUS + "se-1"})
    assert dead_letter_of(user)["error_code"] == Reason.INVALID_VALUE


def test_users_and_items_are_joined_by_their_ids() -> None:
    """A user by the key column, an item by the item column; never both."""
    assert decode_user(USER)[:3] == (True, "u-1", None)
    assert decode_item(SONGS, SONG)[:3] == (True, None, "so-1")
    assert decode_item(PODCASTS, PODCAST)[:3] == (True, None, "po-1")


@pytest.mark.parametrize("field", ["event_id", "session_id", "item_id", "user_id"])
def test_an_id_may_be_as_long_as_personalize_takes_and_no_longer(field: str) -> None:
    """256 characters, not bytes."""
    assert decode_event({**EVENT, field: "é" * MAX_ID_LENGTH}).ok
    dead_letter = dead_letter_of(decode_event({**EVENT, field: "é" * (MAX_ID_LENGTH + 1)}))
    assert dead_letter["error_code"] == Reason.INVALID_VALUE
    assert field in dead_letter["message"]


# Versions.


def test_the_greatest_payload_is_the_newest_version() -> None:
    """As text, which is how SQL compares it: updated_at first, the offset where that is equal."""
    old = decode_user({**USER, "updated_at": 999}, offset=900)
    new = decode_user({**USER, "updated_at": 1_000, "country": "AA"}, offset=5)
    tie = decode_user({**USER, "updated_at": 1_000, "country": "ZZ"}, offset=4)
    assert old.payload < tie.payload < new.payload


# Between the two are seconds in the place of milliseconds.
_versions = st.tuples(
    st.integers(0, MIN_SECONDS - 1) | st.integers(FEBRUARY_1970_MS, TIMESTAMP_MS),
    st.integers(0, 2**62),
)


@given(first=_versions, second=_versions)
def test_versions_compare_as_their_numbers(first: tuple[int, int], second: tuple[int, int]) -> None:
    """Of any size."""
    former = decode_user({**USER, "updated_at": first[0]}, offset=first[1]).payload
    latter = decode_user({**USER, "updated_at": second[0]}, offset=second[1]).payload
    assert (former[:STATE_PREFIX] < latter[:STATE_PREFIX]) == (first < second)
    assert len(former[:STATE_PREFIX].strip("0123456789")) == 0


def test_without_updated_at_the_kafka_timestamp_is_the_version() -> None:
    """A record need not have the time of its change."""
    row = decode_user({**USER, "updated_at": None}, offset=3)
    assert row.payload[:STATE_PREFIX] == f"{TIMESTAMP_MS:019d}{3:019d}"


@pytest.mark.parametrize(
    ("decode", "record", "field"),
    [(decode_user, USER, "updated_at"), (decode_event, EVENT, "occurred_at")],
    ids=["version", "event"],
)
def test_a_time_may_be_a_day_ahead_of_kafka_and_no_more(
    decode: Callable[[Mapping[str, Any]], Decoded], record: dict[str, Any], field: str
) -> None:
    """A version far ahead would win indefinitely; an event has the clock of a device."""
    assert decode({**record, field: TIMESTAMP_MS + MAX_AHEAD_MS}).ok
    late = decode({**record, field: TIMESTAMP_MS + MAX_AHEAD_MS + 1})
    assert dead_letter_of(late)["error_code"] == Reason.FUTURE_TIMESTAMP


@pytest.mark.parametrize(
    ("decode", "record", "field", "number", "unit"),
    [
        (decode_event, EVENT, "occurred_at", TIMESTAMP_MS // 1000, "seconds"),
        (decode_event, EVENT, "occurred_at", 86_400, "seconds"),
        (decode_event, EVENT, "occurred_at", TIMESTAMP_MS * 1000, "microseconds"),
        (decode_event, EVENT, "occurred_at", TIMESTAMP_MS * 10**6, "nanoseconds"),
        (decode_user, USER, "updated_at", TIMESTAMP_MS // 1000, "seconds"),
        (decode_user, USER, "updated_at", TIMESTAMP_MS * 1000, "microseconds"),
        (decode_user, USER, "created_at", TIMESTAMP_MS // 1000, "seconds"),
        (decode_user, USER, "created_at", TIMESTAMP_MS * 1000, "microseconds"),
        (partial(decode_item, SONGS), SONG, "released_at", TIMESTAMP_MS * 1000, "microseconds"),
    ],
)
def test_a_time_in_another_unit_is_a_dead_letter_that_names_the_unit(
    decode: Callable[[Mapping[str, Any]], Decoded],
    record: dict[str, Any],
    field: str,
    number: int,
    unit: str,
) -> None:
    """An event of January 1970 or of the year 50000 is none; it would be enriched all the same."""
    letter = dead_letter_of(decode({**record, field: number}))
    assert letter["error_code"] in (Reason.INVALID_VALUE, Reason.FUTURE_TIMESTAMP)
    assert f"{field} is {number}" in letter["message"]
    assert f"probably {unit}, expected milliseconds since 1970" in letter["message"]


def test_a_work_may_be_from_january_1970_and_a_deletion_has_no_creation() -> None:
    """Most of recorded music is older than a service; what is deleted must go in any case."""
    assert decode_item(SONGS, {**SONG, "released_at": TIMESTAMP_MS // 1000}).ok
    assert decode_user({**USER, "created_at": TIMESTAMP_MS // 1000, "deleted": True}).ok
    assert decode_event({**EVENT, "occurred_at": FEBRUARY_1970_MS}).ok


def test_a_version_before_1970_is_a_dead_letter() -> None:
    """It would not compare as text."""
    negative = decode_user({**USER, "updated_at": -1})
    assert dead_letter_of(negative)["error_code"] == Reason.INVALID_VALUE


def test_a_clock_ahead_wins_over_nothing_that_is_published_later() -> None:
    """Neither over a deletion nor over an update; the record is counted from five minutes on."""
    decode = dimension(Role.USER)
    assert isinstance(decode.decode, DimensionDecoder)
    ahead = value_of(USERS, {**USER, "updated_at": TIMESTAMP_MS + 3_600_000})
    former = decode(b"u-1", ahead, "users/0/1", TIMESTAMP_MS)
    tombstone = decode(b"u-1", None, "users/0/2", TIMESTAMP_MS)
    right = value_of(USERS, {**USER, "updated_at": TIMESTAMP_MS + 60_000})
    update = decode(b"u-1", right, "users/0/3", TIMESTAMP_MS + 60_001)
    assert former.payload[:STATE_PREFIX] < tombstone.payload[:STATE_PREFIX]
    assert tombstone.payload[:STATE_PREFIX] < update.payload[:STATE_PREFIX]
    assert decode.decode.clock_ahead == 1


def test_a_tombstone_without_a_timestamp_has_a_version() -> None:
    """A version is digits: a negative number would not compare, and not be read again."""
    row = dimension(Role.USER)(b"u-1", None, "users/0/9", -(10**18))
    assert row.payload == f"{0:019d}{9:019d}\x00"


# Deletions.


@pytest.mark.parametrize(("role", "topic"), [(Role.USER, "users"), (Role.ITEM, "podcasts")])
def test_a_tombstone_deletes_by_its_key(role: Role, topic: str) -> None:
    """The null branch as the version of the Kafka timestamp."""
    row = dimension(role)("é-1".encode(), None, f"{topic}/0/9", TIMESTAMP_MS)
    assert row.ok
    assert (row.key, row.item_id) == (("é-1", None) if role is Role.USER else (None, "é-1"))
    assert row.payload == f"{TIMESTAMP_MS:019d}{9:019d}\x00"


def test_a_deleted_record_is_the_null_branch_of_its_version() -> None:
    """It orders like any other version."""
    user, item = (
        decode_user({**USER, "deleted": True}),
        decode_item(SONGS, SONG | {"deleted": True}),
    )
    assert (branch_of(user), branch_of(item)) == (NO_BRANCH, NO_BRANCH)
    assert user.payload.startswith(f"{USER['updated_at']:019d}")
    assert branch_of(decode_user(USER))[:1] == BRANCH


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, Reason.EMPTY_VALUE),
        (b"", Reason.MISSING_ID),
        (b"\xff\xfe", Reason.INVALID_VALUE),
        (b"x" * (MAX_ID_LENGTH + 1), Reason.INVALID_VALUE),
    ],
    ids=str,
)
def test_a_tombstone_without_a_usable_key_is_a_dead_letter(
    key: bytes | None, reason: Reason
) -> None:
    """Nothing says what is deleted."""
    row = dimension(Role.USER)(key, None, "users/0/9", TIMESTAMP_MS)
    assert dead_letter_of(row)["error_code"] == reason
    assert dead_letter_of(row)["key"] == key


# Malformed records.


def test_the_malformed_records_have_all_reasons() -> None:
    """The two tests below go through every reason that there is."""
    assert set(INTERACTION_REASONS) == set(Reason)
    assert set(DIMENSION_REASONS) == set(Reason) - {Reason.EMPTY_VALUE}


def corrupted(
    reason: Reason, contract: Contract, record: dict[str, Any], variant: int
) -> bytes | None:
    value = value_of(contract, corrupt_record(reason, contract, record, variant))
    foreign = value_of(PODCASTS, PODCAST)
    return corrupt_value(reason, contract, value, foreign, variant)


@pytest.mark.parametrize("variant", range(4))
@pytest.mark.parametrize("reason", INTERACTION_REASONS)
def test_an_unusable_event_is_a_dead_letter(reason: Reason, variant: int) -> None:
    """With the reason, the record as it was and where it is; nothing is raised."""
    value = corrupted(reason, INTERACTIONS, EVENT, variant)
    row = interactions()(b"k\xff", value, "interactions/1/42", TIMESTAMP_MS)
    assert (row.ok, row.key, row.item_id) == (False, "k\xff", None)
    dead_letter = dead_letter_of(row)
    assert dead_letter.pop("message")
    assert dead_letter == {
        "topic": "interactions",
        "partition": 1,
        "offset": 42,
        "timestamp": TIMESTAMP_MS,
        "key": b"k\xff",
        "payload": value,
        "step": "decode",
        "error_code": reason,
        "event_id": None,
        "first_seen": NOW_MS,
    }


@pytest.mark.parametrize("variant", range(2))
@pytest.mark.parametrize("reason", DIMENSION_REASONS)
@pytest.mark.parametrize(
    ("role", "contract", "record"),
    [(Role.USER, USERS, USER), (Role.ITEM, SONGS, SONG)],
    ids=["user", "song"],
)
def test_an_unusable_user_or_item_is_a_dead_letter(
    role: Role, contract: Contract, record: dict[str, Any], reason: Reason, variant: int
) -> None:
    """The same."""
    value = corrupted(reason, contract, record, variant)
    dead_letter = dead_letter_of(
        dimension(role)(None, value, f"{contract.topic}/0/5", TIMESTAMP_MS)
    )
    assert (dead_letter["error_code"], dead_letter["step"]) == (reason, "decode")
    assert (dead_letter["topic"], dead_letter["offset"]) == (contract.topic, 5)
    assert (dead_letter["key"], dead_letter["payload"]) == (None, value)


@given(
    value=st.binary(max_size=80)
    | st.binary(max_size=80).map(lambda body: wire.frame(version_id(INTERACTIONS), body)),
    key=st.none() | st.binary(max_size=8),
)
def test_no_bytes_make_a_decoder_raise(value: bytes, key: bytes | None) -> None:
    """The job would fail at the same record again and again."""
    decoders: list[tuple[Named, str]] = [
        (interactions(), "interactions"),
        (dimension(Role.USER), "users"),
        (dimension(Role.ITEM), "songs"),
    ]
    for decode, topic in decoders:
        row = decode(key, value, f"{topic}/0/0", TIMESTAMP_MS)
        assert row.ok or dead_letter_of(row)["payload"] == value


# Schema versions.


def older_and_newer(contract: Contract, change: Any) -> Contract:
    """The contract with its present version as v2, and a v1 that ``change`` made of it."""
    avro = contract.newest.avro
    change(avro["fields"])
    return replace(
        contract,
        versions=(SchemaVersion(1, json.dumps(avro)), SchemaVersion(2, contract.newest.definition)),
    )


def test_an_event_of_an_older_version_comes_out_as_the_newest() -> None:
    """Its bytes differ; what follows them would be read as something else."""
    both = older_and_newer(
        INTERACTIONS, lambda fields: [fields.remove(f) for f in fields if f["name"] == "device"]
    )
    contracts = replace(CONTRACTS, by_name={**CONTRACTS.by_name, "interactions": both})
    decode = interactions(contracts, Registry(both))
    old = {name: value for name, value in EVENT.items() if name != "device"}
    value = Encoder(both, version_id(both, 1), version=1).encode(old)
    record = read_alone(decode(None, value, "interactions/0/1", TIMESTAMP_MS))
    assert record["device"] is None
    assert {name: record[name] for name in old} == old


def test_an_event_of_a_newer_version_loses_what_is_not_known_yet() -> None:
    """Producers are upgraded first."""
    avro = INTERACTIONS.newest.avro
    avro["fields"].insert(0, {"name": "mood", "type": "string", "default": "?"})
    newer = replace(
        INTERACTIONS, versions=(*INTERACTIONS.versions, SchemaVersion(2, json.dumps(avro)))
    )
    decode = interactions(registry=Registry(newer))
    value = Encoder(newer, version_id(newer, 2)).encode({**EVENT, "mood": "blue"})
    record = read_alone(decode(None, value, "interactions/0/1", TIMESTAMP_MS))
    assert {name: record[name] for name in EVENT} == EVENT


def test_an_enriched_contract_that_does_not_start_with_the_event_is_refused() -> None:
    """Its bytes could not be put together; said at the start, not record by record."""
    check_enriched_layout(INTERACTIONS, ENRICHED)
    avro = ENRICHED.newest.avro
    avro["fields"][0], avro["fields"][1] = avro["fields"][1], avro["fields"][0]
    shuffled = replace(ENRICHED, versions=(SchemaVersion(1, json.dumps(avro)),))
    with pytest.raises(ValueError, match="must start with the fields of interactions v1"):
        check_enriched_layout(INTERACTIONS, shuffled)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_long_is_written_as_avro_writes_it(value: int) -> None:
    """origin's length and published_at are written here, not by the Avro library."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, {"type": "long"}, value)
    assert avro_long(value) == stream.getvalue()
