"""Delivers micro-batches by the sink engine inside Flink; returns the records that are left over.

Flink calls a function on a task thread, which blocks; the engine runs on an asyncio thread of its
own. There is one engine a target and worker process, shared by all its task threads, so that the
limits (calls in flight, rate) hold for the worker as a whole.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pyflink.table import FunctionContext

from connectors.delivery import DeliveryEngine, DeliverySettings, Destination, Rejected, Settled
from connectors.firehose import FirehoseSettings, firehose_destination
from connectors.flink.internals.gauges import Gauges
from connectors.flink.internals.java_task import is_task_cancelled
from connectors.opensearch import OpenSearchSettings, opensearch_destination
from connectors.personalize import (
    DatasetRecord,
    PutDatasetSettings,
    PutEventsSettings,
    put_events_destination,
    put_items_destination,
    put_users_destination,
)
from jobs.decode import DatasetDecoder
from jobs.functions import Opened, RegistryFunction
from jobs.metrics import dead_letter_values, engine_values
from jobs.micro_batch.left_over import LeftOver, Sink
from jobs.micro_batch.piece import split
from jobs.settings import AnalyticsSettings, RecommendationsSettings, RegistrySettings
from jobs.worker import Shared
from schemas.codec import Record
from schemas.dead_letter import SourceRecord, Step, without_values
from schemas.invalid import InvalidRecord
from schemas.model import Contracts, Role
from schemas.records import EnrichedInteraction

R = TypeVar("R")
T = TypeVar("T")

RESULTS = "ARRAY<STRING>"
"""The records that a batch leaves over, as texts (:mod:`jobs.micro_batch.left_over`)."""

CANCEL_POLL_SECONDS = 0.5


class JobCancelled(Exception):
    """Flink ends the task during a delivery; the batch will be read again."""


Decode = Callable[[SourceRecord], R | LeftOver | None]
"""Decodes a record to one for the engine, to one for another sink, or to None: it is skipped.

Raises InvalidRecord.
"""


@dataclass(frozen=True, slots=True)
class Target(Generic[R]):
    """A destination, and what the records for it are decoded to.

    ``name`` is that of the delivery function in the SQL and in its metrics, ``service`` stands
    before the service's error code in a dead letter. ``values`` are those of a record by the fields
    of the contract of ``role``. Targets of equal name and settings share a worker's engine. Pickled
    into the job.
    """

    name: str
    service: str
    settings: RecommendationsSettings | AnalyticsSettings
    decoder: Callable[[Opened], Decode[R]]
    destination: Callable[[Contracts], Destination[R, Any]]
    values: Callable[[R], Record]
    role: Role = Role.ENRICHED


class Deliver(RegistryFunction, Generic[R]):
    """Delivers micro-batches of records to one target.

    Returns when each record is accepted, rejected or replaced by a newer one.
    """

    result_type = RESULTS

    def __init__(
        self, target: Target[R], registry: RegistrySettings, extra_contracts: tuple[Path, ...]
    ) -> None:
        super().__init__(registry, extra_contracts)
        self.name = target.name
        self._target = target
        self._gauges: Gauges | None = None

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry and take part in the worker's engine."""
        opened, target = self.connect(), self._target
        self._undecoded = opened.dead_letters(Step.DECODE)
        self._undelivered = opened.dead_letters(Step.DELIVER)
        self._decode = target.decoder(opened)
        self._contract = opened.contracts.only(target.role)
        self._limit = self.dead_letter_limit(target.settings)
        self._calls = 0
        self._engine = ENGINES.join(
            target.name,
            target.settings,
            self,
            lambda: EngineThread(
                lambda: target.destination(opened.contracts), 1 / target.settings.workers
            ),
        )
        self._engine.join(self)
        self._gauges = Gauges(self.name, self._metrics, function_context)

    def close(self) -> None:
        """Stop using the worker's engine."""
        if self._gauges is not None:
            self._gauges.close()
            self._engine.leave(self)
        ENGINES.leave(self)

    def _metrics(self) -> dict[str, int]:
        counts = self._undecoded.counts, self._undelivered.counts
        return {
            **self._engine.metrics(self),
            "dead_letter_limit_reached": int(self._limit.is_resumed),
            **dead_letter_values(counts),
        }

    def eval(self, batch: str) -> list[str]:
        """Deliver a batch; blocks until every record has its outcome."""
        left_over: list[LeftOver] = []
        refused: dict[int, str] = {}
        sources: list[tuple[int, SourceRecord]] = []
        records: list[R] = []
        for source in split(batch):
            self._calls += 1
            try:
                record = self._decode(source)
            except InvalidRecord as error:
                value = self._undecoded.encode(source, error.reason, error.message)
                left_over.append(LeftOver(Sink.DEAD_LETTERS, source.key, value))
                refused[self._calls] = error.reason
                continue
            if isinstance(record, LeftOver):
                left_over.append(record)
            elif record is not None:
                records.append(record)
                sources.append((self._calls, source))
        outcomes = self._engine.deliver(records)
        for (number, source), record, outcome in zip(sources, records, outcomes, strict=True):
            if isinstance(outcome, Rejected):
                values = self._target.values(record)
                code = f"{self._target.service}.{outcome.code}"
                personal = self._contract.personal_values(values)
                message = without_values(outcome.message, personal)
                value = self._undelivered.encode(source, code, message, values.get("event_id"))
                left_over.append(LeftOver(Sink.DEAD_LETTERS, source.key, value))
                refused[number] = code
        if left_over and self._gauges is not None:
            self._gauges.grow()
        for number in sorted(refused):
            self._limit.note_refused(number, refused[number])
        if self._limit.is_resumed and not refused:
            self._limit.note_accepted(self._calls)
        return [record.render() for record in left_over]


def events_target(settings: RecommendationsSettings) -> Target[Record]:
    """Enriched interactions to PutEvents, without those that an import has brought."""
    return Target(
        "deliver_events",
        "personalize",
        settings,
        partial(_event_decoder, settings.imported_until),
        lambda _: put_events_destination(
            PutEventsSettings(
                tracking_id=settings.tracking_id,
                region=settings.region,
                endpoint_url=settings.endpoint_url,
                calls_per_second=settings.calls_per_second,
                max_in_flight=settings.max_in_flight,
            )
        ),
        _same,
    )


def dataset_target(role: Role, settings: RecommendationsSettings) -> Target[DatasetRecord]:
    """Users to PutUsers or items to PutItems; a deletion goes to the sink of deletions."""
    is_user = role is Role.USER
    create = put_users_destination if is_user else put_items_destination
    return Target(
        f"deliver_{role}s",
        "personalize",
        settings,
        partial(_dataset_decoder, role),
        lambda contracts: create(
            PutDatasetSettings(
                dataset_arn=settings.users_dataset_arn if is_user else settings.items_dataset_arn,
                region=settings.region,
                endpoint_url=settings.endpoint_url,
                calls_per_second=settings.dataset_calls_per_second,
            ),
            contracts,
        ),
        lambda version: {f"{role}_id": version.id, str(role): version.record},
    )


def archive_target(settings: AnalyticsSettings) -> Target[Record]:
    """Enriched interactions to Firehose."""
    return Target(
        "archive_events",
        "firehose",
        settings,
        partial(_record_decoder, Role.ENRICHED),
        lambda _: firehose_destination(
            FirehoseSettings(
                stream_name=settings.stream_name,
                region=settings.region,
                endpoint_url=settings.firehose_url,
                calls_per_second=settings.firehose_calls_per_second,
                bytes_per_second=settings.firehose_bytes_per_second,
            )
        ),
        _same,
    )


def documents_target(role: Role, settings: AnalyticsSettings) -> Target[Record]:
    """Enriched interactions or trends to OpenSearch."""
    return Target(
        "index_events" if role is Role.ENRICHED else "index_trends",
        "opensearch",
        settings,
        partial(_record_decoder, role),
        lambda _: opensearch_destination(opensearch_settings(settings, role)),
        _same,
        role,
    )


def _same(record: Record) -> Record:
    return record


def _record_decoder(role: Role, opened: Opened) -> Callable[[SourceRecord], Record]:
    decode = opened.decoder(role).decode
    return lambda source: decode(source.payload, source.timestamp_ms)


def _event_decoder(imported_until: int | None, opened: Opened) -> Decode[Record]:
    decode = _record_decoder(Role.ENRICHED, opened)
    if imported_until is None:
        return decode

    def decode_newer(source: SourceRecord) -> Record | None:
        record = decode(source)
        published_at = cast("EnrichedInteraction", record)["published_at"]
        return None if published_at < imported_until else record

    return decode_newer


def _dataset_decoder(role: Role, opened: Opened) -> Decode[DatasetRecord]:
    decode_version = DatasetDecoder(opened.contracts, role, opened.dimension_decoder(role))
    encode = opened.encoder(Role.DELETION).encode

    def decode(source: SourceRecord) -> DatasetRecord | LeftOver | None:
        version = decode_version(source)
        if version is None or isinstance(version, DatasetRecord):
            return version
        return LeftOver(Sink.DELETIONS, version["id"].encode(), encode(version))

    return decode


def opensearch_settings(settings: AnalyticsSettings, role: Role) -> OpenSearchSettings:
    """OpenSearch for the documents of a role: enriched interactions, or trends."""
    return OpenSearchSettings(
        endpoint_url=settings.opensearch_url,
        documents="events" if role is Role.ENRICHED else "trends",
        authentication=settings.authentication,
        region=settings.region,
        calls_per_second=settings.opensearch_calls_per_second,
    )


class EngineThread:
    """A sink engine on an asyncio thread of its own."""

    def __init__(self, destination: Callable[[], Destination[Any, Any]], quota_share: float):
        self._functions: list[object] = []
        self._before: dict[str, float] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="delivery", daemon=True)
        self._thread.start()
        try:
            self._engine: DeliveryEngine[Any, Any] = self._run(
                self._create(destination, quota_share)
            )
        except BaseException:
            self._end_thread()
            raise

    def close(self) -> None:
        """Close the engine's connections and end its thread."""
        asyncio.run_coroutine_threadsafe(self._engine.close(), self._loop).result()
        self._end_thread()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def deliver(self, records: Sequence[Any]) -> Sequence[Settled]:
        """Return the outcome of each record; blocks. Raises FatalDeliveryError, JobCancelled."""
        return self._run(self._engine.deliver(records)) if records else ()

    def join(self, function: object) -> None:
        """Add a function that delivers by this engine; the first one resets its counters."""
        if not self._functions:
            self._before = self._snapshot()
        self._functions.append(function)

    def leave(self, function: object) -> None:
        """Remove a function that closes."""
        if function in self._functions:
            self._functions.remove(function)

    def metrics(self, function: object) -> dict[str, int]:
        """The engine's metrics for a function (:data:`jobs.metrics.DELIVERY`).

        The first of several functions has the values, the others zeros, so that a sum counts
        nothing twice. Runs on any thread.
        """
        shown = function in self._functions[:1]
        return engine_values(self._snapshot(), self._before, shown=shown)

    def _snapshot(self) -> dict[str, float]:
        async def take() -> dict[str, float]:
            return self._engine.snapshot()

        return asyncio.run_coroutine_threadsafe(take(), self._loop).result()

    async def _create(
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
"""An engine for each target; of a target whose settings have changed the last one is kept."""
