"""Measures the state of the enrichment: bytes per million published and unknown ids.

The product's job runs on the benchmark's own broker and cluster with RocksDB. Each step publishes
records whose ids no other step has, and the size is that of the next complete checkpoint, as Flink
reports it. The report is bench-state.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from benchmarks.command import describe_machine, run
from benchmarks.dataset import Published, Shape, interaction, song, user
from benchmarks.publish import SOURCE_TOPICS, VersionIds, open_producer
from benchmarks.services import run_broker
from benchmarks.systems import TASK_FOLDER, Task
from benchmarks.systems.cluster import Cluster
from benchmarks.systems.ours import our_enrichment
from benchmarks.topics import Topics, wait_until
from connectors.clock import now_ms
from connectors.files import write_report
from deploy.local.flink import FlinkRest
from deploy.local.settings import LocalSettings
from schemas import wire
from schemas.codec import Encoder
from schemas.model import Contracts, Role, load_contracts
from verification.positions import produce

TIMEOUT_SECONDS = 1_800.0
STEPS = ("unknown users and items", "anonymous sessions and unknown items", "users", "songs")


def records(step: str, shape: Shape) -> Iterator[Published]:
    """Yield the records of a step; each interaction has ids of its own."""
    for number in range(shape.events):
        if step == "users":
            yield Published("users", f"u{number}", user(shape, number))
        elif step == "songs":
            yield Published("songs", f"s{number}", song(shape, number))
        else:
            user_id = None if "anonymous" in step else f"unknown-user-{number}"
            ids = {
                "user_id": user_id,
                "session_id": f"session-{step[0]}-{number}",
                "item_id": f"unknown-item-{step[0]}-{number}",
            }
            key = user_id or ids["session_id"]
            yield Published("interactions", str(key), interaction(shape, number) | ids)


class Measurement:
    """The job that runs, and the topics that it reads."""

    def __init__(self, topics: Topics, task: Task, rest: FlinkRest) -> None:
        self._topics = topics
        self._task = task
        self._rest = rest
        (self._job,) = rest.running_jobs()

    def state_bytes(self) -> int:
        """Return the size of a checkpoint that began when all records had been joined."""
        group = f"{self._task.group}-enrichment"
        self._wait(lambda: self._topics.has_read(group, SOURCE_TOPICS), "not all records were read")
        began = now_ms()
        self._wait(lambda: self._latest()["trigger_timestamp"] > began, "there is no checkpoint")
        return int(self._latest()["state_size"])

    def _latest(self) -> dict[str, int]:
        checkpoints = self._rest.call("GET", f"/jobs/{self._job.id}/checkpoints")
        return checkpoints["latest"]["completed"] or {"trigger_timestamp": 0}

    @staticmethod
    def _wait(condition: Callable[[], bool], problem: str) -> None:
        wait_until(condition, problem, TIMEOUT_SECONDS)


def publish_step(
    topics: Topics, contracts: Contracts, ids: VersionIds, step: str, shape: Shape
) -> None:
    """Publish the records of a step; returns when the broker has stored them."""
    encoders = {name: Encoder(contracts[name], ids[name]) for name in SOURCE_TOPICS}
    producer = open_producer(topics.bootstrap)
    for count, record in enumerate(records(step, shape)):
        value = encoders[record.topic].encode(record.record)
        produce(producer, record.topic, value=value, key=record.key)
        if count % 10_000 == 0:
            producer.poll(0)
    producer.flush()


def main() -> int:
    """Measure each step and write the report."""
    parser = argparse.ArgumentParser(prog="make bench-state", description=__doc__)
    parser.add_argument(
        "--ids", type=int, default=1_000_000, help="of each step, default %(default)s"
    )
    options = parser.parse_args()
    settings = LocalSettings.from_environment(os.environ)
    work = settings.home / "bench"
    contracts = load_contracts()
    with run_broker(work, contracts) as broker:
        topics = Topics(broker.bootstrap)
        for name in chain(SOURCE_TOPICS, [contracts.only(Role.ENRICHED).topic]):
            topics.recreate(name)
        cluster = Cluster(work)
        task = _task(
            work, broker.bootstrap, wire.header(broker.version_ids["interactions-enriched"])
        )
        topics.delete_group(task.group)
        shape = Shape(options.ids, options.ids, options.ids, 0, now_ms())
        processes = our_enrichment(cluster, "rocksdb", "thread").start(task)
        try:
            measurement = Measurement(topics, task, FlinkRest.of(cluster.settings))
            sizes = {"nothing": measurement.state_bytes()}
            for step in STEPS:
                publish_step(topics, contracts, broker.version_ids, step, shape)
                sizes[step] = measurement.state_bytes()
                print(f"{step}: {sizes[step]:,} bytes of state", flush=True)
        finally:
            processes.stop()
    before = list(sizes.values())
    per_million = {
        step: round((size - former) / options.ids * 1_000_000)
        for (step, size), former in zip(list(sizes.items())[1:], before, strict=False)
    }
    report = {
        "ids": options.ids,
        "state_bytes": sizes,
        "bytes_per_million": per_million,
        "machine": describe_machine(),
        "finished_ms": now_ms(),
    }
    path = settings.reports / "bench-state.json"
    write_report(path, report)
    for step, count in per_million.items():
        print(f"{count / 1e6:>8,.1f} MB per million {step}")
    print(path)
    shutil.rmtree(work / TASK_FOLDER, ignore_errors=True)
    shutil.rmtree(work / "data", ignore_errors=True)
    return 0


def _task(work: Path, bootstrap: str, header: bytes) -> Task:
    folder = work / TASK_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Task(
        bootstrap=bootstrap,
        out="",
        gate=folder / "gate",
        folder=folder,
        log=work / "logs" / "state.log",
        schemas=folder,
        header=header,
        group="bench-state",
        dimensions=0,
        has_registry=True,
    )


if __name__ == "__main__":
    run("bench-state", main)
