"""Kafka topics as Flink SQL tables: their definitions and options.

Topics are read as raw bytes with topic, partition, offset and timestamp as metadata; nothing is
decoded here. Source of the option names: Flink's Kafka SQL connector documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from connectors.aws.secrets import resolve_secrets
from schemas.errors import SettingError
from schemas.settings import TEXT, Kind, group, matching, rest, setting

ORIGIN = "`topic` || '/' || CAST(`partition` AS STRING) || '/' || CAST(`offset` AS STRING)"

PUBLISHED_AT = "EXTRACT(EPOCH FROM `timestamp`) * 1000 + EXTRACT(MILLISECOND FROM `timestamp`)"


START = matching(
    r"earliest|latest|committed|\d+", "earliest, latest, committed or epoch milliseconds"
)
"""Where a source starts without restored state; committed: earliest if nothing is committed."""

_CLIENT_CLASS = re.compile(r"(?<![\w.])org\.apache\.kafka\.")
_RELOCATED = "org.apache.flink.kafka.shaded.org.apache.kafka."

_ANY = Kind("any value", str)


@group("tunemesh.kafka")
class KafkaSettings:
    """The Kafka cluster: bootstrap servers, and client properties such as security."""

    bootstrap_servers: str = setting("bootstrap.servers", TEXT, "Kafka's bootstrap servers")
    client: Mapping[str, str] = rest(
        "any other",
        _ANY,
        "a property of Kafka's Java client, for sources and sinks alike: `security.protocol`,"
        " `sasl.mechanism`, ...; `${secret:ARN}` in a value stands for a secret of AWS Secrets"
        " Manager, `${secret:ARN#KEY}` for a member of it (JSON)",
        default={},
        secret=True,
    )
    python_client: Mapping[str, str] = rest(
        "any",
        _ANY,
        "a property of librdkafka, with which the workers query offsets: the same security settings"
        " under their names in librdkafka, with `${secret:...}` as above",
        group="tunemesh.kafka.python",
        default={},
        secret=True,
    )


def source_table(
    name: str,
    topics: Sequence[str],
    kafka: KafkaSettings,
    *,
    group_id: str,
    start: str,
    **computed: str,
) -> str:
    """DDL of a table of raw records of one or more topics.

    Columns: ``key``, ``value`` (BYTES, null for a tombstone), ``origin`` (topic/partition/offset),
    ``published_at`` (the Kafka timestamp, epoch milliseconds), and those of ``computed``: SQL
    expressions by their names. ``start``: see :data:`START`; raises SettingError for any other.
    """
    options = {
        "connector": "kafka",
        "topic": ";".join(topics),
        "properties.bootstrap.servers": kafka.bootstrap_servers,
        "properties.group.id": group_id,
        # The default of five minutes would hold events for so long, where partitions are added.
        "scan.topic-partition-discovery.interval": "10 s",
        "key.format": "raw",
        "key.fields": "key",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        **_start_options(start),
        **_client_options(kafka),
        # Records of aborted transactions never arrive; freshness relies on it.
        "properties.isolation.level": "read_committed",
    }
    columns = {"origin": ORIGIN, "published_at": PUBLISHED_AT, **computed}
    columns_sql = ",\n".join(f"  `{column}` AS {sql}" for column, sql in columns.items())
    return f"""CREATE TEMPORARY TABLE {name} (
  `key` BYTES,
  `value` BYTES,
  `topic` STRING NOT NULL METADATA VIRTUAL,
  `partition` INT NOT NULL METADATA VIRTUAL,
  `offset` BIGINT NOT NULL METADATA VIRTUAL,
  `timestamp` TIMESTAMP_LTZ(3) NOT NULL METADATA VIRTUAL,
{columns_sql}
) WITH ({_with(options)})"""


def sink_table(name: str, topic: str, kafka: KafkaSettings, *, max_bytes: int) -> str:
    """DDL of a table whose rows become records: ``key`` and ``value`` as bytes, at least once."""
    options = {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": kafka.bootstrap_servers,
        "key.format": "raw",
        "key.fields": "key",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        "sink.delivery-guarantee": "at-least-once",
        **_producer_options(max_bytes),
        **_client_options(kafka),
    }
    return f"CREATE TEMPORARY TABLE {name} (`key` BYTES, `value` BYTES) WITH ({_with(options)})"


def upsert_sink_table(name: str, topic: str, kafka: KafkaSettings, *, max_bytes: int) -> str:
    """DDL of a table whose rows are states of a key: the newest record of a ``key`` counts.

    A state that changes often within a second is written once.
    """
    options = {
        "connector": "upsert-kafka",
        "topic": topic,
        "properties.bootstrap.servers": kafka.bootstrap_servers,
        "key.format": "raw",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        "sink.buffer-flush.max-rows": "10000",
        "sink.buffer-flush.interval": "1 s",
        **_producer_options(max_bytes),
        **_client_options(kafka),
    }
    return (
        f"CREATE TEMPORARY TABLE {name} (`key` STRING, `value` BYTES,"
        f" PRIMARY KEY (`key`) NOT ENFORCED) WITH ({_with(options)})"
    )


def _producer_options(max_bytes: int) -> dict[str, str]:
    return {
        "properties.compression.type": "lz4",
        "properties.linger.ms": "5",
        "properties.batch.size": "262144",
        # The bound is on the record with its overhead, before compression.
        "properties.max.request.size": str(max_bytes + 65_536),
    }


def _start_options(start: str) -> dict[str, str]:
    if start in ("earliest", "latest"):
        return {"scan.startup.mode": f"{start}-offset"}
    if start == "committed":
        return {
            "scan.startup.mode": "group-offsets",
            "properties.auto.offset.reset": "earliest",
        }
    if start.isascii() and start.isdigit():
        return {"scan.startup.mode": "timestamp", "scan.startup.timestamp-millis": start}
    raise SettingError("the start position", start, START.expected)


def _client_options(kafka: KafkaSettings) -> dict[str, str]:
    return {
        f"properties.{name}": _relocated(name, value)
        for name, value in resolve_secrets(kafka.client).items()
    }


def _relocated(name: str, value: str) -> str:
    """A value in which classes of Kafka's client have their names in the connector's jar.

    They are the login module at the beginning of sasl.jaas.config, and values of class properties.
    """
    if name == "sasl.jaas.config":
        module, separator, rest = value.lstrip().partition(" ")
        return _CLIENT_CLASS.sub(_RELOCATED, module) + separator + rest
    return _CLIENT_CLASS.sub(_RELOCATED, value) if name.endswith((".class", ".classes")) else value


def _with(options: Mapping[str, str]) -> str:
    return ", ".join(f"'{_quoted(k)}' = '{_quoted(v)}'" for k, v in options.items())


def _quoted(text: str) -> str:
    return text.replace("'", "''")
