"""Measures the throughput of the sink engine: Personalize, OpenSearch and Firehose.

Personalize is the emulator, with a response time of 20 ms and the quotas of the service: PutEvents
with one event per session, the same with 30% of the calls throttled, the loop of the AWS samples
with one call per event, and PutItems. OpenSearch is compared with parallel_bulk of opensearch-py,
Firehose with loops of boto3 calls. Every run checks the stored records. All services are started on
free ports. The report is bench-delivery.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import boto3
from botocore.config import Config

from benchmarks import archive, search
from benchmarks.backlog import CALLERS, deliver, require, show
from benchmarks.command import describe_machine, run
from benchmarks.measure import busiest_second
from benchmarks.personalize import (
    QUOTAS,
    RESOURCES,
    RESPONSE_SECONDS,
    Personalize,
    run_personalize,
)
from benchmarks.services import run_empty
from connectors.aws import Answer, NoAnswer, SignedJsonClient
from connectors.clock import now_ms
from connectors.delivery import Delivered, Superseded
from connectors.files import write_report
from connectors.personalize import (
    ITEMS,
    DatasetRecord,
    PutDatasetSettings,
    PutEventsDestination,
    PutEventsSettings,
    PutRecordsDestination,
    dataset_fields,
)
from connectors.personalize.client import events_client
from deploy.local import opensearch, process, python_servers
from deploy.local.settings import LocalSettings
from schemas.codec import Record
from schemas.model import load_contracts

THROTTLED_SHARE = 0.3
EVENTS_QUOTA, ITEMS_QUOTA = QUOTAS["PutEvents"], QUOTAS["PutItems"]
ITEMS_PER_CALL = 10
UPDATES_PER_SONG = 5
CONNECTIONS = 80


class TimedClient:
    """The product's client, which records the time of each call."""

    def __init__(self, client: SignedJsonClient) -> None:
        self._client = client
        self.started: list[float] = []

    async def post(self, path: str, body: bytes) -> tuple[Answer | NoAnswer, int]:
        self.started.append(time.monotonic())
        return await self._client.post(path, body)

    async def renew_credentials(self, refused: int) -> None:
        await self._client.renew_credentials(refused)

    async def close(self) -> None:
        await self._client.close()


def event(mark: str, number: int) -> Record:
    """Return an enriched interaction in a session of its own."""
    return {
        "event_id": f"{mark}-{number}",
        "user_id": f"{mark}-u{number}",
        "session_id": f"{mark}-s{number}",
        "item_id": f"song-{number % 1_000}",
        "item_type": "song",
        "event_type": "play",
        "played_ms": 90_000,
        "device": "ios",
        "occurred_at": 1_764_000_000_000 + number,
        "user": {"country": "IS", "subscription": "premium"},
        "item": {"genres": ["art pop", "electronic"], "duration_ms": 180_000},
    }


def update(song: int, version: int) -> DatasetRecord:
    """Return an update of a song, whose properties have the version."""
    record = {
        "item_type": "song",
        "title": f"Song {song}, version {version}",
        "creator": "Artist",
        "genres": ["art pop", "electronic"],
        "duration_ms": version,
        "language": "is",
        "created_at": 875_000_000_000,
        "origin": f"songs/0/{version}",
    }
    return DatasetRecord(f"song-{song}", (version, version), record)


def updates(songs: int, seed: int = 6) -> list[DatasetRecord]:
    """Return updates in the order of their versions: at least one per song, five on average."""
    random = Random(seed)
    order = list(range(songs))
    order += random.choices(range(songs), k=(UPDATES_PER_SONG - 1) * songs)
    random.shuffle(order)
    return [update(song, version) for version, song in enumerate(order)]


def put_events(
    service: Personalize, mark: str, events: int, *, throttled: float = 0.0
) -> dict[str, Any]:
    """Deliver a backlog of events and check what the service has stored."""
    service.set_responses("PutEvents", throttled=throttled)
    before = service.count_calls("PutEvents")
    client = _client(service, CONNECTIONS)
    destination = PutEventsDestination(
        client,
        PutEventsSettings(
            RESOURCES.tracking_id, RESOURCES.region, service.url, max_in_flight=CONNECTIONS
        ),
    )
    backlog = [event(mark, number) for number in range(events + CONNECTIONS)]
    outcomes, seconds, metrics = deliver(
        destination, backlog[CONNECTIONS:], warm_up=backlog[:CONNECTIONS]
    )
    require(outcomes == [Delivered()] * events, f"{mark}: not every event was delivered")
    after = service.count_calls("PutEvents")
    stored = Counter(
        row["event_id"] for row in service.rows("events") if row["event_id"].startswith(f"{mark}-")
    )
    require(
        stored == Counter(record["event_id"] for record in backlog),
        f"{mark}: the service does not hold exactly each event once",
    )
    # Calls are counted on both sides: none was missed by the client's clock.
    calls = after["calls"] - before["calls"]
    sent = len(client.started)
    require(calls == sent, f"{mark}: {calls} calls arrived, {sent} were sent")
    return {
        "events": events,
        "seconds": round(seconds, 3),
        "calls": calls,
        "accepted_per_second": round(events / seconds, 1),
        "busiest_second": busiest_second(client.started),
        "throttled_by_the_quota": after["throttled"] - before["throttled"],
        "throttled_by_the_fault": metrics["throttled"],
        "call_ms_mean": round(metrics["call_latency_mean"] * 1_000, 1),
        "cpu_seconds": metrics["cpu_seconds"],
    }


def run_sample_loop(service: Personalize, mark: str, seconds: float) -> dict[str, Any]:
    """Put events as the AWS samples do: boto3, one call per event, in one thread."""
    service.set_responses("PutEvents")
    client = boto3.client(
        "personalize-events", endpoint_url=service.url, config=Config(retries={"mode": "standard"})
    )
    started, number = time.monotonic(), 0
    while (passed := time.monotonic() - started) < seconds:
        record = event(mark, number)
        client.put_events(
            trackingId=RESOURCES.tracking_id,
            userId=record["user_id"],
            sessionId=record["session_id"],
            eventList=[
                {
                    "eventId": record["event_id"],
                    "eventType": record["event_type"],
                    "itemId": record["item_id"],
                    "sentAt": record["occurred_at"] / 1_000,
                }
            ],
        )
        number += 1
    return {
        "events": number,
        "seconds": round(passed, 3),
        "accepted_per_second": round(number / passed, 1),
    }


def put_items(service: Personalize, songs: int) -> dict[str, Any]:
    """Deliver a backlog of updates of songs and check what the service has stored."""
    service.set_responses("PutItems")
    client = _client(service, CONNECTIONS)
    destination = PutRecordsDestination(
        client,
        ITEMS,
        PutDatasetSettings(RESOURCES.dataset("ITEMS"), RESOURCES.region),
        dataset_fields(load_contracts(), ITEMS),
    )
    backlog = updates(songs)
    # All records are handed over at once: waiting ones can be superseded.
    outcomes, seconds, metrics = deliver(
        destination, backlog, micro_batch=-(-len(backlog) // CALLERS)
    )
    counted = Counter(map(type, outcomes))
    require(
        counted.keys() <= {Delivered, Superseded} and counted.total() == len(backlog),
        f"PutItems: unexpected outcomes: {counted}",
    )
    stored = {row["item_id"]: json.loads(row["properties"]) for row in service.rows("items")}
    newest = {record.id: record.version[0] for record in backlog}
    require(
        {id: properties["durationMs"] for id, properties in stored.items()} == newest,
        "PutItems: the service does not hold exactly the newest version of each song",
    )
    counts = service.count_calls("PutItems")
    return {
        "updates": len(backlog),
        "songs": songs,
        "seconds": round(seconds, 3),
        "records_sent": counted[Delivered],
        "superseded": counted[Superseded],
        "calls": counts["calls"],
        "busiest_second": busiest_second(client.started),
        "throttled_by_the_quota": counts["throttled"],
        "cpu_seconds": metrics["cpu_seconds"],
    }


def measure_personalize(folder: Path, quick: bool) -> dict[str, Any]:
    """Measure PutEvents and PutItems."""
    seconds = 4.0 if quick else 21.0
    songs = 200 if quick else 2_000
    with run_personalize(folder) as service:
        backlog = put_events(service, "quota", int(EVENTS_QUOTA * seconds))
        show("PutEvents", backlog)
        loop = run_sample_loop(service, "loop", seconds / 4)
        show("boto3, one call per event", loop)
        possible = EVENTS_QUOTA * (1 - THROTTLED_SHARE)
        throttled = put_events(
            service, "trouble", int(possible * seconds), throttled=THROTTLED_SHARE
        )
        show(f"PutEvents, {THROTTLED_SHARE:.0%} throttled", throttled)
        items = put_items(service, songs)
        show("PutItems", items)
    min_seconds = songs / (ITEMS_QUOTA * ITEMS_PER_CALL)
    return {
        "putevents_quota_ratio": round(backlog["accepted_per_second"] / EVENTS_QUOTA, 4),
        "throttled_goodput_ratio": round(throttled["accepted_per_second"] / possible, 4),
        "putitems_drain_ratio": round(items["seconds"] / min_seconds, 4),
        "sample_loop_ratio": round(backlog["accepted_per_second"] / loop["accepted_per_second"], 1),
        "never_above_the_quota": all(
            run["busiest_second"] <= quota and run["throttled_by_the_quota"] == 0
            for run, quota in (
                (backlog, EVENTS_QUOTA),
                (throttled, EVENTS_QUOTA),
                (items, ITEMS_QUOTA),
            )
        ),
        "put_events": backlog,
        "put_events_throttled": throttled,
        "sample_loop": loop,
        "put_items": items,
        "answer_ms": RESPONSE_SECONDS * 1_000,
    }


def measure_analytics(folder: Path, quick: bool) -> dict[str, Any]:
    """Measure OpenSearch and Firehose."""
    documents, loop_seconds = (15_000, 2.0) if quick else (90_000, 8.0)
    with run_empty(folder, opensearch.NAME, python_servers.AWS) as settings:
        record = process.read_record(settings, opensearch.NAME)
        assert record is not None, "OpenSearch runs"
        node = search.Node(settings.opensearch.url, record.pid)
        searched = search.measure(node, folder, documents)
        archived = archive.measure(settings.aws.url, search.backlog(documents), loop_seconds)
    return {
        "opensearch_ratio": searched.pop("opensearch_ratio"),
        "firehose_ratio": archived.pop("firehose_ratio"),
        "firehose_batch_loop_ratio": archived.pop("firehose_batch_loop_ratio"),
        "opensearch": searched,
        "firehose": archived,
    }


SECTIONS = {"personalize": measure_personalize, "analytics": measure_analytics}
RATIOS = (
    "putevents_quota_ratio",
    "throttled_goodput_ratio",
    "putitems_drain_ratio",
    "sample_loop_ratio",
    "never_above_the_quota",
    "opensearch_ratio",
    "firehose_ratio",
    "firehose_batch_loop_ratio",
)


def _client(service: Personalize, connections: int) -> TimedClient:
    return TimedClient(events_client(RESOURCES.region, service.url, connections, 10.0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the report; returns 0 unless the quota was exceeded."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a fifth of the time; not precise enough to compare"
    )
    parser.add_argument(
        "--only", choices=SECTIONS, help="measure one half and print it, without a report"
    )
    options = parser.parse_args(arguments)
    settings = LocalSettings.from_environment(os.environ)
    report: dict[str, Any] = {}
    for name in [options.only] if options.only else SECTIONS:
        report |= SECTIONS[name](settings.home / "bench-delivery", options.quick)
    report = {key: report[key] for key in RATIOS if key in report} | report
    for key in RATIOS:
        if key in report:
            print(f"{key:<26} {report[key]}")
    if options.only:
        return 0
    report |= {
        "quick": options.quick,
        "machine": describe_machine(),
        "finished_ms": now_ms(),
    }
    path = settings.reports / "bench-delivery.json"
    write_report(path, report)
    print(path)
    return 0 if report["never_above_the_quota"] else 1


if __name__ == "__main__":
    run("bench-delivery", main)
