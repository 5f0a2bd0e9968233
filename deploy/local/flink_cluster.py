"""Flink on the local platform: a standalone cluster from the pip package.

The JobManager and each TaskManager are separate servers, which can be killed and started alone.
They are started as the package's scripts start them: same class path, main classes and Java
options. Memory sizes are configured instead of being computed by a Java program first, which saves
seconds per process. The package's folder is not changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import yaml

from connectors.files import write_link
from connectors.flink.interpreter import shared_libpython
from connectors.flink.java import Java
from connectors.flink.java import find as find_java
from deploy.local import flink_workers, jars, process
from deploy.local.flink_workers import Workers
from deploy.local.log4j import write_log4j
from deploy.local.process import Launch, Server
from deploy.local.settings import HOST, LocalSettings, aws_environment

NAME = "flink"
JOBMANAGER, TASKMANAGER = flink_workers.JOBMANAGER, flink_workers.TASKMANAGER

JOBMANAGER_HEAP = 640
JOBMANAGER_OFF_HEAP = 128
JOBMANAGER_METASPACE = 256
"""The JobManager's memory in MiB: 1 GiB including Java's own."""


@dataclass(frozen=True, slots=True)
class TaskManagerMemory:
    """The memory of a TaskManager in MiB, in Flink's terms (1.7 GiB with the overhead).

    In thread mode the memory of the Python interpreter in the same process is additional.
    """

    framework_heap: int = 128
    task_heap: int = 448
    framework_off_heap: int = 128
    task_off_heap: int = 64
    network: int = 64
    managed: int = 512
    metaspace: int = 256
    overhead: int = 128

    def java_options(self) -> tuple[str, ...]:
        """Return the Java options that the scripts derive from these sizes."""
        heap = self.framework_heap + self.task_heap
        direct = self.framework_off_heap + self.task_off_heap + self.network
        return (
            f"-Xms{heap}m",
            f"-Xmx{heap}m",
            f"-XX:MaxDirectMemorySize={direct}m",
            f"-XX:MaxMetaspaceSize={self.metaspace}m",
        )

    def configuration(self, slots: int) -> dict[str, object]:
        """Return the configuration of a TaskManager that is not started by the scripts."""
        return {
            "taskmanager.cpu.cores": float(slots),
            "taskmanager.memory.framework.heap.size": f"{self.framework_heap}m",
            "taskmanager.memory.task.heap.size": f"{self.task_heap}m",
            "taskmanager.memory.framework.off-heap.size": f"{self.framework_off_heap}m",
            "taskmanager.memory.task.off-heap.size": f"{self.task_off_heap}m",
            "taskmanager.memory.network.min": f"{self.network}m",
            "taskmanager.memory.network.max": f"{self.network}m",
            "taskmanager.memory.managed.size": f"{self.managed}m",
            "taskmanager.memory.jvm-metaspace.size": f"{self.metaspace}m",
            "taskmanager.memory.jvm-overhead.min": f"{self.overhead}m",
            "taskmanager.memory.jvm-overhead.max": f"{self.overhead}m",
        }


def flink_home() -> Path:
    """Return the folder of the pip package, which is also FLINK_HOME."""
    import importlib.util

    spec = importlib.util.find_spec("pyflink")  # without importing it
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("pyflink")
    return Path(spec.origin).parent


def class_path() -> str:
    """Return the class path: Flink's jars in the order of its scripts, and flink-python.

    flink-python is included, and not only uploaded with each job, so that the interpreter that it
    embeds in thread mode is loaded once per process and not per job: a native library belongs to
    one class loader.
    """
    home = flink_home()
    library = sorted((home / "lib").glob("*.jar"))
    dist = [jar for jar in library if jar.name.startswith("flink-dist")]
    others = [jar for jar in library if jar not in dist]
    python = sorted((home / "opt").glob("flink-python-*.jar"))
    return os.pathsep.join(str(jar) for jar in [*others, *python, *dist])


def configuration(settings: LocalSettings, rpc_port: int) -> dict[str, object]:
    """Return the cluster's configuration, with flat keys as in Flink's documentation."""
    data = settings.data(NAME)
    # As Managed Flink sets them, but with a shorter interval than its 60 s.
    checkpoints: dict[str, object] = {
        "state.backend.type": "rocksdb",
        "execution.checkpointing.interval": "10 s",
        "execution.checkpointing.incremental": True,
        "execution.checkpointing.num-retained": 2,
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.dir": (data / "checkpoints").as_uri(),
        "execution.checkpointing.savepoint-dir": (data / "savepoints").as_uri(),
    }
    # A killed TaskManager is detected at the first failed call; a stuck one after ten seconds.
    failures: dict[str, object] = {
        "heartbeat.interval": "2 s",
        "heartbeat.timeout": "10 s",
        "heartbeat.rpc-failure-threshold": 2,
        "cluster.registration.error-delay": "500 ms",
        "cluster.registration.refused-registration-delay": "1 s",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "500 ms",
        "restart-strategy.exponential-delay.max-backoff": "10 s",
        "restart-strategy.exponential-delay.backoff-multiplier": 1.5,
        "restart-strategy.exponential-delay.reset-backoff-threshold": "2 min",
    }
    addresses: dict[str, object] = {
        "jobmanager.rpc.address": HOST,
        "jobmanager.rpc.port": rpc_port,
        "jobmanager.bind-host": HOST,
        "taskmanager.host": HOST,
        "taskmanager.bind-host": HOST,
        "rest.address": HOST,
        "rest.bind-address": HOST,
        "rest.port": settings.flink.number,
        "rest.bind-port": str(settings.flink.number),
        # No page of another origin may read, or upload a jar; `flink run` does not upload this way.
        "web.access-control-allow-origin": settings.flink.url,
        "web.submit.enable": False,
    }
    return {
        **addresses,
        **checkpoints,
        **failures,
        **_reporters(settings),
        "s3.endpoint": settings.aws.url,
        "s3.path.style.access": True,
        "taskmanager.numberOfTaskSlots": settings.task_slots,
        "parallelism.default": settings.taskmanagers * settings.task_slots,
        "jobmanager.memory.heap.size": f"{JOBMANAGER_HEAP}m",
        "jobmanager.memory.off-heap.size": f"{JOBMANAGER_OFF_HEAP}m",
        "jobmanager.memory.jvm-metaspace.size": f"{JOBMANAGER_METASPACE}m",
        **TaskManagerMemory().configuration(settings.task_slots),
        "io.tmp.dirs": str(temporary_folder(settings)),
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "rest.flamegraph.enabled": True,
        "metrics.fetcher.update-interval": "1 s",
    }


def _reporters(settings: LocalSettings) -> dict[str, object]:
    """Return the configuration of Prometheus's metrics, if ports are set for them.

    They are off by default: Flink 2.2's reporter accepts a port but no address, and listens on
    every interface of the machine; the rest of the platform is on loopback only.
    """
    if settings.prometheus is None:
        return {}
    return {
        "metrics.reporters": "prometheus",
        "metrics.reporter.prometheus.factory.class": (
            "org.apache.flink.metrics.prometheus.PrometheusReporterFactory"
        ),
        "metrics.reporter.prometheus.port": str(settings.prometheus),
    }


def environment(
    settings: LocalSettings,
    java: Java,
    environ: Mapping[str, str],
    python_path: tuple[str, ...] | None = None,
) -> dict[str, str]:
    """Return the environment of Flink's processes and the client: the locations of Flink, Java and
    Python's modules (by default this checkout and this Python's packages)."""
    home = flink_home()
    plugins = prepare_plugins(settings.run / "flink-plugins", settings.jar_cache)
    if python_path is None:
        python_path = flink_workers.checkout_workers(settings).python_path
    result = {
        "FLINK_HOME": str(home),
        "FLINK_CONF_DIR": str(conf_folder(settings)),
        "FLINK_BIN_DIR": str(home / "bin"),
        "FLINK_LIB_DIR": str(home / "lib"),
        "FLINK_OPT_DIR": str(home / "opt"),
        "FLINK_PLUGINS_DIR": str(plugins),
        "JAVA_HOME": str(java.home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(python_path),
        **aws_environment(settings),
    }
    if library := shared_libpython():
        variable = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
        result[variable] = os.pathsep.join(filter(None, [str(library), environ.get(variable, "")]))
    return result


def prepare_plugins(folder: Path, jar_cache: Path) -> Path:
    """Fill a plugin folder (FLINK_PLUGINS_DIR) with the package's plugins, and S3 if its jars have
    been fetched; returns it."""
    own = {path.name: [path] for path in (flink_home() / "plugins").iterdir() if path.is_dir()}
    s3 = jars.select_sets(jars.load(), ["s3"])
    if not jars.list_missing(s3, jar_cache):
        own["s3-fs-hadoop"] = list(jars.paths("s3", jar_cache, s3))
    for name, sources in own.items():
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        files = [f for s in sources for f in (s.glob("*.jar") if s.is_dir() else (s,))]
        for file in files:
            if not (target / file.name).exists():
                # The JobManager and the TaskManagers run this concurrently.
                write_link(target / file.name, file)
    return folder


def conf_folder(settings: LocalSettings) -> Path:
    """Return the folder with the generated configuration (FLINK_CONF_DIR)."""
    return settings.run / "flink-conf"


def java_options() -> tuple[str, ...]:
    """Return the options for Java 17 in the package's configuration (opened modules)."""
    own = yaml.safe_load((flink_home() / "conf" / "config.yaml").read_text(encoding="utf-8"))
    return tuple(str(own["env"]["java"]["opts"]["all"]).split())


def servers(settings: LocalSettings, environ: Mapping[str, str]) -> tuple[Server, ...]:
    """Return the JobManager and the TaskManagers."""
    cluster = _Cluster(settings, find_java(environ))
    return (
        Server(
            name=JOBMANAGER,
            ports=(settings.flink,),
            address=settings.flink.url,
            prepare=cluster.jobmanager,
            is_healthy=lambda: _overview(settings) is not None,
        ),
        *_taskmanagers(cluster, flink_workers.read_workers(settings)),
    )


def taskmanagers(
    settings: LocalSettings, environ: Mapping[str, str], workers: Workers
) -> tuple[Server, ...]:
    """Return TaskManagers of a running cluster."""
    return _taskmanagers(_Cluster(settings, find_java(environ)), workers)


def _taskmanagers(cluster: _Cluster, workers: Workers) -> tuple[Server, ...]:
    settings = cluster.settings
    return tuple(
        Server(
            name=name,
            ports=(),
            address=f"slots: {settings.task_slots}",
            prepare=partial(cluster.taskmanager, name, workers.python_path),
            is_healthy=partial(_is_registered, settings, name),
        )
        for name in workers.names
    )


class _Cluster:
    """Writes the configuration once for all servers that are started together."""

    def __init__(self, settings: LocalSettings, java: Java) -> None:
        self.settings = settings
        self.java = java
        self.lock = threading.Lock()
        self.configured = False
        self._temporary = temporary_folder(settings)

    def jobmanager(self) -> Launch:
        self.configure()
        return self._launch(
            JOBMANAGER,
            (
                f"-Xms{JOBMANAGER_HEAP}m",
                f"-Xmx{JOBMANAGER_HEAP}m",
                f"-XX:MaxMetaspaceSize={JOBMANAGER_METASPACE}m",
                "-XX:+UseSerialGC",
                # Half of its CPU time until the first event is Java's second compiler's otherwise.
                "-XX:TieredStopAtLevel=1",
            ),
            "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
            ("--executionMode", "cluster"),
        )

    def taskmanager(self, name: str, python_path: tuple[str, ...]) -> Launch:
        self.configure()
        for folder in self._temporary.glob(f"tm_{name}-*"):
            # A TaskManager that was killed leaves 50 MB there.
            shutil.rmtree(folder, ignore_errors=True)
        own = f"{name}-{time.time_ns():x}"
        _resource_id_file(self.settings, name).write_text(own, encoding="utf-8")
        return self._launch(
            name,
            (*TaskManagerMemory().java_options(), "-XX:+UseG1GC"),
            "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            ("-D", f"taskmanager.resource-id={own}"),
            python_path,
        )

    def configure(self) -> None:
        with self.lock:
            if self.configured:
                return
            folder = conf_folder(self.settings)
            folder.mkdir(parents=True, exist_ok=True)
            self._temporary.mkdir(exist_ok=True)
            file = folder / "config.yaml"
            # Running servers find each other by the port in the existing file.
            port = _read_rpc_port(file) if process.list_running(self.settings, "flink-") else None
            contents = configuration(self.settings, port or process.free_ports(1)[0])
            file.write_text(yaml.safe_dump(contents, sort_keys=False), encoding="utf-8")
            # At info this logs a line per class of the SQL parser.
            types = ("org.apache.flink.api.java.typeutils.TypeExtractor", "warn")
            write_log4j(folder / "log4j.properties", types=types)
            write_log4j(folder / "log4j-client.properties", "warn")
            self.configured = True

    def _launch(
        self,
        name: str,
        options: tuple[str, ...],
        main_class: str,
        arguments: tuple[str, ...],
        python_path: tuple[str, ...] | None = None,
    ) -> Launch:
        folder = conf_folder(self.settings)
        return Launch(
            (
                str(self.java.executable),
                *options,
                *java_options(),
                # The web UI shows this file, which has the console's output.
                f"-Dlog.file={self.settings.log(name)}",
                f"-Dlog4j.configurationFile={folder / 'log4j.properties'}",
                "-classpath",
                class_path(),
                main_class,
                "--configDir",
                str(folder),
                *arguments,
            ),
            environment(self.settings, self.java, os.environ, python_path),
        )


def temporary_folder(settings: LocalSettings) -> Path:
    """Return the folder of the servers' temporary files."""
    return settings.run / "flink-tmp"


def read_resource_id(settings: LocalSettings, name: str) -> str | None:
    """Return the id of a TaskManager since its last start; None if it was never started."""
    try:
        return _resource_id_file(settings, name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _resource_id_file(settings: LocalSettings, name: str) -> Path:
    return conf_folder(settings) / f"{name}.id"


def _read_rpc_port(file: Path) -> int | None:
    with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
        return int(yaml.safe_load(file.read_text(encoding="utf-8"))["jobmanager.rpc.port"])
    return None


def _get(settings: LocalSettings, path: str) -> Any:
    try:
        with urllib.request.urlopen(settings.flink.url + path, timeout=2) as response:
            return json.load(response)
    except (OSError, HTTPException, ValueError):
        return None


def _overview(settings: LocalSettings) -> Any:
    return _get(settings, "/overview")


def _is_registered(settings: LocalSettings, name: str) -> bool:
    """Whether the TaskManager has registered since its last start, and has offered its slots.

    The slots are reported separately, shortly after the registration.
    """
    own = read_resource_id(settings, name)
    answer = _get(settings, "/taskmanagers")
    return answer is not None and any(
        entry["id"] == own and entry["slotsNumber"] == settings.task_slots
        for entry in answer["taskmanagers"]
    )
