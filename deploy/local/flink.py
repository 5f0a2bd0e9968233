"""Jobs on the local Flink cluster: submitted by its client, observed through its REST API."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

from connectors.files import remove_oldest
from connectors.flink import java
from deploy.local import flink_cluster
from deploy.local.process import Launch
from deploy.local.settings import LocalSettings
from schemas.errors import TunemeshError

T = TypeVar("T")

CLIENT_LOG = "flink-client"
REST_SECONDS = 20
POLL_SECONDS = 0.2
MAX_ENDED_JOBS = 5
"""Jobs that have ended whose last checkpoints are kept."""
ENDED = frozenset({"FINISHED", "FAILED", "CANCELED"})
"""The final states of a job (beside SUSPENDED, which needs high availability)."""


class FlinkError(TunemeshError):
    """Flink refused a call, did not answer, or did not finish in time."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the JobManager lists it."""

    id: str
    name: str
    state: str
    started: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure of a job: its time, in seconds since the epoch, and its stack trace."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class TaskManager:
    """A registered TaskManager."""

    id: str
    slots: int


@dataclass(frozen=True, slots=True)
class Vertex:
    """An operator chain of a job."""

    id: str
    name: str
    parallelism: int
    state: str


class FlinkRest:
    """The REST API of a JobManager; calls block, and raise FlinkError with the cause."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @classmethod
    def of(cls, settings: LocalSettings) -> FlinkRest:
        """Return the API of the platform's cluster."""
        return cls(settings.flink.url)

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Send a request and return the JSON of the answer."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=REST_SECONDS) as response:
                return json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise FlinkError(f"Flink: {method} {path}: {error.code}: {_reason(error)}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise FlinkError(
                f"Flink at {self.url} does not answer ({method} {path}: {error}). "
                "Is it up? See: tunemesh status"
            ) from error

    def jobs(self) -> tuple[Job, ...]:
        """Return every job of the JobManager, the newest first."""
        listed = self.call("GET", "/jobs/overview")["jobs"]
        jobs = (
            Job(job["jid"], job["name"], job["state"], job["start-time"] / 1000) for job in listed
        )
        return tuple(sorted(jobs, key=lambda job: -job.started))

    def running_jobs(self) -> tuple[Job, ...]:
        """Return the jobs that have not ended, including those that are restarting."""
        return tuple(job for job in self.jobs() if job.state not in ENDED)

    def is_running(self, job: str) -> bool:
        """Whether a job exists that has not ended."""
        return any(running.id == job for running in self.running_jobs())

    def job_status(self, job: str) -> str:
        """Return the state of a job, such as RUNNING, RESTARTING or FAILED."""
        return str(self.call("GET", f"/jobs/{job}/status")["status"])

    def failures(self, job: str) -> tuple[Failure, ...]:
        """Return why and when a job failed, the newest first; Flink keeps 16 of them."""
        answer = self.call("GET", f"/jobs/{job}/exceptions")
        entries = answer.get("exceptionHistory", {}).get("entries", [])
        return tuple(
            Failure(entry["timestamp"] / 1000, str(entry["stacktrace"])) for entry in entries
        )

    def job_exception(self, job: str) -> str:
        """Return why a job last failed or restarted; empty if it never did."""
        failures = self.failures(job)
        return failures[0].text if failures else ""

    def free_slots(self) -> int:
        """Return the number of task slots that no job has."""
        return int(self.call("GET", "/overview")["slots-available"])

    def restarts(self, job: str) -> int:
        """Return how often a job was restarted since it was submitted."""
        values = self.job_metrics(job, ["numRestarts"])
        return int(values.get("numRestarts", 0))

    def vertices(self, job: str) -> tuple[Vertex, ...]:
        """Return the operator chains of a job."""
        return tuple(
            Vertex(vertex["id"], vertex["name"], vertex["parallelism"], vertex["status"])
            for vertex in self.call("GET", f"/jobs/{job}")["vertices"]
        )

    def all_running(self, job: str) -> bool:
        """Whether every subtask of a job runs; a job is RUNNING before its operators are set up.

        From the overview: a job's own answer is up to 3 s old (web.refresh-interval), and Flink
        collects the metrics of all tasks for it, which delays a start.
        """
        return any(
            entry["jid"] == job
            and entry["state"] == "RUNNING"
            and entry["tasks"]["running"] == entry["tasks"]["total"]
            for entry in self.call("GET", "/jobs/overview")["jobs"]
        )

    def wait_running(self, job: str, seconds: float = 60.0) -> None:
        """Return when every subtask runs; raises FlinkError with the reason if the job ends."""

        def reached() -> bool:
            state = self.job_status(job)
            if state in ENDED:
                raise FlinkError(f"job {job} is {state}:\n{self.job_exception(job)[:4000]}")
            return self.all_running(job)

        _wait(reached, seconds, lambda: f"job {job} runs ({self.job_status(job)} now)")

    def wait_ended(self, job: str, seconds: float = 60.0) -> str:
        """Wait until a job has ended, and return its final state."""
        _wait(
            lambda: self.job_status(job) in ENDED,
            seconds,
            lambda: f"job {job} ends ({self.job_status(job)} now)",
        )
        return self.job_status(job)

    def cancel(self, job: str, seconds: float = 60.0) -> None:
        """Cancel a job and wait until it has ended; does nothing if it has ended already."""
        if self.job_status(job) not in ENDED:
            self.call("PATCH", f"/jobs/{job}?mode=cancel")
            self.wait_ended(job, seconds)

    def stop_with_savepoint(
        self, job: str, directory: Path, seconds: float = 120.0, *, drain: bool = False
    ) -> str:
        """Stop a job with a savepoint below the directory and return the savepoint's location."""
        answer = self.call(
            "POST",
            f"/jobs/{job}/stop",
            {"targetDirectory": directory.absolute().as_uri(), "drain": drain},
        )
        location = self._wait_savepoint(job, str(answer["request-id"]), seconds)
        self.wait_ended(job, seconds)
        return location

    def savepoint(self, job: str, directory: Path, seconds: float = 120.0) -> str:
        """Create a savepoint of a job, which continues, and return its location."""
        return self._wait_savepoint(job, self.trigger_savepoint(job, directory), seconds)

    def trigger_savepoint(self, job: str, directory: Path) -> str:
        """Start a savepoint of a job, which continues, and return the id of the request."""
        answer = self.call(
            "POST",
            f"/jobs/{job}/savepoints",
            {"target-directory": directory.absolute().as_uri(), "cancel-job": False},
        )
        return str(answer["request-id"])

    def savepoint_location(self, job: str, request: str) -> str | None:
        """Return the location of a requested savepoint, None while it is being created.

        Raises FlinkError when it has failed, or when the job has ended.
        """
        answer = self.call("GET", f"/jobs/{job}/savepoints/{request}")
        if answer["status"]["id"] != "COMPLETED":
            return None
        operation = answer["operation"]
        if "location" not in operation:
            cause = operation.get("failure-cause", {}).get("stack-trace", "no reason given")
            raise FlinkError(f"the savepoint of job {job} failed:\n{cause[:4000]}")
        return str(operation["location"])

    def _wait_savepoint(self, job: str, request: str, seconds: float) -> str:
        return _wait(
            lambda: self.savepoint_location(job, request),
            seconds,
            lambda: f"the savepoint of job {job} is complete",
        )

    def completed_checkpoints(self, job: str) -> int:
        """Return how many checkpoints a job has completed since it was submitted."""
        return int(self.call("GET", f"/jobs/{job}/checkpoints")["counts"]["completed"])

    def taskmanagers(self) -> tuple[TaskManager, ...]:
        """Return the registered TaskManagers; a killed one remains until its heartbeat fails."""
        return tuple(
            TaskManager(entry["id"], entry["slotsNumber"])
            for entry in self.call("GET", "/taskmanagers")["taskmanagers"]
        )

    def job_metrics(self, job: str, names: Iterable[str]) -> dict[str, float]:
        """Return the job's metrics by name, without those that Flink does not have (yet)."""
        metrics = {}
        for entry in self.call("GET", f"/jobs/{job}/metrics?get={_names(names)}"):
            with contextlib.suppress(ValueError):
                metrics[entry["id"]] = float(entry["value"])
        return metrics

    def vertex_metrics(
        self, job: str, vertex: str, names: Iterable[str], aggregation: str = "sum"
    ) -> dict[str, float]:
        """Return metrics of a vertex, aggregated over subtasks by `sum`, `min`, `max` or `avg`."""
        answer = self.call(
            "GET",
            f"/jobs/{job}/vertices/{vertex}/subtasks/metrics?get={_names(names)}&agg={aggregation}",
        )
        return {entry["id"]: float(entry[aggregation]) for entry in answer}

    def vertex_metric_names(self, job: str, vertex: str) -> tuple[str, ...]:
        """Return the names of the metrics of a vertex's subtasks."""
        answer = self.call("GET", f"/jobs/{job}/vertices/{vertex}/subtasks/metrics")
        return tuple(entry["id"] for entry in answer)


def run_job(
    settings: LocalSettings,
    script: Path,
    arguments: Sequence[str] = (),
    *,
    environ: Mapping[str, str] | None = None,
    savepoint: str | None = None,
    allow_non_restored_state: bool = False,
    python_files: Sequence[Path] = (),
    jar: Path | None = None,
    main_class: str | None = None,
    libraries: Sequence[Path] = (),
    configuration: Mapping[str, str] | None = None,
    seconds: float = 180.0,
) -> str:
    """Submit a job to the platform's cluster (`flink run --detached`); returns its id.

    `script` is a Python script, or with `main_class` a jar that runs with the jars `libraries`. It
    runs in Flink's client, on this machine; `environ` is added to its environment, and
    `configuration` to its Flink configuration. `python_files` are added to the path of the client
    and of the workers, `jar` to the job's class path. Blocks until the job is submitted, not until
    it runs. The client's output is in the log `flink-client`. Raises :class:`FlinkError` with the
    end of it when the script fails, submits nothing, or takes longer than `seconds`.
    """
    options = [f"-D{key}={value}" for key, value in (configuration or {}).items()]
    if savepoint is not None:
        options += ["--fromSavepoint", savepoint]
    if allow_non_restored_state:
        options.append("--allowNonRestoredState")
    if python_files:
        options += ["--pyFiles", ",".join(str(file) for file in python_files)]
    if jar is not None:
        options += ["--jarfile", str(jar)]
    for library in libraries:
        options += ["--classpath", library.as_uri()]
    client = client_launch(settings, script, arguments, options, main_class=main_class)
    log = settings.log(CLIENT_LOG)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                client.arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **client.environment, **(environ or {})},
                timeout=seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise FlinkError(
                f"submitting {script.name} took longer than {seconds:.0f} s. "
                f"The client's log: {log}"
            ) from error
    return read_job_id(script, code, log)


def client_launch(
    settings: LocalSettings,
    script: Path,
    arguments: Sequence[str],
    options: Sequence[str],
    python_path: tuple[str, ...] | None = None,
    main_class: str | None = None,
) -> Launch:
    """Return how to start the client of a job: `flink run --detached OPTIONS --python SCRIPT`, or
    `--class MAIN_CLASS SCRIPT` for a jar."""
    installed = java.find(os.environ)
    log_configuration = flink_cluster.conf_folder(settings) / "log4j-client.properties"
    return Launch(
        (
            str(installed.executable),
            # It runs for seconds: further compilation would not pay off.
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Xmx512m",
            *flink_cluster.java_options(),
            f"-Dlog4j.configurationFile={log_configuration}",
            "-classpath",
            flink_cluster.class_path(),
            "org.apache.flink.client.cli.CliFrontend",
            "run",
            "--detached",
            *options,
            *(("--python",) if main_class is None else ("--class", main_class)),
            str(script),
            *arguments,
        ),
        flink_cluster.environment(settings, installed, os.environ, python_path),
    )


def read_job_id(script: Path, code: int, log: Path) -> str:
    """Return the id of the job that a client has submitted, by its exit code and its log.

    Raises FlinkError with the error in the log.
    """
    text = log.read_text(encoding="utf-8", errors="replace")
    submitted = re.findall(r"Job has been submitted with JobID ([0-9a-f]{32})", text)
    if code != 0 or not submitted:
        what = "failed" if code != 0 else "submitted no job"
        raise FlinkError(f"{script.name} {what}. The end of {log}:\n{extract_error(text)}")
    return str(submitted[-1])


PYTHON_ENDED = ("Python process exits with code", "Failed to start Python process")
"""What Java says of a program that failed; the second of one that failed at once."""


def extract_error(text: str, lines: int = 25) -> str:
    """Return the error at the end of a client's log.

    That is the last Python traceback, if there is one, with its causes in Java, which describe
    errors in statements; otherwise the last lines.
    """
    log = text.rstrip().splitlines()
    starts = [n for n, line in enumerate(log) if line.startswith("Traceback (most recent")]
    chosen = log[-lines:]
    if starts:
        after = log[starts[-1] :]
        # A traceback ends with its first line that is not indented.
        end = next(
            (n for n, line in enumerate(after[1:], 1) if not line.startswith(" ")), len(after)
        )
        causes = (line for line in after[end + 1 :] if line.startswith((": ", "Caused by: ")))
        own = (line for line in causes if not any(end in line for end in PYTHON_ENDED))
        chosen = [*after[: end + 1][-lines:], *dict.fromkeys(own)]
    return "\n".join(f"    {line}" for line in chosen)


def prune_checkpoints(settings: LocalSettings) -> None:
    """Remove the checkpoints of jobs that have ended, but those of the last MAX_ENDED_JOBS."""
    running = {job.id for job in FlinkRest.of(settings).running_jobs()}
    folders = (settings.data(flink_cluster.NAME) / "checkpoints").glob("*")
    remove_oldest((f for f in folders if f.name not in running), MAX_ENDED_JOBS)


def root_cause(text: str) -> str:
    """Return the innermost cause in a stack trace or a client's log, as one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith(("Caused by: ", "tunemesh: "))]
    errors = [line for line in lines if _is_error(line)]
    chosen = (errors or causes or lines[:1] or [""])[-1]
    return chosen.removeprefix("Caused by: ")[:500]


def _is_error(line: str) -> bool:
    name = line.partition(":")[0]
    return name.isidentifier() and name.endswith(("Error", "Exception"))


def _names(names: Iterable[str]) -> str:
    return ",".join(urllib.parse.quote(name, safe="") for name in names)


def _reason(error: urllib.error.HTTPError) -> str:
    """Return the first errors of a refused request, without the stack trace."""
    try:
        reasons = json.loads(error.read())["errors"]
    except (OSError, ValueError, KeyError, TypeError):
        return str(error.reason)
    return " ".join(str(reason).splitlines()[0] for reason in reasons[:2] if reason)


def _wait(poll: Callable[[], T | None], seconds: float, what: Callable[[], str]) -> T:
    """Call until the result is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (result := poll()):
        if time.monotonic() >= deadline:
            raise FlinkError(f"waited {seconds:.0f} s in vain until {what()}.")
        time.sleep(POLL_SECONDS)
    return result
