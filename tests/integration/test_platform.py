"""Promises of the laptop platform, on real servers: Kafka, the Glue registry, a Flink cluster.

Each test has a home and ports of its own, so a platform that runs on this machine is not touched.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from confluent_kafka import Consumer, Producer

from deploy.local import flink_cluster, kafka, parts, platform, process
from deploy.local.flink import FlinkRest
from deploy.local.kafka import TopicSpec, create_topics
from deploy.local.platform import PlatformError, PortInUseError, State
from deploy.local.settings import LocalSettings

PORTS = ("KAFKA", "KAFKA_CONTROLLER", "GLUE", "PERSONALIZE", "FLINK")
SCHEMA = '{"type": "record", "name": "play", "fields": [{"name": "id", "type": "string"}]}'


@pytest.fixture
def environ(tmp_path: Path, free_port: Callable[[], int]) -> dict[str, str]:
    """An environment with a home and ports of its own."""
    return {
        **os.environ,
        "TUNEMESH_HOME": str(tmp_path / "home"),
        "TUNEMESH_TASKMANAGERS": "1",
        **{f"TUNEMESH_{name}_PORT": str(free_port()) for name in PORTS},
    }


@pytest.fixture
def settings(environ: Mapping[str, str]) -> Iterator[LocalSettings]:
    """The settings; what a test has started is stopped after it."""
    settings = LocalSettings.from_environment(environ)
    yield settings
    platform.down(settings)


def up(
    settings: LocalSettings, environ: Mapping[str, str], *names: str, fresh: bool = False
) -> list[str]:
    lines: list[str] = []
    platform.up(settings, names, environ=environ, fresh=fresh, report=lines.append)
    return lines


def states(settings: LocalSettings, environ: Mapping[str, str]) -> dict[str, State]:
    return {entry.server: entry.state for entry in platform.status(settings, environ)}


def marked(settings: LocalSettings) -> list[psutil.Process]:
    """Every process of any server of this home."""
    names = [server.name for server in parts.servers(settings, (), os.environ)]
    return [found for name in names for found in process.processes_of(settings, name)]


def publish(settings: LocalSettings, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.address, "acks": "all"})
    producer.produce(topic, value)
    assert producer.flush(20) == 0


def read(settings: LocalSettings, topic: str, count: int, seconds: float = 30) -> list[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka.address,
            "group.id": str(uuid.uuid4()),
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    values: list[bytes] = []
    deadline = time.monotonic() + seconds
    try:
        while len(values) < count and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                values.append(message.value())
    finally:
        consumer.close()
    return values


def glue(settings: LocalSettings) -> Any:
    return boto3.client(
        "glue",
        endpoint_url=settings.glue.url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


def until(reached: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_data_outlasts_a_restart_and_fresh_removes_it(
    settings: LocalSettings, environ: Mapping[str, str]
) -> None:
    """Records and the ids of schema versions are as before after down and up; `--fresh` empties
    both."""
    lines = up(settings, environ, "kafka", "glue")
    assert any("kafka" in line and "ready after" in line for line in lines)
    spec = TopicSpec("plays", 2, {"message.timestamp.type": "LogAppendTime"})
    assert create_topics(settings.kafka.address, [spec]) == ["plays"]
    assert create_topics(settings.kafka.address, [spec]) == []
    publish(settings, "plays", b"first")
    version = glue(settings).create_schema(
        SchemaName="plays", DataFormat="AVRO", Compatibility="BACKWARD", SchemaDefinition=SCHEMA
    )["SchemaVersionId"]

    assert all("already running" in line for line in up(settings, environ, "kafka", "glue"))
    platform.down(settings)
    assert marked(settings) == []
    assert set(states(settings, environ).values()) == {State.STOPPED}

    up(settings, environ, "kafka", "glue")
    assert read(settings, "plays", 1) == [b"first"]
    found = glue(settings).get_schema_version(SchemaVersionId=version)
    assert found["SchemaDefinition"] == SCHEMA
    second = glue(settings).register_schema_version(
        SchemaId={"SchemaName": "plays", "RegistryName": "default-registry"},
        SchemaDefinition=SCHEMA.replace('"play"', '"listen"'),
    )
    assert second["VersionNumber"] == 2

    up(settings, environ, "kafka", "glue", fresh=True)
    assert create_topics(settings.kafka.address, [spec]) == ["plays"]
    with pytest.raises(Exception, match="EntityNotFound"):
        glue(settings).get_schema_version(SchemaVersionId=version)


def test_topics_are_made_as_specified(settings: LocalSettings, environ: Mapping[str, str]) -> None:
    """Configuration holds, is brought up to date, and another number of partitions is refused."""
    up(settings, environ, "kafka")
    address = settings.kafka.address
    create_topics(address, [TopicSpec("plays", 2, {"message.timestamp.type": "LogAppendTime"})])

    create_topics(address, [TopicSpec("plays", 2, {"retention.ms": "60000"})])
    until(lambda: topic_config(address, "plays")["retention.ms"] == "60000")
    assert topic_config(address, "plays")["message.timestamp.type"] == "LogAppendTime"
    with pytest.raises(kafka.KafkaError, match="plays has 2 partitions, 3 are wanted"):
        create_topics(address, [TopicSpec("plays", 3)])


def topic_config(address: str, topic: str) -> dict[str, str]:
    from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

    resource = ConfigResource(ResourceType.TOPIC, topic)
    client = AdminClient({"bootstrap.servers": address})
    described = client.describe_configs([resource])[resource].result(20)
    return {name: entry.value for name, entry in described.items()}


def test_a_port_in_use_is_named_with_its_setting(
    settings: LocalSettings, environ: Mapping[str, str]
) -> None:
    """Nothing is started; the message has the number, the variable, and who has the port."""
    code = (
        "import socket, time; "
        f"s = socket.create_server(('127.0.0.1', {settings.glue.number})); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-S", "-c", code])
    try:
        until(lambda: process.listening(settings.glue))
        with pytest.raises(PortInUseError) as caught:
            up(settings, environ, "kafka", "glue")
        message = str(caught.value)
        assert f"port {settings.glue.number} " in message
        assert "TUNEMESH_GLUE_PORT" in message
        assert f"process {holder.pid}" in message
        assert marked(settings) == []
    finally:
        holder.kill()
        holder.wait()


def test_the_port_of_another_home_names_that_platform(
    settings: LocalSettings, environ: Mapping[str, str], tmp_path: Path
) -> None:
    """Two checkouts on one machine: the user learns which one to stop."""
    up(settings, environ, "glue")
    elsewhere = {**environ, "TUNEMESH_HOME": str(tmp_path / "elsewhere")}

    with pytest.raises(PortInUseError, match=f"the glue of the platform in {settings.home}"):
        up(LocalSettings.from_environment(elsewhere), elsewhere, "glue")


def test_a_part_that_dies_is_named_with_the_end_of_its_log(
    settings: LocalSettings, environ: Mapping[str, str]
) -> None:
    """`status` tells it from one that was stopped; `up` starts it again."""
    up(settings, environ, "glue")
    with pytest.raises(Exception, match="EntityNotFound"):
        glue(settings).get_registry(RegistryId={"RegistryName": "none"})
    process.kill(settings, "glue")

    entry = next(e for e in platform.status(settings, environ) if e.server == "glue")
    assert entry.state is State.DEAD
    assert any("POST /" in line for line in entry.last_lines)
    assert len(entry.last_lines) <= 20

    up(settings, environ, "glue")
    assert states(settings, environ)["glue"] is State.RUNNING


def test_a_part_that_cannot_start_is_named_with_the_end_of_its_log(
    settings: LocalSettings, environ: Mapping[str, str]
) -> None:
    """A registry whose file is spoilt stops with its reason on the terminal."""
    folder = settings.data("glue")
    folder.mkdir(parents=True)
    (folder / "registry.json").write_text("{", encoding="utf-8")

    with pytest.raises(PlatformError, match=r"glue died while starting(?s:.*)JSONDecodeError"):
        up(settings, environ, "glue")


def test_the_command_starts_shows_and_stops(environ: Mapping[str, str]) -> None:
    """`tunemesh up|status|logs|down` from a shell, without a traceback anywhere."""

    def tunemesh(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli", *arguments],
            env={**environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    settings = LocalSettings.from_environment(environ)
    try:
        started = tunemesh("up", "glue")
        assert started.returncode == 0, started.stderr
        assert settings.glue.url in started.stdout
        shown = tunemesh("status")
        assert shown.returncode == 0
        assert any(
            line.startswith("glue ") and " running " in line for line in shown.stdout.splitlines()
        )
        assert f"127.0.0.1:{settings.glue.number}" in tunemesh("logs", "glue").stdout
        os.kill(process.recorded(settings, "glue").pid, signal.SIGKILL)  # type: ignore[union-attr]
        dead = tunemesh("status")
        assert dead.returncode == 3
        assert "glue has died" in dead.stdout
        assert tunemesh("down").returncode == 0
        assert marked(settings) == []
        unknown = tunemesh("up", "zookeeper")
        assert unknown.returncode == 2
        assert unknown.stderr == (
            "tunemesh: no part 'zookeeper'; there are: kafka, glue, personalize, flink.\n"
        )
    finally:
        platform.down(settings)


def test_a_killed_taskmanager_is_started_again_alone(
    settings: LocalSettings, environ: Mapping[str, str]
) -> None:
    """`up` starts what is missing: the JobManager stays, the new TaskManager registers with it."""
    up(settings, environ, "flink")
    rest = FlinkRest.of(settings)
    before = rest.taskmanagers()
    assert [manager.slots for manager in before] == [settings.task_slots]
    jobmanager = process.recorded(settings, flink_cluster.JOBMANAGER)

    process.kill(settings, "flink-taskmanager-1")
    assert states(settings, environ)["flink-taskmanager-1"] is State.DEAD
    lines = up(settings, environ, "flink")

    assert any("flink-jobmanager" in line and "already running" in line for line in lines)
    assert process.recorded(settings, flink_cluster.JOBMANAGER) == jobmanager
    new = {manager.id for manager in rest.taskmanagers()} - {manager.id for manager in before}
    assert len(new) == 1
    # The one that was killed is noticed within the time-out of its heartbeat.
    until(lambda: {manager.id for manager in rest.taskmanagers()} == new, seconds=30)
    platform.down(settings)
    assert marked(settings) == []
