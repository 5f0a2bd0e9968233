"""The proxy that the fault suite has in front of OpenSearch."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from emulators.faults import InvalidPlan
from tests.faults.opensearch_proxy import OpenSearchProxy, documents, merged
from tests.support.ports import free_port

BULK = "/_bulk?filter_path=errors%2Citems.%2A.status"


class Upstream(ThreadingHTTPServer):
    """Answers a bulk call with a 201 for each document; keeps what it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: list[tuple[str, bytes]] = []


class Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append((self.path, body))
        items = [{"index": {"status": 201}} for _ in documents(body)]
        answer = json.dumps({"errors": False, "items": items}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[OpenSearchProxy]:
    made = OpenSearchProxy(f"http://127.0.0.1:{upstream.server_port}", free_port())
    made.open()
    yield made
    made.close()


def bulk(*ids: str) -> bytes:
    lines = [f'{{"index": {{"_id": "{one}"}}}}\n{{"event_id": "{one}"}}\n' for one in ids]
    return "".join(lines).encode()


def post(proxy: OpenSearchProxy, body: bytes) -> tuple[int, Any]:
    request = urllib.request.Request(proxy.url + BULK, data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_without_a_plan_a_call_goes_through_as_it_is(
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
def test_an_error_is_answered_as_opensearch_answers_it(
    proxy: OpenSearchProxy, upstream: Upstream, kind: str, status: int, code: str
) -> None:
    proxy.put({"rules": [{"operation": "Bulk", "kind": kind, "first": 1}]})
    found, answer = post(proxy, bulk("a"))
    assert (found, answer["error"]["type"]) == (status, code)
    assert upstream.calls == []
    assert post(proxy, bulk("a"))[0] == 200
    assert [rule["fired"] for rule in proxy.report()] == [1]


def test_a_failure_after_the_write_has_written(proxy: OpenSearchProxy, upstream: Upstream) -> None:
    proxy.put({"rules": [{"operation": "Bulk", "kind": "error500", "after_write": True}]})
    assert post(proxy, bulk("a"))[0] == 500
    assert len(upstream.calls) == 1


def test_a_call_that_fails_in_part_says_for_each_document_whether_it_is_there(
    proxy: OpenSearchProxy, upstream: Upstream
) -> None:
    ids = [f"e{number}" for number in range(10)]
    proxy.put({"seed": 3, "rules": [{"operation": "Bulk", "kind": "partial", "share": 0.4}]})
    status, answer = post(proxy, bulk(*ids))
    assert (status, answer["errors"]) == (200, True)
    ((_, body),) = upstream.calls
    there = {json.loads(document.splitlines()[1])["event_id"] for document in documents(body)}
    statuses = [item["index"]["status"] for item in answer["items"]]
    assert {one for one, status in zip(ids, statuses, strict=True) if status == 201} == there
    assert set(statuses) == {201, 429, 503}
    assert len(there) == 6


def test_merging_keeps_the_order() -> None:
    answer = {"errors": False, "items": [{"index": {"status": 200}}, {"index": {"status": 201}}]}
    items = merged(answer, frozenset({0, 2}), 4)["items"]
    assert [item["index"]["status"] for item in items] == [429, 200, 429, 201]


def test_a_shut_proxy_refuses_connections_until_it_is_opened_again(proxy: OpenSearchProxy) -> None:
    proxy.shut()
    with pytest.raises(urllib.error.URLError, match="refused"):
        post(proxy, bulk("a"))
    proxy.open()
    assert post(proxy, bulk("a"))[0] == 200


def test_an_unusable_plan_is_refused(proxy: OpenSearchProxy) -> None:
    with pytest.raises(InvalidPlan, match="'operation'"):
        proxy.put({"rules": [{"operation": "PutEvents", "kind": "throttle"}]})
