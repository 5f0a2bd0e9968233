"""``python -m benchmarks.delivery``: how well the sink engine uses what a destination allows.

Against the local Personalize in a process of its own, which answers in 20 ms and enforces the
service's quotas: PutEvents from a backlog of one-event sessions, the same with 30% of the calls
throttled, the one-call-an-event loop of the AWS samples beside it, and PutItems from a backlog of
updates. What the service holds afterwards is compared with what was handed over.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import boto3
from botocore.config import Config

from benchmarks import archive, parts, search
from benchmarks.backlog import SIDE_BY_SIDE, deliver, demand, say
from benchmarks.measure import busiest_second
from benchmarks.personalize import ANSWER_SECONDS, QUOTAS, RESOURCES, LocalPersonalize
from benchmarks.personalize import local_personalize as running
from connectors.aws import Answer, NoAnswer, SignedJsonClient
from connectors.clock import now_ms
from connectors.delivery import Delivered, Superseded
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
from deploy.local.settings import LocalSettings
from schemas.codec import Record
from schemas.errors import TunemeshError
from schemas.model import load_contracts

THROTTLED = 0.3
EVENTS_QUOTA, ITEMS_QUOTA = QUOTAS["PutEvents"], QUOTAS["PutItems"]
ITEMS_A_CALL = 10
UPDATES_A_SONG = 5
CONNECTIONS = 80


class TimedClient:
    """The product's client; notes when each call was made."""

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
    """An enriched interaction in a session of its own."""
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
    """The `version`-th update of a song, which says so."""
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
    """Five updates a song on average, each song at least one, in the order of their versions."""
    random = Random(seed)
    order = list(range(songs))
    order += random.choices(range(songs), k=(UPDATES_A_SONG - 1) * songs)
    random.shuffle(order)
    return [update(song, version) for version, song in enumerate(order)]


def put_events(
    service: LocalPersonalize, mark: str, events: int, *, throttled: float = 0.0
) -> dict[str, Any]:
    """Deliver a backlog; `seconds` from the first hand-over to the last outcome.

    A few events go before, unmeasured: they open connections and read credentials.
    """
    service.answer("PutEvents", throttled=throttled)
    before = service.calls("PutEvents")
    client = _client(service, CONNECTIONS)
    destination = PutEventsDestination(
        client,
        PutEventsSettings(
            RESOURCES.tracking_id, RESOURCES.region, service.url, max_in_flight=CONNECTIONS
        ),
    )
    backlog = [event(mark, number) for number in range(events + CONNECTIONS)]
    outcomes, seconds, metrics = deliver(
        destination, backlog[CONNECTIONS:], before=backlog[:CONNECTIONS]
    )
    demand(outcomes == [Delivered()] * events, f"{mark}: not every event was delivered")
    after = service.calls("PutEvents")
    stored = Counter(
        row["event_id"] for row in service.rows("events") if row["event_id"].startswith(f"{mark}-")
    )
    demand(
        stored == Counter(one["event_id"] for one in backlog),
        f"{mark}: the service does not hold each event once, and nothing else",
    )
    # Connections are counted on both sides: no call went past the clock.
    made = after["calls"] - before["calls"]
    demand(made == len(client.started), f"{mark}: {made} calls arrived, {len(client.started)} made")
    return {
        "events": events,
        "seconds": round(seconds, 3),
        "calls": made,
        "accepted_per_second": round(events / seconds, 1),
        "busiest_second": busiest_second(client.started),
        "throttled_by_the_quota": after["throttled"] - before["throttled"],
        "throttled_by_the_fault": metrics["throttled"],
        "call_ms_mean": round(metrics["call_latency_mean"] * 1_000, 1),
        "cpu_seconds": metrics["cpu_seconds"],
    }


def sample_loop(service: LocalPersonalize, mark: str, seconds: float) -> dict[str, Any]:
    """What the AWS samples do: boto3, a call an event, one after the other."""
    service.answer("PutEvents")
    client = boto3.client(
        "personalize-events", endpoint_url=service.url, config=Config(retries={"mode": "standard"})
    )
    begun, number = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < seconds:
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


def put_items(service: LocalPersonalize, songs: int) -> dict[str, Any]:
    """Deliver a backlog of updates of songs, by callers side by side."""
    service.answer("PutItems")
    client = _client(service, CONNECTIONS)
    destination = PutRecordsDestination(
        client,
        ITEMS,
        PutDatasetSettings(RESOURCES.dataset("ITEMS"), RESOURCES.region),
        dataset_fields(load_contracts(), ITEMS),
    )
    backlog = updates(songs)
    # All of it at once, so that the burst is one: what waits is what can be replaced.
    outcomes, seconds, metrics = deliver(
        destination, backlog, micro_batch=-(-len(backlog) // SIDE_BY_SIDE)
    )
    counted = Counter(map(type, outcomes))
    demand(
        counted.keys() <= {Delivered, Superseded} and counted.total() == len(backlog),
        f"PutItems: unexpected outcomes: {counted}",
    )
    held = {row["item_id"]: json.loads(row["properties"]) for row in service.rows("items")}
    newest = {record.id: record.version[0] for record in backlog}
    demand(
        {id: properties["durationMs"] for id, properties in held.items()} == newest,
        "PutItems: the service does not hold the newest version of each song, and nothing else",
    )
    counts = service.calls("PutItems")
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


def personalize(folder: Path, quick: bool) -> dict[str, Any]:
    """The figures of PutEvents and PutItems."""
    seconds = 4.0 if quick else 21.0
    songs = 200 if quick else 2_000
    with running(folder) as service:
        backlog = put_events(service, "quota", int(EVENTS_QUOTA * seconds))
        say("PutEvents", backlog)
        loop = sample_loop(service, "loop", seconds / 4)
        say("boto3, a call an event", loop)
        possible = EVENTS_QUOTA * (1 - THROTTLED)
        trouble = put_events(service, "trouble", int(possible * seconds), throttled=THROTTLED)
        say(f"PutEvents, {THROTTLED:.0%} throttled", trouble)
        items = put_items(service, songs)
        say("PutItems", items)
    least = songs / (ITEMS_QUOTA * ITEMS_A_CALL)
    return {
        "putevents_quota_ratio": round(backlog["accepted_per_second"] / EVENTS_QUOTA, 4),
        "throttled_goodput_ratio": round(trouble["accepted_per_second"] / possible, 4),
        "putitems_drain_ratio": round(items["seconds"] / least, 4),
        "sample_loop_ratio": round(backlog["accepted_per_second"] / loop["accepted_per_second"], 1),
        "never_above_the_quota": all(
            run["busiest_second"] <= quota and run["throttled_by_the_quota"] == 0
            for run, quota in (
                (backlog, EVENTS_QUOTA),
                (trouble, EVENTS_QUOTA),
                (items, ITEMS_QUOTA),
            )
        ),
        "put_events": backlog,
        "put_events_throttled": trouble,
        "sample_loop": loop,
        "put_items": items,
        "answer_ms": ANSWER_SECONDS * 1_000,
    }


def analytics(folder: Path, quick: bool) -> dict[str, Any]:
    """The figures of OpenSearch and Firehose."""
    documents, loop_seconds = (15_000, 2.0) if quick else (90_000, 8.0)
    with parts.analytics(folder) as (settings, opensearch_pid):
        node = search.Node(settings.opensearch.url, opensearch_pid)
        searched = search.measure(node, folder, documents)
        archived = archive.measure(settings.aws.url, search.backlog(documents), loop_seconds)
    return {
        "opensearch_ratio": searched.pop("opensearch_ratio"),
        "firehose_ratio": archived.pop("firehose_ratio"),
        "firehose_batch_loop_ratio": archived.pop("firehose_batch_loop_ratio"),
        "opensearch": searched,
        "firehose": archived,
    }


SECTIONS = {"personalize": personalize, "analytics": analytics}
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


def _client(service: LocalPersonalize, connections: int) -> TimedClient:
    return TimedClient(events_client(RESOURCES.region, service.url, connections, 10.0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the report; 0 when no second had more calls than the quota."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a fifth of the time; too short to judge by"
    )
    parser.add_argument(
        "--only", choices=SECTIONS, help="one half, printed: the report has both or stays as it is"
    )
    options = parser.parse_args(arguments)
    home = LocalSettings.from_environment(os.environ).home
    report: dict[str, Any] = {}
    for name in [options.only] if options.only else SECTIONS:
        report |= SECTIONS[name](home / "bench-delivery", options.quick)
    report = {key: report[key] for key in RATIOS if key in report} | report
    for key in RATIOS:
        if key in report:
            print(f"{key:<26} {report[key]}")
    if options.only:
        return 0
    report |= {
        "quick": options.quick,
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "finished_ms": now_ms(),
    }
    path = home / "reports" / "bench-delivery.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(path)
    return 0 if report["never_above_the_quota"] else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TunemeshError as failure:
        sys.exit(f"bench-delivery: {failure}")
    except KeyboardInterrupt:
        sys.exit("bench-delivery: stopped")
