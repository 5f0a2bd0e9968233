"""Settings: every property ends up where it belongs, and a wrong one is named."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import cloudpickle
import pytest

from connectors.flink.properties import read_groups
from connectors.kafka.tables import KafkaSettings
from jobs.decode_functions import DecodeDimension
from jobs.settings import (
    PIPELINES,
    AnalyticsSettings,
    ApplicationSettings,
    EnrichmentSettings,
    RecommendationsSettings,
    RegistrySettings,
    application_settings,
)
from schemas.errors import SettingError, TunemeshError
from schemas.model import Role
from tests.support.releases import APPLICATIONS

Groups = dict[str, dict[str, str]]

USERS = "arn:aws:personalize:eu-west-1:111122223333:dataset/mesh/USERS"
ITEMS = "arn:aws:personalize:eu-west-1:111122223333:dataset/mesh/ITEMS"


def least() -> Groups:
    """What must be set."""
    return {
        "tunemesh.kafka": {"bootstrap.servers": "b-1:9098"},
        "tunemesh.registry": {"region": "eu-west-1"},
        "tunemesh.recommendations": {
            "tracking.id": "t-1",
            "users.dataset.arn": USERS,
            "items.dataset.arn": ITEMS,
            "region": "eu-west-1",
        },
        "tunemesh.analytics": {
            "delivery.stream": "s",
            "region": "eu-west-1",
            "opensearch.endpoint.url": "https://o",
        },
    }


def with_property(group: str, name: str, value: str) -> Groups:
    """What must be set for all pipelines, and a property more."""
    groups = {"tunemesh.application": {"pipelines": ",".join(PIPELINES)}, **least()}
    groups.setdefault(group, {})[name] = value
    return groups


def test_what_need_not_be_set_has_a_default() -> None:
    """Both pipelines, in thread mode, from the beginning."""
    assert application_settings(least()) == ApplicationSettings(
        pipelines=("enrichment", "recommendations"),
        execution_mode="thread",
        group_id="tunemesh",
        kafka=KafkaSettings("b-1:9098", {}),
        registry=RegistrySettings("eu-west-1", "tunemesh", None),
        enrichment=EnrichmentSettings(start="earliest"),
        recommendations=RecommendationsSettings(
            tracking_id="t-1",
            users_dataset_arn=USERS,
            items_dataset_arn=ITEMS,
            region="eu-west-1",
            endpoint_url=None,
            start="earliest",
            calls_per_second=1000.0,
            max_in_flight=80,
            datasets_start="earliest",
            dataset_calls_per_second=10.0,
        ),
        jars=(),
    )


def test_after_an_import_the_stream_starts_a_little_before_its_end() -> None:
    """By what the clocks of brokers may differ."""
    groups = with_property("tunemesh.recommendations", "imported.until", "2026-11-23T14:25:00Z")
    found = application_settings(groups).recommendations
    assert found is not None
    assert (found.imported_until, found.start) == (1_795_443_900_000, "1795443840000")
    groups["tunemesh.recommendations"]["start"] = "committed"
    found = application_settings(groups).recommendations
    assert found is not None
    assert found.start == "committed"


def test_every_property_is_read() -> None:
    """Each to its own place; properties of Kafka's client go to the client as they are."""
    groups = {
        "kinesis.analytics.flink.run.options": {"jarfile": "a.jar;b.jar", "python": "main.py"},
        "tunemesh.application": {
            "pipelines": "analytics, recommendations, enrichment",
            "python.execution-mode": "process",
            "group.id": "g",
        },
        "tunemesh.kafka": {"bootstrap.servers": " b:9098 ", "security.protocol": "SASL_SSL"},
        "tunemesh.kafka.python": {"security.protocol": "ssl"},
        "tunemesh.registry": {"region": "r-1", "name": "n", "endpoint.url": "http://g"},
        "tunemesh.enrichment": {"start": "1780000000000", "restored": "true"},
        "tunemesh.recommendations": {
            "tracking.id": "t",
            "users.dataset.arn": USERS,
            "items.dataset.arn": ITEMS,
            "datasets.start": "committed",
            "dataset.calls.per.second": "5",
            "region": "r-2",
            "endpoint.url": "http://p",
            "start": "latest",
            "calls.per.second": "20",
            "workers": "4",
            "max.in.flight": "3",
            "imported.until": "7",
        },
        "tunemesh.analytics": {
            "delivery.stream": "s",
            "region": "r-3",
            "opensearch.endpoint.url": "https://o",
            "opensearch.authentication": "aws",
            "firehose.endpoint.url": "http://f",
            "start": "latest",
            "firehose.calls.per.second": "7",
            "firehose.bytes.per.second": "1048576",
            "opensearch.calls.per.second": "8",
            "workers": "2",
        },
    }
    assert application_settings(groups) == ApplicationSettings(
        pipelines=("enrichment", "recommendations", "analytics"),
        execution_mode="process",
        group_id="g",
        kafka=KafkaSettings(
            "b:9098", {"security.protocol": "SASL_SSL"}, {"security.protocol": "ssl"}
        ),
        registry=RegistrySettings("r-1", "n", "http://g"),
        enrichment=EnrichmentSettings(start="1780000000000", restored=True),
        recommendations=RecommendationsSettings(
            "t", USERS, ITEMS, "r-2", "http://p", "latest", 20.0, 4, 3, "committed", 5.0, 7
        ),
        analytics=AnalyticsSettings(
            "s", "r-3", "https://o", "http://f", "aws", "latest", 7.0, 1_048_576, 8.0, 2
        ),
        jars=("a.jar", "b.jar"),
    )


@pytest.mark.parametrize("pipelines", APPLICATIONS, ids="_".join)
def test_an_application_may_run_any_of_the_pipelines(pipelines: tuple[str, ...]) -> None:
    """Named in any order. The others' settings are not needed; the name says what runs."""
    groups = with_property("tunemesh.application", "pipelines", ", ".join(reversed(pipelines)))
    for name in {"recommendations", "analytics"} - set(pipelines):
        del groups[f"tunemesh.{name}"]
    settings = application_settings(groups)
    assert settings.pipelines == pipelines
    assert (settings.recommendations is not None) == ("recommendations" in pipelines)
    assert (settings.analytics is not None) == ("analytics" in pipelines)
    assert settings.name == f"tunemesh {'+'.join(pipelines)}"


@pytest.mark.parametrize(
    ("group", "name", "expected"),
    [
        ("tunemesh.kafka", "bootstrap.servers", "Kafka's bootstrap servers"),
        ("tunemesh.registry", "region", "AWS region of the Glue Schema Registry"),
        ("tunemesh.recommendations", "tracking.id", "id of the event tracker"),
        ("tunemesh.recommendations", "users.dataset.arn", "the ARN of a dataset, ending in /USERS"),
        ("tunemesh.recommendations", "items.dataset.arn", "the ARN of a dataset, ending in /ITEMS"),
        ("tunemesh.recommendations", "region", "AWS region of Personalize"),
        ("tunemesh.analytics", "delivery.stream", "name of the Firehose delivery stream"),
        ("tunemesh.analytics", "region", "AWS region of Firehose and of OpenSearch Service"),
        ("tunemesh.analytics", "opensearch.endpoint.url", "endpoint of the OpenSearch domain or"),
    ],
)
@pytest.mark.parametrize("value", [None, "", " "])
def test_a_missing_property_is_named(
    group: str, name: str, expected: str, value: str | None
) -> None:
    """With its group and what it is; an empty value is like none."""
    groups = with_property(group, name, value or "")
    if value is None:
        del groups[group][name]
    given = "is missing" if value is None else "is ''"
    with pytest.raises(SettingError) as caught:
        application_settings(groups)
    start = f"the property {name!r} of the group {group!r} {given}; expected {expected}"
    assert str(caught.value).startswith(start)
    assert caught.value.exit_code == 2


ENDS = [
    ("tunemesh.recommendations", "calls.per.second", 1, 100_000),
    ("tunemesh.recommendations", "workers", 1, 1000),
    ("tunemesh.recommendations", "max.in.flight", 1, 1000),
    ("tunemesh.recommendations", "dataset.calls.per.second", 1, 10_000),
    ("tunemesh.analytics", "firehose.calls.per.second", 1, 100_000),
    ("tunemesh.analytics", "firehose.bytes.per.second", 1_024, 2**40),
    ("tunemesh.analytics", "opensearch.calls.per.second", 1, 100_000),
    ("tunemesh.analytics", "workers", 1, 1000),
]
START = "earliest, latest, committed or epoch milliseconds"
PIPELINES_EXPECTED = (
    "one or more of enrichment, recommendations, analytics, separated by commas, each once"
)


@pytest.mark.parametrize(("group", "name", "low", "high"), ENDS)
def test_both_ends_of_a_range_are_valid(group: str, name: str, low: int, high: int) -> None:
    """And nothing beyond them is."""
    for value in (low, high):
        settings = application_settings(with_property(group, name, str(value)))
        part = getattr(settings, group.removeprefix("tunemesh."))
        assert value in asdict(part).values()


@pytest.mark.parametrize(
    ("group", "name", "value", "expected"),
    [
        *(
            (group, name, value, f"a whole number from {low} to {high}")
            for group, name, low, high in ENDS
            for value in (str(low - 1), str(high + 1), "x", "1.5", "", "\u0663")
        ),
        *(
            ("tunemesh.application", "pipelines", value, PIPELINES_EXPECTED)
            for value in ("enrichmnt", "enrichment,enrichment", "enrichment,", ",", "")
        ),
        ("tunemesh.application", "python.execution-mode", "threads", "thread or process"),
        ("tunemesh.application", "group.id", "", "consumer groups: this, a hyphen, the pipeline"),
        ("tunemesh.registry", "name", "", "name of the registry"),
        ("tunemesh.enrichment", "restored", "yes", "true or false"),
        *(
            (f"tunemesh.{group}", name, value, START)
            for group, name in (
                ("enrichment", "start"),
                ("recommendations", "start"),
                ("recommendations", "datasets.start"),
                ("analytics", "start"),
            )
            for value in ("yesterday", "-1", "EARLIEST", "\u0663\u0664", "")
        ),
        ("tunemesh.recommendations", "users.dataset.arn", ITEMS, "ending in /USERS"),
        ("tunemesh.recommendations", "items.dataset.arn", "mesh/ITEMS", "the ARN of a dataset"),
        ("tunemesh.recommendations", "imported.until", "noon", "epoch milliseconds, or a time"),
        ("tunemesh.analytics", "opensearch.authentication", "basic", "none or aws"),
    ],
)
def test_an_invalid_value_is_named_with_what_was_expected(
    group: str, name: str, value: str, expected: str
) -> None:
    """Name, group, value, expectation: in one line."""
    with pytest.raises(SettingError) as caught:
        application_settings(with_property(group, name, value))
    message = str(caught.value)
    assert f"the property {name!r} of the group {group!r} is {value!r}; expected " in message
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize("group", ["application", "registry", "enrichment", "recommendations"])
def test_an_unknown_property_is_rejected(group: str) -> None:
    """It would be without effect, and nobody would notice."""
    with pytest.raises(
        SettingError,
        match=f"'x_y' of the group 'tunemesh.{group}' is unknown; expected one of the properties ",
    ) as caught:
        application_settings(with_property(f"tunemesh.{group}", "x_y", "hunter2"))
    assert "hunter2" not in str(caught.value)  # it may be a secret that is misplaced


def test_security_properties_are_neither_shown_nor_pickled_into_the_job() -> None:
    """The functions need none of the Java client's; the SQL's tables have these."""
    groups = with_property("tunemesh.kafka", "sasl.jaas.config", "hunter2")
    groups["tunemesh.kafka.python"] = {"sasl.password": "hunter3"}
    settings = application_settings(groups)
    assert settings.kafka.client == {"sasl.jaas.config": "hunter2"}
    assert "hunter" not in repr(settings)
    function = DecodeDimension(Role.USER, settings, ())
    assert b"hunter2" not in cloudpickle.dumps(function)


def test_the_properties_of_a_pipeline_that_does_not_run_are_known() -> None:
    """Their values are not needed, and not checked."""
    groups = with_property("tunemesh.analytics", "workers", "x")
    groups["tunemesh.application"]["pipelines"] = "enrichment"
    assert application_settings(groups)
    groups["tunemesh.analytics"]["worker"] = "1"
    with pytest.raises(SettingError, match=r"'worker' of the group 'tunemesh.analytics'"):
        application_settings(groups)


def test_an_unknown_group_is_rejected() -> None:
    """Groups of other names are ignored."""
    with pytest.raises(
        SettingError,
        match=r"the property group is 'tunemesh.enrich'; expected one of tunemesh.analytics, "
        r".*tunemesh.enrichment, .*tunemesh.kafka.python",
    ):
        application_settings(with_property("tunemesh.enrich", "start", "latest"))
    assert application_settings(with_property("somebody.else", "start", "never"))


# The property file.


def test_a_property_file_is_read_as_managed_flink_writes_it(tmp_path: Path) -> None:
    """A list of groups with an id and a map each."""
    path = tmp_path / "application_properties.json"
    path.write_text(json.dumps([{"PropertyGroupId": "g", "PropertyMap": {"a": "b"}}]))
    assert read_groups(path) == {"g": {"a": "b"}}


def test_a_missing_property_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    """Which path, and how to name another one."""
    with pytest.raises(TunemeshError, match=r"nope\.json does not exist.*--properties"):
        read_groups(tmp_path / "nope.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "7",
        "[7]",
        '{"PropertyGroupId": "g"}',
        '[{"PropertyGroupId": "g"}]',
        '[{"PropertyGroupId": "g", "PropertyMap": 7}]',
        '[{"PropertyGroupId": "g", "PropertyMap": {"a": 7}}]',
        '[{"PropertyGroupId": 7, "PropertyMap": {}}]',
    ],
)
def test_a_malformed_property_file_is_named(tmp_path: Path, text: str) -> None:
    """Whatever is wrong with it, values that are no text included."""
    path = tmp_path / "application_properties.json"
    path.write_text(text)
    with pytest.raises(TunemeshError, match=r"application_properties\.json is not a list"):
        read_groups(path)


def test_a_value_that_is_no_text_is_not_shown(tmp_path: Path) -> None:
    """It may be a password."""
    path = tmp_path / "application_properties.json"
    path.write_text('[{"PropertyGroupId": "g", "PropertyMap": {"sasl.password": 4711}}]')
    with pytest.raises(TunemeshError, match=r"'sasl.password' in the group 'g' is not") as caught:
        read_groups(path)
    assert "4711" not in str(caught.value)


def test_a_folder_or_other_bytes_in_its_place_are_named(tmp_path: Path) -> None:
    """Not a traceback."""
    with pytest.raises(TunemeshError, match="property"):
        read_groups(tmp_path)
    path = tmp_path / "application_properties.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TunemeshError, match="not a list"):
        read_groups(path)
