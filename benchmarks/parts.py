"""The servers that a benchmark needs, on ports and in a folder of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from benchmarks.errors import BenchmarkError
from benchmarks.topics import wait_until
from deploy.local import aws, jars, java, kafka, process
from deploy.local.settings import (
    PROJECT,
    REGION,
    REGISTRY,
    LocalSettings,
    Port,
    SettingError,
    aws_environment,
)
from schemas.contracts import Contracts

KAFKA, CONTROLLER, AWS, FLINK = 39092, 39093, 39500, 39081
"""Beside those of `tunemesh up`, so that a platform that runs is left alone."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs: the broker's address and process, the contracts' ids, addresses for clients."""

    bootstrap: str
    broker_pids: tuple[int, ...]
    version_ids: Mapping[str, UUID]
    endpoints: Mapping[str, str]


def bench_settings(home: Path) -> LocalSettings:
    """The platform's settings with the benchmark's folder and ports.

    The ports' variables are TUNEMESH_BENCH_KAFKA_PORT, .._KAFKA_CONTROLLER_PORT, .._AWS_PORT and
    .._FLINK_PORT.
    """

    def port(name: str, default: int) -> Port:
        variable = f"TUNEMESH_BENCH_{name}_PORT"
        chosen = os.environ.get(variable) or str(default)
        if not (chosen.isascii() and chosen.isdigit() and 0 < int(chosen) < 65_536):
            raise SettingError(variable, chosen, "a port, 1 to 65535")
        return Port(int(chosen), variable)

    return replace(
        LocalSettings.from_environment(os.environ),
        home=home,
        kafka=port("KAFKA", KAFKA),
        kafka_controller=port("KAFKA_CONTROLLER", CONTROLLER),
        aws=port("AWS", AWS),
        flink=port("FLINK", FLINK),
    )


@contextmanager
def running(home: Path, contracts: Contracts) -> Iterator[Parts]:
    """Kafka and the Glue registry with all contracts registered; both are stopped at the end."""
    settings = bench_settings(home)
    for folder in (settings.home, settings.run):
        folder.mkdir(parents=True, exist_ok=True)
    listed = jars.of_sets(jars.load(), ["kafka"])
    if jars.missing(listed, settings.jar_cache):
        print("fetching Kafka's jars ...", flush=True)
        jars.fetch(listed, settings.jar_cache, jars.repository(os.environ))
    found = java.find(os.environ)
    servers = (kafka.server(settings, found), aws.server(settings))
    started = []
    try:
        for server in servers:
            process.stop(settings, server.name, settings.stop_seconds)
            environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
            record = process.start(settings, server, server.prepare(), environment)
            started.append(record)
        for server, record in zip(servers, started, strict=True):
            wait_until(
                server.healthy,
                f"{server.name} does not answer at {server.address}",
                settings.start_seconds,
                check=lambda s=server, r=record: _check(settings, s, r),  # type: ignore[misc]
            )
        endpoints = aws_environment(settings)
        yield Parts(
            bootstrap=settings.kafka.address,
            broker_pids=(started[0].pid,),
            version_ids=_registered(settings, contracts, endpoints),
            endpoints=endpoints,
        )
    finally:
        for record in reversed(started):
            process.stop(settings, record.server, settings.stop_seconds)


def _check(settings: LocalSettings, server: process.Server, record: process.Record) -> None:
    if process.running(record) is None:
        tail = "\n".join(process.tail(settings.log(server.name), 20))
        raise BenchmarkError(
            f"{server.name} ended at once. Is something on port"
            f" {' or '.join(f'{p.number} ({p.variable})' for p in server.ports)}? Its log:\n{tail}"
        )


def _registered(
    settings: LocalSettings, contracts: Contracts, endpoints: Mapping[str, str]
) -> dict[str, UUID]:
    from schemas.registry import GlueRegistry  # loads boto3

    os.environ.update(endpoints)
    registry = GlueRegistry.connect(REGION, settings.aws.url, REGISTRY)
    for contract in contracts:
        registry.register(contract)
    return {contract.name: registry.version_id(contract) for contract in contracts}
