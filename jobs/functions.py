"""The Python functions of the SQL: thin, each calls a pure decoder or the sink engine.

A function is pickled into the job, so it holds settings only; what it needs at run time is made in
``open``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pyflink.table import DataTypes, FunctionContext, Row
from pyflink.table.udf import ScalarFunction

from jobs.cold_start import DIMENSIONS, DimensionsProgress
from jobs.decode import (
    DecodeRecord,
    DimensionDecoder,
    InteractionDecoder,
    SchemaIds,
)
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


class Decode(ScalarFunction):
    """Decodes the records of a role's topics; never raises for a record.

    ``hold_ms``, for interactions: how long after its publication an event is looked at, at the
    earliest. A user or item published before the event gets that much time to arrive first; the
    wait is a delay line and costs no throughput.
    """

    def __init__(
        self,
        role: Role,
        registry: RegistrySettings,
        extra_contracts: tuple[Path, ...],
        hold_ms: int = 0,
    ) -> None:
        self._role = role
        self._registry = registry
        self._extra_contracts = extra_contracts
        self._hold_ms = hold_ms

    def is_deterministic(self) -> bool:
        """Not: a record is decoded by what the registry knows at the time."""
        return False

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry; interactions then wait until users and items are read."""
        contracts = load_contracts((BUILT_IN_FOLDER, *self._extra_contracts))
        registry = GlueRegistry.connect(
            self._registry.region, self._registry.endpoint_url, self._registry.name
        )
        ids = SchemaIds(
            enriched=registry.version_id(contracts.only(Role.ENRICHED)),
            dead_letter=registry.version_id(contracts.only(Role.DEAD_LETTER)),
        )
        self._decode = _decoder(self._role, contracts, registry, ids)
        if self._role is Role.INTERACTION:
            DIMENSIONS.wait_until_read(time.monotonic, time.sleep)
            self.eval = self._eval_interaction
        else:
            self._progress = DIMENSIONS.opened(self._role, time.monotonic())
            self.eval = self._eval_dimension

    def close(self) -> None:
        """Forget this function's progress: a restarted job waits anew."""
        if self._role is not Role.INTERACTION:
            DIMENSIONS.closed(self._progress)

    def eval(self, *record: Any) -> Row:
        """The decoded record; replaced in ``open`` by what the role needs."""
        raise NotImplementedError

    def _eval_interaction(
        self,
        key: bytes | None,
        value: bytes | None,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
    ) -> Row:
        early_s = (timestamp_ms + self._hold_ms) / 1000 - time.time()
        if early_s > 0:
            # Bounded by the hold itself, whatever the clocks of broker and worker say.
            time.sleep(min(early_s, self._hold_ms / 1000))
        return Row(*self._decode(key, value, topic, partition, offset, timestamp_ms))

    def _eval_dimension(
        self,
        key: bytes | None,
        value: bytes | None,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
    ) -> Row:
        self._progress.record(timestamp_ms, time.monotonic(), now_ms())
        return Row(*self._decode(key, value, topic, partition, offset, timestamp_ms))


def _decoder(
    role: Role, contracts: Contracts, registry: GlueRegistry, ids: SchemaIds
) -> DecodeRecord:
    if role is Role.INTERACTION:
        return InteractionDecoder(contracts, registry, ids, now_ms)
    return DimensionDecoder(contracts, role, registry, ids, now_ms)
