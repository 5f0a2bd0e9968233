"""Settings of an application: property groups -> frozen dataclasses, checked at the start.

``python -m jobs.settings --check FILE`` checks a property file: exit code 2, and one line on
stderr for the first invalid one. The preflight of an upgrade runs it in the new release.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar
from uuid import UUID

from connectors.flink.properties import Groups, RunOptions, read_groups
from connectors.kafka.tables import START, KafkaSettings
from connectors.opensearch.settings import Authentication
from schemas.errors import TunemeshError
from schemas.settings import (
    SWITCH,
    TEXT,
    TIMESTAMP,
    Kind,
    choice,
    group,
    matching,
    read,
    reject_unknown,
    setting,
    whole,
)

PIPELINES = ("enrichment", "recommendations", "analytics")
"""What an application can run, in the order in which records pass."""

DEFAULT_GROUP_ID = "tunemesh"
DEFAULT_PIPELINES = ("enrichment", "recommendations")
"""What it runs unless set."""

JOB_NAME = "tunemesh "
"""Prefix of the names of jobs; the pipelines follow."""

CLOCKS_MS = 60_000
"""By how much less than this the clocks of brokers differ."""

_RATE = whole(1, 100_000)
_WORKERS = whole(1, 1000)


def _pipelines(text: str) -> tuple[str, ...]:
    named = [name.strip() for name in text.split(",")]
    pipelines = tuple(name for name in PIPELINES if name in named)
    if sorted(pipelines) != sorted(named):
        raise ValueError(text)
    return pipelines


def _versions(text: str) -> tuple[tuple[UUID, str, int], ...]:
    return tuple(_version(part) for part in text.split(",") if part.strip())


def _version(text: str) -> tuple[UUID, str, int]:
    version_id, _, version = text.strip().partition("=")
    name, _, number = version.rpartition(".v")
    if not (name and number.isascii() and number.isdigit()):
        raise ValueError(text)
    return UUID(version_id), name, int(number)


def _dataset_arn(ending: str) -> Kind[str]:
    return matching(f"arn:.*{ending}", f"the ARN of a dataset, ending in {ending}")


@group("tunemesh.registry")
class RegistrySettings:
    """The Glue Schema Registry."""

    region: str = setting("region", TEXT, "AWS region of the Glue Schema Registry")
    name: str = setting("name", TEXT, "name of the registry", default="tunemesh")
    endpoint_url: str | None = setting(
        "endpoint.url", TEXT, "endpoint, if it is not the region's own", default=None
    )
    wait_seconds: int = setting(
        "wait.seconds",
        whole(0, 3600),
        "how long the start waits for a registry that does not answer, in seconds",
        default="300",
    )
    versions: tuple[tuple[UUID, str, int], ...] = setting(
        "versions",
        Kind("ID=CONTRACT.vN, separated by commas", _versions),
        "schema versions by their ids in the registry, which are not looked up: for a version that"
        " was deleted from the registry and of which records remain. The start adds those that are"
        " registered, so that a running application does not depend on their being kept",
        default="",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """When a pipeline stops because of its dead letters; the fields are in each pipeline's group.

    The defaults are above what a producer's mistake causes beside others, and stop a deployment
    that reads nothing.
    """

    group_name: ClassVar[str]
    max_consecutive: int = setting(
        "dead.letters.max.consecutive",
        whole(0, 1_000_000),
        "the pipeline stops when so many records in succession are dead letters, in one function of"
        " one subtask; 0: no limit",
        default="1000",
    )
    max_percent: int = setting(
        "dead.letters.max.percent",
        whole(0, 99),
        "the pipeline stops when more than this percentage of `dead.letters.window` records in"
        " succession are dead letters, in one function of one subtask; 0: no limit",
        default="50",
    )
    window: int = setting(
        "dead.letters.window",
        whole(1, 1_000_000),
        "the number of records of `dead.letters.max.percent`",
        default="10000",
    )


@group("tunemesh.enrichment")
class EnrichmentSettings(LimitSettings):
    """The enrichment."""

    start: str = setting(
        "start",
        START,
        "where interactions start without restored state; `committed` is the earliest offset where"
        " nothing is committed. Users and items always start at the earliest offset",
        default="earliest",
    )
    check_timestamps: bool = setting(
        "check.timestamps",
        SWITCH,
        "whether the start checks that the topics of users, items and interactions have"
        " `message.timestamp.type=LogAppendTime`. `false` accepts the times of producers' clocks:"
        " a record whose time is ahead wins over later versions of its user or item. It is meant"
        " for a role without the permission to describe the configuration of topics",
        default="true",
    )
    restored: bool = setting(
        "restored",
        SWITCH,
        "for process mode: whether the application continues from a savepoint or snapshot, which"
        " holds the users and items read so far (`tunemesh submit --savepoint` sets it"
        " automatically; in thread mode the state says so). `false` for a restored application:"
        " events wait for up to 30 s; `true` for any other: events pass without user and item",
        default="false",
    )


@group("tunemesh.recommendations")
class RecommendationsSettings(LimitSettings):
    """Delivery to Personalize."""

    tracking_id: str = setting("tracking.id", TEXT, "id of the event tracker")
    users_dataset_arn: str = setting(
        "users.dataset.arn", _dataset_arn("/USERS"), "the dataset that PutUsers writes to"
    )
    items_dataset_arn: str = setting(
        "items.dataset.arn", _dataset_arn("/ITEMS"), "the dataset that PutItems writes to"
    )
    region: str = setting("region", TEXT, "AWS region of Personalize")
    endpoint_url: str | None = setting(
        "endpoint.url", TEXT, "endpoint, if it is not the region's own", default=None
    )
    start: str = setting(
        "start",
        START,
        "where enriched events start without restored state; with `imported.until` the default is a"
        " minute before it",
        default="earliest",
    )
    calls_per_second: float = setting(
        "calls.per.second", _RATE, "quota of PutEvents, in calls per second", default="1000"
    )
    workers: int = setting(
        "workers", _WORKERS, "TaskManagers among which the quotas are divided", default="1"
    )
    max_in_flight: int = setting(
        "max.in.flight", whole(1, 1000), "PutEvents calls in flight per TaskManager", default="80"
    )
    datasets_start: str = setting(
        "datasets.start",
        START,
        "where users and items start without restored state; after a bulk import, the time of their"
        " export",
        default="earliest",
    )
    dataset_calls_per_second: float = setting(
        "dataset.calls.per.second",
        whole(1, 10_000),
        "quotas of PutUsers and PutItems",
        default="10",
    )
    imported_until: int | None = setting(
        "imported.until",
        TIMESTAMP,
        "interactions published before this time are in an import, and are not sent",
        default=None,
    )


@group("tunemesh.analytics")
class AnalyticsSettings(LimitSettings):
    """Delivery to Firehose and OpenSearch."""

    stream_name: str = setting("delivery.stream", TEXT, "name of the Firehose delivery stream")
    region: str = setting("region", TEXT, "AWS region of Firehose and of OpenSearch Service")
    opensearch_url: str = setting(
        "opensearch.endpoint.url", TEXT, "endpoint of the OpenSearch domain or cluster"
    )
    firehose_url: str | None = setting(
        "firehose.endpoint.url", TEXT, "endpoint, if it is not the region's own", default=None
    )
    authentication: Authentication = setting(
        "opensearch.authentication",
        choice("none", "aws"),
        "`aws`: calls of OpenSearch are signed with the application's role",
        default="none",
    )
    start: str = setting(
        "start", START, "where enriched events start without restored state", default="earliest"
    )
    firehose_calls_per_second: float = setting(
        "firehose.calls.per.second", _RATE, "initial rate of calls of Firehose", default="100"
    )
    firehose_bytes_per_second: int = setting(
        "firehose.bytes.per.second",
        whole(1_024, 2**40),
        "quota of the delivery stream, in bytes per second: 1 MiB in regions other than us-east-1,"
        " us-west-2 and eu-west-1, unless it was raised",
        default="5242880",
    )
    opensearch_calls_per_second: float = setting(
        "opensearch.calls.per.second", _RATE, "initial rate of calls of OpenSearch", default="100"
    )
    workers: int = setting(
        "workers", _WORKERS, "TaskManagers among which rates and quota are divided", default="1"
    )


@group("tunemesh.application")
class ApplicationSettings:
    """All settings of an application."""

    kafka: KafkaSettings
    registry: RegistrySettings
    pipelines: tuple[str, ...] = setting(
        "pipelines",
        Kind(f"one or more of {', '.join(PIPELINES)}, separated by commas, each once", _pipelines),
        "the pipelines that this application runs",
        default=",".join(DEFAULT_PIPELINES),
    )
    execution_mode: str = setting(
        "python.execution-mode",
        choice("thread", "process"),
        "where Python functions run: in Flink's JVM, or in processes of their own",
        default="thread",
    )
    group_id: str = setting(
        "group.id", TEXT, "consumer groups: this, a hyphen, the pipeline", default=DEFAULT_GROUP_ID
    )
    enrichment: EnrichmentSettings = EnrichmentSettings()
    recommendations: RecommendationsSettings | None = None
    analytics: AnalyticsSettings | None = None
    jars: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The job's name, also in Flink's web UI."""
        return JOB_NAME + "+".join(self.pipelines)

    def group(self, pipeline: str) -> str:
        """The consumer group of a pipeline's sources."""
        return f"{self.group_id}-{pipeline}"


DECLARED = (
    ApplicationSettings,
    KafkaSettings,
    RegistrySettings,
    EnrichmentSettings,
    RecommendationsSettings,
    AnalyticsSettings,
    RunOptions,
)
"""Every class with settings of an application."""


def application_settings(groups: Groups) -> ApplicationSettings:
    """Settings from property groups; raises SettingError for the first invalid one."""
    reject_unknown(groups, *DECLARED)
    settings = read(
        ApplicationSettings,
        groups,
        kafka=read(KafkaSettings, groups),
        registry=read(RegistrySettings, groups),
        enrichment=read(EnrichmentSettings, groups),
        jars=read(RunOptions, groups).jars,
    )
    if "recommendations" in settings.pipelines:
        settings = replace(settings, recommendations=_recommendations(groups))
    if "analytics" in settings.pipelines:
        settings = replace(settings, analytics=read(AnalyticsSettings, groups))
    return settings


def pipelines_of_job(name: str) -> tuple[str, ...]:
    """The pipelines of a job, by its name; none for a job of another program."""
    names = name.removeprefix(JOB_NAME).split("+")
    return tuple(pipeline for pipeline in PIPELINES if pipeline in names)


def _recommendations(groups: Groups) -> RecommendationsSettings:
    settings = read(RecommendationsSettings, groups)
    if settings.imported_until is None or "start" in groups["tunemesh.recommendations"]:
        return settings
    # Enriched is later than published, but for what the brokers' clocks differ.
    return replace(settings, start=str(max(0, settings.imported_until - CLOCKS_MS)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the settings of a property file."""
    parser = argparse.ArgumentParser(prog="python -m jobs.settings", description=main.__doc__)
    parser.add_argument("--check", required=True, type=Path, metavar="FILE", help="property file")
    try:
        application_settings(read_groups(parser.parse_args(arguments).check))
    except TunemeshError as error:
        print(f"settings: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
