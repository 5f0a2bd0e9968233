"""The bootstrap on the local platform, in a separate process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batch.bootstrap.finish import REPORT
from batch.bootstrap.settings import COLUMNS, GROUP, PRODUCTS, Window
from batch.bootstrap.storage import storage_of
from connectors.files import remove_oldest
from connectors.flink import java
from connectors.flink.properties import RUN_OPTIONS, Groups, write_groups
from deploy.local import flink, flink_cluster, jars
from deploy.local.settings import PROJECT, REGION, LocalSettings, aws_environment
from schemas.errors import TunemeshError

JAVA_OPTIONS = "-XX:+UseParallelGC"
"""For a batch latency does not matter: 13% faster than G1 on ten million rows and two cores."""

MAX_PROPERTY_FILES = 20
"""Of the last runs, which are kept."""

RUN_SECONDS = 3600.0
"""Time limit of the job."""


class BootstrapError(TunemeshError):
    """A bootstrap ended without a report; the message has the end of its output."""


@dataclass(frozen=True, slots=True)
class Request:
    """A run: ``output``, ``products`` and ``window`` as in batch.bootstrap.settings. ``jars``: on
    the job's class path, instead of the set parquet."""

    output: str
    run: str
    products: Mapping[str, str]
    window: Window = field(default_factory=Window)
    columns: Mapping[str, Collection[str]] = field(default_factory=dict)
    jars: tuple[Path, ...] = ()

    @property
    def folder(self) -> str:
        """The address of this run's output."""
        return f"{self.output.rstrip('/')}/{self.run}"


def property_groups(settings: LocalSettings, request: Request) -> Groups:
    """Return the property groups of a run on this platform."""
    own = {
        "output": request.output,
        "run": request.run,
        "region": REGION,
        "endpoint.url": settings.aws.url,
    }
    for name, time_ms in (("since", request.window.since), ("until", request.window.until)):
        if time_ms is not None:
            own[name] = str(time_ms)
    chosen = request.jars or jars.paths("parquet", settings.jar_cache)
    return {
        RUN_OPTIONS: {"jarfile": ";".join(str(jar) for jar in chosen)},
        GROUP: own,
        PRODUCTS: request.products,
        COLUMNS: {name: ",".join(columns) for name, columns in request.columns.items()},
    }


def write_properties(settings: LocalSettings, request: Request) -> Path:
    """Write the property file of a run below the platform's home; returns it."""
    folder = settings.home / "applications"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"bootstrap_{request.run}.json"
    write_groups(file, property_groups(settings, request))
    remove_oldest(folder.glob("bootstrap_*.json"), MAX_PROPERTY_FILES)
    return file


def process_environment(settings: LocalSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of `python -m batch.bootstrap`: Java, S3, logs."""
    logs = settings.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    return {
        **environ,
        **aws_environment(settings),
        "IS_LOCAL": "true",
        "JAVA_HOME": str(java.find(environ).home),
        "PYTHONPATH": str(PROJECT),
        "FLINK_LOG_DIR": str(logs),
        "FLINK_ENV_JAVA_OPTS": JAVA_OPTIONS,
        "FLINK_PLUGINS_DIR": str(
            flink_cluster.prepare_plugins(settings.home / "bootstrap-plugins", settings.jar_cache)
        ),
    }


def run_in_process(
    settings: LocalSettings, request: Request, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run in the minicluster of a separate process; needs the service `aws`, but no Flink.

    Returns the report; raises BootstrapError without one.
    """
    properties = write_properties(settings, request)
    done = subprocess.run(
        [sys.executable, "-m", "batch.bootstrap", "--properties", str(properties)],
        env=process_environment(settings, os.environ if environ is None else environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    # With 1 there may also be a report: too few records to train with.
    if done.returncode not in (0, 1) or (report := _read_report(settings, request)) is None:
        output = flink.extract_error(done.stdout + done.stderr)
        raise BootstrapError(f"the bootstrap {request.run} ended with {done.returncode}:\n{output}")
    return report


def _read_report(settings: LocalSettings, request: Request) -> dict[str, Any] | None:
    storage = storage_of(request.output, REGION, settings.aws.url)
    try:
        report: dict[str, Any] = json.loads(storage.read(f"{request.folder}/{REPORT}"))
    except FileNotFoundError:
        return None
    return report
