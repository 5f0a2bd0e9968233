"""Checks of contracts that need no network.

:mod:`schemas.model` rejects a folder that cannot be used at all. This checks the rest: that valid
examples are valid and invalid ones are not, that each version can follow the one before it, that
mappings have the right types, and that topics fit together. ``tunemesh schemas check`` and the
tests run it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast
from uuid import UUID

from schemas import dead_letter, wire
from schemas.codec import Decoder, Encoder, RegisteredSchema, SchemaLookup
from schemas.compatibility import incompatibilities
from schemas.example_values import ExampleValues
from schemas.invalid import InvalidRecord, Reason
from schemas.model import (
    Contract,
    ContractError,
    Contracts,
    ItemMapping,
    Role,
    UserMapping,
    s3_location,
    split_nullable,
)
from schemas.records import Interaction
from schemas.rules import (
    MAX_TIMESTAMP_MS,
    check_dimension,
    check_interaction,
    identifier_fields,
    missing_identifier,
    probable_unit,
)

_ANY_ID = UUID(int=1)
_DAYS = re.compile(r"P(?P<days>[1-9][0-9]*)D")
_TABLE = re.compile(r"[a-z0-9_]{1,255}\.[a-z0-9_]{1,255}")
_COMPACT = "compact"

# What the enrichment adds to an event, its user and its item: three origins
# (topic/partition/offset, at most 249 + 1 + 10 + 1 + 19 characters), a timestamp, lengths.
_PROVENANCE_BYTES = 1_024

_TEXT = "string"
_MILLIS = "timestamp-millis"
# Elsewhere a logical type is ignored, as Avro says.
_LOGICAL = {
    ("string", "uuid"),
    ("int", "date"),
    ("int", "time-millis"),
    ("long", "time-micros"),
    *(
        ("long", f"{local}timestamp-{unit}")
        for local in ("", "local-")
        for unit in ("millis", "micros", "nanos")
    ),
}
_UNITS = {"millis": "milliseconds", "micros": "microseconds", "nanos": "nanoseconds"}
_TEXTS = (_TEXT, "uuid", "enum")
_MAPPED_TYPES: dict[str, tuple[str, ...]] = {
    "item_id": _TEXTS,
    "user_id": _TEXTS,
    "title": _TEXTS,
    "creator": _TEXTS,
    "genres": ("array of string",),
    "duration": ("int", "long"),
    "language": _TEXTS,
    "country": _TEXTS,
    "age_band": _TEXTS,
    "subscription": _TEXTS,
    "created": (_MILLIS,),
    "updated": (_MILLIS,),
    "deleted": ("boolean",),
}
_NOT_NULL = ("item_id", "user_id", "title", "genres", "deleted")


class Problem(NamedTuple):
    """A fault of a contract, to be repaired."""

    contract: str
    what: str


def check(contracts: Contracts, *, is_complete: bool = True) -> list[Problem]:
    """All faults of a mesh's contracts, contract by contract.

    ``is_complete``: whether these are all of them; else a role that none has is no fault.
    """
    problems = [
        Problem(contract.name, what) for contract in contracts for what in check_contract(contract)
    ]
    return problems + list(_check_together(contracts, is_complete))


def check_contract(contract: Contract) -> list[str]:
    """All faults of one contract on its own."""
    return [
        *_check_folder(contract),
        *_check_versions(contract),
        *_check_fields(contract),
        *_check_examples(contract),
    ]


def _check_folder(contract: Contract) -> Iterator[str]:
    if contract.folder.name != contract.name:
        yield f"its folder is named {contract.folder.name!r}, expected {contract.name!r}"
    for path in sorted(contract.folder.rglob("*")):
        if path.is_file() and not _belongs(contract, path.relative_to(contract.folder)):
            yield f"{path} is read by nothing"


def _belongs(contract: Contract, path: Path) -> bool:
    if len(path.parts) == 1:
        return path.name in ("contract.yaml", "README.md") or path.suffix == ".avsc"
    return path.parent.as_posix() in ("examples/valid", "examples/invalid") and (
        path.suffix == ".json"
    )


def _check_versions(contract: Contract) -> Iterator[str]:
    definitions = [version.definition for version in contract.versions]
    for index, version in enumerate(contract.versions):
        former = definitions[:index]
        for fault in incompatibilities(contract.compatibility, version.definition, former):
            yield f"{contract.name}.v{version.number}.avsc: {fault}"


def _check_fields(contract: Contract) -> Iterator[str]:
    types = {entry["name"]: entry["type"] for entry in contract.newest.avro["fields"]}
    columns: dict[str, str] = {}
    for name in types:
        if columns.setdefault(name.lower(), name) != name:
            yield (
                f"the fields {columns[name.lower()]!r} and {name!r} are one column in the catalog,"
                " which has lower case only"
            )
    if contract.key not in types:
        yield f"the key {contract.key!r} is not a field"
    for name in contract.pii:
        if name not in types:
            yield f"the PII class of {name!r}: there is no such field"
    for name in identifier_fields(contract):
        if name not in types:
            yield f"the field {name!r} is missing, every {contract.role} has it"
    mapping = contract.item or contract.user
    if mapping is not None:
        yield from _check_mapping(mapping, types)
        identity = identifier_fields(contract)[0]
        if contract.key != identity:
            yield (
                f"the key of the topic is {contract.key!r}, and the mapped id is {identity!r};"
                " make the id the primary key of the schema in contract.yaml"
            )
    if contract.registered_as is None and contract.topic != contract.name:
        yield (
            f"its topic is {contract.topic!r}: Glue's Java serializer names the schema after it;"
            " set the property subject to the schema's name in the registry,"
            f" {contract.topic!r} or {contract.name!r}"
        )
    if not _TABLE.fullmatch(contract.catalog_table):
        yield f"catalogTable is {contract.catalog_table!r}, expected DATABASE.TABLE in lower case"
    if contract.max_bytes <= wire.HEADER_SIZE:
        yield f"maxBytes is {contract.max_bytes}, the registry header alone has {wire.HEADER_SIZE}"
    if contract.retention != _COMPACT and not _DAYS.fullmatch(contract.retention):
        yield f"retention is {contract.retention!r}, expected compact or days such as P7D"


def _check_mapping(mapping: ItemMapping | UserMapping, types: dict[str, Any]) -> Iterator[str]:
    for slot, expected in _MAPPED_TYPES.items():
        value = getattr(mapping, slot, None)
        for name in value if isinstance(value, tuple) else (value,):
            if name is None or name not in types:
                continue
            kind, nullable = _kind(types[name])
            if kind not in expected:
                yield f"{slot} is mapped to {name!r}, a {kind}; expected {' or '.join(expected)}"
            elif nullable and slot in _NOT_NULL:
                yield f"{slot} is mapped to {name!r}, which may be null"


def _kind(avro: Any) -> tuple[str, bool]:
    """The type of a field in words, and whether it may be null."""
    avro, nullable = split_nullable(avro)
    if isinstance(avro, list):
        return f"union of {len(avro)} types", nullable
    if isinstance(avro, dict):
        if avro["type"] == "array":
            return f"array of {_kind(avro['items'])[0]}", nullable
        known = (avro["type"], avro.get("logicalType")) in _LOGICAL
        return str(avro["logicalType"] if known else avro["type"]), nullable
    return str(avro), nullable


def _check_examples(contract: Contract) -> Iterator[str]:
    try:
        valid, invalid = contract.examples("valid"), contract.examples("invalid")
    except ContractError as error:
        yield str(error)
        return
    for kind, examples in (("valid", valid), ("invalid", invalid)):
        if not examples:
            yield f"there is no example in examples/{kind}"
    round_trip = _round_trip(contract)
    values = ExampleValues(contract.newest.avro)
    for name, record in valid.items():
        try:
            decoded = round_trip(record)
        except InvalidRecord as error:
            yield f"examples/valid/{name}.json: {error}"
        else:
            if decoded != values.as_read(record):
                yield f"examples/valid/{name}.json: is read back as {decoded}"
            for problem in _wrong_units(contract, decoded):
                yield f"examples/valid/{name}.json: {problem}"
    for name, record in invalid.items():
        try:
            round_trip(record)
        except InvalidRecord:
            continue
        yield f"examples/invalid/{name}.json: is valid"


def _wrong_units(contract: Contract, record: dict[str, Any]) -> Iterator[str]:
    """Timestamps of a record that are probably written in another unit than their type has."""
    for entry in contract.newest.avro["fields"]:
        kind, _ = _kind(entry["type"])
        expected = _UNITS.get(kind.rpartition("timestamp-")[2]) if "timestamp-" in kind else None
        timestamp = record[entry["name"]]
        if expected is None or not isinstance(timestamp, int):
            continue
        unit = probable_unit(timestamp, expected)
        if unit is not None:
            yield f"{entry['name']} is {timestamp}: probably {unit}, its type has {expected}"


def _round_trip(contract: Contract) -> Callable[[dict[str, Any]], dict[str, Any]]:
    encoder = Encoder(contract, _ANY_ID)
    decoder = Decoder(contract, _NewestOnly(contract))

    def round_trip(record: dict[str, Any]) -> dict[str, Any]:
        decoded = decoder.decode(encoder.encode(record))
        if (missing := missing_identifier(contract, decoded)) is not None:
            raise InvalidRecord(Reason.MISSING_ID, f"{missing} is empty")
        if contract.role is Role.INTERACTION:
            check_interaction(cast("Interaction", decoded), MAX_TIMESTAMP_MS)
        elif contract.role in (Role.USER, Role.ITEM):
            check_dimension(contract, decoded, MAX_TIMESTAMP_MS)
        return decoded

    return round_trip


class _NewestOnly(SchemaLookup):
    """A registry with one version, under every id."""

    def __init__(self, contract: Contract) -> None:
        self._schema = RegisteredSchema(contract.subject, contract.newest.definition)

    def by_id(self, version_id: bytes) -> RegisteredSchema:
        return self._schema


def _check_together(contracts: Contracts, is_complete: bool) -> Iterator[Problem]:
    for role in (
        Role.USER,
        Role.INTERACTION,
        Role.ENRICHED,
        Role.DEAD_LETTER,
        Role.DELETION,
        Role.TREND,
    ):
        try:
            if is_complete or len(contracts.with_role(role)) > 1:
                contracts.only(role)
        except ContractError as error:
            yield Problem("all", str(error))
    if is_complete and not contracts.with_role(Role.ITEM):
        yield Problem("all", "no contract has the role item")
    yield from _check_unique(contracts)
    for dead_letters in contracts.with_role(Role.DEAD_LETTER):
        yield from _check_dead_letters(dead_letters, contracts)
    for enriched in contracts.with_role(Role.ENRICHED):
        yield from _check_enriched(enriched, contracts)


def _check_unique(contracts: Contracts) -> Iterator[Problem]:
    properties: dict[str, Callable[[Contract], str | None]] = {
        "item type": lambda contract: contract.item.type if contract.item else None,
        "catalog table": lambda contract: contract.catalog_table,
        "schema name": lambda contract: contract.subject,
        # Kafka makes one metric name of both; schemas.model reports equal topics.
        "topic, '.' and '_' being the same": lambda contract: (
            contract.topic.replace(".", "_")
            if contracts.for_topic(contract.topic) is contract
            else None
        ),
    }
    for what, of in properties.items():
        owners: dict[str, Contract] = {}
        for contract in contracts:
            value = of(contract)
            owner = contract if value is None else owners.setdefault(value, contract)
            if owner is not contract:
                yield Problem(contract.name, f"{what} {value!r} is also that of {owner.name}")
    yield from _check_locations(contracts)


def _check_locations(contracts: Contracts) -> Iterator[Problem]:
    """An export removes former versions of its product: nobody else's files may be among them."""
    former: list[Contract] = []
    for contract in contracts:
        bucket, prefix = s3_location(contract.location)
        for other in former:
            other_bucket, other_prefix = s3_location(other.location)
            if bucket == other_bucket and (
                prefix.startswith(other_prefix) or other_prefix.startswith(prefix)
            ):
                same = "is also that of" if prefix == other_prefix else "overlaps with that of"
                yield Problem(
                    contract.name, f"S3 location {contract.location!r} {same} {other.name}"
                )
        former.append(contract)


def _check_dead_letters(dead_letters: Contract, contracts: Contracts) -> Iterator[Problem]:
    if dead_letters.max_bytes != dead_letter.MAX_VALUE_BYTES:
        yield Problem(
            dead_letters.name,
            f"maxBytes is {dead_letters.max_bytes}, dead letters are limited to"
            f" {dead_letter.MAX_VALUE_BYTES}",
        )
    days = _retention_days(dead_letters)
    for source in contracts:
        if source is dead_letters:
            continue
        source_record = dead_letter.SourceRecord(
            source.topic, 2**31 - 1, 2**63 - 1, 0, b"k" * 1_024, b"p" * source.max_bytes
        )
        letter = dead_letter.dead_letter(
            source_record, "decode", "c", "m" * 2_000, 0, max_value_bytes=dead_letters.max_bytes
        )
        if not dead_letter.payload_is_whole(letter):
            yield Problem(
                dead_letters.name,
                f"maxBytes is {dead_letters.max_bytes}: a whole record of {source.name}"
                f" ({source.max_bytes} bytes) does not fit into a dead letter",
            )
        source_days = _retention_days(source)
        if days is not None and source_days is not None and days < source_days:
            yield Problem(
                dead_letters.name,
                f"retention is {dead_letters.retention}, shorter than that of {source.name}"
                f" ({source.retention})",
            )


def _check_enriched(enriched: Contract, contracts: Contracts) -> Iterator[Problem]:
    event, user, item = (
        max((contract.max_bytes for contract in contracts.with_role(role)), default=0)
        for role in (Role.INTERACTION, Role.USER, Role.ITEM)
    )
    needed = event + user + item + _PROVENANCE_BYTES
    if enriched.max_bytes < needed:
        yield Problem(
            enriched.name,
            f"maxBytes is {enriched.max_bytes}: the largest event ({event}) with the largest user"
            f" ({user}) and item ({item}) takes {needed}, and would stop the job",
        )


def _retention_days(contract: Contract) -> int | None:
    """Days; None for a compacted topic, which keeps the newest record of a key indefinitely."""
    match = _DAYS.fullmatch(contract.retention)
    return None if match is None else int(match["days"])
