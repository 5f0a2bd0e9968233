"""The contracts: one folder for each domain, and what is derived from it.

A folder holds ``contract.yaml`` (Open Data Contract Standard 3), the Avro schema versions
``<domain>.v<N>.avsc`` and examples. Topics, decoding, the items view and registry subjects come
from here; a new item domain is a new folder and no code.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from schemas.definitions import definition_faults
from schemas.errors import TunemeshError
from schemas.example_values import ExampleValues
from schemas.settings import ENVIRONMENT, Kind, group, read, setting

BUILT_IN_FOLDER = Path(__file__).parent / "contracts"
_VERSION_FILE = re.compile(r"(?P<domain>[a-z0-9-]+)\.v(?P<version>[1-9][0-9]*)\.avsc")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_SUBJECT = re.compile(r"[a-zA-Z0-9_$#.-]{1,255}")
_S3_LOCATION = re.compile(r"s3a?://(?P<bucket>[a-z0-9.-]+)(?P<key>/[^?#\s]*)?")
_DURATION = re.compile(r"P(?:T(?P<hours>[0-9]+)H|(?P<number>[0-9]+)(?P<unit>[DWMY]))")
_DAYS_OF_UNIT = {
    **dict.fromkeys(("d", "day", "days"), 1.0),
    **dict.fromkeys(("w", "wk", "week", "weeks"), 7.0),
    **dict.fromkeys(("m", "mo", "month", "months"), 30.0),
    **dict.fromkeys(("y", "yr", "year", "years"), 365.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 1 / 24),
    **dict.fromkeys(("min", "minute", "minutes"), 1 / 1_440),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1 / 86_400),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1 / 86_400_000),
}
COMPATIBILITY_MODES = (
    "NONE", "BACKWARD", "BACKWARD_ALL", "FORWARD", "FORWARD_ALL", "FULL", "FULL_ALL"
)  # fmt: skip
"""As in Glue: BACKWARD, the new version reads what the last one wrote; FORWARD, the last one reads
what the new one writes; FULL, both; _ALL, not only the last one but each former version."""


_Mapping = TypeVar("_Mapping")


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


IMPERSONAL_CLASSES = frozenset({"public", "internal"})
"""PII classes of values that concern no person."""


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
    registered_as: str | None = None

    @property
    def newest(self) -> SchemaVersion:
        """The schema version that producers write and readers read."""
        return self.versions[-1]

    def pii_class(self, field: str) -> str:
        """The PII class of a field."""
        return self.pii.get(field, self.pii_default)

    def personal_values(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a record that concern a person, by field."""
        return {
            name: value
            for name, value in record.items()
            if self.pii_class(name) not in IMPERSONAL_CLASSES
        }

    @property
    def subject(self) -> str:
        """Name of the schema in the Glue registry; by default the contract's name."""
        return self.registered_as or self.name

    def examples(self, kind: str) -> dict[str, dict[str, Any]]:
        """Records in ``examples/valid`` or ``examples/invalid``, by file name without its ending.

        JSON has no bytes: the files hold them as base64 wherever the type is bytes or fixed, and
        this returns them as bytes.
        """
        folder = self.folder / "examples" / kind
        values = ExampleValues(self.newest.avro)
        records: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob("*.json")):
            try:
                record = json.loads(path.read_text("utf-8-sig"))
                if not isinstance(record, dict):
                    raise ValueError("a record is a JSON object")
                records[path.stem] = values.with_bytes(record)
            except (ValueError, RecursionError) as error:
                raise ContractError(f"{path}: not an example record: {error}") from error
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
    """Read all contracts of the folders; raises ContractError with everything that is unusable."""
    contracts, problems = read_contracts(folders)
    if problems:
        raise ContractError("\n".join(problems))
    return contracts


def read_contracts(folders: tuple[Path, ...] | None = None) -> tuple[Contracts, list[str]]:
    """The usable contracts of the folders, and what is wrong with the others.

    Each problem is one sentence that begins with its file. A contract whose name or topic is taken
    is among the contracts, named like its folder, so that the rest of it can be checked, too.
    """
    contracts: dict[str, Contract] = {}
    topics: dict[str, str] = {}
    problems: list[str] = []
    for root in folders or contract_folders():
        if not root.is_dir():
            problems.append(f"the contracts folder {root} does not exist")
            continue
        if (root / "contract.yaml").exists():
            problems.append(f"{root} is a contract, expected the folder that contains it")
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            if not (folder / "contract.yaml").exists():
                if any(folder.glob("*.avsc")):
                    problems.append(f"{folder} has Avro schemas and no contract.yaml")
                continue
            try:
                contract = _ContractReader(folder).contract()
            except ContractError as error:
                problems += str(error).split("\n")
                continue
            if contract.name in contracts:
                name = folder.name if folder.name not in contracts else str(folder)
                problems.append(
                    f"{folder}: there is already a contract {contract.name!r}: change the name in"
                    f" contract.yaml, and those of the schema files ({folder.name}.v1.avsc)"
                )
                contract = replace(contract, name=name)
            if topics.setdefault(contract.topic, contract.name) != contract.name:
                problems.append(
                    f"{folder}: the topic {contract.topic!r} belongs to {topics[contract.topic]!r}"
                )
            contracts[contract.name] = contract
    return Contracts(contracts), problems


def s3_location(url: str) -> tuple[str, str]:
    """Bucket and prefix of a contract's location; the prefix is empty or ends with a slash."""
    bucket, _, key = url.partition("://")[2].partition("/")
    prefix = key.strip("/")
    return bucket, f"{prefix}/" if prefix else ""


class _YamlLoader(yaml.SafeLoader):
    """YAML with dates as text, as JSON and the standard's JSON schema have them."""


_YamlLoader.yaml_implicit_resolvers = {
    first: [entry for entry in resolvers if entry[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path) -> dict[str, Any]:
    """A contract.yaml as it stands in the file; raises ContractError."""
    try:
        text = yaml.load(path.read_text("utf-8-sig"), _YamlLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ContractError(f"{path}: {line}not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ContractError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(text, dict):
        raise ContractError(f"{path}: not a data contract: it has no properties")
    return text


class _ContractReader:
    """Reads one folder and collects everything that is wrong with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "contract.yaml"
        self._text = read_yaml(self._path)
        self._problems: list[str] = []
        self._custom: dict[str, Any] = {}

    def contract(self) -> Contract:
        """The contract; raises ContractError with a line for each problem."""
        for entry in self._entries("customProperties"):
            if isinstance(entry.get("property"), str):
                if entry["property"] in self._custom:
                    self._problem(f"customProperties has {entry['property']!r} twice")
                self._custom[entry["property"]] = entry.get("value")
        name, role = self._name(), self._role()
        topic, key = self._topic_and_key(name)
        pii_default, pii = self._pii()
        contract = Contract(
            name=name,
            role=role or Role.ITEM,
            owner=self._owner(),
            topic=topic,
            key=key,
            compatibility=self._compatibility(),
            max_bytes=self._max_bytes(),
            retention=self._retention(),
            location=self._location(),
            catalog_table=self._text_of("catalogTable"),
            pii_default=pii_default,
            pii=pii,
            versions=self._versions(name),
            folder=self._folder,
            item=self._mapping("item", _item_mapping) if role is Role.ITEM else None,
            user=self._mapping("user", _user_mapping) if role is Role.USER else None,
            domain=self._optional("domain", name),
            tags=self._tags(),
            registered_as=self._subject(),
        )
        if contract.versions:
            self._check_mapped_fields(contract)
        if self._problems:
            raise ContractError("\n".join(self._problems))
        return contract

    def _problem(self, what: str) -> None:
        self._problems.append(f"{self._path}: {what}")

    def _entries(self, name: str) -> list[dict[str, Any]]:
        """The objects of a list in the contract; those that are none are problems."""
        value = self._text.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self._problem(f"{name} is {value!r:.60}, expected a list")
            return []
        for entry in value:
            if not isinstance(entry, dict):
                self._problem(f"{name} has {entry!r:.60}, expected an object")
        return [entry for entry in value if isinstance(entry, dict)]

    def _optional(self, name: str, default: str) -> str:
        value = self._text.get(name)
        if value is not None and not isinstance(value, str):
            self._problem(f"{name} is {value!r:.60}, expected text")
        return value if isinstance(value, str) and value else default

    def _text_of(self, name: str) -> str:
        """The text of a custom property that every contract has."""
        value = self._custom.get(name)
        if name not in self._custom:
            self._problem(f"customProperties: {name!r} is missing")
        elif not isinstance(value, str) or not value:
            self._problem(f"customProperties: {name} is {value!r:.60}, expected text")
        return value if isinstance(value, str) else ""

    def _name(self) -> str:
        name = self._optional("name", self._folder.name)
        if not _NAME.fullmatch(name):
            self._problem(f"name is {name!r}, expected a-z, 0-9 and - only, such as 'audio-books'")
        return name

    def _role(self) -> Role | None:
        role = self._text_of("role")
        if role and role not in tuple(Role):
            self._problem(f"{role!r} is not a valid Role: one of {', '.join(Role)}")
        return Role(role) if role in tuple(Role) else None

    def _owner(self) -> str:
        team = self._text.get("team")
        members = team.get("members") if isinstance(team, dict) else team
        if isinstance(members, list):
            members = [m for m in members if isinstance(m, dict) and m.get("username")]
        if not isinstance(members, list) or not members:
            self._problem("team has no member with a username, expected the owner of the contract")
            return ""
        owners = [m for m in members if str(m.get("role", "")).lower() == "owner"] or members
        present = [str(m["username"]) for m in owners if not m.get("dateOut")]
        if not present:
            gone = owners[-1]
            self._problem(
                f"team: the owner {gone['username']} has left ({gone['dateOut']}), name another"
            )
        return present[0] if present else ""

    def _topic_and_key(self, name: str) -> tuple[str, str]:
        objects = self._entries("schema")
        if not objects:
            self._problem("schema has no object, expected the topic")
            return name, ""
        topics = [entry for entry in objects if entry.get("physicalType") == "topic"]
        named = [
            entry for entry in objects if name in (entry.get("name"), entry.get("physicalName"))
        ]
        topics = topics or named or objects
        if len(topics) > 1:
            names = ", ".join(str(entry.get("name")) for entry in topics)
            self._problem(f"schema has several objects ({names}), a contract has one topic")
        topic = topics[0].get("physicalName") or topics[0].get("name") or name
        if not isinstance(topic, str) or not _TOPIC_NAME.fullmatch(topic):
            self._problem(f"{topic!r} is not a topic name")
        elif topic in (".", "..") or topic.startswith("__"):
            self._problem(f"the topic name {topic!r} is reserved by Kafka")
        return str(topic), self._key(topics[0])

    def _key(self, topic: Mapping[str, Any]) -> str:
        listed = topic.get("properties")
        fields = [
            entry
            for entry in (listed if isinstance(listed, list) else ())
            if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        ]
        if not fields:
            self._problem("schema: the topic has no properties, expected the key of its records")
            return ""
        keys = [entry for entry in fields if entry.get("primaryKey") is True]
        if len(keys) > 1:
            names = ", ".join(entry["name"] for entry in keys)
            self._problem(f"schema: the primary key is {names}; a topic has one field as its key")
        # Without a primary key: the field by which the topic is partitioned, else the first.
        partitions = [entry for entry in fields if entry.get("partitioned") is True]
        key = (keys or partitions or fields)[0]
        return str(key.get("physicalName") or key["name"])

    def _compatibility(self) -> str:
        mode = self._custom.get("compatibility", "FULL_ALL")
        if mode not in COMPATIBILITY_MODES:
            known = ", ".join(COMPATIBILITY_MODES)
            self._problem(f"compatibility is {mode!r}, expected one of {known}")
        return str(mode)

    def _max_bytes(self) -> int:
        value = self._custom.get("maxBytes")
        if "maxBytes" not in self._custom:
            self._problem("customProperties: 'maxBytes' is missing")
        elif isinstance(value, str) and value.isdecimal():
            return int(value)
        elif type(value) is not int or value <= 0:
            self._problem(
                f"customProperties: maxBytes is {value!r:.60}, expected a number of bytes"
            )
        return value if type(value) is int else 0

    def _retention(self) -> str:
        entry = next(
            (e for e in self._entries("slaProperties") if e.get("property") == "retention"), None
        )
        if entry is None:
            self._problem("needs retention in slaProperties, such as P7D or compact")
            return ""
        return _normal_retention(entry.get("value"), entry.get("unit"))

    def _location(self) -> str:
        servers = [e for e in self._entries("servers") if e.get("type") == "s3"]
        if not servers:
            self._problem("needs a server of type s3 with the location of the data product")
            return ""
        location = servers[0].get("location")
        match = _S3_LOCATION.fullmatch(location) if isinstance(location, str) else None
        if match is None:
            self._problem(
                f"servers: the location is {location!r:.120}, expected s3://BUCKET/PREFIX/"
            )
        return str(location)

    def _pii(self) -> tuple[str, dict[str, str]]:
        value = self._custom.get("pii")
        if "pii" not in self._custom:
            self._problem("customProperties: 'pii' is missing")
            return "", {}
        default = value.get("default") if isinstance(value, dict) else None
        fields = (value.get("fields") or {}) if isinstance(value, dict) else {}
        if not isinstance(default, str) or not isinstance(fields, dict):
            self._problem(
                "customProperties: pii needs a default class, and fields as an object of classes"
            )
            return "", {}
        return default, {str(name): str(kind) for name, kind in fields.items()}

    def _tags(self) -> tuple[str, ...]:
        tags = self._text.get("tags")
        if tags is not None and not isinstance(tags, list):
            self._problem(f"tags is {tags!r:.60}, expected a list of texts")
            return ()
        return tuple(str(tag) for tag in tags or ())

    def _subject(self) -> str | None:
        subject = self._custom.get("subject")
        if "subject" not in self._custom:
            return None
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
            self._problem(
                f"customProperties: subject is {subject!r:.60}, expected the name of a schema of"
                " Glue: letters, digits and -_$#. only"
            )
        return str(subject)

    def _mapping(self, name: str, read: Callable[[Mapping[str, Any]], _Mapping]) -> _Mapping | None:
        value = self._custom.get(name)
        if not isinstance(value, dict):
            self._problem(f"customProperties: {name!r} is missing, the mapping of its fields")
            return None
        try:
            return read(value)
        except ContractError as error:
            for line in str(error).split("\n"):
                self._problem(line)
            return None

    def _versions(self, name: str) -> tuple[SchemaVersion, ...]:
        versions = []
        for path in sorted(self._folder.glob("*.avsc")):
            match = _VERSION_FILE.fullmatch(path.name)
            if match is None or match["domain"] != name:
                self._problems.append(f"{path}: expected a schema file named {name}.v<N>.avsc")
                continue
            try:
                text = path.read_text("utf-8-sig")
            except ValueError as error:
                self._problems.append(f"{path}: not an Avro record schema: {error}")
                continue
            faults = definition_faults(text)
            self._problems += (f"{path}: {fault}" for fault in faults)
            if not faults:
                definition = json.dumps(json.loads(text), separators=(",", ":"))
                versions.append(SchemaVersion(int(match["version"]), definition))
        versions.sort(key=lambda version: version.number)
        numbers = [version.number for version in versions]
        if not self._problems and (not numbers or numbers != list(range(1, len(numbers) + 1))):
            self._problems.append(
                f"{self._folder}: schema versions must be v1, v2, ... without a gap"
            )
        return tuple(versions)

    def _check_mapped_fields(self, contract: Contract) -> None:
        fields = set(contract.newest.field_names)
        for mapping in (contract.item, contract.user):
            for name in () if mapping is None else mapped_fields(mapping):
                if name not in fields:
                    self._problem(
                        f"the mapping names the field {name!r}, which"
                        f" {contract.name}.v{contract.newest.number}.avsc does not have"
                    )


def _normal_retention(value: Any, unit: Any) -> str:
    """A retention as days (P7D) or compact; as it is written where it is no whole days."""
    written = str(value) if unit is None else f"{value} {unit}"
    text = str(value).strip()
    if text.lower() == "compact":
        return "compact"
    if unit is None and (match := _DURATION.fullmatch(text)):
        number = float(match["hours"] or match["number"])
        days = number * _DAYS_OF_UNIT["h" if match["hours"] else match["unit"].lower()]
    else:
        number_text, _, rest = re.sub(r"(?<=[0-9])(?=[a-zA-Z])", " ", text).partition(" ")
        unit_text = str(unit) if unit is not None else rest
        scale = _DAYS_OF_UNIT.get(unit_text.strip().lower())
        if isinstance(value, bool) or scale is None or (unit is not None and rest):
            return written
        try:
            days = float(number_text) * scale
        except ValueError:
            return written
    whole = round(days) if days < 1e6 else 0
    return f"P{whole}D" if whole >= 1 and abs(days - whole) < 1e-6 else written


def _item_mapping(custom: Mapping[str, Any]) -> ItemMapping:
    problems = _mapping_problems("item", custom, _ITEM_KEYS, required=("type", "item_id", "title"))
    duration = custom.get("duration") or {}
    units = {"s": 1000, "ms": 1}
    if isinstance(duration, str):
        duration = {"field": duration}
    unit = str(duration.get("unit", "ms")) if isinstance(duration, dict) else ""
    if not isinstance(duration, dict) or (duration and not isinstance(duration.get("field"), str)):
        problems.append("item.duration needs a field, such as {field: duration_ms, unit: ms}")
    elif unit not in units:
        problems.append(f"the unit of item.duration is {unit!r}, expected s or ms")
    creator = custom.get("creator") or ()
    creators = (creator,) if isinstance(creator, str) else creator
    if not isinstance(creators, (list, tuple)) or not all(isinstance(n, str) for n in creators):
        problems.append(f"item.creator is {creator!r:.60}, expected a field or a list of fields")
    plain = {k: v for k, v in custom.items() if k not in ("duration", "creator")}
    problems += _not_text("item", plain)
    if problems:
        raise ContractError("\n".join(problems))
    return ItemMapping(
        **plain,
        creator=tuple(creators),
        duration=duration.get("field"),
        duration_unit_ms=units[unit],
    )


def _user_mapping(custom: Mapping[str, Any]) -> UserMapping:
    problems = _mapping_problems("user", custom, UserMapping.__slots__, required=("user_id",))
    problems += _not_text("user", custom)
    if problems:
        raise ContractError("\n".join(problems))
    return UserMapping(**custom)


_ITEM_KEYS = tuple(slot for slot in ItemMapping.__slots__ if slot != "duration_unit_ms")


def _mapping_problems(
    name: str, custom: Mapping[str, Any], known: tuple[str, ...], required: tuple[str, ...]
) -> list[str]:
    unknown = [key for key in custom if key not in known]
    return [
        *(f"the property {name} has {k!r}, which is none of {', '.join(known)}" for k in unknown),
        *(f"the property {name} needs {key!r}" for key in required if key not in custom),
    ]


def _not_text(name: str, custom: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}.{key} is {value!r:.60}, expected text"
        for key, value in custom.items()
        if value is not None and not isinstance(value, str)
    ]


def mapped_fields(mapping: ItemMapping | UserMapping) -> Iterator[str]:
    """Names of the fields that a mapping refers to."""
    for slot in type(mapping).__slots__:
        value = getattr(mapping, slot)
        if slot in ("type", "duration_unit_ms") or value is None:
            continue
        yield from value if isinstance(value, tuple) else (value,)
