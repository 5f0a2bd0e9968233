"""Flink's table environment: on a cluster, or in a minicluster inside this process."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import EnvironmentSettings, StreamTableEnvironment

from connectors.flink.properties import ProcessSettings
from schemas.settings import ENVIRONMENT, read

CODE = Path(__file__).resolve().parents[2]


def minicluster_configuration() -> dict[str, str]:
    """Return what every minicluster needs; a cluster has its own configuration."""
    return {
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        # The interpreter inside the JVM does not see this one's virtual environment.
        "python.pythonpath": os.pathsep.join((str(CODE), sysconfig.get_paths()["purelib"])),
        "parallelism.default": str(read(ProcessSettings, {ENVIRONMENT: os.environ}).parallelism),
        "rest.bind-port": "0",
    }


def create_tables(
    configuration: Mapping[str, str],
    jars: Iterable[Path],
    options: Mapping[str, str],
    *,
    in_batch_mode: bool = False,
) -> StreamTableEnvironment:
    """Create a table environment: Flink's configuration, jars for its class path, table options."""
    given = Configuration()
    for key, value in configuration.items():
        given.set_string(key, value)
    environment = StreamExecutionEnvironment.get_execution_environment(given)
    if addresses := [jar.absolute().as_uri() for jar in jars]:
        environment.add_jars(*addresses)
    # After the jars: the settings replace the class loader by one to which none can be added.
    settings = EnvironmentSettings.in_batch_mode() if in_batch_mode else None
    tables = StreamTableEnvironment.create(environment, environment_settings=settings)
    for key, value in options.items():
        tables.get_config().set(key, value)
    return tables
