"""PutRecordBatch through the sink engine, with a service that fails on demand."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from connectors.delivery import Delivered, FatalDeliveryError, Rejected
from connectors.firehose import FirehoseDestination, FirehoseSettings, firehose_destination
from connectors.http import Answer, NoAnswer
from schemas.errors import SettingError
from tests.support.delivery_contract import DestinationContract
from tests.support.delivery_fakes import deliver_all
from tests.support.delivery_service import FakeService, ServiceHarness

Refuse = Callable[[dict[str, Any], int], str | None]


class Firehose(FakeService):
    """PutRecordBatch; `refuse(document, call)` returns the error code of a record, or None."""

    troubles: ClassVar = {
        "throttled": Answer(503, "ServiceUnavailableException", "Slow down."),
        "server error": Answer(500, "InternalFailure"),
        "connection lost": NoAnswer("ServerDisconnectedError"),
        "fatal": Answer(400, "ResourceNotFoundException", "There is no such stream"),
    }

    def __init__(self, refuse: Refuse = lambda document, call: None) -> None:
        super().__init__()
        self.refuse = refuse
        self.accepted: list[dict[str, Any]] = []

    def read(self, path: str, body: bytes) -> list[dict[str, Any]]:
        assert path == "/"
        assert len(body) <= 4 * 1024 * 1024
        request = json.loads(body)
        assert request["DeliveryStreamName"] == "stream"
        lines = [b64decode(record["Data"], validate=True) for record in request["Records"]]
        assert 1 <= len(lines) <= 500
        assert all(line.endswith(b"\n") and len(line) <= 1_024_000 for line in lines)
        return [json.loads(line) for line in lines]

    def answer(self, request: list[dict[str, Any]], call: int) -> Answer:
        if any(document.get("refused") for document in request):
            return Answer(400, "InvalidArgumentException", "A record is bad")
        codes = [self.refuse(document, call) for document in request]
        self.accepted += [one for one, code in zip(request, codes, strict=True) if not code]
        answer = {
            "FailedPutCount": sum(code is not None for code in codes),
            "Encrypted": False,
            "RequestResponses": [
                {"ErrorCode": code, "ErrorMessage": "why"} if code else {"RecordId": "id"}
                for code in codes
            ],
        }
        return Answer(200, body=json.dumps(answer).encode())


class FirehoseHarness(ServiceHarness):
    def __init__(self) -> None:
        self.service = Firehose()
        settings = FirehoseSettings("stream", "us-east-1", records_per_call=10, max_in_flight=4)
        super().__init__(self.service, FirehoseDestination(self.service, settings))

    def record(self, key: int, number: int) -> dict[str, Any]:
        return {"key": key, "number": number}

    def refused_record(self, key: int, number: int) -> dict[str, Any]:
        return {"key": key, "number": number, "refused": True}

    def oversize_record(self, key: int, number: int) -> dict[str, Any]:
        return {"key": key, "number": number, "text": "x" * 1_024_000}

    def accepted(self) -> list[tuple[int, int]]:
        return [(one["key"], one["number"]) for one in self.service.accepted]


class TestContract(DestinationContract):
    make_harness = FirehoseHarness


def deliver(service: Firehose, documents: list[dict[str, Any]], **more: Any) -> list[Any]:
    settings = FirehoseSettings("stream", "us-east-1", **more)
    return deliver_all(FirehoseDestination(service, settings), documents)


def test_only_the_records_that_failed_are_sent_again() -> None:
    """By their index: three failing records of a call cost a call of three."""
    service = Firehose(
        lambda document, call: (
            "InternalFailure" if call == 0 and document["n"] in (0, 7, 9) else None
        )
    )
    assert deliver(service, [{"n": n} for n in range(10)]) == [Delivered()] * 10
    assert [[one["n"] for one in call] for call in service.calls] == [[*range(10)], [0, 7, 9]]
    assert sorted(one["n"] for one in service.accepted) == [*range(10)]


def test_a_record_may_fail_often() -> None:
    """It is sent again until it is taken, alone in the end; the others are not held up."""
    service = Firehose(
        lambda document, call: "ServiceUnavailableException" if document["n"] >= call + 1 else None
    )
    assert deliver(service, [{"n": n} for n in range(6)]) == [Delivered()] * 6
    assert [len(call) for call in service.calls] == [6, 5, 4, 3, 2, 1]
    assert [one["n"] for one in service.accepted] == [*range(6)]


def test_a_record_refused_for_good_is_rejected_by_its_index() -> None:
    """With its code and message; no bisection, since the service says which it is."""
    service = Firehose(
        lambda document, call: "InvalidArgumentException" if document["n"] == 3 else None
    )
    outcomes = deliver(service, [{"n": n} for n in range(5)])
    expected = [Delivered()] * 5
    assert outcomes == [*expected[:3], Rejected("InvalidArgumentException", "why"), expected[4]]
    assert len(service.calls) == 1


def test_calls_keep_within_four_mebibytes() -> None:
    """Large documents share a call only as far as they fit; the service checks it."""
    service = Firehose()
    documents = [{"n": n, "text": "x" * 700_000} for n in range(12)]
    outcomes = deliver(service, documents, bytes_per_second=1_000_000_000)
    assert outcomes == [Delivered()] * 12
    assert [len(call) for call in service.calls] == [4, 4, 4]


def test_the_quota_of_bytes_counts_them_before_base64() -> None:
    """Five records of 100,000 bytes a second, which as base64 are a third more."""
    service = Firehose()
    documents = [{"n": n, "text": "x" * 99_900} for n in range(5)]
    assert deliver(service, documents, bytes_per_second=505_000) == [Delivered()] * 5
    assert len(service.calls) == 1
    service = Firehose()
    assert deliver(service, documents, bytes_per_second=495_000) == [Delivered()] * 5
    assert [len(call) for call in service.calls] == [4, 1]


def test_expired_credentials_are_renewed() -> None:
    """A token that ends under way costs another call, not the job."""
    service = Firehose()
    service.accepts_credentials = lambda generation: generation >= 1
    assert deliver(service, [{"n": 1}]) == [Delivered()]


def test_credentials_refused_after_renewal_are_fatal() -> None:
    """Newly read credentials that are refused, too, stop the job and say what to check."""
    service = Firehose()
    service.accepts_credentials = lambda generation: False
    with pytest.raises(FatalDeliveryError, match=r"ExpiredTokenException.*Check which credentials"):
        deliver(service, [{"n": 1}])


def test_the_client_is_closed_with_the_engine() -> None:
    """No connection is left behind."""
    service = Firehose()
    deliver(service, [])
    assert service.closed


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("stream_name", ""),
        ("stream_name", "a stream"),
        ("stream_name", "x" * 65),
        ("records_per_call", 0),
        ("records_per_call", 501),
        ("request_timeout", 0),
    ],
)
def test_a_bad_setting_is_named(setting: str, value: Any) -> None:
    """The start of the job stops with the name of the setting and what was expected."""
    with pytest.raises(SettingError, match=f"{setting} .*expected"):
        FirehoseSettings(**({"stream_name": "s", "region": "us-east-1"} | {setting: value}))


def test_a_destination_from_settings() -> None:
    """Limits are those of the settings; nothing is opened yet."""
    destination = firehose_destination(
        FirehoseSettings(
            "stream",
            "us-east-1",
            "http://127.0.0.1:1",
            calls_per_second=7,
            records_per_call=100,
            max_in_flight=3,
        )
    )
    limits = destination.limits
    assert (limits.calls_per_second, limits.max_records, limits.max_in_flight) == (7, 100, 3)
