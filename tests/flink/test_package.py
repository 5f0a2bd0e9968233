"""The package runs alone: from its folder, on the runtime's packages, with nothing of the checkout.

The cluster's Python is a virtual environment that has what the service has: PyFlink and what it
requires. What Python does there is recorded by Python itself (audit hooks): each file whose code
was executed, each connection.
"""

from __future__ import annotations

import importlib.metadata
import ipaddress
import os
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cli import main as cli
from connectors.clock import now_ms
from connectors.flink.properties import RUN_OPTIONS, write_groups
from deploy.local import application, flink, flink_cluster, platform, process
from deploy.local.flink import FlinkRest
from deploy.local.settings import LocalSettings, aws_environment
from deploy.package import archive, assembly
from deploy.package.contents import ENTRY, JAR, RUN_FILES, WHEELS
from deploy.package.requirements import Requirement, parse_lock, resolve
from tests.flink.mesh import START_SECONDS, Mesh, Record
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

RESCALING = {
    "jobmanager.scheduler": "adaptive",
    "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling": "0 s",
    "jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout": "0 s",
    "jobmanager.adaptive-scheduler.rescale-trigger.max-delay": "0 s",
}
"""The scheduler that restarts a job on demand; the tasks restart as after a failure."""

PYTHON_OPTIONS = ("python.executable", "python.client.executable")

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The zip for the service has wheels for 3.12; what runs here must be for this Python."""

RUNNING_SECONDS = 180.0
"""For every task of the job to run; 15 s on a quiet machine."""

RECORDER = """\
import os, sys

_name = f"{os.environ['TUNEMESH_TRACES']}/{os.getpid()}"
_file = os.open(_name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _record(event, arguments):
    if event == "exec" and hasattr(arguments[0], "co_filename"):
        os.write(_file, f"exec {arguments[0].co_filename}\\n".encode())
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        os.write(_file, f"connect {arguments[1][0]}\\n".encode())


sys.addaudithook(_record)
"""


@dataclass(frozen=True, slots=True)
class Traces:
    """What Python did, by process id: files that it executed, addresses that it connected to."""

    folder: Path

    def of(self, kind: str) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for file in self.folder.iterdir():
            lines = (line.partition(" ") for line in file.read_text().splitlines())
            found[int(file.name)] = {rest for first, _, rest in lines if first == kind}
        return found


@dataclass(frozen=True, slots=True)
class Service:
    """A cluster as the service has one, and where it records what Python does."""

    settings: LocalSettings
    python: Path
    packages: Path
    traces: Traces

    @property
    def environment(self) -> dict[str, str]:
        return {
            **aws_environment(self.settings),
            "PATH": os.pathsep.join([str(self.python.parent), os.environ["PATH"]]),
            "PYTHONPATH": str(self.packages),
            "TUNEMESH_TRACES": str(self.traces.folder),
        }


def runtime_packages(repository: Path, folder: Path) -> None:
    """Links to what PyFlink and its requirements have on the path here, and nothing else."""
    lock = parse_lock((repository / "requirements.lock").read_text())
    installed = Path(sysconfig.get_paths()["purelib"])
    for requirement in resolve(lock, ["apache-flink"], PYTHON):
        files = importlib.metadata.distribution(requirement.name).files or []
        for first in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            if not (folder / first).exists():
                (folder / first).symlink_to(installed / first)


def configure(settings: LocalSettings, options: Mapping[str, str]) -> None:
    """Change the cluster's configuration before it starts."""
    file = flink_cluster.conf_folder(settings) / "config.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **options}))


@pytest.fixture
def service(mesh: Mesh, repository: Path, tmp_path: Path) -> Iterator[Service]:
    """One TaskManager with two slots, beside the Kafka and the registry of the other tests."""
    settings = replace(mesh.settings, home=tmp_path / "home", taskmanagers=1, task_slots=2)
    settings.run.mkdir(parents=True)
    runtime = tmp_path / "runtime"
    venv.create(runtime, symlinks=True)
    (packages,) = runtime.glob("lib/python*/site-packages")
    runtime_packages(repository, packages)
    (packages / "sitecustomize.py").write_text(RECORDER)
    traces = tmp_path / "traces"
    traces.mkdir()
    found = Service(settings, runtime / "bin" / "python", packages, Traces(traces))
    servers = flink_cluster.servers(settings, os.environ)
    try:
        launches = [server.prepare() for server in servers]
        configure(settings, {**RESCALING, **dict.fromkeys(PYTHON_OPTIONS, str(found.python))})
        for server, launch in zip(servers, launches, strict=True):
            short_lived = replace(
                launch,
                # It lives for seconds: compiling thoroughly would not pay.
                arguments=(launch.arguments[0], "-XX:TieredStopAtLevel=1", *launch.arguments[1:]),
                environment={**launch.environment, **found.environment},
            )
            process.start(settings, server, short_lived, os.environ)
        wait_until(lambda: all(server.is_healthy() for server in servers), seconds=START_SECONDS)
        yield found
    finally:
        platform.down(settings)


def test_the_package_runs_alone(
    mesh: Mesh, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpacked to an empty folder and started as the service does: events come out enriched.

    Neither client nor workers execute a file of the checkout or of this virtual environment, and
    they connect to this machine only. All of it holds after a restart of the job on the same
    TaskManager, too: Flink then removes the folder from which its Python has loaded the code.
    """
    arguments = ["package", "--python", PYTHON, "--output", str(tmp_path / "packages")]
    done = CliRunner().invoke(cli.tunemesh, arguments)
    assert done.exit_code == 0, done.output
    (built,) = (tmp_path / "packages").glob("*.zip")
    again = assembly.build("stream", tmp_path / "again", python=PYTHON, download=refuse)
    assert again.path.name == built.name
    assert again.path.read_bytes() == built.read_bytes()
    assert f"{again.bytes:,} bytes" in done.output
    release = archive.unpack(built, tmp_path / "release")
    groups = application.property_groups(
        service.settings,
        ("enrichment",),
        {
            "tunemesh.application": {"group.id": mesh.new_id("package")},
            "tunemesh.enrichment": {"start": str(now_ms())},
            RUN_OPTIONS: RUN_FILES,
        },
    )
    properties = tmp_path / "application_properties.json"
    write_groups(properties, groups)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    job = flink.run_job(
        service.settings,
        release / ENTRY,
        ["--properties", str(properties)],
        environ=service.environment,
        python_files=[release / WHEELS],
        jar=release / JAR,
    )
    rest = FlinkRest.of(service.settings)
    wait_until(lambda: rest.all_running(job), lambda: problem(rest, job), RUNNING_SECONDS)
    user, song = mesh.new_id("user"), mesh.new_id("song")
    mesh.user(user)
    mesh.song(song)
    mesh.play_until(user, song, is_whole)

    restart(rest, job)
    mesh.play_until(user, song, is_whole)
    assert rest.job_exception(job) == ""
    rest.cancel(job)
    check_files(service, release)
    for addresses in service.traces.of("connect").values():
        assert all(ipaddress.ip_address(address).is_loopback for address in addresses)


def refuse(requirements: Sequence[Requirement], python: str, folder: Path) -> None:
    """Instead of a download: a second build needs no network."""
    raise AssertionError(f"to download: {[entry.name for entry in requirements]}")


def check_files(service: Service, release: Path) -> None:
    """Each file that Python executed is the release's, PyFlink's, or Python's own.

    Flink's workers have the release's folder dep/ in a folder of their own.
    """
    copies = service.settings.run / "flink-tmp"
    links = Path(tempfile.gettempdir()) / "pyflink"
    executed = {
        pid: {Path(name) for name in names if not name.startswith("<")}
        for pid, names in service.traces.of("exec").items()
    }
    known = (release, copies, service.packages, Path(sys.base_prefix))
    for files in executed.values():
        for file in files:
            linked = file.is_relative_to(links) and file.name == ENTRY
            assert linked or any(file.is_relative_to(folder) for folder in known), file
    # What the release brings along is taken from nowhere else.
    brought = {entry.name for entry in (release / WHEELS).iterdir()}
    base = Path(sysconfig.get_path("purelib", vars={"base": sys.base_prefix}))
    for folder in (service.packages, base):
        for file in set().union(*executed.values()):
            if file.is_relative_to(folder):
                assert file.relative_to(folder).parts[0] not in brought, file
    # And it was: in the client, in the worker, and in the process that asks Kafka for offsets.
    worker = process.read_record(service.settings, f"{flink_cluster.TASKMANAGER}1")
    assert worker is not None
    assert ends_with(
        executed[worker.pid], "dep/jobs/decode_functions.py", "dep/fastavro/__init__.py"
    )
    others = [files for pid, files in executed.items() if pid != worker.pid]
    assert any(release / "jobs" / "main.py" in files for files in others)
    assert any(
        ends_with(
            files, "dep/connectors/kafka/librdkafka.py", "dep/confluent_kafka/admin/__init__.py"
        )
        for files in others
    )


def ends_with(files: Iterable[Path], *endings: str) -> bool:
    """Whether there is a file for each ending."""
    return all(any(str(file).endswith(f"/{ending}") for file in files) for ending in endings)


def is_whole(record: Record) -> bool:
    """Whether user and item are attached."""
    return record["user"] is not None and record["item"] is not None


def restart(rest: FlinkRest, job: str) -> None:
    """Let every task of a job end and start again, in the same TaskManager, on fewer slots."""
    vertices = [vertex.id for vertex in rest.vertices(job)]
    bounds = {"parallelism": {"lowerBound": 1, "upperBound": 1}}
    rest.call("PUT", f"/jobs/{job}/resource-requirements", dict.fromkeys(vertices, bounds))
    wait_until(
        lambda: all(v.parallelism == 1 for v in rest.vertices(job)) and rest.all_running(job),
        lambda: problem(rest, job),
    )


def problem(rest: FlinkRest, job: str) -> str:
    """What keeps a job from running."""
    return f"{rest.job_status(job)}: {rest.job_exception(job)[:2000]}"
