"""The Flink job of a bootstrap: the script of :mod:`batch.bootstrap.sql` as one batch job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pyflink.table import StreamTableEnvironment

from batch.bootstrap.settings import BootstrapSettings
from batch.bootstrap.sql import Script
from connectors.aws.endpoint import is_loopback
from connectors.flink import java
from connectors.flink.internals.file_systems import load_file_systems
from connectors.flink.table_environment import create_tables, minicluster_configuration


def submit(script: Script, settings: BootstrapSettings, *, in_process: bool) -> Any:
    """Submit the job; returns Flink's TableResult."""
    tables = make_tables(settings, in_process=in_process)
    for statement in script.definitions:
        tables.execute_sql(statement)
    statements = tables.create_statement_set()
    for statement in script.inserts:
        statements.add_insert_sql(statement)
    return statements.execute()


def make_tables(settings: BootstrapSettings, *, in_process: bool) -> StreamTableEnvironment:
    """Create the table environment of a run, on a cluster or in the minicluster of this process."""
    configuration = {"execution.runtime-mode": "BATCH"}
    if in_process:
        java.provide(os.environ)
        configuration |= local_configuration(settings)
        load_file_systems(configuration)
    options = {
        "pipeline.name": f"tunemesh bootstrap {settings.run}",
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
        # What several inserts need is computed once: without it each has its own copy of the
        # checks, and reads the products again.
        "table.optimizer.reuse-optimize-block-with-digest-enabled": "true",
        # Footers of all files, read one after the other for estimates: the hints say what to do.
        "table.optimizer.source.report-statistics-enabled": "false",
    }
    return create_tables(configuration, map(Path, settings.jars), options, in_batch_mode=True)


def local_configuration(settings: BootstrapSettings) -> dict[str, str]:
    """Return the configuration of the minicluster that a bootstrap runs in."""
    configuration = minicluster_configuration() | {
        "taskmanager.memory.managed.size": "768m",
        "taskmanager.memory.network.min": "128m",
        "taskmanager.memory.network.max": "128m",
    }
    if settings.endpoint_url is not None:
        configuration |= s3_configuration(settings.endpoint_url)
    return configuration


def s3_configuration(endpoint_url: str) -> dict[str, str]:
    """Flink's own access to an S3 that is not AWS's."""
    configuration = {"s3.endpoint": endpoint_url, "s3.path.style.access": "true"}
    if is_loopback(endpoint_url):
        configuration |= {"s3.access-key": "local", "s3.secret-key": "local"}
    return configuration
