"""Error codes that all AWS services share, and how a code becomes a verdict. Data and a function.

By the error *code*: some services throttle with HTTP status 400, so a status alone is not enough.
Only for a code that is not in the table does the status decide::

    no code, 5xx or 408                a proxy or load balancer in trouble       retry
    no code, 429                       the same, throttling                      retry, throttled
    no code, any other                 another program than the service          fatal
    unknown code, 5xx                  the service's fault                       retry
    unknown code like throttling       "Throttl", "TooManyRequests", "SlowDown"  retry, throttled
    unknown code, 4xx                  ours: bisected to find the record         rejected

A rejected record can be replayed from the dead letters; a stop would let one record halt the
stream. Codes are from the common errors of the services' API references and those that botocore's
retry handlers know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from connectors.delivery import Delivered, Fatal, Rejected, Retry
from connectors.delivery.outcomes import DELIVERED
from connectors.http import Answer


@dataclass(frozen=True, slots=True)
class CredentialsRefused:
    """The signature was not accepted; newer credentials may be.

    ``fatal`` is the outcome when these are rejected, too.
    """

    fatal: Fatal


Verdict: TypeAlias = Delivered | Retry | Rejected | Fatal | CredentialsRefused


class Kind(Enum):
    """The reaction to an error code."""

    THROTTLED = "send again, slower"
    RETRY = "send again"
    REJECTED = "a record is bad: find it, reject it"
    CREDENTIALS = "renew the credentials and send again; stop when that does not help"
    FATAL = "stop: a person has to act"


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """`advice`: what the reader of a fatal message should do next."""

    kind: Kind
    advice: str = ""


THROTTLED_CODES: Final = (
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "SlowDown",
)

# The service's trouble, or the network's.
FAILED_CODES: Final = (
    "InternalFailure",
    "InternalServerError",
    "InternalServerException",
    "InternalServiceException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "RequestTimeout",
    "RequestTimeoutException",
)

TRANSIENT_CODES: Final = frozenset((*THROTTLED_CODES, *FAILED_CODES))
"""Codes of a call of any service that succeeds when it is repeated later."""

# A bad record among those of the call; the service does not name it.
_REJECTED: Final = (
    "InvalidParameterValue",
    "InvalidParameterCombination",
    "MissingParameter",
    "ValidationError",
    "ValidationException",
    "SerializationException",
    "RequestEntityTooLarge",
)

# Temporary credentials expire while the job runs; expired static ones are fatal.
# UnrecognizedClientException is also what a rotated key looks like until the new one is read.
_CREDENTIALS: Final = (
    "ExpiredToken",
    "ExpiredTokenException",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
)

_SIGNATURE: Final = ("InvalidSignatureException", "SignatureDoesNotMatch")

# A signature is valid for some minutes: a delayed call may be late once, a wrong clock always.
_TIME: Final = ("RequestExpired", "RequestTimeTooSkewed")

CREDENTIAL_CODES: Final = frozenset((*_CREDENTIALS, *_SIGNATURE, *_TIME))
"""Codes of a call that succeeds with credentials that are read again, or a moment later."""

_FORBIDDEN: Final = ("AccessDeniedException", "AccessDenied", "NotAuthorized")

_UNKNOWN_OPERATION: Final = ("UnknownOperationException", "InvalidAction")


def common_error_codes(
    *, service: str, operation: str, target: str, permission: str
) -> dict[str, ErrorCode]:
    """The codes of any service, with advice for this one.

    `service` and `operation` are their names; `target` is what the operation writes to, in words;
    `permission` is what the role needs, such as `firehose:PutRecordBatch on the stream`.
    """
    credentials = (
        "Check which credentials the process finds (environment, profile, role of the application) "
        f"and that they belong to the account and region of the {target}."
    )
    advice: tuple[tuple[tuple[str, ...], ErrorCode], ...] = (
        # Of a call that writes records it is their rate; of one that creates something, a quota.
        ((*THROTTLED_CODES, "LimitExceededException"), ErrorCode(Kind.THROTTLED)),
        (FAILED_CODES, ErrorCode(Kind.RETRY)),
        (_REJECTED, ErrorCode(Kind.REJECTED)),
        (_CREDENTIALS, ErrorCode(Kind.CREDENTIALS, credentials)),
        (
            _SIGNATURE,
            ErrorCode(Kind.CREDENTIALS, credentials + " Check the machine's clock, too."),
        ),
        (_TIME, ErrorCode(Kind.CREDENTIALS, "Check the machine's clock.")),
        (_FORBIDDEN, ErrorCode(Kind.FATAL, f"The role needs {permission}.")),
        (
            ("OptInRequired",),
            ErrorCode(Kind.FATAL, f"Enable {service} for this account and region."),
        ),
        (
            _UNKNOWN_OPERATION,
            ErrorCode(
                Kind.FATAL,
                f"Check the endpoint URL: what answers there has no operation {operation}.",
            ),
        ),
    )
    return {code: meaning for codes, meaning in advice for code in codes}


_LIKE_THROTTLING: Final = ("Throttl", "TooManyRequests", "SlowDown")


def is_like_throttling(code: str) -> bool:
    """Whether a code that is in no table is one of throttling."""
    return any(text in code for text in _LIKE_THROTTLING)


def verdict(answer: Answer, codes: Mapping[str, ErrorCode], service: str) -> Verdict:
    """The verdict on an answer to a whole call, by the tables above.

    `service` is the short name, for the message that another program answered.
    """
    if answer.status < 300:
        return DELIVERED
    code, message = answer.code, answer.message
    if code is None:
        return _without_code(answer, service)
    known = codes.get(code)
    kind, advice = (known.kind, known.advice) if known else (_kind_of_unknown(answer, code), "")
    if kind is Kind.REJECTED:
        return Rejected(code, message, whole_call=True)
    if kind is Kind.FATAL:
        return Fatal(code, with_advice(message, advice))
    if kind is Kind.CREDENTIALS:
        return CredentialsRefused(Fatal(code, with_advice(message, advice)))
    reason = f"{code}: {message}" if message else code
    return Retry(answer.retry_after, throttled=kind is Kind.THROTTLED, reason=reason)


def with_advice(message: str, advice: str) -> str:
    """The service's message, then what to do next."""
    text = message.strip().rstrip(".")
    return f"{text}. {advice}" if text else advice


def _kind_of_unknown(answer: Answer, code: str) -> Kind:
    if is_like_throttling(code):
        return Kind.THROTTLED
    return Kind.RETRY if answer.status >= 500 else Kind.REJECTED


def _without_code(answer: Answer, service: str) -> Verdict:
    status = answer.status
    if status >= 500 or status in (408, 429):
        return Retry(answer.retry_after, throttled=status == 429, reason=f"HTTP status {status}")
    return Fatal(
        f"Not{service}",
        f"HTTP status {status} without an error code, which is not how {service} answers. "
        "Check the endpoint URL and any proxy on the way to it.",
    )
