"""Documents as PutRecordBatch wants them, and the limits of PutRecordBatch."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.delivery import Rejected
from connectors.firehose import requests
from connectors.firehose.requests import FirehoseRecord, firehose_record, put_record_batch_body


def record(document: dict[str, Any]) -> FirehoseRecord:
    made = firehose_record(document)
    assert isinstance(made, FirehoseRecord), made
    return made


def line(made: FirehoseRecord) -> bytes:
    return b64decode(json.loads(made.entry)["Data"])


def of_size(size: int) -> dict[str, Any]:
    """A document that is a line of so many bytes, its end included."""
    return {"x": "x" * (size - len('{"x":""}\n'))}


class TestRecord:
    def test_a_document_is_a_line(self) -> None:
        """UTF-8, compact, ended: Firehose puts records one after the other."""
        made = record({"event_id": "é", "user": None, "n": [1, 2]})
        assert line(made) == '{"event_id":"é","user":null,"n":[1,2]}\n'.encode()

    def test_line_ends_within_texts_are_escaped(self) -> None:
        """A title with a line end does not make two documents."""
        assert line(record({"title": "a\nb\r\u2028"})).count(b"\n") == 1

    def test_the_largest_record(self) -> None:
        """1,000 KiB with the line end are sent, one byte more is rejected with the sizes."""
        assert len(line(record(of_size(1_024_000)))) == 1_024_000
        assert firehose_record(of_size(1_024_001)) == Rejected(
            "RecordTooLarge", "1024001 bytes as a line of JSON; at most 1024000 are allowed"
        )

    @pytest.mark.parametrize(
        ("value", "said"), [("\ud800", "surrogate"), (float("nan"), "finite"), (b"secret", "bytes")]
    )
    def test_what_json_cannot_say_is_rejected(self, value: object, said: str) -> None:
        """With the reason, and without the value."""
        outcome = firehose_record({"x": value})
        assert isinstance(outcome, Rejected)
        assert outcome.code == "InvalidDocument"
        assert said in outcome.message
        assert "secret" not in outcome.message


class TestBody:
    def test_a_call(self) -> None:
        """The stream's name once, the records in their order."""
        body = put_record_batch_body("a.stream", [record({"n": n}) for n in range(500)])
        call = json.loads(body)
        assert call["DeliveryStreamName"] == "a.stream"
        assert [json.loads(b64decode(one["Data"]))["n"] for one in call["Records"]] == [*range(500)]

    @pytest.mark.parametrize("count", [0, 501])
    def test_a_call_has_one_to_five_hundred_records(self, count: int) -> None:
        """The engine's limits see to it; this is the last guard."""
        with pytest.raises(ValueError, match="1 to 500"):
            put_record_batch_body("s", [record({})] * count)

    @settings(max_examples=50, derandomize=True, database=None)
    @given(st.lists(st.integers(10, 9_000), min_size=1, max_size=500))
    def test_sizes_add_up_to_no_less_than_the_body(self, sizes: list[int]) -> None:
        """Within the limit of the engine, a call is within the limit of the service."""
        records = [record(of_size(size)) for size in sizes]
        body = put_record_batch_body("x" * 64, records)
        around = requests.MAX_CALL_BYTES - requests.MAX_ENTRIES_BYTES
        assert len(body) <= sum(one.size for one in records) + around

    def test_the_largest_record_fits_a_call(self) -> None:
        """Base64 makes it a third larger, which is still below 4 MiB."""
        assert record(of_size(1_024_000)).size <= requests.MAX_ENTRIES_BYTES


def test_the_constants_are_those_of_the_service_model() -> None:
    """botocore has the limits, and does not enforce them."""
    model = botocore.session.Session().get_service_model("firehose")
    shape = model.shape_for
    assert shape("PutRecordBatchRequestEntryList").metadata["max"] == requests.MAX_RECORDS_PER_CALL
    assert shape("Data").metadata["max"] == requests.MAX_RECORD_BYTES
    name = shape("DeliveryStreamName").metadata
    assert requests.STREAM_NAME.pattern == f"{name['pattern'][:-1]}{{{name['min']},{name['max']}}}"
    documentation = model.operation_model("PutRecordBatch").documentation
    assert "up to a limit of 4 MB for the entire request" in documentation
