"""The contracts: one folder for each domain, and what is derived from it.

A folder holds ``contract.yaml`` (Open Data Contract Standard 3), the Avro schema versions
``<domain>.v<N>.avsc`` and examples. Topics, decoding, the items view and registry subjects come
from here; a new item domain is a new folder and no code.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import TunemeshError
from schemas.settings import ENVIRONMENT, Kind, group, read, setting

BUILT_IN_FOLDER = Path(__file__).parent / "contracts"
_VERSION_FILE = re.compile(r"(?P<domain>[a-z0-9-]+)\.v(?P<version>[1-9][0-9]*)\.avsc")
_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
COMPATIBILITY_MODES = (
    "NONE", "BACKWARD", "BACKWARD_ALL", "FORWARD", "FORWARD_ALL", "FULL", "FULL_ALL"
)  # fmt: skip
"""As in Glue: BACKWARD, the new version reads what the last one wrote; FORWARD, the last one reads
what the new one writes; FULL, both; _ALL, not only the last one but each former version."""


class ContractError(TunemeshError):
    """A contract folder is not usable; the message names the file and what to change."""


class Role(StrEnum):
    """The role of a topic's records in the enrichment."""

    USER = "user"
    ITEM = "item"
    INTERACTION = "interaction"
    ENRICHED = "enriched"
    DEAD_LETTER = "dead-letter"
    DELETION = "deletion"
    TREND = "trend"


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One Avro schema version of a contract: ``definition`` is the text that is registered."""

    number: int
    definition: str

    @property
    def avro(self) -> dict[str, Any]:
        """The schema as parsed JSON, a new copy at each call."""
        parsed: dict[str, Any] = json.loads(self.definition)
        return parsed

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the record's fields, in the order in which Avro writes them."""
        return tuple(entry["name"] for entry in self.avro["fields"])

    @property
    def defaults(self) -> dict[str, Any]:
        """What an absent field stands for: its default, else null; required fields have none."""
        return {
            entry["name"]: entry.get("default")
            for entry in self.avro["fields"]
            if "default" in entry or split_nullable(entry["type"])[1]
        }


@dataclass(frozen=True, slots=True)
class ItemMapping:
    """How an item domain's fields map to the items view."""

    type: str
    item_id: str
    title: str
    creator: tuple[str, ...] = ()
    genres: str | None = None
    duration: str | None = None
    duration_unit_ms: int = 1
    language: str | None = None
    created: str | None = None
    updated: str | None = None
    deleted: str | None = None


@dataclass(frozen=True, slots=True)
class UserMapping:
    """How the users domain's fields map to the user of an enriched interaction."""

    user_id: str
    country: str | None = None
    age_band: str | None = None
    subscription: str | None = None
    created: str | None = None
    updated: str | None = None
    deleted: str | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """The contract of one domain: topic, key, schema versions and how its records are used.

    ``max_bytes`` bounds a record's value on the topic, header included. Its product is found in the
    catalog by ``tags``, among others.
    """

    name: str
    role: Role
    owner: str
    topic: str
    key: str
    compatibility: str
    max_bytes: int
    retention: str
    location: str
    catalog_table: str
    pii_default: str
    pii: Mapping[str, str]
    versions: tuple[SchemaVersion, ...]
    folder: Path
    item: ItemMapping | None = None
    user: UserMapping | None = None
    domain: str = ""
    tags: tuple[str, ...] = ()

    @property
    def newest(self) -> SchemaVersion:
        """The schema version that producers write and readers read."""
        return self.versions[-1]

    def pii_class(self, field: str) -> str:
        """The PII class of a field."""
        return self.pii.get(field, self.pii_default)

    @property
    def subject(self) -> str:
        """Name of the schema in the Glue registry."""
        return self.name

    def examples(self, kind: str) -> dict[str, dict[str, Any]]:
        """Records in ``examples/valid`` or ``examples/invalid``, by file name without its ending.

        JSON has no bytes: the files hold them as base64, and this returns them as bytes.
        """
        folder = self.folder / "examples" / kind
        bytes_fields = [e["name"] for e in self.newest.avro["fields"] if _is_bytes(e["type"])]
        records: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob("*.json")):
            try:
                record = json.loads(path.read_text())
                for name in bytes_fields:
                    if isinstance(record.get(name), str):
                        record[name] = base64.b64decode(record[name], validate=True)
            except (ValueError, AttributeError) as error:
                raise ContractError(f"{path}: not an example record: {error}") from error
            records[path.stem] = record
        return records


@dataclass(frozen=True, slots=True)
class Contracts:
    """All contracts of a mesh, by name."""

    by_name: Mapping[str, Contract]
    _by_topic: Mapping[str, Contract] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_topic", {c.topic: c for c in self.by_name.values()})

    def __iter__(self) -> Iterator[Contract]:
        return iter(self.by_name.values())

    def __getitem__(self, name: str) -> Contract:
        try:
            return self.by_name[name]
        except KeyError:
            known = ", ".join(sorted(self.by_name))
            raise ContractError(f"there is no contract {name!r}; there are: {known}") from None

    def for_topic(self, topic: str) -> Contract:
        """The contract of a topic; raises ContractError when no contract owns it."""
        try:
            return self._by_topic[topic]
        except KeyError:
            known = ", ".join(sorted(self._by_topic))
            raise ContractError(f"no contract has the topic {topic!r}; topics: {known}") from None

    def with_role(self, role: Role) -> tuple[Contract, ...]:
        """Contracts of that role, by name."""
        return tuple(c for c in self.by_name.values() if c.role is role)

    def only(self, role: Role) -> Contract:
        """The one contract of a role that a mesh has once; raises ContractError otherwise."""
        contracts = self.with_role(role)
        if len(contracts) != 1:
            names = ", ".join(c.name for c in contracts) or "none"
            raise ContractError(f"exactly one contract must have the role {role!s}, found: {names}")
        return contracts[0]

    @property
    def sources(self) -> tuple[Contract, ...]:
        """What the enrichment reads: users, items, interactions."""
        return tuple(c for c in self if c.role in (Role.USER, Role.ITEM, Role.INTERACTION))


def split_nullable(avro: Any) -> tuple[Any, bool]:
    """The Avro type of a field beside null, and whether null is allowed.

    A union of several types beside null is returned as the list of these.
    """
    if not isinstance(avro, list):
        return avro, False
    branches = [branch for branch in avro if branch != "null"]
    return branches[0] if len(branches) == 1 else branches, len(branches) < len(avro)


@group(ENVIRONMENT)
class ContractSettings:
    """Where contracts are, beside those of this repository."""

    folders: tuple[Path, ...] = setting(
        "TUNEMESH_CONTRACTS",
        Kind(
            "folders, separated as in PATH",
            lambda text: tuple(Path(part) for part in text.split(os.pathsep) if part),
        ),
        "more contract folders, as absolute paths",
        default="",
    )


def contract_folders() -> tuple[Path, ...]:
    """Where contracts are read from: ours, then ``TUNEMESH_CONTRACTS``."""
    return (BUILT_IN_FOLDER, *read(ContractSettings, {ENVIRONMENT: os.environ}).folders)


@cache
def load_contracts(folders: tuple[Path, ...] | None = None) -> Contracts:
    """Read all contracts of the folders; raises ContractError for the first unusable one."""
    contracts: dict[str, Contract] = {}
    topics: dict[str, str] = {}
    for root in folders or contract_folders():
        if not root.is_dir():
            raise ContractError(f"the contracts folder {root} does not exist")
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            if not (folder / "contract.yaml").exists():
                if any(folder.glob("*.avsc")):
                    raise ContractError(f"{folder} has Avro schemas and no contract.yaml")
                continue
            contract = _read(folder)
            if contract.name in contracts:
                raise ContractError(f"{folder}: there is already a contract {contract.name!r}")
            if contract.topic in topics:
                raise ContractError(
                    f"{folder}: the topic {contract.topic!r} belongs to {topics[contract.topic]!r}"
                )
            contracts[contract.name] = contract
            topics[contract.topic] = contract.name
    return Contracts(contracts)


def _read(folder: Path) -> Contract:
    path = folder / "contract.yaml"
    try:
        text = yaml.safe_load(path.read_text())
        custom = {entry["property"]: entry["value"] for entry in text["customProperties"]}
        topic = text["schema"][0]["physicalName"]
        role = Role(custom["role"])
        contract = Contract(
            name=text["name"],
            role=role,
            owner=text["team"][0]["username"],
            topic=topic,
            key=text["schema"][0]["properties"][0]["name"],
            compatibility=custom.get("compatibility", "FULL_ALL"),
            max_bytes=int(custom["maxBytes"]),
            retention=next(
                e["value"] for e in text["slaProperties"] if e["property"] == "retention"
            ),
            location=next(e["location"] for e in text["servers"] if e["type"] == "s3"),
            catalog_table=custom["catalogTable"],
            pii_default=custom["pii"]["default"],
            pii=custom["pii"].get("fields", {}),
            versions=_versions(folder, text["name"]),
            folder=folder,
            item=_item_mapping(custom["item"]) if role is Role.ITEM else None,
            user=_user_mapping(custom["user"]) if role is Role.USER else None,
            domain=text.get("domain", text["name"]),
            tags=tuple(text.get("tags", ())),
        )
    except ContractError as error:
        raise error if str(folder) in str(error) else ContractError(f"{path}: {error}") from None
    except KeyError as error:
        raise ContractError(f"{path}: {error} is missing") from error
    except StopIteration:
        raise ContractError(
            f"{path}: needs retention in slaProperties and a server of type s3"
        ) from None
    except (IndexError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ContractError(f"{path}: {type(error).__name__}: {error}") from error
    _check(contract, path)
    return contract


def _versions(folder: Path, name: str) -> tuple[SchemaVersion, ...]:
    versions = []
    for path in folder.glob("*.avsc"):
        match = _VERSION_FILE.fullmatch(path.name)
        if match is None or match["domain"] != name:
            raise ContractError(f"{path}: expected a schema file named {name}.v<N>.avsc")
        try:
            avro = json.loads(path.read_text())
            [entry["name"] for entry in avro["fields"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ContractError(f"{path}: not an Avro record schema: {error}") from error
        definition = json.dumps(avro, separators=(",", ":"))
        versions.append(SchemaVersion(int(match["version"]), definition))
    versions.sort(key=lambda version: version.number)
    numbers = [version.number for version in versions]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise ContractError(f"{folder}: schema versions must be v1, v2, ... without a gap")
    return tuple(versions)


def _item_mapping(custom: Mapping[str, Any]) -> ItemMapping:
    _check_mapping_keys("item", custom, _ITEM_KEYS, required=("type", "item_id", "title"))
    duration = custom.get("duration") or {}
    units = {"s": 1000, "ms": 1}
    unit = duration.get("unit", "ms")
    if unit not in units:
        raise ContractError(f"the unit of item.duration is {unit!r}, expected s or ms")
    creator = custom.get("creator") or ()
    plain = {k: v for k, v in custom.items() if k not in ("duration", "creator")}
    return ItemMapping(
        **plain,
        creator=(creator,) if isinstance(creator, str) else tuple(creator),
        duration=duration.get("field"),
        duration_unit_ms=units[unit],
    )


def _user_mapping(custom: Mapping[str, Any]) -> UserMapping:
    _check_mapping_keys("user", custom, UserMapping.__slots__, required=("user_id",))
    return UserMapping(**custom)


_ITEM_KEYS = tuple(slot for slot in ItemMapping.__slots__ if slot != "duration_unit_ms")


def _check_mapping_keys(
    name: str, custom: Mapping[str, Any], known: tuple[str, ...], required: tuple[str, ...]
) -> None:
    for key in custom:
        if key not in known:
            raise ContractError(
                f"the property {name} has {key!r}, which is none of {', '.join(known)}"
            )
    for key in required:
        if key not in custom:
            raise ContractError(f"the property {name} needs {key!r}")


def _is_bytes(avro: Any) -> bool:
    return avro == "bytes" or (isinstance(avro, list) and "bytes" in avro)


def _check(contract: Contract, path: Path) -> None:
    if not _TOPIC_NAME.fullmatch(contract.topic):
        raise ContractError(f"{path}: {contract.topic!r} is not a topic name")
    if contract.compatibility not in COMPATIBILITY_MODES:
        known = ", ".join(COMPATIBILITY_MODES)
        raise ContractError(
            f"{path}: compatibility is {contract.compatibility!r}, expected one of {known}"
        )
    fields = set(contract.newest.field_names)
    for mapping in (contract.item, contract.user):
        if mapping is None:
            continue
        for name in _mapped_fields(mapping):
            if name not in fields:
                raise ContractError(
                    f"{path}: the mapping names the field {name!r}, which"
                    f" {contract.name}.v{contract.newest.number}.avsc does not have"
                )


def _mapped_fields(mapping: ItemMapping | UserMapping) -> Iterator[str]:
    for slot in type(mapping).__slots__:
        value = getattr(mapping, slot)
        if slot in ("type", "duration_unit_ms") or value is None:
            continue
        yield from value if isinstance(value, tuple) else (value,)
