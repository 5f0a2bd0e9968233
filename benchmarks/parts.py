"""The servers that a benchmark needs, on ports and in a folder of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from benchmarks.errors import BenchmarkError
from benchmarks.topics import wait_until
from deploy.local import jars, process, services
from deploy.local.settings import (
    PROJECT,
    REGION,
    REGISTRY,
    LocalSettings,
    Port,
    aws_environment,
    port,
)
from schemas.model import Contracts
from schemas.settings import ENVIRONMENT, group, read


@group(ENVIRONMENT)
class BenchmarkPorts:
    """Other ports than those of `tunemesh up`, so that a running platform is left alone."""

    kafka: Port = port("TUNEMESH_BENCH_KAFKA_PORT", 39092, "Kafka, for benchmarks")
    kafka_controller: Port = port(
        "TUNEMESH_BENCH_KAFKA_CONTROLLER_PORT", 39093, "Kafka's controller, for benchmarks"
    )
    aws: Port = port("TUNEMESH_BENCH_AWS_PORT", 39500, "Glue and Firehose (moto), for benchmarks")
    flink: Port = port("TUNEMESH_BENCH_FLINK_PORT", 39081, "Flink's REST API, for benchmarks")


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs: the broker's address and process, the contracts' ids, addresses for clients."""

    bootstrap: str
    broker_pids: tuple[int, ...]
    version_ids: Mapping[str, UUID]
    endpoints: Mapping[str, str]


def bench_settings(home: Path) -> LocalSettings:
    """The platform's settings with the benchmark's folder and :class:`BenchmarkPorts`."""
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
def running(home: Path, contracts: Contracts) -> Iterator[Parts]:
    """Kafka and the Glue registry with all contracts registered; both are stopped at the end."""
    settings = bench_settings(home)
    _fetch_jars("kafka", settings)
    servers = services.servers(settings, ("kafka", "aws"), os.environ)
    with serving(settings, servers) as records:
        endpoints = aws_environment(settings)
        yield Parts(
            bootstrap=settings.kafka.address,
            broker_pids=(records[0].pid,),
            version_ids=_registered(settings, contracts, endpoints),
            endpoints=endpoints,
        )


@contextmanager
def analytics(home: Path) -> Iterator[tuple[LocalSettings, int]]:
    """OpenSearch and AWS on free ports, with no data; both are stopped at the end.

    Gives the settings that say where they are, and OpenSearch's process id.
    """
    search, cloud = process.free_ports(2)
    settings = replace(
        LocalSettings.from_environment(os.environ),
        home=home,
        opensearch=Port(search, "a free port"),
        aws=Port(cloud, "a free port"),
    )
    _fetch_jars("opensearch", settings)
    servers = services.servers(settings, ("aws", "opensearch"), os.environ)
    with serving(settings, servers, fresh=True) as records:
        # All clients find the same credentials, and none asks anything outside.
        os.environ.update(aws_environment(settings))
        yield settings, records[1].pid


@contextmanager
def serving(
    settings: LocalSettings, servers: Sequence[process.Server], *, fresh: bool = False
) -> Iterator[list[process.Record]]:
    """Servers of the platform, healthy; what an earlier run left of them is stopped first.

    ``fresh``: without data, and nothing stays of it.
    """

    def forget() -> None:
        for server in servers if fresh else ():
            shutil.rmtree(settings.data(services.service_of(server.name)), ignore_errors=True)

    for folder in (settings.home, settings.run):
        folder.mkdir(parents=True, exist_ok=True)
    started: list[process.Record] = []
    try:
        for server in servers:
            process.stop(settings, server.name, settings.stop_seconds)
        forget()
        for server in servers:
            environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
            record = process.start(settings, server, server.prepare(), environment)
            started.append(record)
        for server, record in zip(servers, started, strict=True):
            wait_until(
                server.is_healthy,
                f"{server.name} does not answer at {server.address}",
                settings.start_seconds,
                check=lambda s=server, r=record: _check(settings, s, r),  # type: ignore[misc]
            )
        yield started
    finally:
        for record in reversed(started):
            process.stop(settings, record.server, settings.stop_seconds)
        forget()


def _fetch_jars(jar_set: str, settings: LocalSettings) -> None:
    """Fetch the jars of a set that are missing."""
    listed = jars.select_sets(jars.load(), [jar_set])
    if jars.list_missing(listed, settings.jar_cache):
        print(f"fetching the jars of {jar_set} ...", flush=True)
        jars.fetch(listed, settings.jar_cache, jars.repository_url(os.environ))


def _check(settings: LocalSettings, server: process.Server, record: process.Record) -> None:
    if process.find_process(record) is None:
        tail = "\n".join(process.tail(settings.log(server.name), 20))
        raise BenchmarkError(
            f"{server.name} ended at once. Is something on port"
            f" {' or '.join(f'{p.number} ({p.variable})' for p in server.ports)}? Its log:\n{tail}"
        )


def _registered(
    settings: LocalSettings, contracts: Contracts, endpoints: Mapping[str, str]
) -> dict[str, UUID]:
    from connectors.glue.registry import GlueRegistry  # loads boto3

    os.environ.update(endpoints)
    registry = GlueRegistry.connect(REGION, settings.aws.url, REGISTRY)
    for contract in contracts:
        registry.register(contract)
    return {contract.name: registry.version_id(contract) for contract in contracts}
