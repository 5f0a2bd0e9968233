"""An application on the local platform: its topics, schemas, property groups and job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from connectors.aws.sdk import sdk_client, service_errors
from connectors.flink.properties import RUN_OPTIONS, Groups, write_groups
from connectors.glue.registry import GlueRegistry
from deploy.local import flink, jars
from deploy.local.kafka import TopicSpec, create_topics
from deploy.local.settings import (
    ACCOUNT,
    BUCKET,
    DATASETS,
    DELIVERY_PREFIX,
    DELIVERY_STREAM,
    PROJECT,
    REGION,
    REGISTRY,
    TRACKING_ID,
    LocalSettings,
)
from jobs.settings import DEFAULT_PIPELINES, PIPELINES
from schemas.errors import TunemeshError
from schemas.model import Contract, Contracts, load_contracts

RUNNING_SECONDS = 300
"""Time for an application to start; takes about 20 on an otherwise idle machine."""

PARTITIONS = 2
"""The number of partitions per topic: as many as the platform has task slots by default."""

MIN_TOPIC_BYTES = 1_048_588
"""Kafka's default of max.message.bytes. A record larger than its contract allows still reaches the
topic, where the job finds it; a record larger than this is rejected by the broker."""

MAX_COMPACTION_LAG_MS = 86_400_000
"""How long a former version of a user or item stays on a compacted topic."""

_RECORD_OVERHEAD_BYTES = 65_536
_DAYS = re.compile(r"P(\d+)D")


def topic_spec(contract: Contract) -> TopicSpec:
    """Return the topic of a contract; the broker's clock is the publication time on all topics."""
    config = {
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(max(MIN_TOPIC_BYTES, contract.max_bytes + _RECORD_OVERHEAD_BYTES)),
    }
    days = _DAYS.fullmatch(contract.retention)
    if contract.retention == "compact":
        config["cleanup.policy"] = "compact"
        # Without it, a version that a deletion has erased may stay for as long as its segment is
        # the newest one.
        config["max.compaction.lag.ms"] = str(MAX_COMPACTION_LAG_MS)
    elif days:
        config["retention.ms"] = str(int(days[1]) * 86_400_000)
    else:
        raise TunemeshError(
            f"the contract {contract.name} has the retention {contract.retention!r};"
            " expected compact or P<N>D"
        )
    return TopicSpec(contract.topic, PARTITIONS, config)


def services_for(pipelines: Iterable[str]) -> list[str]:
    """Return the services that an application with these pipelines needs."""
    needed = ["kafka", "aws", "flink"]
    if "recommendations" in pipelines:
        needed.append("personalize")
    if "analytics" in pipelines:
        needed.append("opensearch")
    return needed


def destinations_of(pipelines: Iterable[str]) -> tuple[str, ...]:
    """Return the destinations to reconcile beside PutEvents (:mod:`verification.destinations`)."""
    datasets = ("datasets",) if "recommendations" in pipelines else ()
    analytics = ("archive", "search", "trends") if "analytics" in pipelines else ()
    return (*datasets, *analytics)


def connect_registry(settings: LocalSettings) -> GlueRegistry:
    """Connect to the platform's schema registry."""
    return GlueRegistry.connect(REGION, settings.aws.url, REGISTRY)


def create_delivery(settings: LocalSettings) -> None:
    """Create the bucket and the delivery stream of enriched interactions, unless they exist.

    Raises ServiceUnavailable when the AWS emulator does not answer or refuses a call.
    """
    s3, firehose = (sdk_client(name, REGION, settings.aws.url) for name in ("s3", "firehose"))
    attempt = f"create the delivery stream {DELIVERY_STREAM} at {settings.aws.url}"
    with service_errors(attempt, "Check the service aws: tunemesh status"):
        if BUCKET not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
            s3.create_bucket(Bucket=BUCKET)
        if DELIVERY_STREAM not in firehose.list_delivery_streams()["DeliveryStreamNames"]:
            firehose.create_delivery_stream(
                DeliveryStreamName=DELIVERY_STREAM,
                DeliveryStreamType="DirectPut",
                ExtendedS3DestinationConfiguration={
                    "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/tunemesh-delivery",
                    "BucketARN": f"arn:aws:s3:::{BUCKET}",
                    "Prefix": DELIVERY_PREFIX,
                },
            )


def prepare(settings: LocalSettings, contracts: Contracts | None = None) -> None:
    """Create missing topics, schemas and the delivery stream of all contracts."""
    contracts = contracts or load_contracts()
    create_topics(settings.kafka.address, [topic_spec(contract) for contract in contracts])
    schemas = connect_registry(settings)
    for contract in contracts:
        schemas.register(contract)
    create_delivery(settings)


def property_groups(
    settings: LocalSettings,
    pipelines: tuple[str, ...] = DEFAULT_PIPELINES,
    overrides: Mapping[str, Mapping[str, str]] | None = None,
) -> Groups:
    """Return the property groups of an application on this platform."""
    groups: dict[str, dict[str, str]] = {
        RUN_OPTIONS: {
            "jarfile": ";".join(str(jar) for jar in jars.paths("flink", settings.jar_cache)),
        },
        "tunemesh.application": {"pipelines": ",".join(pipelines)},
        "tunemesh.kafka": {"bootstrap.servers": settings.kafka.address},
        "tunemesh.registry": {
            "region": REGION,
            "name": REGISTRY,
            "endpoint.url": settings.aws.url,
            # The client of a submission has three minutes.
            "wait.seconds": "60",
        },
        "tunemesh.recommendations": {
            "tracking.id": TRACKING_ID,
            "users.dataset.arn": f"{DATASETS}/USERS",
            "items.dataset.arn": f"{DATASETS}/ITEMS",
            "region": REGION,
            "endpoint.url": settings.personalize.url,
            "workers": str(settings.taskmanagers),
        },
        "tunemesh.analytics": {
            "delivery.stream": DELIVERY_STREAM,
            "region": REGION,
            "firehose.endpoint.url": settings.aws.url,
            "opensearch.endpoint.url": settings.opensearch.url,
            "workers": str(settings.taskmanagers),
        },
    }
    for pipeline in PIPELINES:
        # Records are made malformed here on purpose.
        groups.setdefault(f"tunemesh.{pipeline}", {}).update(
            {"dead.letters.max.consecutive": "0", "dead.letters.max.percent": "0"}
        )
    for group, values in (overrides or {}).items():
        groups.setdefault(group, {}).update(values)
    return groups


def write_properties(
    settings: LocalSettings,
    pipelines: tuple[str, ...] = DEFAULT_PIPELINES,
    overrides: Mapping[str, Mapping[str, str]] | None = None,
) -> Path:
    """Write the property file of an application below the platform's home; returns it."""
    folder = settings.home / "applications"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ("_".join(pipelines) + ".json")
    write_groups(file, property_groups(settings, pipelines, overrides))
    return file


def submit(
    settings: LocalSettings,
    pipelines: tuple[str, ...] = DEFAULT_PIPELINES,
    overrides: Mapping[str, Mapping[str, str]] | None = None,
    *,
    savepoint: str | None = None,
    environ: Mapping[str, str] | None = None,
    wait: bool = True,
    parallelism: int | None = None,
) -> str:
    """Submit an application to the platform's cluster; returns the job's id once it runs.

    ``parallelism``: the number of task slots; None: all that the platform has.
    """
    if savepoint is not None:
        overrides = {
            **(overrides or {}),
            "tunemesh.enrichment": {
                "restored": "true",
                **(overrides or {}).get("tunemesh.enrichment", {}),
            },
        }
    properties = write_properties(settings, pipelines, overrides)
    configuration = {} if parallelism is None else {"parallelism.default": str(parallelism)}
    job = flink.run_job(
        settings,
        PROJECT / "jobs" / "main.py",
        ["--properties", str(properties)],
        savepoint=savepoint,
        environ=environ,
        configuration=configuration,
    )
    flink.prune_checkpoints(settings)
    if wait:
        flink.FlinkRest.of(settings).wait_running(job, RUNNING_SECONDS)
    return job
