"""The outcome of the records of a call by Firehose's answer.

Codes that all AWS services share, and rules for codes in no table, are in
`connectors.aws.classification`; here are those that the service model has for PutRecordBatch.

A call that succeeds may have failed in part: the answer has an entry for each record, in the order
of the call, with a RecordId or an ErrorCode. "ErrorCode reflects the type of error, and is one of
the following values: ServiceUnavailableException or InternalFailure" (API); only those records are
sent again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from connectors.aws.classification import (
    ErrorCode,
    Kind,
    Verdict,
    common_error_codes,
    is_like_throttling,
    verdict,
    with_advice,
)
from connectors.delivery import Fatal, Outcome, Rejected, Retry
from connectors.delivery.outcomes import DELIVERED
from connectors.http import MAX_MESSAGE_CHARS, Answer, NoAnswer

_CHECK_STREAM: Final = (
    "Check the stream's name and the region, and that the stream exists and is ACTIVE "
    "(aws firehose describe-delivery-stream)."
)
_CHECK_SOURCE: Final = (
    "Use a stream whose source is Direct PUT, without decompression of CloudWatch Logs."
)

ERROR_CODES: Final[dict[str, ErrorCode]] = {
    **common_error_codes(
        service="Amazon Data Firehose",
        operation="PutRecordBatch",
        target="stream",
        permission="firehose:PutRecordBatch on the stream",
    ),
    # Firehose's only code for an exceeded quota of the stream, whether of
    # requests, records or bytes (Model: "throughput limits for the Firehose stream may have been
    # exceeded"); a service in trouble is helped by a slower pace, too.
    "ServiceUnavailableException": ErrorCode(Kind.THROTTLED),
    "InvalidArgumentException": ErrorCode(Kind.REJECTED),
    # The stream is being created or changed.
    "ResourceInUseException": ErrorCode(Kind.RETRY),
    "ConcurrentModificationException": ErrorCode(Kind.RETRY),
    # A person has to change something.
    "ResourceNotFoundException": ErrorCode(Kind.FATAL, _CHECK_STREAM),
    # "Only requests from CloudWatch Logs are supported when CloudWatch Logs decompression is
    # enabled" (Model): it is the stream that is wrong, for every record.
    "InvalidSourceException": ErrorCode(Kind.FATAL, _CHECK_SOURCE),
    # The key is disabled, deleted, or may not be used (Model).
    "InvalidKMSResourceException": ErrorCode(
        Kind.FATAL,
        "Check the stream's KMS key: that it is enabled, and that the stream may use it.",
    ),
}

_WRONG_STREAM: Final = "not permitted on"


def classify(answer: Answer | NoAnswer) -> Verdict:
    """The verdict on an answer to a whole PutRecordBatch call; after Delivered, each record has an
    outcome of its own.

    The message counts in one case: a stream that reads from Kinesis or Kafka refuses every call
    with InvalidArgumentException ("This operation is not permitted on KinesisStreamAsSource
    delivery stream type.", aws/aws-cli issue 7010). That concerns every record, and would otherwise
    send the whole stream to the dead letters, one by one.
    """
    if isinstance(answer, NoAnswer):
        return Retry(reason=answer.reason)
    if answer.code == "InvalidArgumentException" and _WRONG_STREAM in answer.message:
        return Fatal(answer.code, with_advice(answer.message, _CHECK_SOURCE))
    return verdict(answer, ERROR_CODES, "Firehose")


def record_outcomes(body: bytes, records: int) -> Sequence[Outcome]:
    """The outcome of each record of a call that succeeded, by the body of the answer."""
    try:
        answer = json.loads(body)
        entries = answer["RequestResponses"]
        if not answer["FailedPutCount"] and len(entries) == records:
            return [DELIVERED] * records
        if len(entries) == records:
            return [_record_outcome(entry) for entry in entries]
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    stop = Fatal(
        "NotFirehose",
        "The answer does not have an entry for each record, which is not how Firehose answers. "
        "Check the endpoint URL and any proxy on the way to it.",
    )
    return [stop] * records


def _record_outcome(entry: Mapping[str, Any]) -> Outcome:
    code = entry.get("ErrorCode")
    if code is None:
        return DELIVERED
    message = str(entry.get("ErrorMessage") or "")[:MAX_MESSAGE_CHARS]
    known = ERROR_CODES.get(code)
    if known is not None and known.kind is Kind.REJECTED:
        return Rejected(code, message or "rejected without a reason")
    if known is not None and known.kind is Kind.FATAL:
        return Fatal(code, with_advice(message, known.advice))
    # The call was accepted and the record was not: the API says to send such records again.
    throttled = known.kind is Kind.THROTTLED if known else is_like_throttling(code)
    return Retry(throttled=throttled, reason=f"{code}: {message}" if message else code)
