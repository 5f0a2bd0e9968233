"""Publish a source's records to the domains' topics, and record them in a ledger.

Dimension records are sent first. Once the broker has acknowledged them and a settling time is over,
the interactions follow in order. A dimension record between them is acknowledged before the next
interaction is sent. Kafka timestamps are the time of sender.
"""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message

from connectors import clock
from schemas.codec import VersionIds
from schemas.errors import TunemeshError
from schemas.model import Contracts, Role, load_contracts
from verification.directory import ReplayDirectory
from verification.endpoints import Endpoints
from verification.entries import Entry, Kind, Source
from verification.ledger import DeliveryReport, Ledger, ledger_path, prune
from verification.positions import (
    FLUSH_SECONDS,
    ProducerFactory,
    cluster_id,
    create_producer,
    produce,
    topic_ends,
)
from verification.progress import Progress, Step, silent
from verification.publications import (
    Publication,
    PublicationFactory,
    Publisher,
    UnusableEntry,
)

# Records per ledger transaction: large enough that SQLite does not limit the rate.
_CHUNK = 500
MAX_IN_FLIGHT = 5_000
"""Records sent and not acknowledged."""

_INTERRUPTED_FLUSH_SECONDS = 10.0


class ReplayError(TunemeshError):
    """The replay failed; the ledger has what was sent."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """How to replay.

    ``rate`` is interactions a second (None: as fast as they are acknowledged), ``settle`` the
    seconds between the acknowledged dimensions and the first interaction, ``update_settle`` those
    between an acknowledged update and the next interaction.
    """

    rate: float | None = None
    settle: float = 5.0
    update_settle: float = 0.0
    run: str | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not self.rate > 0:
            raise TunemeshError(f"the rate is {self.rate}, expected events a second above 0")
        if self.settle < 0 or self.update_settle < 0:
            raise TunemeshError("a settling time is 0 or more seconds")


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """What a replay sent; ``seconds`` and ``events_per_second`` are of the interactions."""

    run: str
    ledger: Path
    dimensions: int
    updates: int
    interactions: int
    valid: int
    duplicates: int
    malformed: int
    seconds: float
    events_per_second: float


def replay(
    source: Source,
    endpoints: Endpoints,
    settings: ReplaySettings | None = None,
    progress: Progress = silent,
    *,
    registry: VersionIds | None = None,
    contracts: Contracts | None = None,
    publisher: PublicationFactory | None = None,
    producer: ProducerFactory = create_producer,
    before_interactions: Callable[[], object] = lambda: None,
) -> ReplaySummary:
    """Send all records of a source; return when the broker has acknowledged them.

    ``producer``: creates the producer from the bootstrap servers and librdkafka's settings.
    ``before_interactions`` is called once users and items are published and settled; it may block.

    Raises UnusableEntry, before anything is sent, if a line of a replay set does not fit its
    contract, KafkaUnavailable, and ReplayError if the broker rejects a record.
    """
    settings = settings or ReplaySettings()
    ledger_contracts = load_contracts()
    contracts = contracts or ledger_contracts
    if publisher is None:
        publisher = create_publisher(
            contracts, registry or connect_registry(endpoints), ledger_contracts
        )
    if isinstance(source, ReplayDirectory):
        _check_lines(source, publisher, progress)
    started_ms = clock.now_ms()
    run = settings.run or create_run_name(started_ms)
    topics = [contract.topic for contract in contracts]
    prune(endpoints.home)
    with Ledger.create(
        ledger_path(endpoints.home, run),
        {
            "run": run,
            "source": source.description,
            "contracts": {c.topic: str(c.folder) for c in contracts},
            "started_ms": started_ms,
            "cluster_id": cluster_id(endpoints.bootstrap_servers),
            "start": topic_ends(endpoints.bootstrap_servers, topics),
            "settings": asdict(settings),
        },
    ) as ledger:
        sender = _Sender(endpoints, ledger, publisher, settings, contracts, progress, producer)
        try:
            return sender.run(source, run, before_interactions)
        except KeyboardInterrupt:
            sender.flush(_INTERRUPTED_FLUSH_SECONDS)
            raise
        finally:
            sender.write_reports()
            ledger.note({"finished_ms": clock.now_ms()})


def create_publisher(
    contracts: Contracts, registry: VersionIds, ledger_contracts: Contracts
) -> Publisher:
    """Return a publisher for these contracts, with the ids of the registry."""
    ids = {contract.name: registry.version_id(contract) for contract in contracts.sources}
    return Publisher(contracts, ids, ledger_contracts)


def create_run_name(now_ms: int) -> str:
    """Return a name of the time and a random suffix."""
    seconds = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_ms / 1000))
    return f"{seconds}-{secrets.token_hex(2)}"


def connect_registry(endpoints: Endpoints) -> Any:
    """Return the client of the registry at the endpoints."""
    from connectors.glue.registry import GlueRegistry

    return GlueRegistry.connect(
        endpoints.region, endpoints.registry_endpoint, endpoints.registry_name
    )


def _check_lines(
    source: ReplayDirectory, publisher: PublicationFactory, progress: Progress
) -> None:
    """Encode every line, so that an unusable one stops the replay before anything is sent."""
    now_ms = clock.now_ms()
    total = source.dimension_count + source.stream_count
    for done, entry in enumerate(chain(source.dimensions(), source.stream()), 1):
        try:
            publisher.create_publication(entry, now_ms)
        except UnusableEntry as error:
            raise UnusableEntry(
                f"{error}. Nothing was sent. A line that is to be a dead letter has the property"
                " $malformed (docs/reference/file-formats.md)"
            ) from None
        if done % 1000 == 0:
            progress(Step("checking lines", done, total))
    progress(Step("checking lines", total, total))


class _Sender:
    """Sends the records of a replay, and writes the broker's answers to the ledger."""

    def __init__(
        self,
        endpoints: Endpoints,
        ledger: Ledger,
        publisher: PublicationFactory,
        settings: ReplaySettings,
        contracts: Contracts,
        progress: Progress,
        producer: ProducerFactory,
    ) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._settings = settings
        self._progress = progress
        self._interactions = contracts.only(Role.INTERACTION)
        self._sent = 0
        self._reported = 0
        self._failed = 0
        self._first_failure = ""
        self._reports: list[DeliveryReport] = []
        self._fatal: KafkaError | None = None
        self._counts = dict.fromkeys(Kind, 0)
        self._producer = producer(
            endpoints.bootstrap_servers,
            {
                "client.id": "tunemesh-replay",
                "compression.type": "lz4",
                "linger.ms": 5,
                "queue.buffering.max.messages": 100_000,
                "error_cb": self._on_error,
            },
        )

    def run(
        self, source: Source, run: str, before_interactions: Callable[[], object]
    ) -> ReplaySummary:
        """Send dimension records, wait for the settling time, send interactions."""
        for chunk in _chunks(source.dimensions(), self._interactions.name, _CHUNK):
            self._send(chunk)
            self._progress(Step("users and items", self._sent, source.dimension_count))
        dimensions = self._sent
        self._wait_acknowledged()
        self._progress(Step("users and items", dimensions, dimensions))
        self._wait(self._settings.settle, "users and items")
        before_interactions()
        began = time.monotonic()
        interactions, updates = self._send_stream(source)
        seconds = max(time.monotonic() - began, 1e-6)
        if self._failed:
            raise ReplayError(
                f"the broker rejected {self._failed:,} records, the first: {self._first_failure}."
                f" See {self._ledger.path}"
            )
        return ReplaySummary(
            run=run,
            ledger=self._ledger.path,
            dimensions=dimensions,
            updates=updates,
            interactions=interactions,
            valid=self._counts[Kind.VALID],
            duplicates=self._counts[Kind.DUPLICATE],
            malformed=self._counts[Kind.MALFORMED],
            seconds=seconds,
            events_per_second=interactions / seconds,
        )

    def _send_stream(self, source: Source) -> tuple[int, int]:
        rate = self._settings.rate
        total = source.stream_count
        # Some 100 chunks a second: at low rates each record is sent alone, at its time.
        chunk_size = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 100)))
        began = time.monotonic()
        interactions = updates = 0
        is_settled = True
        for chunk in _chunks(source.stream(), self._interactions.name, chunk_size):
            if chunk[0].domain != self._interactions.name:
                # No interaction overtakes an update.
                self._send(chunk)
                self._wait_acknowledged()
                updates += len(chunk)
                is_settled = False
                continue
            if not is_settled:
                self._wait(self._settings.update_settle, "an update")
                is_settled = True
            if rate is not None:
                self._wait_until(began + interactions / rate)
            self._send(chunk)
            interactions += len(chunk)
            self._progress(Step("interactions", interactions + updates, total))
        self._wait_acknowledged()
        self._progress(Step("interactions", interactions + updates, interactions + updates))
        return interactions, updates

    def _send(self, entries: list[Entry]) -> None:
        now_ms = clock.now_ms()
        publications = [self._publisher.create_publication(entry, now_ms) for entry in entries]
        first = self._sent + 1
        self._ledger.record_sent(first, publications)
        for seq, publication in enumerate(publications, first):
            self._produce(seq, publication)
        self._producer.poll(0)
        while self._sent - self._reported >= MAX_IN_FLIGHT:
            self._producer.poll(0.05)
            self._raise_fatal()
        self._raise_fatal()
        if len(self._reports) >= _CHUNK:
            self.write_reports()

    def _produce(self, seq: int, publication: Publication) -> None:
        try:
            produce(
                self._producer,
                publication.topic,
                key=publication.key,
                value=publication.value,
                on_delivery=functools.partial(self._on_delivery, seq),
            )
        except KafkaException as error:
            self._raise_fatal()
            raise ReplayError(f"topic {publication.topic}: {error.args[0]}") from None
        self._sent = seq
        self._counts[publication.kind] += 1

    def _on_delivery(self, seq: int, error: KafkaError | None, message: Message) -> None:
        self._reported += 1
        if error is not None:
            self._failed += 1
            self._first_failure = self._first_failure or str(error)
            self._reports.append(DeliveryReport(seq, None, None, None, str(error)))
            return
        self._reports.append(
            DeliveryReport(seq, message.partition(), message.offset(), message.timestamp()[1])
        )

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise ReplayError(f"the producer failed: {self._fatal}")

    def _wait_acknowledged(self) -> None:
        self.flush(FLUSH_SECONDS)
        if self._reported < self._sent:
            raise ReplayError(
                f"{self._sent - self._reported:,} records were not acknowledged within"
                f" {FLUSH_SECONDS:.0f} s. Is Kafka running? See: tunemesh status"
            )

    def flush(self, seconds: float) -> None:
        """Wait for the broker's answers, and write them to the ledger."""
        self._producer.flush(seconds)
        self._raise_fatal()
        self.write_reports()

    def write_reports(self) -> None:
        """Write the broker's answers so far to the ledger."""
        if self._reports:
            reports, self._reports = self._reports, []
            self._ledger.record_reports(reports)

    def _wait_until(self, end: float) -> None:
        while (left := end - time.monotonic()) > 0:
            # poll() serves delivery reports while it waits.
            self._producer.poll(min(left, 0.2))
            if left > 0.05:
                self.write_reports()

    def _wait(self, seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._progress(Step(f"waiting for {what} to settle", note=f"{left:.0f} s"))
            self._wait_until(min(end, time.monotonic() + 0.5))


def _chunks(entries: Iterable[Entry], interactions: str, size: int) -> Iterator[list[Entry]]:
    """Yield chunks of either interactions or dimension records."""
    chunk: list[Entry] = []
    for entry in entries:
        same = bool(chunk) and (chunk[0].domain == interactions) == (entry.domain == interactions)
        if chunk and (not same or len(chunk) >= size):
            yield chunk
            chunk = []
        chunk.append(entry)
    if chunk:
        yield chunk
