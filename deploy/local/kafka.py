"""Kafka on the local platform: one broker and controller (KRaft), from the jars of pom-deps.txt."""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.files import PRIVATE_UMASK, write_whole
from connectors.flink.java import Java
from connectors.flink.java import find as find_java
from deploy.local import jars
from deploy.local.log4j import write_log4j
from deploy.local.process import Launch, Server, is_listening
from deploy.local.settings import HOST, LocalSettings
from schemas.errors import TunemeshError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient, ConfigEntry

NAME = "kafka"
CONTACT_SECONDS = 5.0
"""Limit of the first request to the broker."""
FORMAT_SECONDS = 60

META, CHECKPOINT = "meta.properties", "bootstrap.checkpoint"
"""What a formatted log folder has: the ids, and the features of Kafka's version."""

BROKER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
log.dirs={data}

# One broker: every replication factor is 1.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# Topics are created from the contracts; a typo must not create one.
auto.create.topics.enable=false
num.partitions=2
# A group's first member does not wait for others.
group.initial.rebalance.delay.ms=0
# The maximum of Amazon MSK; applications have to handle oversize records.
message.max.bytes=10485760
replica.fetch.max.bytes=10485760
"""


class KafkaError(TunemeshError):
    """Kafka refused a call or did not answer."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """The required state of a topic."""

    name: str
    partitions: int = 2
    config: Mapping[str, str] = field(default_factory=dict)


def servers(settings: LocalSettings, environ: Mapping[str, str]) -> tuple[Server, ...]:
    """Return the broker."""
    java = find_java(environ)
    return (
        Server(
            name=NAME,
            ports=(settings.kafka, settings.kafka_controller),
            address=settings.kafka.address,
            prepare=lambda: _prepare(settings, java),
            is_healthy=lambda: _is_answering(settings),
        ),
    )


def _prepare(settings: LocalSettings, java: Java) -> Launch:
    data = settings.data(NAME) / "log"
    folder = settings.run / "kafka-conf"
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "server.properties"
    configuration.write_text(
        BROKER_PROPERTIES.format(
            host=HOST,
            port=settings.kafka.number,
            controller=settings.kafka_controller.number,
            data=data,
        ),
        encoding="utf-8",
    )
    # At info this logs the values of every setting, several times.
    config_logger = ("org.apache.kafka.common.config.AbstractConfig", "warn")
    log_properties = write_log4j(folder / "log4j2.properties", config=config_logger)
    class_path = jars.class_path("kafka", settings.jar_cache)
    if not (data / META).exists():
        listed = jars.select_sets(jars.load(), [NAME])
        version = next(jar.version for jar in listed if jar.artifact == "kafka-server")
        kept = folder / f"{version}-{CHECKPOINT}"
        if not kept.exists():
            _format(java, class_path, configuration, log_properties)
            write_whole(kept, (data / CHECKPOINT).read_bytes())
        else:
            write_format(data, kept.read_bytes())
    return Launch(
        (
            str(java.executable),
            "-Xms256m",
            "-Xmx512m",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            f"-Dlog4j2.configurationFile={log_properties}",
            "-cp",
            class_path,
            "kafka.Kafka",
            str(configuration),
        ),
        {},
    )


def write_format(folder: Path, checkpoint: bytes) -> None:
    """Prepare a log folder for its first start with the checkpoint of another one.

    A JVM less on the way to the first event: only the ids differ from what StorageTool writes.
    """
    write_whole(folder / CHECKPOINT, checkpoint)
    ids = f"cluster.id={_create_id()}\ndirectory.id={_create_id()}\n"
    write_whole(folder / META, f"version=1\nnode.id=1\n{ids}")


def _create_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _format(java: Java, class_path: str, configuration: Path, log_properties: Path) -> None:
    """Prepare the log folder for its first start, as `kafka-storage format` does."""
    result = subprocess.run(
        [
            java.executable,
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            f"-Dlog4j2.configurationFile={log_properties}",
            "-cp",
            class_path,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={_create_id()}",  # one argument, since an id may start with "-"
            "--config",
            configuration,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=FORMAT_SECONDS,
        check=False,
        umask=PRIVATE_UMASK,
    )
    if result.returncode != 0:
        lines = (result.stdout + result.stderr).strip().splitlines()[-20:]
        raise KafkaError("Kafka could not format its log folder:\n  " + "\n  ".join(lines))


def _is_answering(settings: LocalSettings) -> bool:
    if not is_listening(settings.kafka):
        return False
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    from connectors.kafka.librdkafka import LOGGER

    client = AdminClient({"bootstrap.servers": settings.kafka.address, "logger": LOGGER})
    try:
        return bool(client.list_topics(timeout=1.0).brokers)
    except KafkaException:
        return False


def create_topics(
    bootstrap_servers: str, specs: Iterable[TopicSpec], seconds: float = 30.0
) -> list[str]:
    """Create missing topics; return their names.

    Existing topics keep their data, and get the configuration of the spec. Raises
    :class:`KafkaError` if Kafka refuses a call or does not answer, and for a topic with another
    number of partitions, since changing it would break the order per key.
    """
    from confluent_kafka import KafkaError as Code
    from confluent_kafka.admin import AdminClient, NewTopic

    from connectors.kafka.librdkafka import LOGGER

    specs = list(specs)
    client = AdminClient({"bootstrap.servers": bootstrap_servers, "logger": LOGGER})
    with _kafka_errors(bootstrap_servers):
        client.list_topics(timeout=CONTACT_SECONDS)
    created = []
    topics = [NewTopic(s.name, s.partitions, 1, config=dict(s.config)) for s in specs]
    futures = client.create_topics(topics, operation_timeout=seconds)
    for name, future in futures.items():
        with _kafka_errors(f"topic {name}", ignored=Code.TOPIC_ALREADY_EXISTS):
            future.result(seconds)
            created.append(name)
    existing = [spec for spec in specs if spec.name not in created]
    with _kafka_errors(bootstrap_servers):
        present = client.list_topics(timeout=seconds).topics
    for spec in existing:
        if (partitions := len(present[spec.name].partitions)) != spec.partitions:
            raise KafkaError(
                f"topic {spec.name} has {partitions} partitions, but {spec.partitions} are"
                " required. Keep the number, or delete all data: tunemesh up --fresh"
            )
    _configure_topics(client, existing, seconds)
    return created


def _configure_topics(client: AdminClient, specs: Iterable[TopicSpec], seconds: float) -> None:
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    def change(key: str, value: str) -> ConfigEntry:
        return ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)

    changes = [
        ConfigResource(
            ResourceType.TOPIC,
            spec.name,
            incremental_configs=[change(key, value) for key, value in spec.config.items()],
        )
        for spec in specs
        if spec.config
    ]
    for resource, future in (client.incremental_alter_configs(changes) if changes else {}).items():
        with _kafka_errors(f"topic {resource.name}"):
            future.result(seconds)


@contextmanager
def _kafka_errors(what: str, ignored: int | None = None) -> Iterator[None]:
    from confluent_kafka import KafkaException

    try:
        yield
    except (KafkaException, TimeoutError) as error:
        if isinstance(error, TimeoutError):
            raise KafkaError(f"{what}: Kafka does not answer. See: tunemesh status") from error
        if error.args[0].code() != ignored:
            raise KafkaError(f"{what}: {error.args[0].str()}") from error
