"""What an answer of Personalize means for the records of the call. Data, and one small function.

By the error *code*: Personalize throttles with HTTP status 400, so a status alone says nothing.
Only for a code that is not in the table does the status decide, because something has to:

    no code, 5xx or 408                a proxy or load balancer in trouble            retry
    no code, 429                       the same, throttling                           retry,
    throttled
    no code, any other                 whatever answered is not Personalize           fatal
    unknown code, 5xx                  the service's fault                            retry
    unknown code that says throttling  ("Throttl", "TooManyRequests", "SlowDown")     retry,
    throttled
    unknown code, 4xx                  ours; bisected, and the bad ones can be replayed from the
    dead
                                       letters, whereas a stop would let one record halt the stream

Codes are from the service model (InvalidInputException, ResourceNotFoundException,
ResourceInUseException), the common errors of the Amazon Personalize Developer Guide, and the codes
that botocore's retry handlers know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from connectors.delivery import Delivered, Fatal, Rejected, Retry
from connectors.delivery.outcomes import DELIVERED


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP. `code` is the service's error code, None when it gave none."""

    status: int
    code: str | None = None
    message: str = ""
    retry_after: float | None = None
    """Seconds."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nothing came back: refused, reset, timed out, no such host."""

    reason: str


@dataclass(frozen=True, slots=True)
class CredentialsRefused:
    """The signature was not accepted; newer credentials may be. Refused again with those, it is
    fatal."""

    fatal: Fatal


Verdict: TypeAlias = Delivered | Retry | Rejected | Fatal | CredentialsRefused


class Kind(Enum):
    """What to do about an error code."""

    THROTTLED = "send again, slower"
    RETRY = "send again"
    REJECTED = "a record is bad: find it, reject it"
    CREDENTIALS = "fetch credentials anew and send again; stop when that does not help"
    FATAL = "stop: a person has to act"


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """`advice` is what the person who reads a fatal message should do next."""

    kind: Kind
    advice: str = ""


_CHECK_TRACKER: Final = (
    "Check the tracking id and the region, and that the event tracker exists and is ACTIVE "
    "(aws personalize list-event-trackers)."
)
_CHECK_CREDENTIALS: Final = (
    "Check which credentials the process finds (environment, profile, role of the application) and "
    "that they belong to the account and region of the event tracker."
)

ERROR_CODES: Final[dict[str, ErrorCode]] = {
    # Too fast. HTTP 400 with Personalize; the others are what gateways and botocore call the same.
    "ThrottlingException": ErrorCode(Kind.THROTTLED),
    "Throttling": ErrorCode(Kind.THROTTLED),
    "ThrottledException": ErrorCode(Kind.THROTTLED),
    "RequestThrottled": ErrorCode(Kind.THROTTLED),
    "RequestThrottledException": ErrorCode(Kind.THROTTLED),
    "TooManyRequestsException": ErrorCode(Kind.THROTTLED),
    "RequestLimitExceeded": ErrorCode(Kind.THROTTLED),
    "BandwidthLimitExceeded": ErrorCode(Kind.THROTTLED),
    "LimitExceededException": ErrorCode(Kind.THROTTLED),
    "SlowDown": ErrorCode(Kind.THROTTLED),
    # The service's trouble, or the network's.
    "InternalFailure": ErrorCode(Kind.RETRY),
    "InternalServerError": ErrorCode(Kind.RETRY),
    "InternalServerException": ErrorCode(Kind.RETRY),
    "ServiceUnavailable": ErrorCode(Kind.RETRY),
    "ServiceUnavailableException": ErrorCode(Kind.RETRY),
    "RequestTimeout": ErrorCode(Kind.RETRY),
    "RequestTimeoutException": ErrorCode(Kind.RETRY),
    # Another operation holds the dataset (PutUsers, PutItems); it will be free again.
    "ResourceInUseException": ErrorCode(Kind.RETRY),
    # A bad record among those of the call. The service does not say which.
    "InvalidInputException": ErrorCode(Kind.REJECTED),
    "InvalidParameterValue": ErrorCode(Kind.REJECTED),
    "InvalidParameterCombination": ErrorCode(Kind.REJECTED),
    "MissingParameter": ErrorCode(Kind.REJECTED),
    "ValidationError": ErrorCode(Kind.REJECTED),
    "ValidationException": ErrorCode(Kind.REJECTED),
    "SerializationException": ErrorCode(Kind.REJECTED),
    "RequestEntityTooLarge": ErrorCode(Kind.REJECTED),
    # Temporary credentials end while the job runs. Static ones that have ended stay ended: then
    # stop.
    "ExpiredToken": ErrorCode(Kind.CREDENTIALS, _CHECK_CREDENTIALS),
    "ExpiredTokenException": ErrorCode(Kind.CREDENTIALS, _CHECK_CREDENTIALS),
    # Also what a rotated key looks like until the new one is read.
    "UnrecognizedClientException": ErrorCode(Kind.CREDENTIALS, _CHECK_CREDENTIALS),
    "InvalidClientTokenId": ErrorCode(Kind.CREDENTIALS, _CHECK_CREDENTIALS),
    "InvalidSignatureException": ErrorCode(
        Kind.CREDENTIALS, _CHECK_CREDENTIALS + " Check the machine's clock, too."
    ),
    "SignatureDoesNotMatch": ErrorCode(
        Kind.CREDENTIALS, _CHECK_CREDENTIALS + " Check the machine's clock, too."
    ),
    "IncompleteSignature": ErrorCode(Kind.CREDENTIALS, _CHECK_CREDENTIALS),
    "MissingAuthenticationToken": ErrorCode(Kind.CREDENTIALS, _CHECK_CREDENTIALS),
    "MissingAuthenticationTokenException": ErrorCode(Kind.CREDENTIALS, _CHECK_CREDENTIALS),
    # The signature is good for some minutes: a call that was held up by the machine may just be
    # late, a wrong clock stays wrong.
    "RequestExpired": ErrorCode(Kind.CREDENTIALS, "Check the machine's clock."),
    "RequestTimeTooSkewed": ErrorCode(Kind.CREDENTIALS, "Check the machine's clock."),
    # Somebody has to change something.
    "AccessDeniedException": ErrorCode(
        Kind.FATAL, "The role needs personalize:PutEvents on the event tracker's dataset group."
    ),
    "AccessDenied": ErrorCode(
        Kind.FATAL, "The role needs personalize:PutEvents on the event tracker's dataset group."
    ),
    "NotAuthorized": ErrorCode(
        Kind.FATAL, "The role needs personalize:PutEvents on the event tracker's dataset group."
    ),
    "OptInRequired": ErrorCode(
        Kind.FATAL, "Enable Amazon Personalize for this account and region."
    ),
    "ResourceNotFoundException": ErrorCode(Kind.FATAL, _CHECK_TRACKER),
    "UnknownOperationException": ErrorCode(
        Kind.FATAL, "Check the endpoint URL: what answers there does not know PutEvents."
    ),
    "InvalidAction": ErrorCode(
        Kind.FATAL, "Check the endpoint URL: what answers there does not know PutEvents."
    ),
}

_SOUNDS_LIKE_THROTTLING: Final = ("Throttl", "TooManyRequests", "SlowDown")
_TRACKING_ID: Final = ("tracking id", "trackingid", "event tracker")


def classify(answer: Answer | NoAnswer, advice: Mapping[str, str] | None = None) -> Verdict:
    """The meaning of an answer to a whole call; the table and its exceptions are above.

    `advice`, by error code, is given instead of the table's, which is about PutEvents.

    One look at the message, since the code cannot tell: PutEvents models a single error, so a wrong
    tracking id may come as InvalidInputException. It concerns every record, and would otherwise
    send the whole stream to the dead letters, one by one.
    """
    if isinstance(answer, NoAnswer):
        return Retry(reason=answer.reason)
    if answer.status < 300:
        return DELIVERED
    code, message = answer.code, answer.message
    if code is None:
        return _without_code(answer)
    known = ERROR_CODES.get(code)
    kind = known.kind if known else _kind_of_unknown(answer, code)
    next_step = (advice or {}).get(code, known.advice if known else "")
    if kind is Kind.REJECTED:
        if code == "InvalidInputException" and any(
            text in message.lower() for text in _TRACKING_ID
        ):
            return Fatal(code, _for_people(message, _CHECK_TRACKER))
        return Rejected(code, message, whole_call=True)
    if kind is Kind.FATAL:
        return Fatal(code, _for_people(message, next_step))
    if kind is Kind.CREDENTIALS:
        return CredentialsRefused(Fatal(code, _for_people(message, next_step)))
    reason = f"{code}: {message}" if message else code
    return Retry(answer.retry_after, throttled=kind is Kind.THROTTLED, reason=reason)


def _kind_of_unknown(answer: Answer, code: str) -> Kind:
    if any(text in code for text in _SOUNDS_LIKE_THROTTLING):
        return Kind.THROTTLED
    return Kind.RETRY if answer.status >= 500 else Kind.REJECTED


def _without_code(answer: Answer) -> Verdict:
    status = answer.status
    if status >= 500 or status in (408, 429):
        return Retry(answer.retry_after, throttled=status == 429, reason=f"HTTP status {status}")
    return Fatal(
        "NotPersonalize",
        f"HTTP status {status} without an error code, which is not how Personalize answers. "
        "Check the endpoint URL and any proxy on the way to it.",
    )


def _for_people(message: str, advice: str) -> str:
    said = message.strip().rstrip(".")
    return f"{said}. {advice}" if said else advice
