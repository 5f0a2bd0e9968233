"""`_bulk` as a destination of the sink engine."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from connectors.aws import ClassifiedCalls, JsonClient
from connectors.delivery import Delivered, Limits, Outcome, Rejected
from connectors.opensearch.classification import bulk_outcomes, classify
from connectors.opensearch.client import opensearch_client
from connectors.opensearch.documents import BulkEntry, Convert, bulk_body, event_entry, trend_entry
from connectors.opensearch.settings import Documents, OpenSearchSettings

PATH: Final = (
    "/_bulk?filter_path=errors%2Citems.%2A.status%2Citems.%2A.error.type%2Citems.%2A.error.reason"
)
"""The answer has only what is read of it: a tenth of its full size."""

CONVERT: Final[dict[Documents, Convert]] = {"events": event_entry, "trends": trend_entry}


class OpenSearchDestination:
    """Many documents a call, each with its own outcome.

    Documents with a version keep their order by id; those without have no order.
    """

    def __init__(self, client: JsonClient, settings: OpenSearchSettings) -> None:
        self._calls = ClassifiedCalls(
            client, partial(classify, signed=settings.authentication == "aws")
        )
        self._name = f"OpenSearch ({settings.documents})"
        self._convert = CONVERT[settings.documents]
        self._limits = Limits(
            max_records=settings.documents_per_call,
            max_bytes=settings.bytes_per_call,
            max_record_bytes=settings.bytes_per_call,
            max_in_flight=settings.max_in_flight,
            calls_per_second=settings.calls_per_second,
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def limits(self) -> Limits:
        return self._limits

    def prepare(self, record: Mapping[str, Any]) -> BulkEntry | Rejected:
        return self._convert(record)

    def batch_key(self, entry: BulkEntry) -> Hashable:
        return None

    def order_key(self, entry: BulkEntry) -> Hashable | None:
        return None if entry.version is None else entry.id

    def size(self, entry: BulkEntry) -> int:
        return len(entry.lines)

    async def send(self, batch: Sequence[BulkEntry]) -> Sequence[Outcome]:
        outcome, answer = await self._calls.post(PATH, bulk_body(batch))
        if isinstance(outcome, Delivered):
            return bulk_outcomes(answer, [entry.version is not None for entry in batch])
        return [outcome] * len(batch)

    async def close(self) -> None:
        await self._calls.close()


def opensearch_destination(settings: OpenSearchSettings) -> OpenSearchDestination:
    """The destination for settings. Opens nothing yet."""
    return OpenSearchDestination(opensearch_client(settings), settings)
