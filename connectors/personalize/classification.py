"""The outcome of the records of a call by Personalize's answer.

By the error *code*: Personalize throttles with HTTP status 400, so a status alone is not enough.
Codes that all AWS services share, and rules for codes in no table, are in
`connectors.aws.classification`; here are those of Personalize itself: from the service model
(InvalidInputException, ResourceNotFoundException, ResourceInUseException).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from connectors.aws.classification import (
    ErrorCode,
    Kind,
    Verdict,
    common_error_codes,
    verdict,
    with_advice,
)
from connectors.delivery import Fatal, Retry
from connectors.http import Answer, NoAnswer

_CHECK_TRACKER: Final = (
    "Check the tracking id and the region, and that the event tracker exists and is ACTIVE "
    "(aws personalize list-event-trackers)."
)


def error_codes(
    operation: str, target: str, permission: str, not_found: str
) -> dict[str, ErrorCode]:
    """The error codes of an operation; `not_found` is the advice when its target is missing.

    `target` is what the operation writes to, `permission` what the role needs, both in words.
    """
    return {
        **common_error_codes(
            service="Amazon Personalize",
            operation=operation,
            target=target,
            permission=permission,
        ),
        # Another operation changes the dataset (PutUsers, PutItems).
        "ResourceInUseException": ErrorCode(Kind.RETRY),
        # A bad record among those of the call; the service does not name it.
        "InvalidInputException": ErrorCode(Kind.REJECTED),
        # A person has to change something.
        "ResourceNotFoundException": ErrorCode(Kind.FATAL, not_found),
    }


ERROR_CODES: Final = error_codes(
    "PutEvents",
    "event tracker",
    "personalize:PutEvents on the event tracker's dataset group",
    _CHECK_TRACKER,
)

_TRACKING_ID: Final = ("tracking id", "trackingid", "event tracker")


def classify(answer: Answer | NoAnswer, codes: Mapping[str, ErrorCode] = ERROR_CODES) -> Verdict:
    """The verdict on an answer to a whole call; `codes` are the operation's, see `error_codes`.

    The message counts in one case: PutEvents models a single error, so a wrong tracking id may come
    as InvalidInputException. It concerns every record, and would otherwise
    send the whole stream to the dead letters, one by one.
    """
    if isinstance(answer, NoAnswer):
        return Retry(reason=answer.reason)
    if answer.code == "InvalidInputException" and any(
        text in answer.message.lower() for text in _TRACKING_ID
    ):
        return Fatal(answer.code, with_advice(answer.message, _CHECK_TRACKER))
    return verdict(answer, codes, "Personalize")
