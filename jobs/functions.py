"""The Python functions of the SQL: thin, each calls a pure decoder or the sink engine.

A function is pickled into the job, so it holds settings only; what it needs at run time is made in
``open``.
"""

from __future__ import annotations

import time
from pathlib import Path

from pyflink.table import DataTypes, FunctionContext, Row
from pyflink.table.udf import ScalarFunction

from jobs.cold_start import DIMENSIONS
from jobs.decode import DimensionDecoder, InteractionDecoder, SchemaIds
from jobs.settings import RegistrySettings
from schemas.contracts import BUILT_IN_FOLDER, Contracts, Role, load_contracts
from schemas.registry import GlueRegistry

DECODED = DataTypes.ROW(
    [
        DataTypes.FIELD("ok", DataTypes.BOOLEAN()),
        DataTypes.FIELD("key", DataTypes.STRING()),
        DataTypes.FIELD("item_id", DataTypes.STRING()),
        DataTypes.FIELD("payload", DataTypes.STRING()),
    ]
)
"""A :class:`jobs.decode.Decoded` as SQL sees it."""


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class _Decode(ScalarFunction):
    """What the decode functions share: settings, and the registry once open."""

    def __init__(self, registry: RegistrySettings, extra_contracts: tuple[Path, ...]) -> None:
        self._registry = registry
        self._extra_contracts = extra_contracts

    def is_deterministic(self) -> bool:
        """Not: a record is decoded by what the registry knows at the time."""
        return False

    def _connect(self) -> tuple[Contracts, GlueRegistry, SchemaIds]:
        contracts = load_contracts((BUILT_IN_FOLDER, *self._extra_contracts))
        registry = GlueRegistry.connect(
            self._registry.region, self._registry.endpoint_url, self._registry.name
        )
        ids = SchemaIds(
            enriched=registry.version_id(contracts.only(Role.ENRICHED)),
            dead_letter=registry.version_id(contracts.only(Role.DEAD_LETTER)),
        )
        return contracts, registry, ids


class DecodeInteraction(_Decode):
    """Decodes interactions; never raises for a record.

    ``hold_ms``: how long after its publication an event is looked at, at the earliest. A user or
    item published before the event gets that much time to arrive first; the wait is a delay line
    and costs no throughput.
    """

    def __init__(
        self, registry: RegistrySettings, extra_contracts: tuple[Path, ...], hold_ms: int
    ) -> None:
        super().__init__(registry, extra_contracts)
        self._hold_ms = hold_ms

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry, then wait until users and items are read."""
        self._decode = InteractionDecoder(*self._connect(), now_ms)
        DIMENSIONS.wait_until_read(time.monotonic, time.sleep)

    def eval(
        self,
        key: bytes | None,
        value: bytes | None,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
    ) -> Row:
        """The decoded record, no earlier than ``hold_ms`` after it was published."""
        early_s = (timestamp_ms + self._hold_ms) / 1000 - time.time()
        if early_s > 0:
            # Bounded by the hold itself, whatever the clocks of broker and worker say.
            time.sleep(min(early_s, self._hold_ms / 1000))
        return Row(*self._decode(key, value, topic, partition, offset, timestamp_ms))


class DecodeDimension(_Decode):
    """Decodes users or items; never raises for a record."""

    def __init__(
        self, role: Role, registry: RegistrySettings, extra_contracts: tuple[Path, ...]
    ) -> None:
        super().__init__(registry, extra_contracts)
        self._role = role

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry, and tell the interactions' function that this one is there."""
        contracts, registry, ids = self._connect()
        self._decode = DimensionDecoder(contracts, self._role, registry, ids, now_ms)
        self._progress = DIMENSIONS.opened(self._role, time.monotonic())

    def close(self) -> None:
        """Forget the progress: a restarted job waits anew."""
        DIMENSIONS.closed(self._progress)

    def eval(
        self,
        key: bytes | None,
        value: bytes | None,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
    ) -> Row:
        """The decoded record."""
        self._progress.record(timestamp_ms, time.monotonic(), now_ms())
        return Row(*self._decode(key, value, topic, partition, offset, timestamp_ms))
