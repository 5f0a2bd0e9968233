"""What an enriched interaction adds to the trends, and a trend as a record. Pure but for the thin
functions of the SQL at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pyflink.table import DataTypes, FunctionContext, Row
from pyflink.table.udf import ScalarFunction

from connectors.personalize.requests import completion
from jobs.functions import connect_registry
from jobs.settings import RegistrySettings
from schemas.codec import Decoder, Encoder, Record
from schemas.contracts import BUILT_IN_FOLDER, Role, load_contracts
from schemas.invalid import InvalidRecord

MINUTE_MS = 60_000

LATEST_MS = 10 * MINUTE_MS
"""An event published later than that after it occurred is not in the trends."""

KEEP_MS = LATEST_MS + 60 * MINUTE_MS
"""How long counts and seen event_ids are kept after their last change: an event published in time
may be that much behind in the job, and a duplicate that much later."""

PLAYED = frozenset({"play", "complete"})
SKIPPED = frozenset({"skip"})


class TrendFacts(NamedTuple):
    """What one event adds; ``dimensions`` are (dimension, value, label)."""

    event_id: str
    minute: int
    listener: str
    played: int
    skipped: int
    completion: float | None
    dimensions: tuple[tuple[str, str, str | None], ...]


def trend_facts(record: Record) -> TrendFacts | None:
    """The facts of an enriched interaction; None when it is too late to count."""
    occurred_at = record["occurred_at"]
    if record["published_at"] - occurred_at > LATEST_MS or occurred_at < 0:
        return None
    item, user = record["item"] or {}, record["user"] or {}
    dimensions = [("item", record["item_id"], item.get("title"))]
    dimensions += [("genre", genre, None) for genre in dict.fromkeys(item.get("genres") or ())]
    if item_type := item.get("item_type") or record["item_type"]:
        dimensions.append(("item_type", item_type, None))
    if country := user.get("country"):
        dimensions.append(("country", country, None))
    user_id = record["user_id"]
    return TrendFacts(
        event_id=record["event_id"],
        minute=occurred_at // MINUTE_MS * MINUTE_MS,
        # A session is no user, even where the ids look the same.
        listener=f"session/{record['session_id']}" if user_id is None else f"user/{user_id}",
        played=int(record["event_type"] in PLAYED),
        skipped=int(record["event_type"] in SKIPPED),
        completion=completion(record),
        dimensions=tuple(entry for entry in dimensions if entry[1]),
    )


FACTS = DataTypes.ROW(
    [
        DataTypes.FIELD("event_id", DataTypes.STRING()),
        DataTypes.FIELD("minute", DataTypes.BIGINT()),
        DataTypes.FIELD("listener", DataTypes.STRING()),
        DataTypes.FIELD("played", DataTypes.INT()),
        DataTypes.FIELD("skipped", DataTypes.INT()),
        DataTypes.FIELD("completion", DataTypes.DOUBLE()),
        DataTypes.FIELD(
            "dimensions",
            DataTypes.ARRAY(
                DataTypes.ROW(
                    [
                        DataTypes.FIELD("dimension", DataTypes.STRING()),
                        DataTypes.FIELD("value", DataTypes.STRING()),
                        DataTypes.FIELD("label", DataTypes.STRING()),
                    ]
                )
            ),
        ),
    ]
)
"""A :class:`TrendFacts` as SQL sees it; all null for an event that does not count."""

NO_FACTS = Row(None, None, None, None, None, None, None)


class _WithRegistry(ScalarFunction):
    def __init__(self, registry: RegistrySettings, extra_contracts: tuple[Path, ...]) -> None:
        self._registry = registry
        self._extra_contracts = extra_contracts


class TrendFactsFunction(_WithRegistry):
    """``trend_facts`` of a record's value; what cannot be decoded is index_events' dead letter."""

    def is_deterministic(self) -> bool:
        """Not: a record is decoded by what the registry knows at the time."""
        return False

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry."""
        contracts = load_contracts((BUILT_IN_FOLDER, *self._extra_contracts))
        self._decoder = Decoder(contracts.only(Role.ENRICHED), connect_registry(self._registry))

    def eval(self, value: bytes | None) -> Row:
        """The facts."""
        try:
            facts = trend_facts(self._decoder.decode(value))
        except InvalidRecord:
            return NO_FACTS
        if facts is None:
            return NO_FACTS
        return Row(*facts[:-1], [Row(*entry) for entry in facts.dimensions])


class EncodeTrend(_WithRegistry):
    """A state of a trend as a value of the topic ``trends``."""

    def is_deterministic(self) -> bool:
        """It is, as far as Flink has to know: a state that is taken back needs no value."""
        return True

    def open(self, function_context: FunctionContext) -> None:
        """Connect to the registry."""
        contracts = load_contracts((BUILT_IN_FOLDER, *self._extra_contracts))
        contract = contracts.only(Role.TREND)
        version_id = connect_registry(self._registry).version_id(contract)
        self._encode: Callable[[Record], bytes] = Encoder(contract, version_id).encode

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
