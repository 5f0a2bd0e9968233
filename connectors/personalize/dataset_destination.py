"""PutUsers and PutItems as destinations of the sink engine."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from connectors.aws import ClassifiedCalls, JsonClient
from connectors.delivery import Limits, Outcome, Rejected, Version
from connectors.personalize.classification import classify, error_codes
from connectors.personalize.client import events_client
from connectors.personalize.datasets import (
    CALLS_PER_SECOND,
    ITEMS,
    MAX_RECORDS_PER_CALL,
    USERS,
    Dataset,
    DatasetEntry,
    DatasetField,
    DatasetRecord,
    DatasetRequests,
    dataset_fields,
    put_records_body,
)
from schemas.errors import SettingError
from schemas.model import Contracts, load_contracts
from schemas.settings import check_positive

MAX_ARN_LENGTH: Final = 256  # Model: Arn
_ARN: Final = re.compile(r"arn:([a-z\d-]+):personalize:.*:.*:.+", re.ASCII)  # Model: Arn


@dataclass(frozen=True, slots=True)
class PutDatasetSettings:
    """Target and pace of PutUsers or PutItems.

    dataset_arn          of the Users or the Items dataset
    region               also names the endpoint, unless endpoint_url does
    endpoint_url         such as the emulator's; None: the service's own
    calls_per_second     the quota of the dataset group for this operation
    max_in_flight        calls under way, and connections: enough for a second a call at the quota
    request_timeout      seconds for one call
    """

    dataset_arn: str
    region: str
    endpoint_url: str | None = None
    calls_per_second: float = CALLS_PER_SECOND
    max_in_flight: int = 10
    request_timeout: float = 10.0

    def __post_init__(self) -> None:
        if not _ARN.fullmatch(self.dataset_arn) or len(self.dataset_arn) > MAX_ARN_LENGTH:
            expected = "arn:aws:personalize:REGION:ACCOUNT:dataset/DATASET_GROUP/ITEMS or .../USERS"
            raise SettingError("dataset_arn", self.dataset_arn, expected)
        check_positive(self, "request_timeout")


class PutRecordsDestination:
    """Up to ten users or items a call; of each only the newest version.

    The id is the order key: no two calls at a time carry versions of one record, and while versions
    of it wait only the newest is sent (`Replacing`).
    """

    def __init__(
        self,
        client: JsonClient,
        dataset: Dataset,
        settings: PutDatasetSettings,
        fields: Sequence[DatasetField],
    ) -> None:
        codes = error_codes(
            dataset.operation,
            "dataset",
            f"personalize:{dataset.operation} on the dataset",
            "Check the dataset ARN and the region, and that the dataset exists and is ACTIVE "
            "(aws personalize list-datasets).",
        )
        self._calls = ClassifiedCalls(client, partial(classify, codes=codes))
        self._dataset = dataset
        self._dataset_arn = settings.dataset_arn
        self._requests = DatasetRequests(dataset, fields)
        largest = self._requests.max_record_bytes
        self._limits = Limits(
            max_records=MAX_RECORDS_PER_CALL,
            max_bytes=MAX_RECORDS_PER_CALL * largest,
            max_record_bytes=largest,
            max_in_flight=settings.max_in_flight,
            calls_per_second=settings.calls_per_second,
        )

    @property
    def name(self) -> str:
        return f"Amazon Personalize ({self._dataset.operation})"

    @property
    def limits(self) -> Limits:
        return self._limits

    def prepare(self, record: DatasetRecord) -> DatasetEntry | Rejected:
        return self._requests.convert(record)

    def batch_key(self, entry: DatasetEntry) -> Hashable:
        return self._dataset_arn

    def order_key(self, entry: DatasetEntry) -> Hashable:
        return entry.id

    def version(self, entry: DatasetEntry) -> Version:
        return entry.version

    def size(self, entry: DatasetEntry) -> int:
        return entry.size

    async def send(self, batch: Sequence[DatasetEntry]) -> Sequence[Outcome]:
        body = put_records_body(self._dataset, self._dataset_arn, batch)
        outcome, _ = await self._calls.post(self._dataset.path, body)
        return [outcome] * len(batch)

    async def close(self) -> None:
        await self._calls.close()


def put_users_destination(
    settings: PutDatasetSettings, contracts: Contracts | None = None
) -> PutRecordsDestination:
    """PutUsers for settings, with botocore's credential chain. Opens nothing yet.

    `contracts`: where the fields come from, those of the mesh if None. Raises ValueError for the
    ARN of another dataset.
    """
    return _destination(USERS, settings, contracts)


def put_items_destination(
    settings: PutDatasetSettings, contracts: Contracts | None = None
) -> PutRecordsDestination:
    """PutItems for settings, as `put_users_destination`."""
    return _destination(ITEMS, settings, contracts)


def _destination(
    dataset: Dataset, settings: PutDatasetSettings, contracts: Contracts | None
) -> PutRecordsDestination:
    if not settings.dataset_arn.endswith(dataset.arn_ending):
        # The service would reject every record of the stream.
        expected = f"one that ends in {dataset.arn_ending}"
        raise SettingError(f"dataset_arn of {dataset.operation}", settings.dataset_arn, expected)
    client = events_client(
        settings.region, settings.endpoint_url, settings.max_in_flight, settings.request_timeout
    )
    fields = dataset_fields(contracts or load_contracts(), dataset)
    return PutRecordsDestination(client, dataset, settings, fields)
