"""The layers around moto: Firehose's limits, failures on demand, objects as files."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from emulators.aws import objects
from emulators.aws.firehose import MAX_CALL_BYTES, Firehose
from emulators.aws.wsgi import Environ, StartResponse, respond

MAX_RECORD_BYTES = 1_024_000
"""The limit of a record in botocore's model of the service: 1,000 KiB."""


class Stream:
    """Stores all records without checks, as moto does."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        payload = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        records = payload["Records"] if "Records" in payload else [payload["Record"]]
        first = len(self.records)
        self.records += [base64.b64decode(record["Data"]) for record in records]
        entries = [{"RecordId": str(first + n)} for n in range(len(records))]
        return respond(start_response, 200, {"FailedPutCount": 0, "RequestResponses": entries})


class Client:
    """Calls the Firehose layer in front of a stream that stores everything."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.waited: list[float] = []
        self.firehose = Firehose(self.stream, wait=self.waited.append)

    def request(self, method: str, path: str, body: bytes, target: str = "") -> tuple[int, Any]:
        statuses: list[str] = []
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "HTTP_X_AMZ_TARGET": target,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }
        response = self.firehose(environ, lambda status, headers: statuses.append(status))
        return int(statuses[0][:3]), json.loads(b"".join(response))

    def put(self, *records: bytes) -> tuple[int, Any]:
        entries = [{"Data": base64.b64encode(record).decode()} for record in records]
        body = json.dumps({"DeliveryStreamName": "s", "Records": entries}).encode()
        return self.request("POST", "/", body, "Firehose_20150804.PutRecordBatch")

    def put_fault(self, **rule: Any) -> tuple[int, Any]:
        plan = {"seed": 3, "rules": [{"operation": "PutRecordBatch", **rule}]}
        return self.request("PUT", "/_local/faults", json.dumps(plan).encode())


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.mark.parametrize("size", range(5))
def test_a_record_is_measured_before_base64(client: Client, size: int) -> None:
    """For every padding a record of the limit passes, and a larger one does not."""
    length = MAX_RECORD_BYTES - 2 + size
    status, _ = client.put(b"x" * length)
    assert (status == 200) == (length <= MAX_RECORD_BYTES)


def test_a_call_at_every_limit_is_accepted_and_above_it_refused(client: Client) -> None:
    """Count, sum and size: the largest allowed value, and the next one."""
    full = [b"x" * (MAX_CALL_BYTES // 500)] * 499
    full.append(b"x" * (MAX_CALL_BYTES - sum(map(len, full))))
    assert client.put(*full)[0] == 200
    for records, problem in (
        ([*full[:-1], full[-1] + b"x"], "Records size exceeds 4 MB limit"),
        ([b"x"] * 501, "'records' .* less than or equal to 500"),
        ([], "'records' .* greater than or equal to 1"),
        ([b"x", b"x" * 1_024_001], r"'records\.2\.member\.data' .*1024000"),
    ):
        status, document = client.put(*records)
        assert status == 400
        assert re.search(problem, document["message"])
    body = json.dumps({"DeliveryStreamName": "a stream", "Records": [{"Data": "eA=="}]}).encode()
    status, document = client.request("POST", "/", body, "Firehose_20150804.PutRecordBatch")
    assert (status, document["__type"]) == (400, "ValidationException")
    assert "deliveryStreamName" in document["message"]


def test_a_partial_failure_stores_the_other_records(client: Client) -> None:
    """The response has an entry for each record in order; the seed determines the failed ones."""
    records = [b"%d" % n for n in range(20)]
    runs = []
    for _ in range(2):
        client.stream.records.clear()
        assert client.put_fault(kind="partial", share=0.25)[0] == 200
        status, document = client.put(*records)
        entries = document["RequestResponses"]
        failed = [n for n, entry in enumerate(entries) if "ErrorCode" in entry]
        assert (status, document["FailedPutCount"], len(failed)) == (200, 5, 5)
        assert client.stream.records == [r for n, r in enumerate(records) if n not in failed]
        assert [e["RecordId"] for e in entries if "RecordId" in e] == [str(n) for n in range(15)]
        runs.append(failed)
    assert runs[0] == runs[1]
    assert client.put(*records)[1]["RequestResponses"] != entries


def test_all_records_can_fail(client: Client) -> None:
    """No record is put then."""
    client.put_fault(kind="partial", share=1)
    assert client.put(b"a", b"b")[1]["FailedPutCount"] == 2
    assert client.stream.records == []


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("throttle", 500, "ServiceUnavailableException"),
        ("error500", 500, "InternalFailure"),
        ("error503", 503, "ServiceUnavailable"),
        ("access_denied", 400, "AccessDeniedException"),
        ("expired_token", 400, "ExpiredTokenException"),
        ("unrecognized_client", 400, "UnrecognizedClientException"),
    ],
)
def test_a_failed_call_stores_nothing(client: Client, kind: str, status: int, code: str) -> None:
    """The code is that of the service; calls pass after the end of the rule."""
    client.put_fault(kind=kind, first=1)
    response, document = client.put(b"a")
    assert (response, document["__type"]) == (status, code)
    assert client.stream.records == []
    assert client.put(b"a")[0] == 200


def test_a_call_can_fail_after_it_took_effect(client: Client) -> None:
    """The client cannot detect this and sends the call again."""
    client.put_fault(kind="error500", after_write=True)
    assert client.put(b"a")[0] == 500
    assert client.stream.records == [b"a"]


def test_a_slow_call_has_the_normal_response(client: Client) -> None:
    """After the delay."""
    client.put_fault(kind="slow", seconds=2)
    assert client.put(b"a")[0] == 200
    assert client.waited == [2]


def test_the_fault_plan_is_reported_replaced_and_removed(client: Client) -> None:
    """With its counts; an invalid plan changes nothing, and the response has the reason."""
    client.put_fault(kind="throttle")
    client.put(b"a")
    assert client.put_fault(kind="in_use")[0] == 400
    refused = client.request("PUT", "/_local/faults", b"{")
    assert (refused[0], "not JSON" in refused[1]["message"]) == (400, True)
    (rule,) = client.request("GET", "/_local/faults", b"")[1]["rules"]
    assert (rule["kind"], rule["matched"], rule["fired"]) == ("throttle", 1, 1)
    assert client.request("DELETE", "/_local/faults", b"")[1]["rules"] == []
    assert client.put(b"a")[0] == 200


def test_other_operations_are_passed_on_unchanged(client: Client) -> None:
    """Their bodies are not read."""
    client.put_fault(kind="throttle")
    body = json.dumps({"Record": {"Data": "YQ=="}}).encode()
    assert client.request("POST", "/", body, "AWSGlue.Anything")[0] == 200


@pytest.mark.parametrize("key", ["a", "a/b", "..", ".", "a%part", "a%2Fb", "a b/", "é", "a.part"])
def test_every_key_has_a_file_of_its_own(key: str) -> None:
    """No key is a path outside the folder or the name of a file that is being written."""
    name = objects.file_name(key)
    assert "/" not in name
    assert name not in (".", "..")
    assert "%part" not in name
    assert unquote(name) == key


class Bucket:
    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}


class Key:
    def __init__(self, value: bytes) -> None:
        self.value = value


class Memory:
    """The methods of moto's S3 backend that are used."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}

    def create_bucket(self, bucket_name: str, region_name: str) -> Bucket:
        return self.buckets.setdefault(bucket_name, Bucket())

    def delete_bucket(self, bucket_name: str) -> Bucket | None:
        return None if self.buckets[bucket_name].keys else self.buckets.pop(bucket_name)

    def put_object(self, bucket_name: str, key_name: str, value: bytes) -> Key:
        self.buckets[bucket_name].keys[key_name] = Key(value)
        return self.buckets[bucket_name].keys[key_name]

    def delete_object(self, bucket_name: str, key_name: str) -> None:
        self.buckets[bucket_name].keys.pop(key_name)

    def get_bucket(self, bucket_name: str) -> Bucket:
        return self.buckets[bucket_name]


def contents(memory: Memory) -> dict[str, dict[str, bytes]]:
    return {
        name: {key: entry.value for key, entry in bucket.keys.items()}
        for name, bucket in memory.buckets.items()
    }


def test_objects_are_restored_after_a_restart(tmp_path: Path) -> None:
    """Every bucket and the last content of every object, without deleted and partial ones."""
    memory = Memory()
    objects.persist(memory, tmp_path)
    for name in ("data", "empty", "gone"):
        memory.create_bucket(name, "us-east-1")
    memory.put_object("data", "a/b", b"first")
    memory.put_object("data", "a/b", b"second")
    memory.put_object("data", "deleted", b"x")
    memory.delete_object("data", "deleted")
    memory.delete_bucket("gone")
    memory.put_object("data", "x" * 300, b"too long a name")
    (tmp_path / "data" / "broken%part7").write_bytes(b"half")

    restored = Memory()
    objects.persist(restored, tmp_path)
    assert contents(restored) == {"data": {"a/b": b"second"}, "empty": {}}
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["a%2Fb"]
