"""Measures the latency from publication to the enriched record and to acceptance by Personalize.

It needs a running platform with the product's job (`tunemesh up`, `tunemesh submit`). It publishes
interactions at a steady rate and reads when the broker appended the enriched record (LogAppendTime)
and when the emulator of Personalize stored the event (accepted_at). All clocks are this machine's;
the resolution is a millisecond. The result is added to bench-latency.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
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
    """Publishes users, songs and interactions with unique ids."""

    def __init__(self, bootstrap: str, contracts: Contracts, registry: GlueRegistry) -> None:
        self._contracts = contracts
        self._producer = create_producer(bootstrap, {"linger.ms": 0})
        self._encoders = {
            name: Encoder(contracts[name], registry.version_id(contracts[name]))
            for name in ("users", "songs", "interactions")
        }
        self._mark = uuid4().hex[:8]

    def publish_dimensions(self) -> None:
        """Publish the users and songs of the interactions."""
        for number in range(LISTENERS):
            user, song = self._user(number), self._song(number)
            self._publish("users", user, user_id=user, country="IT", deleted=False)
            self._publish(
                "songs", song, song_id=song, title=f"Song {number}", genres=["rock"], deleted=False
            )
        self.flush()

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
            session_id=f"session-{self._mark}-{listener}",
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
        return f"latency-{self._mark}-u{number}"

    def _song(self, number: int) -> str:
        return f"latency-{self._mark}-s{number}"

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


def measure(rate: float, seconds: float, warm_up_seconds: float) -> dict[str, Any]:
    """Publish at a rate and wait until all events have arrived, or for the timeout."""
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
    publisher.publish_dimensions()
    time.sleep(SETTLE_SECONDS)
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
    options = parser.parse_args(arguments)
    result = measure(options.rate, options.seconds, options.warm_up)
    for name in ("enriched", "accepted"):
        latency = result[name]
        print(
            f"{name:<10} p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms, max"
            f" {latency['max_ms']} ms; {latency['arrived']} of {result['published']} arrived"
        )
    path = LocalSettings.from_environment(os.environ).reports / "bench-latency.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    write_report(path, {**report, f"rate_{options.rate:g}": result})
    print(path)
    return 0 if result["enriched"]["missing"] == result["accepted"]["missing"] == 0 else 1


if __name__ == "__main__":
    run("bench-latency", main)
