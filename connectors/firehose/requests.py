"""Documents as records of PutRecordBatch, and every limit of PutRecordBatch.

Pure. "Model" below is the service model `firehose/2015-08-04`; "API" is the documentation of
PutRecordBatch in it; "Guide" is the Amazon Data Firehose Developer Guide.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connectors.delivery import Rejected
from connectors.documents import json_line

MAX_RECORDS_PER_CALL: Final = 500  # Model: PutRecordBatchRequestEntryList
MAX_RECORD_BYTES: Final = 1_024_000  # Model: Data; API: 1,000 KB "before base64 encoding"
MAX_CALL_BYTES: Final = 4 * 1024 * 1024  # API: "4 MB for the entire request"
CALLS_PER_SECOND: Final = 1_000.0
"""Guide, quota: requests/second of a stream with Direct PUT, in the regions that have the least
(2,000 in us-east-1, us-west-2 and eu-west-1); adjustable."""

BYTES_PER_SECOND: Final = 5 * 1024 * 1024
"""Guide, quota: bytes/second of a stream with Direct PUT in us-east-1, us-west-2 and eu-west-1 (1
MiB in the others); adjustable."""

STREAM_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")  # Model: DeliveryStreamName

MAX_ENTRIES_BYTES: Final = MAX_CALL_BYTES - 128
"""What all records of a call may have together: the call less what is around them, the longest name
of a stream included."""


@dataclass(frozen=True, slots=True)
class FirehoseRecord:
    """One document, converted and checked: its entry in the body of a call."""

    entry: bytes

    @property
    def size(self) -> int:
        """Bytes that it adds to a call, with the comma before the next one.

        The API does not say whether its 4 MB are before or after base64; what goes over the wire is
        the larger of the two, and within the limit either way.
        """
        return len(self.entry) + 1


def firehose_record(document: Mapping[str, Any]) -> FirehoseRecord | Rejected:
    """The record to send for a document, or why Firehose would reject it.

    One line of JSON with its end: Firehose concatenates the records of an object without
    separators.
    """
    line = json_line(document)
    if isinstance(line, Rejected):
        return line
    size = len(line) + 1
    if size > MAX_RECORD_BYTES:
        return Rejected(
            "RecordTooLarge",
            f"{size} bytes as a line of JSON; at most {MAX_RECORD_BYTES} are allowed",
        )
    return FirehoseRecord(b'{"Data":"' + b64encode(line + b"\n") + b'"}')


def put_record_batch_body(stream_name: str, records: Sequence[FirehoseRecord]) -> bytes:
    """The body of one PutRecordBatch call; 1 to 500 records."""
    if not 1 <= len(records) <= MAX_RECORDS_PER_CALL:
        raise ValueError(
            f"{len(records)} records; a PutRecordBatch call takes 1 to {MAX_RECORDS_PER_CALL}"
        )
    entries = b",".join([record.entry for record in records])
    name = json.dumps(stream_name).encode()
    return b'{"DeliveryStreamName":' + name + b',"Records":[' + entries + b"]}"
