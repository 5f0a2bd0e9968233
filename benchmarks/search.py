"""Delivery to OpenSearch compared with ``parallel_bulk`` of opensearch-py.

Both write the same documents from memory, with the same index template, to the same node.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import psutil

from benchmarks import environments
from benchmarks.backlog import deliver, require, show
from benchmarks.dataset import Shape, enriched
from benchmarks.expected import Record
from connectors.delivery import Delivered
from connectors.opensearch import (
    EVENTS_INDEX_PREFIX,
    OpenSearchSettings,
    opensearch_destination,
    set_up_opensearch,
)
from schemas.model import load_contracts
from verification.destinations import without_nulls
from verification.personalize_events import http_content

BASE_MS = 1_764_028_800_000
EVENTS_INDEX = f"{EVENTS_INDEX_PREFIX}2025.11.25"
"""Midnight, and the index of the day: all events occur within half an hour of midnight."""

USERS, ITEMS = 50_000, 110_000
WARM_UP_DOCUMENTS = 16
"""Delivered first and not measured; they create the index."""

MICRO_BATCH = 500
"""The records of a bucket in the job's window of a second, at about 8,000 events per second."""

THREADS, CHUNKS = (2, 4, 8), (500, 2_000)
"""The configurations of parallel_bulk that are compared (defaults: 4 threads, 500 documents)."""

WARM_UP_RUN = (4, 1_000)
"""Threads and documents per call of the runs that warm up the node's just-in-time compiler."""

SAMPLE_SIZE = 1_000
INDEX = f"{EVENTS_INDEX_PREFIX}*"
_FOLDER = Path(__file__).parent / "opensearch_py"


@dataclass(frozen=True, slots=True)
class Node:
    """An OpenSearch node: its address and process."""

    url: str
    pid: int

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON response of a call."""
        text = None if body is None else json.dumps(body)
        return json.loads(http_content(f"{self.url}{path}", text, method))

    def cpu_seconds(self) -> float:
        """Return the processor time used so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def check(self, documents: Mapping[str, Record]) -> None:
        """Raise BenchmarkError unless the node has exactly these documents; compares a sample."""
        self.request("POST", f"/{INDEX}/_refresh")
        count = self.request("GET", f"/{INDEX}/_count")["count"]
        require(count == len(documents), f"OpenSearch has {count} of {len(documents)} documents")
        ids = list(documents)[:: max(1, len(documents) // SAMPLE_SIZE)]
        query = {"size": len(ids), "query": {"ids": {"values": ids}}}
        hits = self.request("POST", f"/{INDEX}/_search", query)["hits"]["hits"]
        require(
            {hit["_id"]: hit["_source"] for hit in hits} == {id: documents[id] for id in ids},
            "documents in OpenSearch differ from the delivered ones",
        )


def backlog(events: int) -> list[Record]:
    """Return enriched interactions as the job has them after decoding."""
    contracts = load_contracts()
    shape = Shape.of(events, USERS, ITEMS, BASE_MS)
    return [enriched(contracts, shape, number) for number in range(events)]


def measure(node: Node, work: Path, events: int) -> dict[str, Any]:
    """Measure the engine and parallel_bulk; raises BenchmarkError for wrong documents.

    After a warm-up, the best configuration of parallel_bulk is determined on a third of the
    documents. It then runs before and after ours, and the ratio is to the mean of both runs.
    """
    python = environments.prepare(
        work / "opensearch-py-venv", _FOLDER / "requirements.lock", "opensearch-py"
    )
    set_up_opensearch(OpenSearchSettings(node.url))
    records = backlog(events + WARM_UP_DOCUMENTS)
    third = records[: events // 3 + WARM_UP_DOCUMENTS]
    for _ in range(2):
        _measure_parallel_bulk(node, python, work, records, *WARM_UP_RUN)
    tries = {
        (threads, chunk): _measure_parallel_bulk(node, python, work, third, threads, chunk)
        for threads in THREADS
        for chunk in CHUNKS
    }
    best = max(tries, key=lambda configuration: tries[configuration]["documents_per_second"])
    print(f"parallel_bulk is fastest with {best[0]} threads and {best[1]:,} documents per call")
    first = _measure_parallel_bulk(node, python, work, records, *best)
    ours = _measure_engine(node, records)
    one_caller = _measure_engine(node, third, callers=1)
    second = _measure_parallel_bulk(node, python, work, records, *best)
    theirs = mean(run["documents_per_second"] for run in (first, second))
    return {
        "opensearch_ratio": round(ours["documents_per_second"] / theirs, 3),
        "ours": ours,
        "ours_one_caller": one_caller,
        "parallel_bulk": [first, second],
        "parallel_bulk_tried": list(tries.values()),
    }


def _measure_engine(node: Node, records: Sequence[Record], **options: int) -> dict[str, Any]:
    """Deliver the records with the product's destination and settings."""
    destination = opensearch_destination(OpenSearchSettings(node.url))
    _remove_indices(node)
    cpu = node.cpu_seconds()
    outcomes, seconds, metrics = deliver(
        destination,
        records[WARM_UP_DOCUMENTS:],
        warm_up=records[:WARM_UP_DOCUMENTS],
        micro_batch=MICRO_BATCH,
        **options,
    )
    cpu = node.cpu_seconds() - cpu
    require(
        outcomes == [Delivered()] * len(outcomes), "OpenSearch: not every document was delivered"
    )
    node.check(_documents(records))
    result = {
        "documents": len(outcomes),
        "seconds": round(seconds, 3),
        "documents_per_second": round(len(outcomes) / seconds),
        "calls": int(metrics["calls"]),
        "documents_a_call": round(metrics["batch_size_mean"]),
        "call_ms_mean": round(metrics["call_latency_mean"] * 1_000, 1),
        "cpu_seconds": metrics["cpu_seconds"],
        "opensearch_cpu_seconds": round(cpu, 2),
    }
    show(f"OpenSearch, sink engine{', one caller' if options else ''}", result)
    return result


def _measure_parallel_bulk(
    node: Node, python: Path, work: Path, records: Sequence[Record], threads: int, chunk: int
) -> dict[str, Any]:
    """Run parallel_bulk in a process of its own; it reads the file before the measurement."""
    documents = _documents(records)
    path = work / "documents.ndjson"
    path.write_text(_lines(documents), encoding="utf-8")
    _remove_indices(node)
    cpu = node.cpu_seconds()
    script = str(_FOLDER / "bulk.py")
    arguments = (node.url, str(path), str(WARM_UP_DOCUMENTS), str(threads), str(chunk))
    process = subprocess.run(
        [str(python), script, *arguments], capture_output=True, text=True, check=False, timeout=600
    )
    path.unlink()
    require(process.returncode == 0, f"parallel_bulk failed: {process.stderr.strip()}")
    cpu = node.cpu_seconds() - cpu
    output = json.loads(process.stdout.splitlines()[-1])
    count = len(records) - WARM_UP_DOCUMENTS
    require(output["succeeded"] == count, f"parallel_bulk: {output['failed']} documents failed")
    node.check(documents)
    result = {
        "threads": threads,
        "documents_a_call": chunk,
        "documents": count,
        "seconds": round(output["seconds"], 3),
        "documents_per_second": round(count / output["seconds"]),
        "cpu_seconds": round(output["cpu_seconds"], 2),
        "opensearch_cpu_seconds": round(cpu, 2),
    }
    show("OpenSearch, parallel_bulk", result)
    return result


def _documents(records: Iterable[Record]) -> dict[str, Record]:
    """The expected documents by id, without nulls."""
    return {record["event_id"]: without_nulls(record) for record in records}


def _lines(documents: Mapping[str, Record]) -> str:
    return "".join(
        json.dumps({"_index": EVENTS_INDEX, "_id": id, "_source": document}) + "\n"
        for id, document in documents.items()
    )


def _remove_indices(node: Node) -> None:
    node.request("DELETE", f"/{INDEX}")
