"""Kafka topics as SQL tables: the text of the DDL, which Flink takes literally."""

from __future__ import annotations

import re
import zipfile

import pytest

from connectors.kafka.tables import KafkaSettings, sink_table, source_table
from deploy.local import jars
from deploy.local.settings import LocalSettings
from schemas.errors import SettingError

KAFKA = KafkaSettings("b-1:9098,b-2:9098", {"security.protocol": "SASL_SSL"})


def options(ddl: str) -> dict[str, str]:
    """The options of a table, read back as SQL reads them."""
    found = re.findall(r"'((?:[^']|'')*)' = '((?:[^']|'')*)'", ddl[ddl.index(") WITH (") :])
    return {name.replace("''", "'"): value.replace("''", "'") for name, value in found}


def source(**changes: object) -> str:
    settings: dict[str, object] = {"group_id": "g", "start": "earliest", **changes}
    return source_table("t", ["users"], KAFKA, **settings)  # type: ignore[arg-type]


def test_a_source_reads_raw_records_with_their_position() -> None:
    """Nothing is decoded here; several topics are one table."""
    ddl = source_table(
        "items", ["podcasts", "songs"], KAFKA, group_id="g", start="earliest", twice="`offset` * 2"
    )
    assert "\n  `twice` AS `offset` * 2\n)" in ddl
    assert ddl.startswith("CREATE TEMPORARY TABLE items (")
    assert re.findall(r"^  `(\w+)` ([A-Z].*?)(?:,)?$", ddl, re.MULTILINE)[:6] == [
        ("key", "BYTES"),
        ("value", "BYTES"),
        ("topic", "STRING NOT NULL METADATA VIRTUAL"),
        ("partition", "INT NOT NULL METADATA VIRTUAL"),
        ("offset", "BIGINT NOT NULL METADATA VIRTUAL"),
        ("timestamp", "TIMESTAMP_LTZ(3) NOT NULL METADATA VIRTUAL"),
    ]
    assert options(ddl) == {
        "connector": "kafka",
        "topic": "podcasts;songs",
        "properties.bootstrap.servers": "b-1:9098,b-2:9098",
        "properties.group.id": "g",
        "properties.security.protocol": "SASL_SSL",
        "key.format": "raw",
        "key.fields": "key",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        "scan.startup.mode": "earliest-offset",
        "scan.topic-partition-discovery.interval": "10 s",
        "properties.isolation.level": "read_committed",
    }
    assert "WATERMARK" not in ddl


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("earliest", {"scan.startup.mode": "earliest-offset"}),
        ("latest", {"scan.startup.mode": "latest-offset"}),
        (
            "committed",
            {"scan.startup.mode": "group-offsets", "properties.auto.offset.reset": "earliest"},
        ),
        (
            "1780000000000",
            {"scan.startup.mode": "timestamp", "scan.startup.timestamp-millis": "1780000000000"},
        ),
    ],
)
def test_each_start_position_has_its_options(start: str, expected: dict[str, str]) -> None:
    """A group that has committed nothing starts at the earliest, not with an error."""
    found = options(source(start=start))
    assert {name: found[name] for name in expected} == expected
    assert {name for name in found if "startup" in name or "offset" in name} == set(expected)


@pytest.mark.parametrize("start", ["", "now", "-1", "1.5", "EARLIEST", "\u0663"])
def test_any_other_start_position_is_refused(start: str) -> None:
    """With what is expected."""
    expected = "the start position is .*; expected earliest, latest, committed or epoch millis"
    with pytest.raises(SettingError, match=expected):
        source(start=start)


def test_a_quote_in_a_setting_stays_inside_its_text() -> None:
    """Passwords have quotes; SQL must not see the end of a text there."""
    jaas = "org.Login required password='it''s'; --"
    kafka = KafkaSettings("b:9092", {"sasl.jaas.config": jaas, "it's": "x"})
    for ddl in (
        source_table("t", ["a"], kafka, group_id="g'", start="earliest"),
        sink_table("t", "a'b", kafka, max_bytes=1),
    ):
        found = options(ddl)
        assert found["properties.sasl.jaas.config"] == jaas
        assert found["properties.it's"] == "x"
    assert options(source_table("t", ["a"], kafka, group_id="g'", start="earliest"))[
        "properties.group.id"
    ] == ("g'")


def test_settings_of_the_client_win_over_ours() -> None:
    """Somebody may know better; each option is there once."""
    kafka = KafkaSettings("b:9092", {"compression.type": "zstd", "linger.ms": "50"})
    ddl = sink_table("t", "a", kafka, max_bytes=1)
    assert options(ddl)["properties.compression.type"] == "zstd"
    assert ddl.count("'properties.linger.ms'") == 1


# Sinks.


def test_a_sink_writes_keys_and_values_at_least_once() -> None:
    """And records as large as the contract allows, with their overhead."""
    ddl = sink_table("out", "interactions-enriched", KAFKA, max_bytes=1_000)
    assert ddl.startswith("CREATE TEMPORARY TABLE out (`key` BYTES, `value` BYTES) WITH (")
    found = options(ddl)
    assert found["topic"] == "interactions-enriched"
    assert found["sink.delivery-guarantee"] == "at-least-once"
    assert found["properties.security.protocol"] == "SASL_SSL"
    assert found["properties.max.request.size"] == str(1_000 + 65_536)
    assert (found["key.format"], found["value.format"]) == ("raw", "raw")


@pytest.mark.parametrize("module", ["scram.ScramLoginModule", "plain.PlainLoginModule"])
def test_kafkas_ordinary_login_modules_are_those_of_the_connectors_jar(module: str) -> None:
    """Its client is relocated: the documented names of the classes are unknown there."""
    rest = ' required username="u" password="org.apache.kafka.common";'
    package = "org.apache.kafka.common.security."
    kafka = KafkaSettings(
        "b:9092",
        {
            "sasl.jaas.config": package + module + rest,
            "sasl.login.callback.handler.class": package + "oauthbearer.Handler",
        },
    )
    found = options(source_table("t", ["a"], kafka, group_id="g", start="earliest"))
    name, separator, others = found["properties.sasl.jaas.config"].partition(" ")
    assert separator + others == rest
    assert found["properties.sasl.login.callback.handler.class"].startswith("org.apache.flink.")
    (jar,) = jars.paths("flink", LocalSettings.from_environment({}).jar_cache)
    with zipfile.ZipFile(jar) as classes:
        assert name.replace(".", "/") + ".class" in classes.namelist()
    again = KafkaSettings("b:9092", {"sasl.jaas.config": name + rest})
    assert (
        name + rest
        in options(source_table("t", ["a"], again, group_id="g", start="earliest")).values()
    )
