"""Measures the latency from publication to the enriched record and to acceptance by Personalize.

It needs a running platform with the product's job (`tunemesh up`, `tunemesh submit`). It publishes
interactions at a steady rate and reads when the broker appended the enriched record (LogAppendTime)
and when the emulator of Personalize stored the event (accepted_at). All clocks are this machine's;
the resolution is a millisecond. It measures without updates of users and songs, beside updates by a
plain producer, and by one that publishes each in a transaction. The results are added to
bench-latency.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from benchmarks.command import run
from benchmarks.measure import percentile
from connectors.files import write_report
from connectors.glue.registry import GlueRegistry
from deploy.local.endpoints import local_endpoints
from deploy.local.settings import LocalSettings, aws_environment
from schemas.codec import Encoder, decode_body, parse_plain
from schemas.model import Contracts, Role, load_contracts
from schemas.wire import HEADER_SIZE
from verification.personalize_events import PersonalizeReader
from verification.positions import TopicReader, create_producer, produce, topic_ends

NONE, PLAIN, TRANSACTIONAL = UPDATES = ("none", "plain", "transactional")
"""Whether users and songs are updated meanwhile, and by which kind of producer."""

LISTENERS = 200
SETTLE_SECONDS = 5.0
"""The product's bound for a dimension record to be available to interactions."""

TIMEOUT_SECONDS = 60.0
"""For events to arrive after the last publication."""

POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Stage:
    """The latencies of a stage in milliseconds, and the number of events."""

    arrived: int
    missing: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


def stage(published_ms: Mapping[str, float], arrived_ms: Mapping[str, float]) -> Stage:
    """Return the latencies of a stage from times by event_id; negative latencies count as 0."""
    waits = [max(0.0, arrived_ms[id] - at) for id, at in published_ms.items() if id in arrived_ms]
    if not waits:
        return Stage(0, len(published_ms), None, None, None)
    return Stage(
        arrived=len(waits),
        missing=len(published_ms) - len(waits),
        p50_ms=round(percentile(waits, 0.5), 1),
        p99_ms=round(percentile(waits, 0.99), 1),
        max_ms=round(max(waits), 1),
    )


class Publisher:
    """Publishes users, songs and interactions with unique ids.

    ``mark``: part of the ids, for a publisher that updates the users and songs of another one.
    ``transactional``: each :meth:`publish_update` is a transaction.
    """

    def __init__(
        self,
        bootstrap: str,
        contracts: Contracts,
        registry: GlueRegistry,
        *,
        mark: str = "",
        transactional: bool = False,
    ) -> None:
        self._contracts = contracts
        self.mark = mark or uuid4().hex[:8]
        self._transactional = transactional
        transactions = {"transactional.id": f"latency-{uuid4()}"} if transactional else {}
        self._producer = create_producer(bootstrap, {"linger.ms": 0, **transactions})
        if transactional:
            self._producer.init_transactions(TIMEOUT_SECONDS)
        self._encoders = {
            name: Encoder(contracts[name], registry.version_id(contracts[name]))
            for name in ("users", "songs", "interactions")
        }

    def publish_dimensions(self) -> None:
        """Publish the users and songs of the interactions."""
        for number in range(LISTENERS):
            self._publish_dimension(number)
        self.flush()

    def publish_update(self, number: int) -> None:
        """Publish a new version of a user and of a song; returns when readers can see it."""
        if self._transactional:
            self._producer.begin_transaction()
        self._publish_dimension(number % LISTENERS, edition=number)
        if self._transactional:
            self._producer.commit_transaction(TIMEOUT_SECONDS)
        else:
            self.flush()

    def _publish_dimension(self, number: int, edition: int = 0) -> None:
        user, song, title = self._user(number), self._song(number), f"Song {number} ({edition})"
        self._publish("users", user, user_id=user, country="IT", deleted=False)
        self._publish("songs", song, song_id=song, title=title, genres=["rock"], deleted=False)

    def publish_interaction(self, number: int) -> tuple[str, float]:
        """Publish an interaction; returns its event_id and the time in milliseconds."""
        event_id = str(uuid4())
        now = time.time_ns() / 1e6
        listener = number % LISTENERS
        self._publish(
            "interactions",
            self._user(listener),
            event_id=event_id,
            user_id=self._user(listener),
            session_id=f"session-{self.mark}-{listener}",
            item_id=self._song(number * 7 % LISTENERS),
            item_type="song",
            event_type="play",
            occurred_at=int(now),
        )
        return event_id, now

    def poll(self) -> None:
        """Serve the client's callbacks."""
        self._producer.poll(0)

    def flush(self) -> None:
        """Return when the broker has stored all records."""
        self._producer.flush()

    def _user(self, number: int) -> str:
        return f"latency-{self.mark}-u{number}"

    def _song(self, number: int) -> str:
        return f"latency-{self.mark}-s{number}"

    def _publish(self, name: str, key: str, **fields: Any) -> None:
        record = dict.fromkeys(self._contracts[name].newest.field_names) | fields
        produce(self._producer, name, value=self._encoders[name].encode(record), key=key)


def publish_at_rate(
    publish: Callable[[int], tuple[str, float]],
    rate: float,
    seconds: float,
    idle: Callable[[], None],
) -> dict[str, float]:
    """Publish ``rate`` times per second; returns the times in milliseconds by event_id.

    The schedule is fixed at the start: a late publication is followed by the next one at once, so
    that a stall is measured and not skipped.
    """
    started = time.monotonic()
    published = {}
    for number in range(max(1, int(rate * seconds))):
        due = started + number / rate
        while (wait := due - time.monotonic()) > 0:
            idle()
            time.sleep(min(wait, 0.05))
        event_id, at = publish(number)
        published[event_id] = at
        idle()
    return published


@contextmanager
def updating(publisher: Publisher | None, rate: float) -> Iterator[None]:
    """Publish updates at a rate, in a thread, while the block runs; None: no updates."""
    ended = threading.Event()

    def publish() -> None:
        assert publisher is not None
        started = time.monotonic()
        for number in itertools.count():
            if ended.wait(max(0.0, started + number / rate - time.monotonic())):
                return
            publisher.publish_update(number)

    if publisher is None:
        yield
        return
    with ThreadPoolExecutor(1, thread_name_prefix="updates") as pool:
        running = pool.submit(publish)
        try:
            yield
        finally:
            ended.set()
        running.result()


def measure(
    rate: float, seconds: float, warm_up_seconds: float, updates: str, update_rate: float
) -> dict[str, Any]:
    """Publish at a rate and wait until all events have arrived, or for the timeout.

    ``updates`` is one of :data:`UPDATES`, of ``update_rate`` users and songs a second.
    """
    settings = LocalSettings.from_environment(os.environ)
    os.environ.update(aws_environment(settings))
    endpoints = local_endpoints(settings)
    contracts = load_contracts()
    registry = GlueRegistry.connect(
        endpoints.region, endpoints.registry_endpoint, endpoints.registry_name
    )
    publisher = Publisher(endpoints.bootstrap_servers, contracts, registry)
    contract = contracts.only(Role.ENRICHED)
    schema = parse_plain(contract.newest.definition)
    ends = topic_ends(endpoints.bootstrap_servers, [contract.topic])[contract.topic]
    personalize = PersonalizeReader(endpoints.personalize or settings.personalize.url)
    updater = None
    if updates != NONE:
        updater = Publisher(
            endpoints.bootstrap_servers,
            contracts,
            registry,
            mark=publisher.mark,
            transactional=updates == TRANSACTIONAL,
        )
    publisher.publish_dimensions()
    time.sleep(SETTLE_SECONDS)
    with updating(updater, update_rate):
        if warm_up_seconds:
            publish_at_rate(publisher.publish_interaction, rate, warm_up_seconds, publisher.poll)
        published = publish_at_rate(publisher.publish_interaction, rate, seconds, publisher.poll)
    publisher.flush()
    appended: dict[str, float] = {}
    accepted: dict[str, float] = {}
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with TopicReader(endpoints.bootstrap_servers, contract.topic, ends) as reader:
        while time.monotonic() < deadline:
            for message in reader.read():
                record = decode_body(schema, (message.value() or b"")[HEADER_SIZE:])
                appended[record["event_id"]] = float(message.timestamp()[1])
            accepted |= {e.event_id: float(e.accepted_ms) for e in personalize.accepted()}
            if published.keys() <= appended.keys() and published.keys() <= accepted.keys():
                break
            time.sleep(POLL_SECONDS)
    return {
        "rate": rate,
        "seconds": seconds,
        "updates": updates,
        "updates_per_second": 0 if updates == NONE else update_rate,
        "published": len(published),
        "enriched": asdict(stage(published, appended)),
        "accepted": asdict(stage(published, accepted)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and add to the report; returns 0 if every event arrived at both stages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument(
        "--rate", type=float, default=100.0, help="events per second, default %(default)s"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="default %(default)s")
    parser.add_argument(
        "--warm-up", type=float, default=10.0, help="unmeasured seconds, default %(default)s"
    )
    parser.add_argument(
        "--updates",
        type=lambda text: text.split(","),
        default=",".join(UPDATES),
        metavar="KINDS",
        help=f"updates of users and songs, one or more of {', '.join(UPDATES)}, measured one after"
        " the other; default all",
    )
    parser.add_argument(
        "--update-rate",
        type=float,
        default=10.0,
        help="updates of a user and a song per second, default %(default)s",
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.updates) - set(UPDATES):
        parser.error(f"--updates: unknown {', '.join(unknown)}, expected {', '.join(UPDATES)}")
    path = LocalSettings.from_environment(os.environ).reports / "bench-latency.json"
    missing = 0
    for updates in options.updates:
        result = measure(
            options.rate, options.seconds, options.warm_up, updates, options.update_rate
        )
        for name in ("enriched", "accepted"):
            latency = result[name]
            print(
                f"updates {updates:<13} {name:<8} p50 {latency['p50_ms']} ms,"
                f" p99 {latency['p99_ms']} ms, max {latency['max_ms']} ms;"
                f" {latency['arrived']} of {result['published']} arrived",
                flush=True,
            )
            missing += latency["missing"]
        report = json.loads(path.read_text()) if path.exists() else {}
        name = f"rate_{options.rate:g}" + ("" if updates == NONE else f"_{updates}")
        write_report(path, {**report, name: result})
    print(path)
    return 0 if missing == 0 else 1


if __name__ == "__main__":
    run("bench-latency", main)
