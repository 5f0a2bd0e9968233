"""The Python functions of the SQL: thin, each calls a pure decoder or the sink engine.

A function is pickled into the job, so it holds settings only; what it needs at run time is made in
``open``.
"""

from __future__ import annotations

import time
from pathlib import Path

from pyflink.table import DataTypes, FunctionContext, Row
from pyflink.table.udf import ScalarFunction

from connectors.flink.code_folder import keep_code_folder
from connectors.flink.internals.gauges import Gauges
from connectors.flink.internals.restored import restored_positions
from connectors.glue.registry import GlueRegistry
from connectors.kafka.offsets_process import OffsetsProcess
from jobs.decode import STATE_PREFIX, Decoded, DimensionDecoder, InteractionDecoder, SchemaIds
from jobs.freshness.settling import (
    BUNDLE_SETTLING,
    THREAD_SETTLING,
    DimensionReader,
    SettlingModel,
)
from jobs.freshness.watch import Freshness, Watch, dimension_topics
from jobs.metrics import letter_values
from jobs.settings import ApplicationSettings, RegistrySettings
from jobs.trends import trend_facts
from jobs.worker import Shared
from schemas.codec import Decoder, Encoder
from schemas.invalid import InvalidRecord
from schemas.model import BUILT_IN_FOLDER, Contracts, Role, load_contracts

VERSION = DataTypes.ROW(
    [
        DataTypes.FIELD("id", DataTypes.STRING()),
        DataTypes.FIELD("version", DataTypes.STRING()),
    ]
)
"""Of which user or item a record is a version, and which; both null where it cannot be decoded."""

DECODED = DataTypes.ROW(
    [
        DataTypes.FIELD("ok", DataTypes.BOOLEAN()),
        DataTypes.FIELD("key", DataTypes.STRING()),
        DataTypes.FIELD("item_id", DataTypes.STRING()),
        DataTypes.FIELD("payload", DataTypes.STRING()),
    ]
)
"""A :class:`jobs.decode.Decoded` as SQL sees it."""

FACTS = DataTypes.ROW(
    [
        DataTypes.FIELD("event_id", DataTypes.STRING()),
        DataTypes.FIELD("minute", DataTypes.BIGINT()),
        DataTypes.FIELD("listener", DataTypes.STRING()),
        DataTypes.FIELD("played", DataTypes.INT()),
        DataTypes.FIELD("skipped", DataTypes.INT()),
        DataTypes.FIELD("completion", DataTypes.DOUBLE()),
        DataTypes.FIELD("facets", DataTypes.ARRAY(DataTypes.STRING())),
    ]
)
"""A :class:`jobs.trends.TrendFacts` as SQL sees it; no event_id for one that does not count."""

NO_FACTS = Row(None, 0, None, 0, 0, None, [])
"""The converters of thread mode (PyFlink 2.2.1) know no null in a field of type INT or ARRAY."""


def schema_ids(registry: GlueRegistry, contracts: Contracts) -> SchemaIds:
    """The registry's ids of what the jobs write; raises RegistryError for one not registered."""
    return SchemaIds(
        enriched=registry.version_id(contracts.only(Role.ENRICHED)),
        dead_letter=registry.version_id(contracts.only(Role.DEAD_LETTER)),
    )


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class RegistryFunction(ScalarFunction):
    """What all functions share: contracts and the registry, once open."""

    def __init__(self, registry: RegistrySettings, extra_contracts: tuple[Path, ...]) -> None:
        self._registry = registry
        self._extra_contracts = extra_contracts

    def is_deterministic(self) -> bool:
        """Not: a record is decoded by what the registry knows at the time."""
        return False

    def connect(self) -> tuple[Contracts, GlueRegistry]:
        """The contracts, and a connection to the registry."""
        keep_code_folder()
        contracts = load_contracts((BUILT_IN_FOLDER, *self._extra_contracts))
        settings = self._registry
        registry = GlueRegistry.connect(settings.region, settings.endpoint_url, settings.name)
        return contracts, registry


class _Decode(RegistryFunction):
    """What the enrichment's decode functions share: freshness and metrics, once open."""

    _decode: InteractionDecoder | DimensionDecoder
    _gauges: Gauges | None = None
    _watch: Watch | None = None

    def __init__(self, settings: ApplicationSettings, extra_contracts: tuple[Path, ...]) -> None:
        super().__init__(settings.registry, extra_contracts)
        self._settings = settings

    def _connect(self) -> tuple[Contracts, GlueRegistry, SchemaIds]:
        contracts, registry = self.connect()
        ids = schema_ids(registry, contracts)
        self._watch = watch_of(self._settings, contracts)
        self._freshness = self._watch.freshness
        self._restored = restored_positions()
        self._watch.add(self, exact=self._restored is not None)
        return contracts, registry, ids

    def _show(self, function: str, context: FunctionContext) -> None:
        self._calls = 0
        self._gauges = Gauges(function, self._metrics, context)

    def _metrics(self) -> dict[str, int]:
        letters = letter_values([self._decode.dead_letters.counts])
        return {"decoded": self._calls - letters["dead_letters"], **letters}

    def close(self) -> None:
        """Stop polling when this is the worker's last function."""
        if self._watch is not None:
            self._watch.remove(self)
        if self._gauges is not None:
            self._gauges.close()

    def _count(self, decoded: Decoded) -> None:
        self._calls += 1
        if not decoded.ok and self._gauges is not None:
            self._gauges.grow()


class DecodeInteraction(_Decode):
    """Decodes interactions; never raises for a record.

    An event is held until every user and item published before it has been read
    (:mod:`jobs.freshness.watch`). The wait is a delay line: those behind it are read meanwhile.
    """

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry; blocks until the present users and items have been read."""
        self._decode = InteractionDecoder(*self._connect(), now_ms)
        self._watermark = self._freshness.watermark
        self._released_by_timeout = 0
        self._held = 0
        self._held_seconds = 0.0
        self._holding_since: float | None = None
        self._show("decode_interaction", function_context)
        self._wait_for(now_ms())

    def _wait_for(self, timestamp_ms: int) -> bool:
        started = self._holding_since = time.monotonic()
        try:
            return self._freshness.wait_for(timestamp_ms)
        finally:
            self._holding_since = None
            self._held_seconds += time.monotonic() - started

    def _metrics(self) -> dict[str, int]:
        since, fresh = self._holding_since, self._watermark.until_ms
        return {
            **super()._metrics(),
            "held": self._held,
            "held_ms": round(1000 * self._held_seconds),
            "holding_ms": 0 if since is None else round(1000 * (time.monotonic() - since)),
            "freshness_lag_ms": max(0, now_ms() - fresh) if fresh else 0,
            "given_up": self._freshness.given_up,
            "released_by_timeout": self._released_by_timeout,
            "freshness_exact": int(self._freshness.exact),
        }

    def eval(
        self,
        key: bytes | None,
        value: bytes | None,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
    ) -> Row:
        """The decoded record, once users and items published before it have been read."""
        if timestamp_ms > self._watermark.until_ms:
            self._held += 1
            # It was published before it came here, whatever its timestamp says.
            self._released_by_timeout += self._wait_for(min(timestamp_ms, now_ms()))
        decoded = self._decode(key, value, f"{topic}/{partition}/{offset}", timestamp_ms)
        self._count(decoded)
        return Row(*decoded)


class DecodeDimension(_Decode):
    """Decodes users or items; never raises for a record."""

    def __init__(
        self, role: Role, settings: ApplicationSettings, extra_contracts: tuple[Path, ...]
    ) -> None:
        super().__init__(settings, extra_contracts)
        self._role = role
        thread_mode = settings.execution_mode == "thread"
        self._reader = DimensionReader(
            SettlingModel(THREAD_SETTLING if thread_mode else BUNDLE_SETTLING)
        )

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry, and report from now on how far has been read."""
        contracts, registry, ids = self._connect()
        self._decode = DimensionDecoder(contracts, self._role, registry, ids, now_ms)
        self._reader.add_restored(self._restored or {})
        self._freshness.add_reader(self._reader)
        self._show(f"decode_{self._role}", function_context)

    def close(self) -> None:
        """Discard what this function has read: a restarted job reads anew."""
        if self._watch is not None:
            self._freshness.remove_reader(self._reader)
        super().close()

    def eval(self, key: bytes | None, value: bytes | None, origin: str, timestamp_ms: int) -> Row:
        """The decoded record."""
        decoded = self._decode(key, value, origin, timestamp_ms)
        topic, partition, offset = origin.split("/")
        self._reader.add_decoded((topic, int(partition)), int(offset), time.monotonic())
        self._count(decoded)
        return Row(*decoded)


class VersionOf(RegistryFunction):
    """Says which version of which user or item a record is, as sortable text."""

    def __init__(
        self, role: Role, registry: RegistrySettings, extra_contracts: tuple[Path, ...]
    ) -> None:
        super().__init__(registry, extra_contracts)
        self._role = role

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry."""
        contracts, registry = self.connect()
        self._decode = DimensionDecoder(
            contracts, self._role, registry, schema_ids(registry, contracts), now_ms
        )

    def eval(self, key: bytes | None, value: bytes | None, origin: str, timestamp_ms: int) -> Row:
        """Id and version."""
        decoded = self._decode(key, value, origin, timestamp_ms)
        if not decoded.ok:
            return Row(None, None)
        return Row(decoded.key or decoded.item_id, decoded.payload[:STATE_PREFIX])


class TrendFactsFunction(RegistryFunction):
    """``trend_facts`` of a record's value; what cannot be decoded is index_events' dead letter."""

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry."""
        contracts, registry = self.connect()
        self._decoder = Decoder(contracts.only(Role.ENRICHED), registry)

    def eval(self, value: bytes | None) -> Row:
        """The facts."""
        try:
            facts = trend_facts(self._decoder.decode(value))
        except InvalidRecord:
            return NO_FACTS
        if facts is None:
            return NO_FACTS
        return Row(*facts[:-1], list(facts.facets))


class EncodeTrend(RegistryFunction):
    """A state of a trend as a value of the topic ``trends``."""

    def is_deterministic(self) -> bool:
        """It is, as far as Flink has to know: a state that is taken back needs no value."""
        return True

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry."""
        contracts, registry = self.connect()
        contract = contracts.only(Role.TREND)
        self._encode = Encoder(contract, registry.version_id(contract)).encode

    def eval(
        self,
        dimension: str,
        value: str,
        minute: int,
        label: str | None,
        plays: int,
        skips: int,
        listeners: int,
        completion: float | None,
        version: int,
    ) -> bytes:
        """The value."""
        return self._encode(
            {
                "dimension": dimension,
                "key": value,
                "label": label,
                "window_start": minute,
                "plays": plays,
                "skips": skips,
                "listeners": listeners,
                "completion": completion,
                "version": version,
            }
        )


WATCHES: Shared[Watch] = Shared()
"""One watch for each application."""


def watch_of(settings: ApplicationSettings, contracts: Contracts) -> Watch:
    """Return the watch that the functions of an application in this worker share."""
    kafka, group = settings.kafka, settings.group("enrichment")
    topics = dimension_topics(contracts)

    def create() -> Watch:
        store = OffsetsProcess(kafka.bootstrap_servers, kafka.python_client)
        return Watch(Freshness(store, topics, group=f"{group}-freshness", source_group=group))

    return WATCHES.get((kafka.bootstrap_servers, group, tuple(topics)), create)
