"""``python -m benchmarks.latency``: from publication to enriched and to accepted, in milliseconds.

Measures a platform that runs, with the product's job in it (`tunemesh up`, then the job): publishes
interactions at a steady rate and reads, for each of them, when the broker appended its enriched
record (LogAppendTime) and when the local Personalize made it durable (accepted_at). All clocks are
this machine's. Resolution: a millisecond.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.errors import BenchmarkError
from benchmarks.measure import percentile
from benchmarks.topics import Topics
from connectors.glue.registry import GlueRegistry
from deploy.local.endpoints import local_endpoints
from deploy.local.settings import LocalSettings, aws_environment
from schemas import wire
from schemas.codec import Encoder, parse_plain
from schemas.errors import TunemeshError
from schemas.model import Contracts, Role, load_contracts
from verification.personalize_events import PersonalizeReader

LISTENERS = 200
# What a dimension may take to the joins before an event must find it (the product's promise).
SETTLE_SECONDS = 5.0
LATE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Latencies of one stage: how many events arrived there, and after how many milliseconds."""

    arrived: int
    missing: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


def stage(published_ms: Mapping[str, float], arrived_ms: Mapping[str, float]) -> Stage:
    """Latencies by event_id; a negative one, by the clocks' resolution, counts as 0."""
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
    """Publishes users, songs and interactions of its own, with ids that nobody else has."""

    def __init__(self, bootstrap: str, contracts: Contracts, registry: GlueRegistry) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
        self._encoders = {
            name: Encoder(contracts[name], registry.version_id(contracts[name]))
            for name in ("users", "songs", "interactions")
        }
        self._mark = uuid4().hex[:8]

    def dimensions(self) -> None:
        """Publish the users and songs that the interactions will be about."""
        for number in range(LISTENERS):
            user = {"user_id": self._user(number), "country": "IT", "subscription": "premium"}
            self._send("users", user["user_id"], self._filled("users", user))
            song = {"song_id": self._song(number), "title": f"Song {number}", "genres": ["rock"]}
            self._send("songs", self._song(number), self._filled("songs", song))
        self._producer.flush()

    def interaction(self, number: int) -> tuple[str, float]:
        """Publish one interaction; its event_id and the moment, in milliseconds."""
        event_id = str(uuid4())
        now = time.time_ns() / 1e6
        listener = number % LISTENERS
        record = {
            "event_id": event_id,
            "user_id": self._user(listener),
            "session_id": f"session-{self._mark}-{listener}",
            "item_id": self._song(number * 7 % LISTENERS),
            "event_type": "play",
            "occurred_at": int(now),
        }
        self._send("interactions", self._user(listener), self._filled("interactions", record))
        return event_id, now

    def poll(self) -> None:
        """Let the client do its work."""
        self._producer.poll(0)

    def close(self) -> None:
        """Wait until everything is with the broker."""
        self._producer.flush()

    def _user(self, number: int) -> str:
        return f"latency-{self._mark}-u{number}"

    def _song(self, number: int) -> str:
        return f"latency-{self._mark}-s{number}"

    def _filled(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        empty: dict[str, dict[str, Any]] = {
            "users": {"age_band": None, "created_at": None, "updated_at": None, "deleted": False},
            "songs": {
                "artist": None,
                "duration_seconds": None,
                "released_at": None,
                "updated_at": None,
                "deleted": False,
            },
            "interactions": {
                "item_type": "song",
                "played_ms": None,
                "device": None,
                "recommendation_id": None,
                "impression": None,
            },
        }
        return {**empty[name], **given}

    def _send(self, topic: str, key: str, record: Mapping[str, Any]) -> None:
        self._producer.produce(topic, self._encoders[topic].encode(record), key)


class EnrichedReader:
    """Reads interactions-enriched from its end at the time when it is made."""

    def __init__(self, bootstrap: str, contracts: Contracts) -> None:
        contract = contracts.only(Role.ENRICHED)
        self._schema = parse_plain(contract.newest.definition)
        topics = Topics(bootstrap)
        if contract.topic not in topics.names():
            raise BenchmarkError(
                f"there is no topic {contract.topic} at {bootstrap}: start the platform and the job"
            )
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "bench-latency", "fetch.wait.max.ms": 50}
        )
        ends = topics.ends([contract.topic])
        self._consumer.assign([TopicPartition(name, p, end) for (name, p), end in ends.items()])
        topics.close()

    def arrived(self) -> dict[str, float]:
        """event_id and append time of what has come since the last call, without its joins."""
        found = {}
        for message in self._consumer.consume(10_000, 0.5):
            if message.error() is None:
                body = io.BytesIO(message.value()[wire.HEADER_SIZE :])
                record: Any = fastavro.schemaless_reader(body, self._schema, None)
                found[record["event_id"]] = float(message.timestamp()[1])
        return found

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


def publish_at_rate(
    publish: Callable[[int], tuple[str, float]],
    rate: float,
    seconds: float,
    idle: Callable[[], None],
) -> dict[str, float]:
    """Publish ``rate`` times a second for so long; the moments by event_id, in milliseconds.

    The schedule is fixed at the start: a late one is followed at once by the next, so that a stall
    is measured and not skipped.
    """
    begun = time.monotonic()
    published = {}
    for number in range(max(1, int(rate * seconds))):
        due = begun + number / rate
        while (wait := due - time.monotonic()) > 0:
            idle()
            time.sleep(min(wait, 0.05))
        event_id, at = publish(number)
        published[event_id] = at
        idle()
    return published


def measure(rate: float, seconds: float, warm_up_seconds: float) -> dict[str, Any]:
    """Publish at that rate and wait until everything has arrived, or for a minute."""
    settings = LocalSettings.from_environment(os.environ)
    os.environ.update(aws_environment(settings))
    endpoints = local_endpoints(settings)
    contracts = load_contracts()
    registry = GlueRegistry.connect(
        endpoints.region, endpoints.registry_endpoint, endpoints.registry_name
    )
    publisher = Publisher(endpoints.bootstrap_servers, contracts, registry)
    enriched = EnrichedReader(endpoints.bootstrap_servers, contracts)
    personalize = PersonalizeReader(endpoints.personalize or settings.personalize.url)
    publisher.dimensions()
    time.sleep(SETTLE_SECONDS)
    if warm_up_seconds:
        publish_at_rate(publisher.interaction, rate, warm_up_seconds, publisher.poll)
    published = publish_at_rate(publisher.interaction, rate, seconds, publisher.poll)
    publisher.close()
    appended: dict[str, float] = {}
    accepted: dict[str, float] = {}
    deadline = time.monotonic() + LATE_SECONDS
    while time.monotonic() < deadline:
        appended |= enriched.arrived()
        accepted |= {event.event_id: float(event.accepted_ms) for event in personalize.accepted()}
        if published.keys() <= appended.keys() and published.keys() <= accepted.keys():
            break
    enriched.close()
    return {
        "rate": rate,
        "seconds": seconds,
        "published": len(published),
        "enriched": asdict(stage(published, appended)),
        "accepted": asdict(stage(published, accepted)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, add to the report; 0 when every event arrived at both ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=10.0, help="seconds that do not count")
    options = parser.parse_args(arguments)
    found = measure(options.rate, options.seconds, options.warm_up)
    for name in ("enriched", "accepted"):
        result = found[name]
        print(
            f"{name:<10} p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms, max"
            f" {result['max_ms']} ms; {result['arrived']} of {found['published']} arrived"
        )
    home = LocalSettings.from_environment(os.environ).home
    path = home / "reports" / "bench-latency.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = json.loads(path.read_text()) if path.exists() else {}
    report[f"rate_{options.rate:g}"] = found
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(path)
    return 0 if found["enriched"]["missing"] == found["accepted"]["missing"] == 0 else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TunemeshError as failure:
        sys.exit(f"bench-latency: {failure}")
    except KeyboardInterrupt:
        sys.exit("bench-latency: stopped")
