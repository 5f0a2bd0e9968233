"""`_bulk` through the sink engine, with an OpenSearch that fails on demand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from connectors.delivery import Delivered, FatalDeliveryError, Rejected
from connectors.http import Answer, NoAnswer
from connectors.opensearch import OpenSearchDestination, OpenSearchSettings, opensearch_destination
from schemas.errors import SettingError
from tests.support.delivery_contract import DestinationContract
from tests.support.delivery_fakes import deliver_all
from tests.support.delivery_service import FakeService, ServiceHarness

Refuse = Callable[[dict[str, Any], int], tuple[int, str] | None]


class Cluster(FakeService):
    """`_bulk` with external versions.

    `refuse(document, call)` returns status and error type of a document, None when it is accepted.
    A body of more than `max_bytes` is too large.
    """

    troubles: ClassVar = {
        "throttled": Answer(429, "rejected_execution_exception", "queue is full"),
        "server error": Answer(503, "cluster_manager_not_discovered_exception"),
        "connection lost": NoAnswer("ServerDisconnectedError"),
        "fatal": Answer(404, "index_not_found_exception", "no such index"),
    }

    def __init__(self, refuse: Refuse = lambda document, call: None) -> None:
        super().__init__()
        self.refuse = refuse
        self.max_bytes = 10**9
        self.accepted: list[dict[str, Any]] = []
        self.stored: dict[tuple[str, str], tuple[int | None, dict[str, Any]]] = {}
        self._sizes: list[int] = []

    def read(self, path: str, body: bytes) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        assert path.startswith("/_bulk?")
        assert body.endswith(b"\n")
        self._sizes.append(len(body))
        lines = [json.loads(line) for line in body[:-1].split(b"\n")]
        return list(zip([line["index"] for line in lines[::2]], lines[1::2], strict=True))

    def answer(self, request: list[tuple[dict[str, Any], dict[str, Any]]], call: int) -> Answer:
        if self._sizes[call] > self.max_bytes:
            return Answer(413)
        items = [self._item(action, document, call) for action, document in request]
        answer = {
            "errors": any("error" in item for item in items),
            "items": [{"index": item} for item in items],
        }
        return Answer(200, body=json.dumps(answer).encode())

    def _item(self, action: dict[str, Any], document: dict[str, Any], call: int) -> dict[str, Any]:
        refused = self.refuse(document, call)
        if document.get("refused"):
            refused = (400, "mapper_parsing_exception")
        if refused:
            return {"status": refused[0], "error": {"type": refused[1], "reason": "why"}}
        place, version = (action["_index"], action["_id"]), action.get("version")
        if version is not None:
            assert action["version_type"] == "external_gte"
            held = self.stored.get(place)
            if held is not None and held[0] is not None and held[0] > version:
                error = {"type": "version_conflict_engine_exception", "reason": "newer"}
                return {"status": 409, "error": error}
        self.stored[place] = (version, document)
        self.accepted.append(document)
        return {"status": 201}


def settings(**changed: Any) -> OpenSearchSettings:
    values: dict[str, Any] = {
        "endpoint_url": "http://127.0.0.1:1",
        "documents_per_call": 10,
        "max_in_flight": 4,
        "calls_per_second": 1_000.0,
        "bytes_per_call": 100_000,
    }
    return OpenSearchSettings(**(values | changed))


class EventsHarness(ServiceHarness):
    def __init__(self, **changed: Any) -> None:
        self.cluster = Cluster()
        super().__init__(self.cluster, OpenSearchDestination(self.cluster, settings(**changed)))

    def record(self, key: int, number: int) -> dict[str, Any]:
        return {
            "event_id": f"{key}-{number}",
            "occurred_at": 1_764_000_000_000,
            "published_at": 1_764_000_000_000,
            "key": key,
            "number": number,
        }

    def refused_record(self, key: int, number: int) -> dict[str, Any]:
        return self.record(key, number) | {"refused": True}

    def oversize_record(self, key: int, number: int) -> dict[str, Any]:
        return self.record(key, number) | {"text": "x" * 100_000}

    def accepted(self) -> list[tuple[int, int]]:
        return [(one["key"], one["number"]) for one in self.cluster.accepted]


def trend(key: str, version: int, **changed: Any) -> dict[str, Any]:
    return {
        "window_start": 0,
        "dimension": "item",
        "key": key,
        "plays": version,
        "skips": 0,
        "listeners": 1,
        "version": version,
    } | changed


class TrendsHarness(EventsHarness):
    def __init__(self) -> None:
        super().__init__(documents="trends")

    def record(self, key: int, number: int) -> dict[str, Any]:
        return trend(str(key), number)

    def accepted(self) -> list[tuple[int, int]]:
        return [(int(one["key"]), one["version"]) for one in self.cluster.accepted]


class TestEventsContract(DestinationContract):
    make_harness = EventsHarness


class TestTrendsContract(DestinationContract):
    make_harness = TrendsHarness


def deliver(cluster: Cluster, *batches: list[dict[str, Any]], **changed: Any) -> list[Any]:
    return deliver_all(OpenSearchDestination(cluster, settings(**changed)), *batches)


def events(count: int, **changed: Any) -> list[dict[str, Any]]:
    return [
        {"event_id": str(n), "occurred_at": 0, "published_at": 0, "n": n} | changed
        for n in range(count)
    ]


def test_only_the_documents_that_failed_are_sent_again() -> None:
    """By their index: two refused for now cost a call of two."""
    cluster = Cluster(
        lambda document, call: (
            (429, "es_rejected_execution_exception")
            if call == 0 and document["n"] in (2, 5)
            else None
        )
    )
    assert deliver(cluster, events(7)) == [Delivered()] * 7
    assert [[document["n"] for _, document in call] for call in cluster.calls] == [
        [*range(7)],
        [2, 5],
    ]


def test_a_bad_document_is_rejected_by_its_index() -> None:
    """OpenSearch says which it is: no bisection."""
    cluster = Cluster(
        lambda document, call: (400, "mapper_parsing_exception") if document["n"] == 3 else None
    )
    outcomes = deliver(cluster, events(5))
    assert outcomes[3] == Rejected("mapper_parsing_exception", "why")
    assert [*outcomes[:3], outcomes[4]] == [Delivered()] * 4
    assert len(cluster.calls) == 1


def test_a_call_that_is_too_large_is_sent_in_parts() -> None:
    """413 says nothing of the documents: only one that is too large alone is rejected."""
    cluster = Cluster()
    cluster.max_bytes = 1_000
    records = events(8, text="x" * 200)
    records[5]["text"] = "x" * 2_000
    outcomes = deliver(cluster, records)
    assert [n for n, one in enumerate(outcomes) if one != Delivered()] == [5]
    assert isinstance(outcomes[5], Rejected)
    assert outcomes[5].code == "RequestTooLarge"
    assert sorted(one["n"] for one in cluster.accepted) == [0, 1, 2, 3, 4, 6, 7]


def test_an_older_version_is_delivered_and_changes_nothing() -> None:
    """After a restart old states of a window come again: what is there stays there."""
    cluster = Cluster()
    states = [trend("a", version) for version in (3, 5, 4, 1, 5)]
    outcomes = deliver(cluster, *([state] for state in states), documents="trends")
    assert outcomes == [Delivered()] * 5
    assert [one["version"] for one in cluster.accepted] == [3, 5, 5]
    assert cluster.stored["tunemesh-trends", "item/0/a"] == (5, states[1])


def test_the_same_event_again_is_one_document() -> None:
    """Replays are harmless: the id is the event's."""
    cluster = Cluster()
    deliver(cluster, events(3), events(3))
    assert len(cluster.accepted) == 6
    assert len(cluster.stored) == 3


def test_a_closed_index_stops_the_delivery() -> None:
    """Even when it is the index of a single document: the others are handed over again."""
    cluster = Cluster(
        lambda document, call: (400, "index_closed_exception") if document["n"] == 1 else None
    )
    with pytest.raises(FatalDeliveryError, match=r"OpenSearch \(events\).*exists and is open"):
        deliver(cluster, events(3))


def test_the_client_is_closed_with_the_engine() -> None:
    """No connection is left behind."""
    cluster = Cluster()
    deliver(cluster, [])
    assert cluster.closed


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"documents": "songs"}, "documents"),
        ({"authentication": "magic"}, "authentication"),
        ({"authentication": "aws"}, "region"),
        ({"authentication": "basic", "user": "u"}, "password"),
        ({"documents_per_call": 0}, "documents_per_call"),
        ({"bytes_per_call": 0}, "bytes_per_call"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"calls_per_second": 0}, "calls_per_second"),
        ({"request_timeout": 0}, "request_timeout"),
    ],
)
def test_a_bad_setting_is_named(changed: dict[str, Any], name: str) -> None:
    """The start of the job stops with the name of the setting and what was expected."""
    with pytest.raises(SettingError, match=f"{name} .*expected"):
        settings(**changed)


def test_a_password_is_not_shown() -> None:
    """Settings end up in logs."""
    shown = repr(settings(authentication="basic", user="u", password="very-secret"))
    assert "very-secret" not in shown


@pytest.mark.parametrize("authentication", ["none", "aws"])
def test_a_destination_from_settings(authentication: Any) -> None:
    """Limits are those of the settings; nothing is opened yet."""
    destination = opensearch_destination(
        settings(
            authentication=authentication,
            region="us-east-1",
            documents="trends",
            calls_per_second=7,
            documents_per_call=100,
            bytes_per_call=5_000,
            max_in_flight=3,
        )
    )
    limits = destination.limits
    assert (limits.calls_per_second, limits.max_records, limits.max_in_flight) == (7, 100, 3)
    assert (limits.max_bytes, limits.max_record_bytes) == (5_000, 5_000)
    assert destination.name == "OpenSearch (trends)"
