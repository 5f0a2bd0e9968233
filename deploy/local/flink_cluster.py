"""Flink on the laptop: a standalone cluster from the pip package, its processes started one by one.

One JobManager and some TaskManagers, each a server of its own, so that each can be killed and
started again alone. They are started as the package's own scripts start them: same class path, same
main classes, same Java options. The memory figures are written out instead of being worked out by a
Java program first, which saves seconds a process. The package's folder stays untouched.
"""

from __future__ import annotations

import contextlib
import json
import os
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
from deploy.local.process import Launch, Server
from deploy.local.settings import HOST, LocalSettings, aws_environment

NAME = "flink"
JOBMANAGER, TASKMANAGER = flink_workers.JOBMANAGER, flink_workers.TASKMANAGER

MEBI = 1 << 20

JOBMANAGER_HEAP = 640
JOBMANAGER_OFF_HEAP = 128
JOBMANAGER_METASPACE = 256
"""The JobManager's memory in MiB: 1 GiB with what Java itself needs."""

LOG_PROPERTIES = """\
status = warn
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %c{1.} %x - %m%n
rootLogger.level = {level}
rootLogger.appenderRef.console.ref = console
# A line for each class of the SQL parser.
logger.types.name = org.apache.flink.api.java.typeutils.TypeExtractor
logger.types.level = warn
"""


@dataclass(frozen=True, slots=True)
class TaskManagerMemory:
    """The memory of one TaskManager in MiB, in Flink's own terms (1.7 GiB with the overhead).

    In thread mode the Python interpreter lives in the same process and comes on top.
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
        """What the scripts derive from these figures."""
        heap = self.framework_heap + self.task_heap
        direct = self.framework_off_heap + self.task_off_heap + self.network
        return (
            f"-Xms{heap}m",
            f"-Xmx{heap}m",
            f"-XX:MaxDirectMemorySize={direct}m",
            f"-XX:MaxMetaspaceSize={self.metaspace}m",
        )

    def configuration(self, slots: int) -> dict[str, object]:
        """What a TaskManager wants to be told that was not started by the scripts."""
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


def package() -> Path:
    """The folder of the pip package, which is also FLINK_HOME."""
    import importlib.util

    spec = importlib.util.find_spec("pyflink")  # without importing it
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("pyflink")
    return Path(spec.origin).parent


def class_path() -> str:
    """Flink's own jars in the order of its scripts, and flink-python.

    flink-python is here, and not only in each job's upload, so that the interpreter that it embeds
    in thread mode is loaded once a process and not once a job: a native library belongs to one
    class loader.
    """
    home = package()
    library = sorted((home / "lib").glob("*.jar"))
    dist = [jar for jar in library if jar.name.startswith("flink-dist")]
    others = [jar for jar in library if jar not in dist]
    python = sorted((home / "opt").glob("flink-python-*.jar"))
    return os.pathsep.join(str(jar) for jar in [*others, *python, *dist])


def configuration(settings: LocalSettings, rpc_port: int) -> dict[str, object]:
    """The cluster's configuration, flat keys as in Flink's documentation."""
    data = settings.data(NAME)
    # What Managed Flink sets too, with its default of 60 s between checkpoints made shorter.
    checkpoints: dict[str, object] = {
        "state.backend.type": "rocksdb",
        "execution.checkpointing.interval": "10 s",
        "execution.checkpointing.incremental": True,
        "execution.checkpointing.num-retained": 2,
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.dir": (data / "checkpoints").as_uri(),
        "execution.checkpointing.savepoint-dir": (data / "savepoints").as_uri(),
    }
    # A killed TaskManager is noticed at the first failed call; a stuck one after ten seconds.
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
        "io.tmp.dirs": str(settings.run / "flink-tmp"),
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "rest.flamegraph.enabled": True,
        "metrics.fetcher.update-interval": "1 s",
    }


def _reporters(settings: LocalSettings) -> dict[str, object]:
    """Metrics for Prometheus, if there are ports for it.

    Not by default: Flink 2.2's reporter takes a port and no address and listens on every interface
    of the machine, where all else of the platform is on loopback only.
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
    """What every Flink process and the client get: where Flink, Java and Python's modules are (by
    default this checkout and this Python's packages)."""
    home = package()
    if python_path is None:
        python_path = flink_workers.of_checkout(settings).python_path
    result = {
        "FLINK_HOME": str(home),
        "FLINK_CONF_DIR": str(conf(settings)),
        "FLINK_BIN_DIR": str(home / "bin"),
        "FLINK_LIB_DIR": str(home / "lib"),
        "FLINK_OPT_DIR": str(home / "opt"),
        "FLINK_PLUGINS_DIR": str(plugins(settings.run / "flink-plugins", settings.jar_cache)),
        "JAVA_HOME": str(java.home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(python_path),
        **aws_environment(settings),
    }
    if library := shared_libpython():
        variable = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
        result[variable] = os.pathsep.join(filter(None, [str(library), environ.get(variable, "")]))
    return result


def plugins(folder: Path, jar_cache: Path) -> Path:
    """A plugin folder (FLINK_PLUGINS_DIR): the package's own plugins, and S3 where it has been
    fetched; returns it."""
    own = {path.name: [path] for path in (package() / "plugins").iterdir() if path.is_dir()}
    s3 = jars.of_sets(jars.load(), ["s3"])
    if not jars.missing(s3, jar_cache):
        own["s3-fs-hadoop"] = [jar_cache / jar.path for jar in s3]
    for name, sources in own.items():
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        files = [f for s in sources for f in (s.glob("*.jar") if s.is_dir() else (s,))]
        for file in files:
            if not (target / file.name).exists():
                # JobManager and TaskManagers start side by side, each with this.
                write_link(target / file.name, file)
    return folder


def conf(settings: LocalSettings) -> Path:
    """The folder with the generated configuration (FLINK_CONF_DIR)."""
    return settings.run / "flink-conf"


def java_options() -> tuple[str, ...]:
    """The options for Java 17 that the package's own configuration lists (opened modules)."""
    own = yaml.safe_load((package() / "conf" / "config.yaml").read_text(encoding="utf-8"))
    return tuple(str(own["env"]["java"]["opts"]["all"]).split())


def servers(settings: LocalSettings, environ: Mapping[str, str]) -> tuple[Server, ...]:
    """Return the JobManager and the TaskManagers."""
    cluster = _Cluster(settings, find_java(environ))
    return (
        Server(
            name=JOBMANAGER,
            service=NAME,
            ports=(settings.flink,),
            address=settings.flink.url,
            prepare=cluster.jobmanager,
            is_healthy=lambda: _overview(settings) is not None,
        ),
        *_taskmanagers(cluster, flink_workers.present(settings)),
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
            service=NAME,
            ports=(),
            address=f"slots: {settings.task_slots}",
            prepare=partial(cluster.taskmanager, name, workers.python_path),
            is_healthy=partial(_registered, settings, name),
        )
        for name in workers.names
    )


class _Cluster:
    """Writes the configuration once for all of the servers that are started together."""

    def __init__(self, settings: LocalSettings, java: Java) -> None:
        self.settings = settings
        self.java = java
        self.lock = threading.Lock()
        self.configured = False

    def jobmanager(self) -> Launch:
        self.configure()
        return self._launch(
            JOBMANAGER,
            (
                f"-Xms{JOBMANAGER_HEAP}m",
                f"-Xmx{JOBMANAGER_HEAP}m",
                f"-XX:MaxMetaspaceSize={JOBMANAGER_METASPACE}m",
                "-XX:+UseSerialGC",
            ),
            "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
            ("--executionMode", "cluster"),
        )

    def taskmanager(self, name: str, python_path: tuple[str, ...]) -> Launch:
        self.configure()
        own = f"{name}-{time.time_ns():x}"
        _identity(self.settings, name).write_text(own, encoding="utf-8")
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
            folder = conf(self.settings)
            folder.mkdir(parents=True, exist_ok=True)
            (self.settings.run / "flink-tmp").mkdir(exist_ok=True)
            file = folder / "config.yaml"
            # Servers that run already find each other by the port in the present file.
            port = _read_rpc_port(file) if process.list_running(self.settings, "flink-") else None
            contents = configuration(self.settings, port or process.free_ports(1)[0])
            file.write_text(yaml.safe_dump(contents, sort_keys=False), encoding="utf-8")
            for name, level in (("log4j.properties", "info"), ("log4j-client.properties", "warn")):
                text = LOG_PROPERTIES.replace("{level}", level)
                (folder / name).write_text(text, encoding="utf-8")
            self.configured = True

    def _launch(
        self,
        name: str,
        options: tuple[str, ...],
        main_class: str,
        arguments: tuple[str, ...],
        python_path: tuple[str, ...] | None = None,
    ) -> Launch:
        folder = conf(self.settings)
        return Launch(
            (
                str(self.java.executable),
                *options,
                *java_options(),
                # Where the web UI looks for the log; the console is written there.
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


def identity(settings: LocalSettings, name: str) -> str | None:
    """Under which id a TaskManager registers as it was last started; None: it never was."""
    try:
        return _identity(settings, name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _identity(settings: LocalSettings, name: str) -> Path:
    return conf(settings) / f"{name}.id"


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


def _registered(settings: LocalSettings, name: str) -> bool:
    """Whether the TaskManager as it was last started has registered and offered its slots.

    The slots arrive with a report of their own, a moment after the registration.
    """
    own = identity(settings, name)
    answer = _get(settings, "/taskmanagers")
    return answer is not None and any(
        entry["id"] == own and entry["slotsNumber"] == settings.task_slots
        for entry in answer["taskmanagers"]
    )
