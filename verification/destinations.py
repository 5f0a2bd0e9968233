"""Reconcile the destinations with their topics: Personalize's datasets, Firehose, OpenSearch.

The expected content of a destination follows from its topics, which are read from the beginning:
the newest version of each user and item, each enriched interaction, the counts of each minute. It
is computed independently of the pipelines, which share only the contracts with this module.
"""

from __future__ import annotations

import http.client
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, cast

from connectors.aws.sdk import sdk_client
from schemas.codec import Decoder, SchemaLookup
from schemas.errors import TunemeshError
from schemas.invalid import InvalidRecord
from schemas.model import Contract, Contracts, Role
from schemas.records import DeadLetter, EnrichedInteraction
from verification.endpoints import Endpoints
from verification.personalize_events import PersonalizeReader, http_content
from verification.positions import TopicReader, topic_beginnings
from verification.progress import Progress, Step, silent
from verification.reference import content_of, differing_fields

NAMES = ("datasets", "archive", "search", "trends")
"""Destinations beside PutEvents: Personalize's users and items, Firehose, OpenSearch."""

MAX_DIFFERENCES = 20
"""Of how many differing documents a report has the fields."""

_PAGE = 5_000
_CACHED_OBJECTS = 20_000
_POLL_SECONDS = 1.0
_MINUTE_MS = 60_000
_LATEST_MS = 600_000

Documents = dict[str, Any]
"""Present or expected documents by id."""


class DestinationUnavailable(TunemeshError):
    """A destination does not answer."""


@dataclass(frozen=True, slots=True)
class DestinationReport:
    """A destination compared with its topics: missing, surplus and differing ids.

    ``rejected`` counts the dead letters of its delivery, which are not expected there.
    """

    name: str
    expected: int
    found: int
    rejected: int
    lost: tuple[str, ...]
    invented: tuple[str, ...]
    wrong: tuple[str, ...]
    differences: tuple[str, ...] = ()
    """The first of ``wrong``: id, field, expected and found value."""
    pending: int = 0
    """Missing documents, and differing ones that are behind: waiting may complete them."""

    @property
    def ok(self) -> bool:
        """Whether there is no finding."""
        return not (self.lost or self.invented or self.wrong)

    def document(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name in self.__dataclass_fields__
            for value in (getattr(self, name),)
        } | {"ok": self.ok}


def reconcile(
    name: str,
    expected: Documents,
    found: Documents,
    rejected: int,
    is_behind: Callable[[Any, Any], bool] = lambda expected, found: True,
) -> DestinationReport:
    """Compare documents by id; pure.

    ``is_behind``: whether a found document that differs from the expected one may still change.
    """
    both = expected.keys() & found.keys()
    wrong = sorted(key for key in both if expected[key] != found[key])
    behind = sum(is_behind(expected[key], found[key]) for key in wrong)
    return DestinationReport(
        name=name,
        expected=len(expected),
        found=len(found),
        rejected=rejected,
        lost=tuple(sorted(expected.keys() - found.keys())),
        invented=tuple(sorted(found.keys() - expected.keys())),
        wrong=tuple(wrong),
        differences=tuple(
            f"{key}: {difference}"
            for key in wrong[:MAX_DIFFERENCES]
            for difference in _differences(expected[key], found[key])
        ),
        pending=len(expected.keys() - found.keys()) + behind,
    )


def _differences(expected: Any, found: Any) -> list[str]:
    """Return the fields that differ with both values; documents without fields as a whole."""
    if not (isinstance(expected, Mapping) and isinstance(found, Mapping)):
        return [f"expected {expected!r}, found {found!r}"]
    return [
        f"{name}: expected {expected.get(name)!r}, found {found.get(name)!r}"
        for name in differing_fields(expected, found)
    ]


def verify_destinations(
    endpoints: Endpoints,
    names: Iterable[str],
    contracts: Contracts,
    registry: SchemaLookup,
    wait: float,
    progress: Progress = silent,
) -> tuple[DestinationReport, ...]:
    """Reconcile each destination; waits up to ``wait`` seconds for missing documents of each.

    Raises DestinationUnavailable, KafkaUnavailable, PersonalizeUnavailable.
    """
    reader = Topics(endpoints, contracts, registry)
    compare: dict[str, Callable[[], Iterator[DestinationReport]]] = {
        "datasets": lambda: _datasets(endpoints, reader),
        "archive": lambda: _archive(endpoints, reader),
        "search": lambda: _search(endpoints, reader),
        "trends": lambda: _trends(endpoints, reader),
    }
    reports: list[DestinationReport] = []
    for name in names:
        deadline = time.monotonic() + wait
        while True:
            compared = tuple(compare[name]())
            pending = sum(report.pending for report in compared)
            if pending == 0 or time.monotonic() > deadline:
                break
            note = f"{pending:,} records are missing or behind"
            differences = [text for report in compared for text in report.differences]
            progress(Step(f"waiting for {name}", note="; ".join([note, *differences[:1]])))
            time.sleep(_POLL_SECONDS)
        reports += compared
    return tuple(reports)


class Topics:
    """The topics of the destinations, read from their beginning."""

    def __init__(self, endpoints: Endpoints, contracts: Contracts, registry: SchemaLookup) -> None:
        self.contracts = contracts
        self._endpoints = endpoints
        self._registry = registry

    def records(self, contract: Contract) -> Iterator[tuple[Any, Mapping[str, Any] | None]]:
        """Yield Kafka messages with their records, None for a tombstone; skip malformed records."""
        decoder = Decoder(contract, self._registry)
        servers, client = self._endpoints.bootstrap_servers, dict(self._endpoints.kafka_client)
        start = topic_beginnings(servers, [contract.topic], client)[contract.topic]
        with TopicReader(servers, contract.topic, start, client) as reader:
            for message in reader.read():
                if message.value() is None:
                    yield message, None
                    continue
                try:
                    yield message, decoder.decode(message.value())
                except InvalidRecord:
                    continue

    def enriched(self) -> dict[str, EnrichedInteraction]:
        """Return the first record of each enriched interaction by its event_id."""
        records: dict[str, EnrichedInteraction] = {}
        for _, decoded in self.records(self.contracts.only(Role.ENRICHED)):
            if decoded is not None:
                record = cast("EnrichedInteraction", decoded)
                records.setdefault(record["event_id"], record)
        return records

    def dead_letters(self) -> list[DeadLetter]:
        """Return all dead letters."""
        records = self.records(self.contracts.only(Role.DEAD_LETTER))
        return [cast("DeadLetter", letter) for _, letter in records if letter is not None]


def undecoded_positions(letters: Iterable[DeadLetter]) -> set[str]:
    """Return the positions of records that are dead letters of the decode step."""
    return {_position(letter) for letter in letters if letter["step"] == "decode"}


def rejected_ids(
    service: str, letters: Iterable[DeadLetter], contracts: Iterable[Contract]
) -> set[str]:
    """Return event ids, or positions, of the records of these contracts that a service rejected."""
    topics = {contract.topic for contract in contracts}
    return {
        letter["event_id"] or _position(letter)
        for letter in letters
        if letter["topic"] in topics and letter["error_code"].startswith(f"{service}.")
    }


def _position(letter: DeadLetter) -> str:
    return f"{letter['topic']}/{letter['partition']}/{letter['offset']}"


# Personalize's datasets


def newest_versions(
    messages: Iterable[tuple[Any, Mapping[str, Any] | None]],
    contract: Contract,
    unreadable: Set[str],
) -> dict[str, tuple[tuple[int, int], str, Mapping[str, Any] | None]]:
    """Return the newest version of each user or item: (order, position, record or None)."""
    mapping = contract.item or contract.user
    assert mapping is not None, contract.name
    newest: dict[str, tuple[tuple[int, int], str, Mapping[str, Any] | None]] = {}
    for message, record in messages:
        position = f"{message.topic()}/{message.partition()}/{message.offset()}"
        if position in unreadable:
            continue
        if record is None:
            identity, updated_at, is_deleted = (message.key() or b"").decode(), None, True
        else:
            identity = record[contract.key]
            updated_at = record[mapping.updated] if mapping.updated else None
            is_deleted = bool(mapping.deleted and record[mapping.deleted])
        published_ms = message.timestamp()[1]
        changed_ms = published_ms if updated_at is None else min(updated_at, published_ms)
        order = (changed_ms, message.offset())
        if identity not in newest or newest[identity][0] < order:
            newest[identity] = (order, position, None if is_deleted else record)
    return newest


def dataset_properties(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties that Personalize must have for a user or item."""
    properties: dict[str, Any] = {}
    for name, plain in content.items():
        value: Any = plain
        if isinstance(plain, list):
            # The service separates categories by |, so that none can contain it.
            value = "|".join(part.replace("|", "/") for part in plain if part)
        elif isinstance(plain, str) and name != "title":
            value = plain.replace("|", "/")
        if value is None or value == "":
            continue
        if name == "created_at":
            # The service does not document negative times: what is older than 1970 is 1970.
            properties["creationTimestamp"] = max(0, value // 1000)
            continue
        first, *others = name.split("_")
        properties[first + "".join(part.capitalize() for part in others)] = value
    return properties


def _datasets(endpoints: Endpoints, topics: Topics) -> Iterator[DestinationReport]:
    deletions = {
        (record["dataset"], record["id"], record["origin"])
        for _, record in topics.records(topics.contracts.only(Role.DELETION))
        if record is not None
    }
    letters = topics.dead_letters()
    unreadable = undecoded_positions(letters)
    assert endpoints.personalize is not None
    reader = PersonalizeReader(endpoints.personalize)
    for dataset, role in (("users", Role.USER), ("items", Role.ITEM)):
        expected: Documents = {}
        deleted: Documents = {}
        contracts = topics.contracts.with_role(role)
        rejected = rejected_ids("personalize", letters, contracts)
        for contract in contracts:
            newest = newest_versions(topics.records(contract), contract, unreadable)
            for identity, (_, position, record) in newest.items():
                if record is None:
                    deleted[identity] = position
                elif position not in rejected:
                    expected[identity] = dataset_properties(content_of(contract, record))
        present = {key: json.loads(text or "{}") for key, text in reader.records(dataset)}
        # A deleted one remains in the dataset until a data deletion job, and is listed for it.
        kept = {key: value for key, value in present.items() if key not in deleted}
        yield reconcile(f"Personalize {dataset}", expected, kept, len(rejected))
        listed = {
            record_id: origin
            for name, record_id, origin in deletions
            if name == dataset and deleted.get(record_id) == origin
        }
        yield reconcile(f"deletions of {dataset}", deleted, listed, 0)


# Firehose -> S3


def _archive(endpoints: Endpoints, topics: Topics) -> Iterator[DestinationReport]:
    source = topics.contracts.with_role(Role.ENRICHED)
    rejected = rejected_ids("firehose", topics.dead_letters(), source)
    expected = {key: dict(r) for key, r in topics.enriched().items() if key not in rejected}
    found: Documents = {}
    pages = _s3(endpoints).get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=endpoints.bucket, Prefix=endpoints.delivery_prefix):
        for entry in page.get("Contents", ()):
            body = _object(endpoints, entry["Key"], entry["ETag"])
            for line in body.decode().splitlines():
                document = json.loads(line)
                held = found.setdefault(document["event_id"], document)
                # An event that was enriched twice may have another user or item the second time.
                if held != document and document == expected.get(document["event_id"]):
                    found[document["event_id"]] = document
    yield reconcile("archive", expected, found, len(rejected))


@lru_cache(maxsize=4)
def _s3(endpoints: Endpoints) -> Any:
    return sdk_client("s3", endpoints.region, endpoints.registry_endpoint)


@lru_cache(maxsize=_CACHED_OBJECTS)
def _object(endpoints: Endpoints, key: str, tag: str) -> bytes:
    """Return an object's bytes; cached, since its tag changes with its content."""
    body: bytes = _s3(endpoints).get_object(Bucket=endpoints.bucket, Key=key)["Body"].read()
    return body


# OpenSearch


def _search(endpoints: Endpoints, topics: Topics) -> Iterator[DestinationReport]:
    source = topics.contracts.with_role(Role.ENRICHED)
    rejected = rejected_ids("opensearch", topics.dead_letters(), source)
    expected = {
        key: without_nulls(r) for key, r in topics.enriched().items() if key not in rejected
    }
    found = dict(_opensearch_documents(endpoints, "tunemesh-events-*"))
    # An event that was enriched twice may have the content of the second time.
    again = {key for key in expected.keys() & found.keys() if expected[key] != found[key]}
    if again:
        for _, record in topics.records(topics.contracts.only(Role.ENRICHED)):
            if record is not None and record["event_id"] in again:
                plain = without_nulls(record)
                if plain == found[record["event_id"]]:
                    expected[record["event_id"]] = plain
    yield reconcile("search", expected, found, len(rejected))


def _trends(endpoints: Endpoints, topics: Topics) -> Iterator[DestinationReport]:
    expected = trends(topics.enriched().values())
    found = dict(_opensearch_documents(endpoints, "tunemesh-trends"))
    for key, document in found.items():
        mean = expected.get(key, {}).get("completion")
        if mean is not None and math.isclose(document.get("completion", -1.0), mean):
            # The sum depends on its order.
            document["completion"] = mean
    source = topics.contracts.with_role(Role.TREND)
    rejected = rejected_ids("opensearch", topics.dead_letters(), source)
    yield reconcile("trends", expected, found, len(rejected), is_behind)


def is_behind(expected: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether a trend has counted fewer events than expected; else it is another one for good."""
    return bool(found.get("version", 0) < expected["version"])


def trends(records: Iterable[Mapping[str, Any]]) -> Documents:
    """Return the trends of distinct enriched interactions, as documents by id."""
    groups: dict[tuple[str, int, str], list[Mapping[str, Any]]] = {}
    for record in records:
        occurred_at = record["occurred_at"]
        if occurred_at < 0 or record["published_at"] - occurred_at > _LATEST_MS:
            continue
        minute = occurred_at - occurred_at % _MINUTE_MS
        item, user = record["item"] or {}, record["user"] or {}
        values = {("item", record["item_id"])}
        values |= {("genre", genre) for genre in item.get("genres") or ()}
        values.add(("item_type", item.get("item_type") or record["item_type"]))
        values.add(("country", user.get("country")))
        for dimension, value in values:
            # The character that separates the parts of a facet in the pipeline.
            if value and "\x1f" not in value:
                groups.setdefault((dimension, minute, value), []).append(record)
    return {
        f"{dimension}/{minute}/{value}": _trend(dimension, minute, value, members)
        for (dimension, minute, value), members in groups.items()
    }


def _trend(
    dimension: str, minute: int, value: str, members: list[Mapping[str, Any]]
) -> dict[str, Any]:
    shares = [
        min(1.0, _rounded(Fraction(record["played_ms"], record["item"]["duration_ms"])))
        for record in members
        if (record["played_ms"] or 0) > 0 and ((record["item"] or {}).get("duration_ms") or 0) > 0
    ]
    titles = [(record["item"] or {}).get("title") for record in members]
    labels = [title.replace("\x1f", " ") for title in titles if title]
    label = max(labels, default=None) if dimension == "item" else None
    return without_nulls(
        {
            "dimension": dimension,
            "key": value,
            "label": label,
            "window_start": minute,
            "plays": sum(r["event_type"] in ("play", "complete") for r in members),
            "skips": sum(r["event_type"] == "skip" for r in members),
            "listeners": len({(r["user_id"], r["user_id"] or r["session_id"]) for r in members}),
            "completion": sum(shares) / len(shares) if shares else None,
            "version": len(members),
        }
    )


def _rounded(share: Fraction) -> float:
    """Round half up to four digits, as the contract of trends says; round() is half even."""
    return math.floor(share * 10_000 + Fraction(1, 2)) / 10_000


def _opensearch_documents(endpoints: Endpoints, index: str) -> Iterator[tuple[str, Any]]:
    base = f"{endpoints.opensearch}/{index}"
    _get(f"{base}/_refresh?ignore_unavailable=true", method="POST")
    query: dict[str, Any] = {"size": _PAGE, "sort": ["_doc"]}
    page = json.loads(
        _get(f"{base}/_search?scroll=1m&ignore_unavailable=true", json.dumps(query), method="POST")
    )
    while page["hits"]["hits"]:
        for hit in page["hits"]["hits"]:
            yield hit["_id"], hit["_source"]
        body = json.dumps({"scroll": "1m", "scroll_id": page["_scroll_id"]})
        page = json.loads(_get(f"{endpoints.opensearch}/_search/scroll", body, method="POST"))


def _get(url: str, body: str | None = None, method: str = "GET") -> bytes:
    try:
        return http_content(url, body, method)
    except (http.client.HTTPException, OSError) as error:
        raise DestinationUnavailable(
            f"{url} does not answer ({error}). See: tunemesh status"
        ) from None


def without_nulls(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without its null fields, also those of nested records."""
    return {
        name: without_nulls(value) if isinstance(value, Mapping) else value
        for name, value in record.items()
        if value is not None
    }
