"""The sink engine inside Flink: delivers a micro-batch and returns what was refused.

Flink calls it on a task thread and waits; the engine runs on one asyncio loop thread a worker
process, shared by all its task threads, so that the bounds (calls in flight, rate) hold for the
worker as a whole.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pyflink.table import DataTypes, FunctionContext, Row
from pyflink.table.udf import ScalarFunction

from connectors.delivery import DeliveryEngine, DeliverySettings, Rejected
from connectors.personalize import PutEventsSettings, put_events_destination
from jobs.batch import unpack
from jobs.decode import DeadLetters
from jobs.functions import connect_registry, now_ms
from jobs.settings import RecommendationsSettings, RegistrySettings
from schemas.codec import Decoder, Record
from schemas.contracts import BUILT_IN_FOLDER, Role, load_contracts
from schemas.dead_letter import SourceRecord, Step
from schemas.invalid import InvalidRecord

T = TypeVar("T")

LETTERS = DataTypes.ARRAY(
    DataTypes.ROW(
        [
            DataTypes.FIELD("key", DataTypes.BYTES()),
            DataTypes.FIELD("value", DataTypes.BYTES()),
        ]
    )
)
"""Dead letters: a Kafka key and value each."""


class DeliverEvents(ScalarFunction):
    """Delivers enriched interactions by PutEvents; returns the dead letters of the refused ones."""

    def __init__(
        self,
        settings: RecommendationsSettings,
        registry: RegistrySettings,
        extra_contracts: tuple[Path, ...],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._extra_contracts = extra_contracts

    def is_deterministic(self) -> bool:
        """Not: it delivers."""
        return False

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry and take part in the worker's engine."""
        contracts = load_contracts((BUILT_IN_FOLDER, *self._extra_contracts))
        registry = connect_registry(self._registry)
        enriched = contracts.only(Role.ENRICHED)
        self._topic = enriched.topic
        self._decoder = Decoder(enriched, registry)
        version_id = registry.version_id(contracts.only(Role.DEAD_LETTER))
        self._decode_letters = DeadLetters(contracts, version_id, Step.DECODE, now_ms)
        self._deliver_letters = DeadLetters(contracts, version_id, Step.DELIVER, now_ms)
        self._engine = ENGINES.get(self._settings)

    def eval(self, batch: str) -> list[Row]:
        """Deliver a batch; blocks until every record is accepted or refused."""
        letters: list[Row] = []
        sources: list[SourceRecord] = []
        events: list[Record] = []
        for source in unpack(self._topic, batch):
            try:
                events.append(self._decoder.decode(source.payload))
                sources.append(source)
            except InvalidRecord as error:
                letter = self._decode_letters.value(source, error.reason, error.message)
                letters.append(Row(source.key, letter))
        outcomes = self._engine.deliver(events)
        for source, event, outcome in zip(sources, events, outcomes, strict=True):
            if isinstance(outcome, Rejected):
                letter = self._deliver_letters.value(
                    source, f"personalize.{outcome.code}", outcome.message, event["event_id"]
                )
                letters.append(Row(source.key, letter))
        return letters


class EngineThread:
    """The sink engine of a worker process on its own asyncio thread."""

    def __init__(self, settings: RecommendationsSettings) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="delivery", daemon=True).start()
        self._engine: DeliveryEngine[Record, Any] = self._run(self._make(settings))

    def deliver(self, events: Sequence[Record]) -> Sequence[Any]:
        """The outcome of each event; blocks. Raises FatalDeliveryError."""
        return self._run(self._engine.deliver(events)) if events else ()

    async def _make(self, settings: RecommendationsSettings) -> DeliveryEngine[Record, Any]:
        destination = put_events_destination(
            PutEventsSettings(
                tracking_id=settings.tracking_id,
                region=settings.region,
                endpoint_url=settings.endpoint_url,
                calls_per_second=settings.calls_per_second,
                max_in_flight=settings.max_in_flight,
            )
        )
        return DeliveryEngine(
            destination,
            random=random.Random(),
            settings=DeliverySettings(quota_share=1 / settings.workers),
        )

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _Engines:
    """One engine for each settings in a worker process; made when first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[RecommendationsSettings, EngineThread] = {}

    def get(self, settings: RecommendationsSettings) -> EngineThread:
        with self._lock:
            if settings not in self._engines:
                self._engines[settings] = EngineThread(settings)
            return self._engines[settings]


ENGINES = _Engines()
