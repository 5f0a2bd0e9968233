"""What answers of Firehose mean, for a call and for each record of it."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest

from connectors.aws.classification import CredentialsRefused, Kind
from connectors.delivery import Delivered, Fatal, Rejected, Retry
from connectors.firehose.classification import ERROR_CODES, classify, record_outcomes
from connectors.http import Answer, NoAnswer


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Answer(200, body=b"{}"), Delivered()),
        (
            Answer(503, "ServiceUnavailableException", "Slow down."),
            Retry(throttled=True, reason="ServiceUnavailableException: Slow down."),
        ),
        (
            Answer(400, "ThrottlingException", "", 2.0),
            Retry(2.0, throttled=True, reason="ThrottlingException"),
        ),
        (Answer(500, "InternalFailure"), Retry(reason="InternalFailure")),
        (
            Answer(400, "InvalidArgumentException", "too long"),
            Rejected("InvalidArgumentException", "too long", whole_call=True),
        ),
        (NoAnswer("connection refused"), Retry(reason="connection refused")),
        (Answer(502), Retry(reason="HTTP status 502")),
        (Answer(400, "BrandNew", "why"), Rejected("BrandNew", "why", whole_call=True)),
    ],
)
def test_answers_and_their_meaning(answer: Answer | NoAnswer, verdict: object) -> None:
    """One line for each kind of answer."""
    assert classify(answer) == verdict


EXPECTED = {
    Kind.THROTTLED: lambda v: isinstance(v, Retry) and v.throttled,
    Kind.RETRY: lambda v: isinstance(v, Retry) and not v.throttled,
    Kind.REJECTED: lambda v: isinstance(v, Rejected) and v.whole_call,
    Kind.CREDENTIALS: lambda v: isinstance(v, CredentialsRefused),
    Kind.FATAL: lambda v: isinstance(v, Fatal),
}


@pytest.mark.parametrize("code", ERROR_CODES)
@pytest.mark.parametrize("status", [400, 503])
def test_every_code_means_what_the_table_says(code: str, status: int) -> None:
    """Whatever the status; and what stops says what to do."""
    verdict = classify(Answer(status, code, "The service says so."))
    assert EXPECTED[ERROR_CODES[code].kind](verdict)
    fatal = verdict.fatal if isinstance(verdict, CredentialsRefused) else verdict
    if isinstance(fatal, Fatal):
        assert ERROR_CODES[code].advice
        assert fatal.message == f"The service says so. {ERROR_CODES[code].advice}"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ServiceUnavailableException", Kind.THROTTLED),
        ("LimitExceededException", Kind.THROTTLED),
        ("ServiceUnavailable", Kind.RETRY),
        ("InvalidArgumentException", Kind.REJECTED),
        ("ExpiredTokenException", Kind.CREDENTIALS),
        ("UnrecognizedClientException", Kind.CREDENTIALS),
        ("AccessDeniedException", Kind.FATAL),
        ("ResourceNotFoundException", Kind.FATAL),
        ("InvalidKMSResourceException", Kind.FATAL),
        ("InvalidSourceException", Kind.FATAL),
    ],
)
def test_the_table(code: str, kind: Kind) -> None:
    """The codes on which most depends."""
    assert ERROR_CODES[code].kind is kind


def test_every_error_that_the_service_models_is_in_the_table() -> None:
    """For PutRecordBatch, by botocore's service model."""
    model = botocore.session.Session().get_service_model("firehose")
    names = {shape.name for shape in model.operation_model("PutRecordBatch").error_shapes}
    assert "InvalidSourceException" in names
    assert names <= set(ERROR_CODES)


def test_a_stream_that_reads_from_elsewhere_is_fatal() -> None:
    """Every record would be refused: bisecting would send the stream to the dead letters."""
    said = "This operation is not permitted on KinesisStreamAsSource delivery stream type."
    verdict = classify(Answer(400, "InvalidArgumentException", said))
    assert isinstance(verdict, Fatal)
    assert "Direct PUT" in verdict.message


@pytest.mark.parametrize("status", [301, 404])
def test_an_answer_without_a_code_is_not_from_firehose(status: int) -> None:
    """A wrong endpoint URL must not send the stream to the dead letters."""
    verdict = classify(Answer(status))
    assert isinstance(verdict, Fatal)
    assert verdict.code == "NotFirehose"


def answered(*entries: dict[str, Any]) -> bytes:
    failed = sum("ErrorCode" in entry for entry in entries)
    return json.dumps({"FailedPutCount": failed, "RequestResponses": entries}).encode()


class TestRecords:
    def test_all_are_delivered(self) -> None:
        """No record failed."""
        assert record_outcomes(answered({"RecordId": "a"}, {"RecordId": "b"}), 2) == [
            Delivered(),
            Delivered(),
        ]

    def test_each_has_its_own_outcome_by_index(self) -> None:
        """In the order of the call; those that failed say why."""
        body = answered(
            {"RecordId": "a"},
            {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."},
            {"ErrorCode": "InternalFailure", "ErrorMessage": None},
            {"RecordId": "b"},
            {"ErrorCode": "InvalidArgumentException", "ErrorMessage": "bad"},
            {"ErrorCode": "BrandNew"},
            {"ErrorCode": "BrandNewThrottlingKind"},
            {"ErrorCode": "InvalidKMSResourceException", "ErrorMessage": "Disabled"},
        )
        assert record_outcomes(body, 8) == [
            Delivered(),
            Retry(throttled=True, reason="ServiceUnavailableException: Slow down."),
            Retry(reason="InternalFailure"),
            Delivered(),
            Rejected("InvalidArgumentException", "bad"),
            Retry(reason="BrandNew"),
            Retry(throttled=True, reason="BrandNewThrottlingKind"),
            Fatal(
                "InvalidKMSResourceException",
                f"Disabled. {ERROR_CODES['InvalidKMSResourceException'].advice}",
            ),
        ]

    def test_a_long_message_is_cut(self) -> None:
        """As that of a call is."""
        body = answered({"ErrorCode": "InvalidArgumentException", "ErrorMessage": "x" * 9_000})
        (outcome,) = record_outcomes(body, 1)
        assert isinstance(outcome, Rejected)
        assert len(outcome.message) == 2_000

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"[]",
            b"{}",
            answered({"RecordId": "a"}),
            b'{"FailedPutCount":0,"RequestResponses":null}',
            b'{"FailedPutCount":1,"RequestResponses":[1,2]}',
        ],
    )
    def test_an_answer_of_something_else_is_fatal(self, body: bytes) -> None:
        """Nothing may count as delivered because a proxy said 200."""
        outcomes = record_outcomes(body, 2)
        assert len(outcomes) == 2
        for outcome in outcomes:
            assert isinstance(outcome, Fatal)
            assert outcome.code == "NotFirehose"
            assert "endpoint URL" in outcome.message
