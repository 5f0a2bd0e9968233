"""PutRecordBatch as a destination of the sink engine."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connectors.aws import (
    BotocoreCredentials,
    ClassifiedCalls,
    JsonClient,
    SignedJsonClient,
    service_endpoint,
)
from connectors.aws.client import json_target
from connectors.delivery import Delivered, Limits, Outcome, Rejected
from connectors.firehose.classification import classify, record_outcomes
from connectors.firehose.requests import (
    BYTES_PER_SECOND,
    CALLS_PER_SECOND,
    MAX_ENTRIES_BYTES,
    MAX_RECORDS_PER_CALL,
    STREAM_NAME,
    FirehoseRecord,
    firehose_record,
    put_record_batch_body,
)
from schemas.errors import SettingError
from schemas.settings import check_positive

SIGNING_NAME: Final = "firehose"
TARGET: Final = "Firehose_20150804.PutRecordBatch"
_PATH: Final = "/"


@dataclass(frozen=True, slots=True)
class FirehoseSettings:
    """Target and pace of PutRecordBatch.

    stream_name          of the Firehose stream, whose source is Direct PUT
    region               also names the endpoint, unless endpoint_url does
    endpoint_url         such as moto's; None: the service's own
    calls_per_second     the stream's quota of requests, or less
    bytes_per_second     its quota of bytes, before base64; binds first when calls are full
    records_per_call     at most 500
    max_in_flight        calls under way, and connections
    request_timeout      seconds for one call of up to 4 MiB
    """

    stream_name: str
    region: str
    endpoint_url: str | None = None
    calls_per_second: float = CALLS_PER_SECOND
    bytes_per_second: int = BYTES_PER_SECOND
    records_per_call: int = MAX_RECORDS_PER_CALL
    max_in_flight: int = 16
    request_timeout: float = 20.0

    def __post_init__(self) -> None:
        if not STREAM_NAME.fullmatch(self.stream_name):
            expected = "1 to 64 letters, digits, '_', '.' or '-'"
            raise SettingError("stream_name", self.stream_name, expected)
        check_positive(self, "records_per_call", high=MAX_RECORDS_PER_CALL)
        check_positive(self, "request_timeout")


class FirehoseDestination:
    """Up to 500 documents a call, in no particular order; each has its own outcome."""

    def __init__(self, client: JsonClient, settings: FirehoseSettings) -> None:
        self._calls = ClassifiedCalls(client, classify)
        self._stream_name = settings.stream_name
        self._limits = Limits(
            max_records=settings.records_per_call,
            max_bytes=MAX_ENTRIES_BYTES,
            # `firehose_record` has the limit of a record, which is before base64.
            max_record_bytes=MAX_ENTRIES_BYTES,
            max_in_flight=settings.max_in_flight,
            calls_per_second=settings.calls_per_second,
            # Entries are in base64, four characters for three bytes.
            bytes_per_second=settings.bytes_per_second * 4 // 3,
        )

    @property
    def name(self) -> str:
        return "Amazon Data Firehose"

    @property
    def limits(self) -> Limits:
        return self._limits

    def prepare(self, record: Mapping[str, Any]) -> FirehoseRecord | Rejected:
        return firehose_record(record)

    def batch_key(self, entry: FirehoseRecord) -> Hashable:
        return None

    def order_key(self, entry: FirehoseRecord) -> Hashable | None:
        return None

    def size(self, entry: FirehoseRecord) -> int:
        return entry.size

    async def send(self, batch: Sequence[FirehoseRecord]) -> Sequence[Outcome]:
        body = put_record_batch_body(self._stream_name, batch)
        outcome, answer = await self._calls.post(_PATH, body)
        if isinstance(outcome, Delivered):
            return record_outcomes(answer, len(batch))
        return [outcome] * len(batch)

    async def close(self) -> None:
        await self._calls.close()


def firehose_destination(settings: FirehoseSettings) -> FirehoseDestination:
    """The destination for settings, with botocore's credential chain. Opens nothing yet."""
    client = SignedJsonClient(
        endpoint_url=settings.endpoint_url or service_endpoint("firehose", settings.region),
        region=settings.region,
        signing_name=SIGNING_NAME,
        credentials=BotocoreCredentials(),
        connections=settings.max_in_flight,
        request_timeout=settings.request_timeout,
        headers=json_target(TARGET),
    )
    return FirehoseDestination(client, settings)
