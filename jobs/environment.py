"""Flink's table environment as the pipelines need it, on Managed Flink, a cluster or in process."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

from pyflink.table import StreamTableEnvironment

from connectors.aws.endpoint import is_loopback
from connectors.flink import java
from connectors.flink.interpreter import shared_libpython
from connectors.flink.table_environment import create_tables, minicluster_configuration
from connectors.kafka.tables import sink_table, source_table
from jobs.freshness.watch import UNALIGNED_CHECKPOINTS
from jobs.metrics import FLOWS
from jobs.micro_batch import piece
from jobs.settings import ApplicationSettings
from schemas.model import Contracts, Role

THREAD, PROCESS = "thread", "process"


def make_tables(settings: ApplicationSettings, *, in_process: bool) -> StreamTableEnvironment:
    """The table environment of an application.

    In process it also gets what a cluster has in its own configuration: this Python, the jars,
    checkpoints. On a cluster a jar with a relative path is one of the package, which the service
    has put on the class path (`flink run --jarfile`). Everything set for all targets is on Managed
    Flink's list of keys that code may set (its documentation: "Programmatic Flink configuration
    properties").
    """
    configuration: dict[str, str] = {}
    if in_process:
        java.provide(os.environ)
        provide_local_credentials(settings, os.environ)
        configuration = local_configuration()
    jars = [Path(jar) for jar in settings.jars if in_process or Path(jar).is_absolute()]
    options = {
        "pipeline.name": settings.name,
        # Each operator creates new rows, so none sees the changes of another.
        "pipeline.object-reuse": "true",
        "python.execution-mode": settings.execution_mode,
        **UNALIGNED_CHECKPOINTS,
        # Plans hold names, not addresses.
        "table.plan.compile.catalog-objects": "IDENTIFIER",
        "table.local-time-zone": "UTC",
        # The states of a trend are written in their order, and the topic's key is their whole key.
        "table.exec.sink.upsert-materialize": "NONE",
        # A sink of dead letters for each pipeline: one for all would make them one region, which
        # fails and restarts as a whole, and whose checkpoint barriers wait for each other.
        "table.optimizer.reuse-sink-enabled": "false",
    }
    return create_tables(configuration, jars, options)


def register_sources(
    tables: StreamTableEnvironment,
    contracts: Contracts,
    settings: ApplicationSettings,
    **sources: tuple[Role, str],
) -> None:
    """Create source tables of a pipeline: by name, the role of the topics and where to start."""
    groups = {flow.table: flow.group for flow in FLOWS}
    for name, (role, start) in sources.items():
        tables.execute_sql(
            source_table(
                name,
                [contract.topic for contract in contracts.with_role(role)],
                settings.kafka,
                group_id=settings.group(groups[name]),
                start=start,
                **piece.COLUMNS,
            )
        )


def register_sink(
    tables: StreamTableEnvironment,
    contracts: Contracts,
    settings: ApplicationSettings,
    name: str,
    role: Role,
) -> None:
    """Create a sink table of the topic of a role."""
    contract = contracts.only(role)
    tables.execute_sql(
        sink_table(name, contract.topic, settings.kafka, max_bytes=contract.max_bytes)
    )


def execution_mode(settings: ApplicationSettings) -> str:
    """The configured execution mode; process, with a notice, if thread mode cannot work here."""
    if settings.execution_mode == THREAD and shared_libpython() is None:
        print(
            "tunemesh: this Python has no shared libpython, which thread mode needs; its functions"
            " run in processes of their own (slower; see docs/getting-started/one-process.md)",
            file=sys.stderr,
        )
        return PROCESS
    return settings.execution_mode


def provide_local_credentials(
    settings: ApplicationSettings, environ: MutableMapping[str, str]
) -> None:
    """Provide credentials for a local Personalize where there are no AWS credentials.

    The local services accept any. For a real endpoint only the usual credential chain is used.
    """
    recommendations = settings.recommendations
    if (
        recommendations is not None
        and recommendations.endpoint_url is not None
        and is_loopback(recommendations.endpoint_url)
        and "AWS_PROFILE" not in environ
    ):
        environ.setdefault("AWS_ACCESS_KEY_ID", "local")
        environ.setdefault("AWS_SECRET_ACCESS_KEY", "local")


def local_configuration() -> dict[str, str]:
    """Return the configuration of the minicluster that an application runs in."""
    return {
        **minicluster_configuration(),
        "taskmanager.memory.managed.size": "256m",
        "state.backend.type": "rocksdb",
        "execution.checkpointing.interval": "10 s",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "500 ms",
    }
