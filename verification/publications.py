"""Publications: the Kafka keys and values of entries, validated against their contracts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast
from uuid import UUID

from schemas import wire
from schemas.codec import Encoder
from schemas.errors import TunemeshError
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract, Contracts, Role
from schemas.records import Interaction
from schemas.rules import check_dimension, check_id, check_interaction
from verification.entries import Entry, Kind, Record
from verification.malformed import corrupt_record, corrupt_value


class UnusableEntry(TunemeshError):
    """A record of the source does not fit its contract."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A record for Kafka and the ledger.

    ``body`` is what reconciliation compares with: the Avro body (newest schema version) of a valid
    event or dimension version, the whole value of a malformed record, None for a tombstone.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    kind: Kind
    event_id: str | None = None
    reason: Reason | None = None
    entity: str | None = None
    updated_at: int | None = None
    deleted: bool = False
    body: bytes | None = None


class _Domain:
    """A contract with its encoder, defaults and mapped fields."""

    def __init__(self, contract: Contract, version_id: UUID) -> None:
        self.contract = contract
        self.encoder = Encoder(contract, version_id)
        newest = contract.newest
        self.names = frozenset(newest.field_names)
        self.defaults = newest.defaults
        self.fillers = {
            entry["name"]: _filler(entry["type"])
            for entry in newest.avro["fields"]
            if entry["name"] not in self.defaults
        }
        mapping = contract.item or contract.user
        self.updated = mapping.updated if mapping else None
        self.deleted = mapping.deleted if mapping else None

    def known(self, record: Record) -> dict[str, Any]:
        """Return the fields of a record that the contract has."""
        return {name: value for name, value in record.items() if name in self.names}

    def conform(self, record: Record) -> dict[str, Any]:
        """Return a record with all fields; missing ones get their default, or null if allowed.

        A deletion needs its id only. Raises UnusableEntry.
        """
        if not self.names.issuperset(record):
            unknown = ", ".join(sorted(set(record) - self.names))
            raise UnusableEntry(f"unknown field {unknown}; {self.contract.name} does not have it")
        missing = next((name for name in self.fillers if name not in record), None)
        if missing is None:
            return {**self.defaults, **record}
        if self.deleted is None or not record.get(self.deleted):
            raise UnusableEntry(f"the field {missing!r} is missing")
        return {**self.defaults, **self.fillers, **record}

    def check(self, record: Mapping[str, Any], value: bytes, now_ms: int) -> None:
        """Raise InvalidRecord for a record that is encoded and that no consumer can use."""
        contract = self.contract
        if len(value) > contract.max_bytes:
            raise InvalidRecord(
                Reason.OVERSIZE,
                f"{len(value)} bytes, {contract.name} allows {contract.max_bytes} a record",
            )
        if contract.role is Role.INTERACTION:
            check_interaction(cast("Interaction", record), now_ms)
            return
        check_id(contract.key, record[contract.key])
        check_dimension(contract, record, now_ms)

    def is_malformed(self, record: Mapping[str, Any], reason: Reason, now_ms: int) -> bool:
        """Whether a record becomes a dead letter for this reason as it is."""
        try:
            self.check(record, self.encoder.encode(record), now_ms)
        except InvalidRecord as error:
            return error.reason is reason
        return False


def _filler(avro: Any) -> Any:
    """Return an empty value of a required field, for a deletion."""
    kind = avro["type"] if isinstance(avro, Mapping) else avro
    values = {"string": "", "array": [], "boolean": False, "int": 0, "long": 0}
    return values.get(kind) if isinstance(kind, str) else None


class PublicationFactory(Protocol):
    """Creates the publications of entries."""

    def create_publication(self, entry: Entry, now_ms: int) -> Publication:
        """Return the key, value and ledger row of an entry."""


class Publisher:
    """Creates publications with the ids of registered schema versions; pure.

    ``ledger_contracts``: the contracts of reconciliation, if the producer's are newer. Fields that
    the newer contract removed are left out of the value; the body has the fields of
    ``ledger_contracts``.
    """

    def __init__(
        self,
        contracts: Contracts,
        version_ids: Mapping[str, UUID],
        ledger_contracts: Contracts | None = None,
    ) -> None:
        self._ledger_contracts = {
            contract.name: _Domain(contract, version_ids[contract.name])
            for contract in (ledger_contracts.sources if ledger_contracts is not None else ())
            if contract.name in contracts.by_name
            and contract.newest.definition != contracts[contract.name].newest.definition
        }
        self._domains = {
            contract.name: _Domain(contract, version_ids[contract.name])
            for contract in contracts.sources
        }
        self._foreign = {
            name: _value_of_another(name, version_ids, self._domains) for name in self._domains
        }

    def create_publication(self, entry: Entry, now_ms: int) -> Publication:
        """Return the key, value and ledger row of an entry.

        ``now_ms`` is the time of publication: the pipelines reject events more than 24 h after it.
        Raises UnusableEntry, with the line of the entry.
        """
        try:
            return self._create(entry, now_ms)
        except (InvalidRecord, UnusableEntry) as error:
            message = error.message if isinstance(error, InvalidRecord) else str(error)
            raise UnusableEntry(f"{entry.where}: {message}" if entry.where else message) from None

    def _create(self, entry: Entry, now_ms: int) -> Publication:
        domain = self._domains[entry.domain]
        contract = domain.contract
        if entry.value is not None:
            raw_key = None if entry.key is None else entry.key.encode()
            raw = Publication(contract.topic, raw_key, entry.value, entry.kind, body=entry.value)
            return replace(raw, reason=entry.reason)
        if entry.record is None:
            key = check_id("the id of the deletion", entry.key)
            return Publication(
                contract.topic, key.encode(), None, entry.kind, entity=key, deleted=True
            )
        is_newer = entry.domain in self._ledger_contracts
        record = domain.conform(domain.known(entry.record) if is_newer else entry.record)
        key = _key(contract, record)
        if entry.kind is Kind.MALFORMED:
            return self._create_malformed(entry, domain, record, key, now_ms)
        value = domain.encoder.encode(record)
        domain.check(record, value, now_ms)
        publication = Publication(
            contract.topic,
            key.encode(),
            value,
            entry.kind,
            body=self._body(contract.name, record, value),
        )
        if contract.role is Role.INTERACTION:
            return replace(publication, event_id=record["event_id"])
        updated_at = record[domain.updated] if domain.updated else None
        deleted = bool(domain.deleted and record[domain.deleted])
        return replace(publication, entity=key, updated_at=updated_at, deleted=deleted)

    def _body(self, name: str, record: dict[str, Any], value: bytes) -> bytes:
        kept = self._ledger_contracts.get(name)
        if kept is not None:
            value = kept.encoder.encode(kept.conform(kept.known(record)))
        return value[wire.HEADER_SIZE :]

    def _create_malformed(
        self, entry: Entry, domain: _Domain, record: dict[str, Any], key: str, now_ms: int
    ) -> Publication:
        contract, reason, variant = domain.contract, entry.reason, entry.variant
        if reason is None:
            raise UnusableEntry("a malformed record needs a reason")
        corrupted: Record = record
        if not domain.is_malformed(record, reason, now_ms):
            corrupted = corrupt_record(reason, contract, record, variant)
        encoded, foreign = domain.encoder.encode(corrupted), self._foreign[contract.name]
        value = corrupt_value(reason, contract, encoded, foreign, variant)
        publication = Publication(contract.topic, key.encode(), value, Kind.MALFORMED, body=value)
        return replace(publication, event_id=corrupted.get("event_id") or None, reason=reason)


def _value_of_another(
    name: str, version_ids: Mapping[str, UUID], domains: Mapping[str, _Domain]
) -> bytes:
    """Return a valid value of another contract, from its examples."""
    for other, domain in domains.items():
        if other != name and (examples := domain.contract.examples("valid")):
            # An example may have a field that the newest version has removed.
            example = next(iter(examples.values()))
            return domain.encoder.encode(domain.conform(domain.known(example)))
    # In a mesh of one domain: the domain's own id, without a body.
    return wire.frame(version_ids[name], b"")


def _key(contract: Contract, record: Record) -> str:
    if contract.role is Role.INTERACTION:
        return str(record["user_id"] or record["session_id"])
    return str(record[contract.key])
