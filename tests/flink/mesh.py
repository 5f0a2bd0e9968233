"""A mesh of real servers, and applications in the minicluster, for the tests of the jobs.

The servers are the local platform's Kafka, registry and Personalize on ports of their own. An
application is ``python -m jobs.main`` with IS_LOCAL in a folder with its property file, as for a
trial before Managed Flink; its Flink writes its log into the same folder.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import Message, Producer

from connectors.clock import now_ms
from connectors.flink.properties import LOCAL_PROPERTIES, Groups, write_groups
from connectors.glue.registry import GlueRegistry
from deploy.local import application, platform
from deploy.local.flink import FlinkRest
from deploy.local.job_progress import FlowProgress, read_job_progress
from deploy.local.settings import PROJECT, LocalSettings, Port, aws_environment
from schemas.codec import Decoder, Encoder
from schemas.model import BUILT_IN_FOLDER, Contract, Contracts, Role, load_contracts
from tests.support import ports
from tests.support.waiting import LIMIT_SECONDS, wait_until
from verification.positions import TopicReader

Record = dict[str, Any]

START_SECONDS = 420.0
"""For an application to get its first record through; 20 s on a quiet machine."""


HOUR_MS, DAY_MS = 3_600_000, 86_400_000


@dataclass(frozen=True, slots=True)
class Published:
    """The position of a published record; ``timestamp_ms`` is the broker's."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    @property
    def origin(self) -> str:
        """The position as records have it."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(slots=True)
class Output:
    """One of the topics that the jobs write, decoded as far as it has been read."""

    reader: TopicReader
    decoder: Decoder
    records: list[tuple[Message, Record]] = field(default_factory=list)

    def read(self) -> None:
        """Read up to the end that the topic has now."""
        for message in self.reader.read():
            self.records.append((message, self.decoder.decode(message.value())))


class Mesh:
    """Topics, registry and Personalize: publishes records and reads results."""

    def __init__(self, settings: LocalSettings, contracts: Contracts) -> None:
        self.settings = settings
        self.contracts = contracts
        self.registry: GlueRegistry = application.connect_registry(settings)
        self._producer = Producer(
            {"bootstrap.servers": settings.kafka.address, "acks": "all", "linger.ms": 0}
        )
        self._encoders: dict[str, Encoder] = {}
        start = dict.fromkeys(range(application.PARTITIONS), 0)
        self._outputs = {
            role: Output(
                TopicReader(settings.kafka.address, contracts.only(role).topic, start),
                Decoder(contracts.only(role), self.registry),
            )
            for role in (Role.ENRICHED, Role.DEAD_LETTER)
        }
        self._numbers = itertools.count(1)
        self._occurred_at = 0

    def close(self) -> None:
        """Close the connections to the topics."""
        self._producer.flush(5)
        del self._producer
        for output in self._outputs.values():
            output.reader.__exit__(None, None, None)

    # In.

    def new_id(self, prefix: str) -> str:
        """An id that no other test has: tests share the topics."""
        return f"{prefix}-{next(self._numbers)}"

    def encode(self, topic: str, record: Mapping[str, Any], *, compress: bool = False) -> bytes:
        """The value of a record as its producer would write it."""
        if topic not in self._encoders:
            contract = self.contracts.for_topic(topic)
            self._encoders[topic] = Encoder(contract, self.registry.version_id(contract))
        return self._encoders[topic].encode(record, compress=compress)

    def publish(
        self,
        topic: str,
        value: Mapping[str, Any] | bytes | None,
        key: str | bytes | None = None,
        partition: int | None = None,
    ) -> Published:
        """Publish a record (encoded) or a value as it is; returns when the broker has it.

        The key of a record is its domain's, unless given.
        """
        if isinstance(value, Mapping):
            key = key if key is not None else self._key(self.contracts.for_topic(topic), value)
            value = self.encode(topic, value)
        done: list[tuple[Any, Message]] = []
        target = {} if partition is None else {"partition": partition}
        self._producer.produce(
            topic, value, key, on_delivery=lambda error, m: done.append((error, m)), **target
        )
        self._producer.flush(60)
        ((error, message),) = done
        assert error is None, error
        return Published(topic, message.partition(), message.offset(), message.timestamp()[1])

    @contextmanager
    def transaction(self, *, commit: bool = True) -> Iterator[None]:
        """Publish in a transaction, which ends with a marker on each partition."""
        plain = self._producer
        self._producer = Producer(
            {
                "bootstrap.servers": self.settings.kafka.address,
                "transactional.id": self.new_id("transaction"),
                "linger.ms": 0,
            }
        )
        try:
            self._producer.init_transactions(30)
            self._producer.begin_transaction()
            yield
            if commit:
                self._producer.commit_transaction(30)
            else:
                self._producer.abort_transaction(30)
        finally:
            self._producer = plain

    @staticmethod
    def _key(contract: Contract, record: Mapping[str, Any]) -> str:
        if contract.role is Role.INTERACTION and record["user_id"] is None:
            return str(record["session_id"])
        return str(record[contract.key])

    def user(self, user_id: str, **changes: Any) -> Published:
        """Publish a version of a user."""
        return self.publish("users", {**USER, "user_id": user_id, **changes})

    def song(self, song_id: str, **changes: Any) -> Published:
        """Publish a version of a song."""
        return self.publish("songs", {**SONG, "song_id": song_id, **changes})

    def event(self, user_id: str | None, item_id: str, **changes: Any) -> Record:
        """An interaction that just happened, not published; session, event and time are new.

        Personalize ignores an event like another one of its user at the same millisecond.
        """
        self._occurred_at = max(now_ms(), self._occurred_at + 1)
        return {
            "event_id": self.new_id("event"),
            "user_id": user_id,
            "session_id": self.new_id("session"),
            "item_id": item_id,
            "item_type": "song",
            "event_type": "play",
            "played_ms": 90_000,
            "device": "ios",
            "occurred_at": self._occurred_at,
            "recommendation_id": None,
            "impression": None,
            **changes,
        }

    def play(self, user_id: str | None, item_id: str, **changes: Any) -> Record:
        """Publish an interaction and return it as it came out enriched."""
        event = self.event(user_id, item_id, **changes)
        self.publish("interactions", event)
        return self.enriched(event["event_id"])

    def play_until(
        self, user_id: str | None, item_id: str, wanted: Callable[[Record], bool]
    ) -> Record:
        """Publish interactions until one is enriched as wanted, with an update from another topic.

        Nothing orders two topics: the update takes a moment to overtake the events.
        """
        last: list[Record] = []

        def is_wanted() -> bool:
            last.append(self.play(user_id, item_id))
            return wanted(last[-1])

        wait_until(is_wanted, lambda: f"still {last[-1]}")
        return last[-1]

    # Out.

    def enriched_by_id(self) -> dict[str, list[Record]]:
        """The enriched interactions so far."""
        output = self._outputs[Role.ENRICHED]
        output.read()
        result: dict[str, list[Record]] = {}
        for _, record in output.records:
            result.setdefault(record["event_id"], []).append(record)
        return result

    def enriched_all(self, event_id: str) -> list[Record]:
        """The enriched interactions of an event so far."""
        return self.enriched_by_id().get(event_id, [])

    def enriched(self, event_id: str, seconds: float = LIMIT_SECONDS) -> Record:
        """The enriched interaction; waits for it."""
        wait_until(
            lambda: self.enriched_all(event_id), lambda: f"{event_id} did not come out", seconds
        )
        (record, *_) = self.enriched_all(event_id)
        return record

    def enriched_message(self, event_id: str) -> Message:
        """The Kafka message of an enriched interaction that has been read."""
        output = self._outputs[Role.ENRICHED]
        (message, *_) = [m for m, record in output.records if record["event_id"] == event_id]
        return message

    def dead_letters(self) -> list[Record]:
        """All dead letters so far."""
        output = self._outputs[Role.DEAD_LETTER]
        output.read()
        return [record for _, record in output.records]

    def dead_letter(self, published: Published) -> Record:
        """The dead letter of a published record; waits for it."""
        return self.dead_letter_at(published.topic, published.partition, published.offset)

    def dead_letter_at(self, topic: str, partition: int, offset: int) -> Record:
        """The dead letter of the record at a position; waits for it."""

        def matching() -> list[Record]:
            position = (topic, partition, offset)
            return [
                record
                for record in self.dead_letters()
                if (record["topic"], record["partition"], record["offset"]) == position
            ]

        wait_until(matching, lambda: f"no dead letter of {topic}/{partition}/{offset}")
        return matching()[0]

    def personalize(self, table: str) -> list[Record]:
        """A table of the local Personalize, such as ``events`` (accepted) and ``ignored``."""
        address = f"{self.settings.personalize.url}/_local/{table}?limit=10000"
        with urllib.request.urlopen(address, timeout=60) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def accepted(self, event_id: str, seconds: float = LIMIT_SECONDS) -> Record:
        """An event as Personalize accepted it; waits for it."""

        def matching() -> list[Record]:
            return [row for row in self.personalize("events") if row["event_id"] == event_id]

        wait_until(matching, lambda: f"Personalize has not accepted {event_id}", seconds)
        (row,) = matching()
        return row


class Application:
    """An application in the minicluster of a process of its own."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process

    @property
    def output(self) -> str:
        """Its output so far."""
        return (self.folder / "output.txt").read_text(errors="replace")

    def failures(self) -> list[str]:
        """The lines of Flink's log that say that a task or the job failed."""
        return [
            line
            for line in self.log()
            if "to FAILED" in line or "to state RESTARTING" in line or "to RESTARTING" in line
        ]

    def log(self) -> list[str]:
        """The lines of Flink's log."""
        return [
            line
            for log in self.folder.glob("flink-log/*.log")
            for line in log.read_text(errors="replace").splitlines()
        ]

    def progress(self, mesh: Mesh) -> dict[str, FlowProgress]:
        """How far it has come, by flow, as `tunemesh status` reads it from Flink's REST API."""
        (job,) = read_job_progress(self._settings(mesh))
        return {flow.flow: flow for flow in job.flows}

    def rest(self, mesh: Mesh) -> FlinkRest:
        """Its Flink's REST API."""
        return FlinkRest.of(self._settings(mesh))

    def _settings(self, mesh: Mesh) -> LocalSettings:
        (port,) = {
            match[1]
            for line in self.log()
            if (match := re.search(r"Rest endpoint listening at [^:]+:(\d+)", line))
        }
        return replace(mesh.settings, flink=Port(int(port), mesh.settings.flink.variable))

    def check(self) -> None:
        """Assert that it runs and has never restarted."""
        code = self.process.poll()
        assert code is None, f"the application ended with {code}:\n{self.output[-3000:]}"
        assert not self.failures(), "\n".join(self.failures()[:5])


@contextmanager
def running(
    mesh: Mesh,
    folder: Path,
    environ: Mapping[str, str],
    overrides: Mapping[str, Mapping[str, str]] | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[Application]:
    """An application with both pipelines, started from the command line; killed at the end."""
    write_properties(folder, application.property_groups(mesh.settings, overrides=overrides))
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.main", *arguments],
            cwd=folder,
            env={**application_environment(folder, environ), **aws_environment(mesh.settings)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Application(folder, process)
    finally:
        # The whole session: Java and, in process mode, the Python workers.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def restoring(folder: Path, savepoint: str) -> list[str]:
    """Arguments with which an application restores a savepoint: a gate, and the order behind it."""
    gate = folder / "gate"
    os.mkfifo(gate)
    order = json.dumps({"savepoint": savepoint, "job": "12" * 16}) + "\n"
    # Opening it waits for the application.
    threading.Thread(target=lambda: gate.write_text(order), daemon=True).start()
    return ["--gate", str(gate)]


def application_environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of an application in a folder."""
    for name in ("flink-log", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    # It is killed, and would leave 70 MB of PyFlink's in the system's folder.
    options = f"{environ.get('JVM_ARGS', '')} -Djava.io.tmpdir={folder / 'tmp'}"
    return {
        **environ,
        "JVM_ARGS": options,
        "IS_LOCAL": "true",
        "PYTHONPATH": str(PROJECT),
        "FLINK_LOG_DIR": str(folder / "flink-log"),
    }


def write_properties(folder: Path, groups: Groups) -> None:
    """The property file where an application in this folder looks for it."""
    write_groups(folder / LOCAL_PROPERTIES, groups)


def wait_until_started(mesh: Mesh, app: Application) -> None:
    """Wait until an application enriches records; the error has its output."""
    try:
        event = mesh.event("nobody", "nothing")
        mesh.publish("interactions", event)

        def out() -> bool:
            assert app.process.poll() is None, "the application ended"
            return bool(mesh.enriched_all(event["event_id"]))

        wait_until(out, lambda: "no record comes through", START_SECONDS)
    except AssertionError as error:
        failures = "\n".join(app.failures()[:3])
        raise AssertionError(f"{error}\n{app.output[-3000:]}\n{failures}") from None


USER: Record = {
    "country": "PT",
    "age_band": "25-34",
    "subscription": "premium",
    "created_at": 1_500_000_000_000,
    "updated_at": None,
    "deleted": False,
}

SONG: Record = {
    "title": "Grândola, Vila Morena",
    "artist": "Zeca Afonso",
    "genres": ["folk", "protest"],
    "duration_seconds": 211,
    "released_at": 90_000_000_000,
    "updated_at": None,
    "deleted": False,
}


def make_mesh(home: Path, *contract_folders: Path) -> Iterator[Mesh]:
    """Servers, topics and schemas, also of other folders; everything is stopped at the end."""
    environ = {**os.environ, **ports.variables(), "TUNEMESH_HOME": str(home)}
    settings = LocalSettings.from_environment(environ)
    contracts = load_contracts((BUILT_IN_FOLDER, *contract_folders))
    try:
        platform.up(settings, ["kafka", "aws", "personalize"], environ=environ)
        application.prepare(settings, contracts)
        mesh = Mesh(settings, contracts)
        yield mesh
        mesh.close()
    finally:
        platform.down(settings)
