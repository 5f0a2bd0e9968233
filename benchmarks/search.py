"""Delivery to OpenSearch beside ``parallel_bulk`` of opensearch-py: the same documents, the same
index template, the same node, from memory."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import psutil

from benchmarks import environments
from benchmarks.backlog import deliver, demand, say
from benchmarks.dataset import Record, Shape, enriched
from connectors.delivery import Delivered
from connectors.opensearch import (
    EVENTS_INDEX_PREFIX,
    OpenSearchSettings,
    opensearch_destination,
    set_up_opensearch,
)

BASE_MS = 1_764_028_800_000
EVENTS_INDEX = f"{EVENTS_INDEX_PREFIX}2025.11.25"
"""Midnight, and the index of its day: all events occurred within half an hour of it."""

USERS, ITEMS = 50_000, 110_000
BEFORE = 16
"""Documents that go first, unmeasured; they make the index."""

MICRO_BATCH = 500
"""What a bucket brings in the job's window of a second, at some 8,000 events a second."""

THREADS, CHUNKS = (2, 4, 8), (500, 2_000)
"""Configurations of parallel_bulk that are tried (its defaults: 4 threads, 500 documents)."""

WARM_UP = (4, 1_000)
"""Threads and documents a call of the runs that only warm up the node's just-in-time compiler."""

SAMPLE = 1_000
INDEX = f"{EVENTS_INDEX_PREFIX}*"
_FOLDER = Path(__file__).parent / "opensearch_py"


@dataclass(frozen=True, slots=True)
class Node:
    """An OpenSearch to measure against: where it is, and its process."""

    url: str
    pid: int

    def request(self, method: str, path: str, body: object = None) -> Any:
        """The answer as JSON."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def check(self, documents: Mapping[str, Record]) -> None:
        """Demands each document once, a sample of them as it is here, and nothing else."""
        self.request("POST", f"/{INDEX}/_refresh")
        count = self.request("GET", f"/{INDEX}/_count")["count"]
        demand(count == len(documents), f"OpenSearch has {count} of {len(documents)} documents")
        ids = list(documents)[:: max(1, len(documents) // SAMPLE)]
        query = {"size": len(ids), "query": {"ids": {"values": ids}}}
        hits = self.request("POST", f"/{INDEX}/_search", query)["hits"]["hits"]
        demand(
            {hit["_id"]: hit["_source"] for hit in hits} == {id: documents[id] for id in ids},
            "OpenSearch does not hold the documents as they were handed over",
        )


def backlog(events: int) -> list[Record]:
    """Enriched interactions as the job has them after decoding."""
    shape = Shape.of(events, USERS, ITEMS, BASE_MS)
    return [enriched(shape, number) for number in range(events)]


def measure(node: Node, work: Path, events: int) -> dict[str, Any]:
    """All figures; raises BenchmarkError when OpenSearch does not hold what was handed over.

    The node is warmed up first. Then parallel_bulk's best configuration is found, on a third of the
    documents; then it runs before and after ours, and the ratio is to the mean of the two.
    """
    python = environments.prepare(
        work / "opensearch-py-venv", _FOLDER / "requirements.lock", "opensearch-py"
    )
    set_up_opensearch(OpenSearchSettings(node.url))
    records = backlog(events + BEFORE)
    few = records[: events // 3 + BEFORE]
    for _ in range(2):
        _parallel_bulk(node, python, work, records, *WARM_UP)
    tries = {
        (threads, chunk): _parallel_bulk(node, python, work, few, threads, chunk)
        for threads in THREADS
        for chunk in CHUNKS
    }
    best = max(tries, key=lambda tried: float(tries[tried]["documents_per_second"]))
    print(f"parallel_bulk is fastest with {best[0]} threads and {best[1]:,} documents a call")
    first = _parallel_bulk(node, python, work, records, *best)
    ours = _ours(node, records)
    one = _ours(node, few, callers=1)
    second = _parallel_bulk(node, python, work, records, *best)
    theirs = mean(run["documents_per_second"] for run in (first, second))
    return {
        "opensearch_ratio": round(ours["documents_per_second"] / theirs, 3),
        "ours": ours,
        "ours_one_caller": one,
        "parallel_bulk": [first, second],
        "parallel_bulk_tried": list(tries.values()),
    }


def _ours(node: Node, records: Sequence[Record], **how: int) -> dict[str, Any]:
    """The sink engine with the product's destination and settings."""
    destination = opensearch_destination(OpenSearchSettings(node.url))
    _remove_indices(node)
    used = node.cpu_seconds()
    outcomes, seconds, metrics = deliver(
        destination, records[BEFORE:], before=records[:BEFORE], micro_batch=MICRO_BATCH, **how
    )
    used = node.cpu_seconds() - used
    demand(outcomes == [Delivered()] * len(outcomes), "OpenSearch: not everything was delivered")
    node.check(_documents(records))
    figures = {
        "documents": len(outcomes),
        "seconds": round(seconds, 3),
        "documents_per_second": round(len(outcomes) / seconds),
        "calls": int(metrics["calls"]),
        "documents_a_call": round(metrics["batch_size_mean"]),
        "call_ms_mean": round(metrics["call_latency_mean"] * 1_000, 1),
        "cpu_seconds": metrics["cpu_seconds"],
        "opensearch_cpu_seconds": round(used, 2),
    }
    say(f"OpenSearch, the sink engine{', one caller' if how else ''}", figures)
    return figures


def _parallel_bulk(
    node: Node, python: Path, work: Path, records: Sequence[Record], threads: int, chunk: int
) -> dict[str, Any]:
    """parallel_bulk in a process of its own; the file is read before the clock starts."""
    documents = _documents(records)
    path = work / "documents.ndjson"
    path.write_text(_lines(documents), encoding="utf-8")
    _remove_indices(node)
    used = node.cpu_seconds()
    script = str(_FOLDER / "bulk.py")
    arguments = (node.url, str(path), str(BEFORE), str(threads), str(chunk))
    done = subprocess.run(
        [str(python), script, *arguments], capture_output=True, text=True, check=False, timeout=600
    )
    path.unlink()
    demand(done.returncode == 0, f"parallel_bulk failed: {done.stderr.strip()}")
    used = node.cpu_seconds() - used
    result = json.loads(done.stdout.splitlines()[-1])
    count = len(records) - BEFORE
    demand(result["succeeded"] == count, f"parallel_bulk: {result['failed']} documents failed")
    node.check(documents)
    figures = {
        "threads": threads,
        "documents_a_call": chunk,
        "documents": count,
        "seconds": round(result["seconds"], 3),
        "documents_per_second": round(count / result["seconds"]),
        "cpu_seconds": round(result["cpu_seconds"], 2),
        "opensearch_cpu_seconds": round(used, 2),
    }
    say("OpenSearch, parallel_bulk", figures)
    return figures


def _documents(records: Iterable[Record]) -> dict[str, Record]:
    """What must be in OpenSearch, by id: nulls are left out."""
    return {record["event_id"]: _without_nulls(record) for record in records}


def _without_nulls(record: Record) -> Record:
    return {
        name: _without_nulls(value) if isinstance(value, dict) else value
        for name, value in record.items()
        if value is not None
    }


def _lines(documents: Mapping[str, Record]) -> str:
    return "".join(
        json.dumps({"_index": EVENTS_INDEX, "_id": id, "_source": document}) + "\n"
        for id, document in documents.items()
    )


def _remove_indices(node: Node) -> None:
    node.request("DELETE", f"/{INDEX}")
