"""What an answer of Personalize means for the records of the call. Data, and one small function.

By the error *code*: Personalize throttles with HTTP status 400, so a status alone says nothing. The
codes that all AWS services share, and what becomes of a code that is in no table, are in
`connectors.aws.classification`; here are those of Personalize itself: from the service model
(InvalidInputException, ResourceNotFoundException, ResourceInUseException).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from connectors.aws.classification import (
    CredentialsRefused,
    ErrorCode,
    Kind,
    Verdict,
    common_error_codes,
    verdict,
    with_advice,
)
from connectors.delivery import Fatal, Retry
from connectors.http import Answer, NoAnswer

__all__ = [
    "ERROR_CODES",
    "Answer",
    "CredentialsRefused",
    "ErrorCode",
    "Kind",
    "NoAnswer",
    "Verdict",
    "classify",
    "error_codes",
]

_CHECK_TRACKER: Final = (
    "Check the tracking id and the region, and that the event tracker exists and is ACTIVE "
    "(aws personalize list-event-trackers)."
)


def error_codes(
    operation: str, target: str, permission: str, not_found: str
) -> dict[str, ErrorCode]:
    """What an operation's error codes mean; `not_found` is the advice when its target is not there.

    `target` is what the operation writes to, `permission` what the role needs, both for people.
    """
    return {
        **common_error_codes(
            service="Amazon Personalize",
            operation=operation,
            target=target,
            permission=permission,
        ),
        # Another operation holds the dataset (PutUsers, PutItems); it will be free again.
        "ResourceInUseException": ErrorCode(Kind.RETRY),
        # A bad record among those of the call. The service does not say which.
        "InvalidInputException": ErrorCode(Kind.REJECTED),
        # Somebody has to change something.
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
    """The meaning of an answer to a whole call; the table and its exceptions are above.

    `codes`: the operation's, see `error_codes`.

    One look at the message, since the code cannot tell: PutEvents models a single error, so a wrong
    tracking id may come as InvalidInputException. It concerns every record, and would otherwise
    send the whole stream to the dead letters, one by one.
    """
    if isinstance(answer, NoAnswer):
        return Retry(reason=answer.reason)
    if answer.code == "InvalidInputException" and any(
        text in answer.message.lower() for text in _TRACKING_ID
    ):
        return Fatal(answer.code, with_advice(answer.message, _CHECK_TRACKER))
    return verdict(answer, codes, "Personalize")
