"""The sink engine inside Flink: delivers a micro-batch and returns what it leaves behind.

Flink calls it on a task thread and waits; the engine runs on an asyncio loop thread of its own, one
engine a destination and worker process, shared by all its task threads, so that the bounds (calls
in flight, rate) hold for the worker as a whole.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pyflink.table import DataTypes, FunctionContext

from connectors.delivery import DeliveryEngine, DeliverySettings, Destination, Rejected
from connectors.firehose import FirehoseSettings, firehose_destination
from connectors.flink.internals.gauges import Gauges
from connectors.flink.internals.java_task import is_task_cancelled
from connectors.glue.registry import GlueRegistry
from connectors.opensearch import OpenSearchSettings, opensearch_destination
from connectors.personalize import (
    PutDatasetSettings,
    PutEventsSettings,
    put_events_destination,
    put_items_destination,
    put_users_destination,
)
from jobs.decode import DatasetDecoder, Deletion, DimensionDecoder
from jobs.decode_functions import RegistryFunction, now_ms, schema_ids
from jobs.metrics import engine_values, letter_values
from jobs.micro_batch.pieces import result, unpack
from jobs.settings import AnalyticsSettings, RecommendationsSettings, RegistrySettings
from jobs.worker import Shared
from schemas.codec import Decoder, Encoder
from schemas.dead_letter import DeadLetters, SourceRecord, Step
from schemas.invalid import InvalidRecord
from schemas.model import Contracts, Role

T = TypeVar("T")

RESULTS = DataTypes.ARRAY(DataTypes.STRING())
"""What a batch leaves behind, each a text of :func:`jobs.micro_batch.pieces.result`."""

CANCEL_POLL_SECONDS = 0.5


class JobCancelled(Exception):
    """Flink ends the task while a batch is on its way; the batch will be read again."""


class Deliver(RegistryFunction):
    """Delivers the records of a role's topics to one destination; a subclass says which.

    Returns when each record is accepted, rejected or replaced by a newer one.
    """

    service = ""
    """In front of the service's error code in a dead letter."""

    _gauges: Gauges | None = None

    @property
    def name(self) -> str:
        """The function's name in the SQL, and in its metrics."""
        raise NotImplementedError

    def __init__(
        self,
        role: Role,
        settings: Any,
        registry: RegistrySettings,
        extra_contracts: tuple[Path, ...],
    ) -> None:
        super().__init__(registry, extra_contracts)
        self._role = role
        self._settings = settings

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry and take part in the worker's engine."""
        contracts, registry = self.connect()
        version_id = registry.version_id(contracts.only(Role.DEAD_LETTER))
        self._decode_letters = DeadLetters(contracts, version_id, Step.DECODE, now_ms)
        self._deliver_letters = DeadLetters(contracts, version_id, Step.DELIVER, now_ms)
        self.prepare(contracts, registry)
        self._engine = ENGINES.get(
            (type(self).__name__, self._role, self._settings),
            lambda: EngineThread(lambda: self.destination(contracts), 1 / self._settings.workers),
        )
        self._engine.join(self)
        self._gauges = Gauges(self.name, self._metrics, function_context)

    def close(self) -> None:
        """Leave the worker's engine to the others."""
        if self._gauges is not None:
            self._gauges.close()
            self._engine.leave(self)

    def _metrics(self) -> dict[str, int]:
        letters = letter_values((self._decode_letters.counts, self._deliver_letters.counts))
        return {**self._engine.metrics(self), **letters}

    def prepare(self, contracts: Contracts, registry: GlueRegistry) -> None:
        """Make what :meth:`decode` needs."""
        self._decoder: Any = Decoder(contracts.only(self._role), registry)

    def decode(self, source: SourceRecord) -> Any:
        """The record for the engine, a text to return instead, or None to pass over it.

        Raises InvalidRecord.
        """
        return self._decoder.decode(source.payload)

    def destination(self, contracts: Contracts) -> Destination[Any, Any]:
        """Where the records go."""
        raise NotImplementedError

    def eval(self, batch: str) -> list[str]:
        """Deliver a batch; blocks until every record has its outcome."""
        results: list[str] = []
        sources: list[SourceRecord] = []
        records: list[Any] = []
        for source in unpack(batch):
            try:
                record = self.decode(source)
            except InvalidRecord as error:
                letter = self._decode_letters.encode(source, error.reason, error.message)
                results.append(result("dead_letters", source.key, letter))
                continue
            if isinstance(record, str):
                results.append(record)
            elif record is not None:
                records.append(record)
                sources.append(source)
        outcomes = self._engine.deliver(records)
        for source, record, outcome in zip(sources, records, outcomes, strict=True):
            if isinstance(outcome, Rejected):
                event_id = record.get("event_id") if isinstance(record, dict) else None
                code = f"{self.service}.{outcome.code}"
                letter = self._deliver_letters.encode(source, code, outcome.message, event_id)
                results.append(result("dead_letters", source.key, letter))
        if results and self._gauges is not None:
            self._gauges.grow()
        return results


class DeliverEvents(Deliver):
    """Delivers enriched interactions by PutEvents."""

    service = "personalize"
    _settings: RecommendationsSettings

    @property
    def name(self) -> str:
        """Of the function in the SQL."""
        return "deliver_events"

    def decode(self, source: SourceRecord) -> Any:
        """The event; None for one that an import has brought."""
        record = super().decode(source)
        until = self._settings.imported_until
        return None if until is not None and record["published_at"] < until else record

    def destination(self, contracts: Contracts) -> Destination[Any, Any]:
        """PutEvents."""
        settings = self._settings
        return put_events_destination(
            PutEventsSettings(
                tracking_id=settings.tracking_id,
                region=settings.region,
                endpoint_url=settings.endpoint_url,
                calls_per_second=settings.calls_per_second,
                max_in_flight=settings.max_in_flight,
            )
        )


class DeliverDataset(Deliver):
    """Delivers users by PutUsers or items by PutItems; a deletion goes to the list of them."""

    service = "personalize"
    _settings: RecommendationsSettings

    @property
    def name(self) -> str:
        """Of the function in the SQL."""
        return "deliver_users" if self._role is Role.USER else "deliver_items"

    def prepare(self, contracts: Contracts, registry: GlueRegistry) -> None:
        """The decoder of the role's topics, and the encoder of deletions."""
        decode = DimensionDecoder(
            contracts, self._role, registry, schema_ids(registry, contracts), now_ms
        )
        self._decoder = DatasetDecoder(contracts, self._role, decode)
        deletions = contracts.only(Role.DELETION)
        self._encoder = Encoder(deletions, registry.version_id(deletions))

    def decode(self, source: SourceRecord) -> Any:
        """The version of a user or item, or the text of a deletion."""
        record = self._decoder(source)
        if isinstance(record, Deletion):
            value = self._encoder.encode(record._asdict())
            return result("deletions", record.id.encode(), value)
        return record

    def destination(self, contracts: Contracts) -> Destination[Any, Any]:
        """PutUsers or PutItems."""
        settings, user = self._settings, self._role is Role.USER
        make = put_users_destination if user else put_items_destination
        return make(
            PutDatasetSettings(
                dataset_arn=settings.users_dataset_arn if user else settings.items_dataset_arn,
                region=settings.region,
                endpoint_url=settings.endpoint_url,
                calls_per_second=settings.dataset_calls_per_second,
            ),
            contracts,
        )


class ArchiveEvents(Deliver):
    """Delivers enriched interactions to Firehose."""

    service = "firehose"
    _settings: AnalyticsSettings

    @property
    def name(self) -> str:
        """Of the function in the SQL."""
        return "archive_events"

    def destination(self, contracts: Contracts) -> Destination[Any, Any]:
        """PutRecordBatch."""
        settings = self._settings
        return firehose_destination(
            FirehoseSettings(
                stream_name=settings.stream_name,
                region=settings.region,
                endpoint_url=settings.firehose_url,
                calls_per_second=settings.firehose_calls_per_second,
                bytes_per_second=settings.firehose_bytes_per_second,
            )
        )


def opensearch_settings(settings: AnalyticsSettings, role: Role) -> OpenSearchSettings:
    """OpenSearch for the documents of a role: enriched interactions, or trends."""
    return OpenSearchSettings(
        endpoint_url=settings.opensearch_url,
        documents="events" if role is Role.ENRICHED else "trends",
        authentication=settings.authentication,
        region=settings.region,
        calls_per_second=settings.opensearch_calls_per_second,
    )


class IndexDocuments(Deliver):
    """Delivers enriched interactions or trends to OpenSearch."""

    service = "opensearch"
    _settings: AnalyticsSettings

    @property
    def name(self) -> str:
        """Of the function in the SQL."""
        return "index_events" if self._role is Role.ENRICHED else "index_trends"

    def destination(self, contracts: Contracts) -> Destination[Any, Any]:
        """Bulk calls."""
        return opensearch_destination(opensearch_settings(self._settings, self._role))


class EngineThread:
    """A sink engine on an asyncio thread of its own."""

    def __init__(self, destination: Callable[[], Destination[Any, Any]], quota_share: float):
        self._functions: list[object] = []
        self._before: dict[str, float] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="delivery", daemon=True).start()
        self._engine: DeliveryEngine[Any, Any] = self._run(self._make(destination, quota_share))

    def deliver(self, records: Sequence[Any]) -> Sequence[Any]:
        """The outcome of each record; blocks. Raises FatalDeliveryError, JobCancelled."""
        return self._run(self._engine.deliver(records)) if records else ()

    def join(self, function: object) -> None:
        """One more function delivers by this engine; the first one starts its counters anew."""
        if not self._functions:
            self._before = self._snapshot()
        self._functions.append(function)

    def leave(self, function: object) -> None:
        """The function has closed."""
        if function in self._functions:
            self._functions.remove(function)

    def metrics(self, function: object) -> dict[str, int]:
        """What the function shows of the engine (:data:`jobs.metrics.DELIVERY`).

        The first of several functions shows all, the others zeros, so that a sum counts nothing
        twice. Runs on any thread.
        """
        shown = function in self._functions[:1]
        return engine_values(self._snapshot(), self._before, shown=shown)

    def _snapshot(self) -> dict[str, float]:
        async def take() -> dict[str, float]:
            return self._engine.snapshot()

        return asyncio.run_coroutine_threadsafe(take(), self._loop).result()

    async def _make(
        self, destination: Callable[[], Destination[Any, Any]], quota_share: float
    ) -> DeliveryEngine[Any, Any]:
        return DeliveryEngine(
            destination(),
            random=random.Random(),
            settings=DeliverySettings(quota_share=quota_share),
        )

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            try:
                return future.result(CANCEL_POLL_SECONDS)
            except TimeoutError:
                if future.done():
                    return future.result()
                if is_task_cancelled():
                    future.cancel()
                    raise JobCancelled("the job is being stopped or restarted") from None


ENGINES: Shared[EngineThread] = Shared()
"""One engine for each destination."""
