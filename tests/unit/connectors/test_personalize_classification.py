"""What answers of Personalize mean: by error code, not by status."""

from __future__ import annotations

import botocore.session
import pytest

from connectors.aws import Answer, NoAnswer
from connectors.aws.classification import CredentialsRefused, Kind
from connectors.delivery import Delivered, Fatal, Rejected, Retry
from connectors.personalize.classification import ERROR_CODES, classify


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Answer(200), Delivered()),
        (
            Answer(400, "ThrottlingException", "Rate exceeded"),
            Retry(None, throttled=True, reason="ThrottlingException: Rate exceeded"),
        ),
        (Answer(500, "InternalFailure"), Retry(reason="InternalFailure")),
        (Answer(503, "ServiceUnavailable", "", 3.0), Retry(3.0, reason="ServiceUnavailable")),
        (Answer(409, "ResourceInUseException"), Retry(reason="ResourceInUseException")),
        (
            Answer(400, "InvalidInputException", "itemId is too long"),
            Rejected("InvalidInputException", "itemId is too long", whole_call=True),
        ),
        (NoAnswer("connection refused"), Retry(reason="connection refused")),
        # Not in the table: the status has to do.
        (Answer(502), Retry(reason="HTTP status 502")),
        (Answer(429), Retry(throttled=True, reason="HTTP status 429")),
        (Answer(500, "BrandNewFailure"), Retry(reason="BrandNewFailure")),
        (
            Answer(400, "BrandNewThrottlingKind"),
            Retry(throttled=True, reason="BrandNewThrottlingKind"),
        ),
        (
            Answer(400, "BrandNewComplaint", "why"),
            Rejected("BrandNewComplaint", "why", whole_call=True),
        ),
    ],
)
def test_answers_and_their_meaning(answer: Answer | NoAnswer, verdict: object) -> None:
    """One line for each kind of answer."""
    assert classify(answer) == verdict


@pytest.mark.parametrize("code", [c for c, e in ERROR_CODES.items() if e.kind is Kind.THROTTLED])
@pytest.mark.parametrize("status", [400, 429, 503])
def test_throttling_is_throttling_whatever_the_status(code: str, status: int) -> None:
    """Personalize throttles with 400, which elsewhere means a bad request."""
    assert classify(Answer(status, code)) == Retry(throttled=True, reason=code)


@pytest.mark.parametrize(
    "code", [c for c, e in ERROR_CODES.items() if e.kind in (Kind.FATAL, Kind.CREDENTIALS)]
)
def test_what_stops_says_what_to_do(code: str) -> None:
    """What the service said, then what the reader should do next."""
    verdict = classify(Answer(403, code, "The service says so."))
    fatal = verdict.fatal if isinstance(verdict, CredentialsRefused) else verdict
    assert isinstance(fatal, Fatal)
    assert fatal.code == code
    assert fatal.message.startswith("The service says so. ")
    assert fatal.message.endswith((".", ")"))
    assert ERROR_CODES[code].advice in fatal.message


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
def test_what_a_person_has_to_change_is_fatal(code: str) -> None:
    """A missing tracker or permission is not cured by sending again."""
    assert isinstance(classify(Answer(400, code)), Fatal)


@pytest.mark.parametrize(
    "code",
    [
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "RequestExpired",
    ],
)
def test_refused_credentials_are_worth_another_try(code: str) -> None:
    """They may have been replaced in the meantime: not yet fatal."""
    assert isinstance(classify(Answer(403, code)), CredentialsRefused)


@pytest.mark.parametrize(
    "message", ["The tracking ID is not valid", "trackingId unknown", "No such event tracker"]
)
def test_a_wrong_tracking_id_is_fatal_even_as_invalid_input(message: str) -> None:
    """It concerns every record: bisecting would send the whole stream to the dead letters."""
    verdict = classify(Answer(400, "InvalidInputException", message))
    assert isinstance(verdict, Fatal)
    assert "list-event-trackers" in verdict.message


@pytest.mark.parametrize("status", [301, 400, 403, 404, 413])
def test_an_answer_without_a_code_is_not_from_personalize(status: int) -> None:
    """A wrong endpoint URL must not send the stream to the dead letters."""
    verdict = classify(Answer(status))
    assert isinstance(verdict, Fatal)
    assert "endpoint URL" in verdict.message


def test_every_error_that_the_service_models_is_in_the_table() -> None:
    """For PutEvents, PutUsers and PutItems, by botocore's service model."""
    model = botocore.session.Session().get_service_model("personalize-events")
    names = {
        shape.name
        for operation in ("PutEvents", "PutUsers", "PutItems")
        for shape in model.operation_model(operation).error_shapes
    }
    assert "InvalidInputException" in names
    assert names <= set(ERROR_CODES)
