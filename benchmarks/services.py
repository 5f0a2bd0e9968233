"""The services of the platform that a benchmark needs, in a folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from deploy.local import application, kafka, platform, process, python_servers
from deploy.local.settings import LocalSettings, Port, aws_environment, port
from schemas.model import Contracts
from schemas.settings import ENVIRONMENT, group, read


@group(ENVIRONMENT)
class BenchmarkPorts:
    """Other ports than those of `tunemesh up`, so that a running platform is not affected."""

    kafka: Port = port("TUNEMESH_BENCH_KAFKA_PORT", 39092, "Kafka, for benchmarks")
    kafka_controller: Port = port(
        "TUNEMESH_BENCH_KAFKA_CONTROLLER_PORT", 39093, "Kafka's controller, for benchmarks"
    )
    aws: Port = port("TUNEMESH_BENCH_AWS_PORT", 39500, "Glue and Firehose (moto), for benchmarks")
    flink: Port = port("TUNEMESH_BENCH_FLINK_PORT", 39081, "Flink's REST API, for benchmarks")


@dataclass(frozen=True, slots=True)
class Broker:
    """A Kafka broker: its address and processes, and the ids of the contracts' newest schemas."""

    bootstrap: str
    pids: tuple[int, ...]
    version_ids: Mapping[str, UUID]
    has_registry: bool


def benchmark_settings(home: Path) -> LocalSettings:
    """Return the platform's settings with another folder and :class:`BenchmarkPorts`."""
    ports = read(BenchmarkPorts, {ENVIRONMENT: os.environ})
    return replace(
        LocalSettings.from_environment(os.environ),
        home=home,
        kafka=ports.kafka,
        kafka_controller=ports.kafka_controller,
        aws=ports.aws,
        flink=ports.flink,
    )


@contextmanager
def run_broker(home: Path, contracts: Contracts) -> Iterator[Broker]:
    """Run Kafka and a schema registry with all contracts registered until the block ends."""
    settings = benchmark_settings(home)
    with _run(settings, (kafka.NAME, python_servers.AWS)):
        registry = application.connect_registry(settings)
        for contract in contracts:
            registry.register(contract)
        record = process.read_record(settings, kafka.NAME)
        yield Broker(
            settings.kafka.address,
            () if record is None else (record.pid,),
            {contract.name: registry.version_id(contract) for contract in contracts},
            has_registry=True,
        )


@contextmanager
def run_empty(home: Path, *names: str) -> Iterator[LocalSettings]:
    """Run services on free ports, without data, until the block ends; their data is deleted.

    The settings have their ports.
    """
    numbers = process.free_ports(len(names))
    ports: dict[str, Any] = {
        name: Port(number, "a free port") for name, number in zip(names, numbers, strict=True)
    }
    settings = replace(LocalSettings.from_environment(os.environ), home=home, **ports)
    try:
        with _run(settings, names, fresh=True):
            yield settings
    finally:
        for name in names:
            shutil.rmtree(settings.data(name), ignore_errors=True)


@contextmanager
def _run(settings: LocalSettings, names: Sequence[str], *, fresh: bool = False) -> Iterator[None]:
    # Servers of an interrupted run are not used again.
    platform.down(settings, names)
    # All clients use the credentials of the platform, and look for none elsewhere.
    os.environ.update(aws_environment(settings))
    try:
        platform.up(settings, names, environ=os.environ, fresh=fresh)
        yield
    finally:
        platform.down(settings, names)
