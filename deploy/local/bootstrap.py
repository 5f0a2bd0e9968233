"""The bootstrap on the laptop platform: in a process of its own, or on the standalone cluster."""

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
from connectors.flink import java
from connectors.flink.properties import RUN_OPTIONS, Groups, write_groups
from deploy.local import flink, flink_cluster, jars
from deploy.local.settings import PROJECT, REGION, LocalSettings, aws_environment
from schemas.errors import TunemeshError

JAVA_OPTIONS = "-XX:+UseParallelGC"
"""A batch has no latency to keep: 13% faster than with G1 on ten million rows and two cores."""

SECONDS = 3600.0
"""For the whole job, on this machine."""


class BootstrapError(TunemeshError):
    """A bootstrap that did not come to a report; the message has the end of what it said."""


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
        """The address of what this run puts."""
        return f"{self.output.rstrip('/')}/{self.run}"


def property_groups(settings: LocalSettings, request: Request) -> Groups:
    """The property groups of a run on this platform."""
    own = {
        "output": request.output,
        "run": request.run,
        "region": REGION,
        "endpoint.url": settings.aws.url,
    }
    for name, moment in (("since", request.window.since), ("until", request.window.until)):
        if moment is not None:
            own[name] = str(moment)
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
    return file


def process_environment(settings: LocalSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of `python -m batch.bootstrap` in the minicluster: Java, S3, logs."""
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
            flink_cluster.plugins(settings.home / "bootstrap-plugins", settings.jar_cache)
        ),
    }


def in_process(
    settings: LocalSettings, request: Request, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run in the minicluster of a process of its own; needs the part `aws` and no Flink.

    Returns the report; raises BootstrapError when there is none.
    """
    properties = write_properties(settings, request)
    done = subprocess.run(
        [sys.executable, "-m", "batch.bootstrap", "--properties", str(properties)],
        env=process_environment(settings, os.environ if environ is None else environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    # 1 may also be a report that says that there is not enough to train with.
    if done.returncode not in (0, 1) or (found := _report(settings, request)) is None:
        said = flink.telling_end(done.stdout + done.stderr)
        raise BootstrapError(f"the bootstrap {request.run} ended with {done.returncode}:\n{said}")
    return found


def on_cluster(
    settings: LocalSettings, request: Request, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run on the platform's cluster; needs the parts `aws` and `flink`.

    Returns the report; raises FlinkError when there is none.
    """
    properties = write_properties(settings, request)
    try:
        flink.run_job(
            settings,
            PROJECT / "batch" / "bootstrap" / "__main__.py",
            ["--properties", str(properties)],
            environ=environ,
            seconds=SECONDS,
        )
    except flink.FlinkError:
        # A complete run submits nothing, and one with too little to train ends with 1.
        if (found := _report(settings, request)) is None:
            raise
        return found
    made = _report(settings, request)
    if made is None:
        raise BootstrapError(f"the bootstrap {request.run} has ended without {REPORT}")
    return made


def _report(settings: LocalSettings, request: Request) -> dict[str, Any] | None:
    storage = storage_of(request.output, REGION, settings.aws.url)
    try:
        found: dict[str, Any] = json.loads(storage.read(f"{request.folder}/{REPORT}"))
    except FileNotFoundError:
        return None
    return found
