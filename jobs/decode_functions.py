"""Functions of one record: each calls a pure decoder or encoder."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import cast

from pyflink.table import FunctionContext, Row

from connectors.clock import now_ms
from connectors.flink.internals.gauges import Gauges
from connectors.flink.internals.restored import restored_positions
from connectors.kafka.offsets_process import OffsetsProcess
from jobs.decode import STATE_PREFIX, DimensionDecoder, InteractionDecoder
from jobs.freshness.settling import (
    BUNDLE_SETTLING,
    THREAD_SETTLING,
    DimensionReader,
    SettlingModel,
)
from jobs.freshness.watch import Freshness, Watch, dimension_topics
from jobs.functions import Opened, RegistryFunction
from jobs.metrics import dead_letter_values
from jobs.settings import ApplicationSettings, LimitSettings, RegistrySettings
from jobs.trends import trend_facts
from jobs.worker import Shared
from schemas.dead_letter import Step
from schemas.invalid import InvalidRecord
from schemas.model import Contracts, Role
from schemas.records import EnrichedInteraction

VERSION = "ROW<id STRING, version STRING>"
"""A user's or item's id, and the version; both null for a record that cannot be decoded."""

DECODED = "ROW<ok BOOLEAN, `key` STRING, item_id STRING, payload STRING>"
"""A :data:`jobs.decode.Decoded` in SQL."""

FACTS = (
    "ROW<event_id STRING, `minute` BIGINT, listener STRING, played INT, skipped INT,"
    " completion DOUBLE, facets ARRAY<STRING>>"
)
"""A :class:`jobs.trends.TrendFacts` in SQL; without an event_id it does not count."""

NO_FACTS = Row(None, 0, None, 0, 0, None, [])
"""The converters of thread mode (PyFlink 2.2.1) allow no null in a field of type INT or ARRAY."""


class DecodeFunction(RegistryFunction):
    """A decode function of the enrichment: it takes part in freshness and has metrics."""

    result_type = DECODED

    def __init__(
        self, name: str, settings: ApplicationSettings, extra_contracts: tuple[Path, ...]
    ) -> None:
        super().__init__(settings.registry, extra_contracts)
        self.name = name
        # Pickled into the job: without the Java client's properties, which it does not need.
        self._settings = replace(settings, kafka=replace(settings.kafka, client={}))
        self._calls = 0
        self._gauges: Gauges | None = None
        self._watch: Watch | None = None

    def create_decoder(self, opened: Opened) -> InteractionDecoder | DimensionDecoder:
        """Create the decoder of the function's records."""
        raise NotImplementedError

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry and join the worker's watch."""
        opened = self.connect()
        self._decode = self.create_decoder(opened)
        self._limit = self.dead_letter_limit(self._settings.enrichment)
        # PyFlink copies a row out before the next call, in both modes.
        self._row = Row(None, None, None, None)
        self._watch = self._join_watch(opened.contracts)
        self._freshness = self._watch.freshness
        self._restored = restored_positions()
        self._watch.add(self, exact=self._restored is not None)
        self._gauges = Gauges(self.name, self.metrics, function_context)

    def close(self) -> None:
        """Stop polling when this is the worker's last function."""
        if self._watch is not None:
            self._watch.remove(self)
        WATCHES.leave(self)
        if self._gauges is not None:
            self._gauges.close()

    def _join_watch(self, contracts: Contracts) -> Watch:
        kafka, group = self._settings.kafka, self._settings.group("enrichment")
        topics = dimension_topics(contracts)

        def create() -> Watch:
            store = OffsetsProcess(kafka.bootstrap_servers, kafka.python_client)
            freshness = Freshness(
                store,
                topics,
                group=f"{group}-freshness",
                source_group=group,
                event_topics=[contracts.only(Role.INTERACTION).topic],
            )
            return Watch(freshness, store.close)

        return WATCHES.join("watch", (kafka.bootstrap_servers, group, *topics), self, create)

    def metrics(self) -> dict[str, int]:
        """The numbers of :data:`jobs.metrics.DECODE`; runs on any thread."""
        dead_letters = dead_letter_values([self._decode.dead_letters.counts])
        return {
            "decoded": self._calls - dead_letters["dead_letters"],
            "dead_letter_limit_reached": int(self._limit.is_resumed),
            **dead_letters,
        }

    def decode(self, key: bytes | None, value: bytes | None, origin: str, timestamp_ms: int) -> Row:
        """The decoded record as a row of ``DECODED``; valid until the next call."""
        decoded = self._decode(key, value, origin, timestamp_ms)
        self._calls += 1
        if not decoded[0]:
            if self._gauges is not None:
                self._gauges.grow()
            self._limit.note_refused(self._calls, self._decode.dead_letters.latest_code)
        elif self._limit.is_resumed:
            self._limit.note_accepted(self._calls)
        self._row[:] = decoded
        return self._row


class DecodeInteraction(DecodeFunction):
    """Decodes interactions; never raises for a record.

    An event is held until every user and item published before it has been read
    (:mod:`jobs.freshness.watch`). The wait is a delay line: the records behind it are read
    meanwhile.
    """

    def __init__(self, settings: ApplicationSettings, extra_contracts: tuple[Path, ...]) -> None:
        super().__init__("decode_interaction", settings, extra_contracts)
        self._released_by_timeout = 0
        self._held = 0
        self._held_seconds = 0.0
        self._holding_since: float | None = None

    def create_decoder(self, opened: Opened) -> InteractionDecoder:
        """Create the decoder of interactions."""
        dead_letters, enriched = opened.dead_letters(Step.DECODE), opened.version_id(Role.ENRICHED)
        return InteractionDecoder(opened.contracts, opened.registry, dead_letters, enriched)

    def open(self, function_context: FunctionContext) -> None:
        """Open; blocks until the present users and items have been read."""
        super().open(function_context)
        self._watermark = self._freshness.watermark
        self._wait_for(now_ms())

    def _wait_for(self, timestamp_ms: int) -> bool:
        started = self._holding_since = time.monotonic()
        try:
            return self._freshness.wait_for(timestamp_ms)
        finally:
            self._holding_since = None
            self._held_seconds += time.monotonic() - started

    def metrics(self) -> dict[str, int]:
        """The numbers of :data:`jobs.metrics.DECODE` and ``HOLD``; runs on any thread."""
        since, fresh = self._holding_since, self._freshness.watermark.until_ms
        return {
            **super().metrics(),
            "held": self._held,
            "held_ms": round(1000 * self._held_seconds),
            "holding_ms": 0 if since is None else round(1000 * (time.monotonic() - since)),
            "freshness_lag_ms": max(0, now_ms() - fresh) if fresh else 0,
            "given_up": self._freshness.given_up,
            "released_by_timeout": self._released_by_timeout,
            "freshness_exact": int(self._freshness.exact),
            "clock_skew_ms": self._freshness.clock.skew_ms,
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
        published_ms = self._freshness.published_ms((topic, partition), offset, timestamp_ms)
        if published_ms > self._watermark.until_ms:
            self._held += 1
            # It was published before it was read, even if its timestamp is in the future.
            self._released_by_timeout += self._wait_for(min(published_ms, now_ms()))
        return self.decode(key, value, f"{topic}/{partition}/{offset}", timestamp_ms)


class DecodeDimension(DecodeFunction):
    """Decodes users or items; never raises for a record."""

    def __init__(
        self, role: Role, settings: ApplicationSettings, extra_contracts: tuple[Path, ...]
    ) -> None:
        super().__init__(f"decode_{role}", settings, extra_contracts)
        self._role = role
        thread_mode = settings.execution_mode == "thread"
        self._reader = DimensionReader(
            SettlingModel(THREAD_SETTLING if thread_mode else BUNDLE_SETTLING)
        )

    def create_decoder(self, opened: Opened) -> DimensionDecoder:
        """Create the decoder of users or items."""
        self._dimension_decoder = opened.dimension_decoder(self._role)
        return self._dimension_decoder

    def open(self, function_context: FunctionContext) -> None:
        """Open; from now on read positions are reported."""
        super().open(function_context)
        self._reader.add_restored(self._restored or {})
        self._freshness.add_reader(self._reader)

    def metrics(self) -> dict[str, int]:
        """The numbers of :data:`jobs.metrics.DECODE` and ``CLOCKS``; runs on any thread."""
        return {**super().metrics(), "clock_ahead": self._dimension_decoder.clock_ahead}

    def close(self) -> None:
        """Discard the positions of this function: a restarted job reads again."""
        if self._watch is not None:
            self._freshness.remove_reader(self._reader)
        super().close()

    def eval(self, key: bytes | None, value: bytes | None, origin: str, timestamp_ms: int) -> Row:
        """The decoded record."""
        row = self.decode(key, value, origin, timestamp_ms)
        topic, partition, offset = origin.split("/")
        self._reader.add_decoded((topic, int(partition)), int(offset), time.monotonic())
        return row


class VersionOf(RegistryFunction):
    """Returns the version of a user or item that a record is, as sortable text.

    A record that it refuses is a dead letter of the enrichment, and counts for the limit here, too.
    """

    result_type = VERSION

    def __init__(
        self,
        role: Role,
        settings: LimitSettings,
        registry: RegistrySettings,
        extra_contracts: tuple[Path, ...],
    ) -> None:
        super().__init__(registry, extra_contracts)
        self.name = f"version_of_{role}"
        self._role = role
        self._settings = settings

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry."""
        self._decode = self.connect().dimension_decoder(self._role)
        self._limit = self.dead_letter_limit(self._settings)
        self._calls = 0

    def eval(self, key: bytes | None, value: bytes | None, origin: str, timestamp_ms: int) -> Row:
        """Id and version."""
        ok, user_id, item_id, payload = self._decode(key, value, origin, timestamp_ms)
        self._calls += 1
        if not ok:
            self._limit.note_refused(self._calls, self._decode.dead_letters.latest_code)
            return Row(None, None)
        if self._limit.is_resumed:
            self._limit.note_accepted(self._calls)
        return Row(user_id or item_id, payload[:STATE_PREFIX])


class TrendFactsFunction(RegistryFunction):
    """``trend_facts`` of a record's value; a malformed one is index_events' dead letter."""

    name = "trend_facts"
    result_type = FACTS

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry."""
        self._decoder = self.connect().decoder(Role.ENRICHED)

    def eval(self, value: bytes | None) -> Row:
        """The facts."""
        try:
            # Its timestamp is not known here: it may be older than the registry's versions.
            record = self._decoder.decode(value, published_ms=0)
            facts = trend_facts(cast("EnrichedInteraction", record))
        except InvalidRecord:
            return NO_FACTS
        if facts is None:
            return NO_FACTS
        return Row(*facts[:-1], list(facts.facets))


class EncodeTrend(RegistryFunction):
    """A state of a trend as a value of the topic ``trends``."""

    name = "encode_trend"
    result_type = "BYTES"

    def is_deterministic(self) -> bool:
        """True, as Flink needs it: a retracted state needs no value."""
        return True

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry."""
        self._encode = self.connect().encoder(Role.TREND).encode

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
"""A watch for each application; of those that have ended the last one is kept."""
