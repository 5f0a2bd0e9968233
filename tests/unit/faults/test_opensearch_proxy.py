"""The proxy of the fault suite in front of OpenSearch."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from emulators.faults import InvalidPlan
from tests.faults.opensearch_proxy import OpenSearchProxy, merge, split_documents
from tests.support.ports import free_port
from tests.support.servers import Received, http_server

BULK = "/_bulk?filter_path=errors%2Citems.%2A.status"


class Upstream:
    """Responds to a bulk call with a 201 for each document, and records the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes]] = []

    def __call__(self, request: Received) -> tuple[int, bytes]:
        self.calls.append((request.path, request.body))
        items = [{"index": {"status": 201}} for _ in split_documents(request.body)]
        return 200, json.dumps({"errors": False, "items": items}).encode()


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[OpenSearchProxy]:
    with http_server(upstream) as url:
        proxy = OpenSearchProxy(url, free_port())
        proxy.open()
        yield proxy
        proxy.close()


def bulk(*ids: str) -> bytes:
    lines = [f'{{"index": {{"_id": "{id}"}}}}\n{{"event_id": "{id}"}}\n' for id in ids]
    return "".join(lines).encode()


def post(proxy: OpenSearchProxy, body: bytes) -> tuple[int, Any]:
    request = urllib.request.Request(proxy.url + BULK, data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_without_a_plan_a_call_is_passed_on_unchanged(
    proxy: OpenSearchProxy, upstream: Upstream
) -> None:
    status, answer = post(proxy, bulk("a", "b"))
    assert (status, answer["errors"], len(answer["items"])) == (200, False, 2)
    assert upstream.calls == [(BULK, bulk("a", "b"))]


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("throttle", 429, "rejected_execution_exception"),
        ("error503", 503, "unavailable_shards_exception"),
        ("access_denied", 403, "security_exception"),
    ],
)
def test_an_error_has_the_form_of_opensearch(
    proxy: OpenSearchProxy, upstream: Upstream, kind: str, status: int, code: str
) -> None:
    proxy.put({"rules": [{"operation": "Bulk", "kind": kind, "first": 1}]})
    actual, answer = post(proxy, bulk("a"))
    assert (actual, answer["error"]["type"]) == (status, code)
    assert upstream.calls == []
    assert post(proxy, bulk("a"))[0] == 200
    assert [rule["fired"] for rule in proxy.report()] == [1]


def test_a_failure_after_the_write_takes_effect(proxy: OpenSearchProxy, upstream: Upstream) -> None:
    proxy.put({"rules": [{"operation": "Bulk", "kind": "error500", "after_write": True}]})
    assert post(proxy, bulk("a"))[0] == 500
    assert len(upstream.calls) == 1


def test_the_response_to_a_partial_failure_has_a_status_for_each_document(
    proxy: OpenSearchProxy, upstream: Upstream
) -> None:
    ids = [f"e{number}" for number in range(10)]
    proxy.put({"seed": 3, "rules": [{"operation": "Bulk", "kind": "partial", "share": 0.4}]})
    status, answer = post(proxy, bulk(*ids))
    assert (status, answer["errors"]) == (200, True)
    ((_, body),) = upstream.calls
    written = {
        json.loads(document.splitlines()[1])["event_id"] for document in split_documents(body)
    }
    statuses = [item["index"]["status"] for item in answer["items"]]
    assert {id for id, status in zip(ids, statuses, strict=True) if status == 201} == written
    assert set(statuses) == {201, 429, 503}
    assert len(written) == 6


def test_merging_keeps_the_order() -> None:
    answer = {"errors": False, "items": [{"index": {"status": 200}}, {"index": {"status": 201}}]}
    items = merge(answer, frozenset({0, 2}), 4)["items"]
    assert [item["index"]["status"] for item in items] == [429, 200, 429, 201]


def test_a_shut_proxy_refuses_connections_until_it_is_opened_again(proxy: OpenSearchProxy) -> None:
    proxy.stop()
    with pytest.raises(urllib.error.URLError, match="refused"):
        post(proxy, bulk("a"))
    proxy.open()
    assert post(proxy, bulk("a"))[0] == 200


def test_an_invalid_plan_is_refused(proxy: OpenSearchProxy) -> None:
    with pytest.raises(InvalidPlan, match="'operation'"):
        proxy.put({"rules": [{"operation": "PutEvents", "kind": "throttle"}]})
