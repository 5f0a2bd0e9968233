"""Settings of an application: property groups -> frozen dataclasses, checked at the start."""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.flink.properties import RUN_OPTIONS, Group, Groups, SettingError, refuse_unknown
from connectors.kafka.tables import KafkaSettings

PIPELINES = ("enrichment", "recommendations", "analytics")
"""What an application can run, in the order in which records pass."""

DEFAULT_GROUP_ID = "tunemesh"
DEFAULT_PIPELINES = ("enrichment", "recommendations")
"""What it runs unless set."""

CLOCKS_MS = 60_000
"""By how much less than this the clocks of brokers differ."""


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The Glue Schema Registry; ``endpoint_url`` None is the region's own."""

    region: str
    name: str = "tunemesh"
    endpoint_url: str | None = None


@dataclass(frozen=True, slots=True)
class EnrichmentSettings:
    """The enrichment.

    ``start``: where interactions start without restored state (earliest, latest, committed, epoch
    milliseconds); users and items always start at the earliest.
    ``restored``: the application goes on from a savepoint or snapshot, which holds the users and
    items read so far. Of use in process mode alone, in thread mode the state itself says so. Said
    where it is not so, events come out without them; left out where it is so, events wait for up to
    30 s.
    """

    start: str = "earliest"
    restored: bool = False


@dataclass(frozen=True, slots=True)
class RecommendationsSettings:
    """Personalize: event tracker and datasets, endpoint, the quotas, among how many workers they
    are divided.

    Each worker process (a TaskManager) paces itself at ``calls_per_second / workers``.
    ``datasets_start``: where users and items start without restored state; with an import from the
    data products, the moment of their export. ``imported_until``: interactions published before it
    (epoch milliseconds) are in an import, and are not sent.
    """

    tracking_id: str
    users_dataset_arn: str
    items_dataset_arn: str
    region: str
    endpoint_url: str | None = None
    start: str = "earliest"
    calls_per_second: float = 1000.0
    workers: int = 1
    max_in_flight: int = 80
    datasets_start: str = "earliest"
    dataset_calls_per_second: float = 10.0
    imported_until: int | None = None


@dataclass(frozen=True, slots=True)
class AnalyticsSettings:
    """Firehose and OpenSearch: stream, endpoints, the paces, among how many workers they are
    divided.

    ``authentication``: none, or aws (Amazon OpenSearch Service, signed with the application's
    role).
    """

    stream_name: str
    region: str
    opensearch_url: str
    firehose_url: str | None = None
    authentication: str = "none"
    start: str = "earliest"
    firehose_calls_per_second: float = 100.0
    firehose_bytes_per_second: int = 5_242_880
    opensearch_calls_per_second: float = 100.0
    workers: int = 1


@dataclass(frozen=True, slots=True)
class ApplicationSettings:
    """Everything that an application is told."""

    pipelines: tuple[str, ...]
    execution_mode: str
    group_id: str
    kafka: KafkaSettings
    registry: RegistrySettings
    enrichment: EnrichmentSettings = field(default_factory=EnrichmentSettings)
    recommendations: RecommendationsSettings | None = None
    analytics: AnalyticsSettings | None = None
    jars: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The job's name, also in Flink's web UI."""
        return "tunemesh " + "+".join(self.pipelines)

    def group(self, pipeline: str) -> str:
        """The consumer group of a pipeline's sources."""
        return f"{self.group_id}-{pipeline}"


def application_settings(groups: Groups) -> ApplicationSettings:
    """Settings from property groups; raises SettingError for the first that cannot be used."""
    refuse_unknown(groups, _KNOWN, _FREE)
    application = Group(groups, "tunemesh.application")
    named = [
        p.strip() for p in application.text("pipelines", ",".join(DEFAULT_PIPELINES)).split(",")
    ]
    pipelines = tuple(p for p in PIPELINES if p in named)
    if sorted(pipelines) != sorted(named):
        raise SettingError(
            application.name,
            "pipelines",
            ",".join(named),
            f"one or more of {', '.join(PIPELINES)}, separated by commas, each once",
        )
    kafka = Group(groups, "tunemesh.kafka")
    registry = Group(groups, "tunemesh.registry")
    enrichment = Group(groups, "tunemesh.enrichment")
    run = Group(groups, RUN_OPTIONS)
    return ApplicationSettings(
        pipelines=pipelines,
        execution_mode=application.one_of("python.execution-mode", ("thread", "process"), "thread"),
        group_id=application.text("group.id", DEFAULT_GROUP_ID),
        kafka=KafkaSettings(
            bootstrap_servers=kafka.text("bootstrap.servers"),
            client={k: v for k, v in kafka.values.items() if k != "bootstrap.servers"},
            python_client=groups.get("tunemesh.kafka.python", {}),
        ),
        registry=RegistrySettings(
            region=registry.text("region"),
            name=registry.text("name", "tunemesh"),
            endpoint_url=registry.optional("endpoint.url"),
        ),
        enrichment=EnrichmentSettings(
            start=enrichment.start("start", "earliest"),
            restored=enrichment.one_of("restored", ("true", "false"), "false") == "true",
        ),
        recommendations=_recommendations(groups) if "recommendations" in pipelines else None,
        analytics=_analytics(groups) if "analytics" in pipelines else None,
        jars=tuple(j for j in (run.optional("jarfile") or "").split(";") if j),
    )


def _recommendations(groups: Groups) -> RecommendationsSettings:
    group = Group(groups, "tunemesh.recommendations")
    imported_until = group.moment("imported.until")
    # Enriched is later than published, but for what the brokers' clocks differ.
    start = "earliest" if imported_until is None else str(max(0, imported_until - CLOCKS_MS))
    return RecommendationsSettings(
        tracking_id=group.text("tracking.id"),
        users_dataset_arn=group.dataset_arn("users.dataset.arn", "/USERS"),
        items_dataset_arn=group.dataset_arn("items.dataset.arn", "/ITEMS"),
        region=group.text("region"),
        endpoint_url=group.optional("endpoint.url"),
        start=group.start("start", start),
        imported_until=imported_until,
        calls_per_second=float(group.whole("calls.per.second", 1000, 1, 100_000)),
        workers=group.whole("workers", 1, 1, 1000),
        max_in_flight=group.whole("max.in.flight", 80, 1, 1000),
        datasets_start=group.start("datasets.start", "earliest"),
        dataset_calls_per_second=float(group.whole("dataset.calls.per.second", 10, 1, 10_000)),
    )


def _analytics(groups: Groups) -> AnalyticsSettings:
    group = Group(groups, "tunemesh.analytics")
    return AnalyticsSettings(
        stream_name=group.text("delivery.stream"),
        region=group.text("region"),
        opensearch_url=group.text("opensearch.endpoint.url"),
        firehose_url=group.optional("firehose.endpoint.url"),
        authentication=group.one_of("opensearch.authentication", ("none", "aws"), "none"),
        start=group.start("start", "earliest"),
        firehose_calls_per_second=float(group.whole("firehose.calls.per.second", 100, 1, 100_000)),
        firehose_bytes_per_second=group.whole("firehose.bytes.per.second", 5_242_880, 1_024, 2**40),
        opensearch_calls_per_second=float(
            group.whole("opensearch.calls.per.second", 100, 1, 100_000)
        ),
        workers=group.whole("workers", 1, 1, 1000),
    )


_KNOWN = {
    "tunemesh.analytics": {
        "delivery.stream",
        "region",
        "opensearch.endpoint.url",
        "opensearch.authentication",
        "firehose.endpoint.url",
        "start",
        "firehose.calls.per.second",
        "firehose.bytes.per.second",
        "opensearch.calls.per.second",
        "workers",
    },
    "tunemesh.application": {"pipelines", "python.execution-mode", "group.id"},
    "tunemesh.registry": {"region", "name", "endpoint.url"},
    "tunemesh.enrichment": {"start", "restored"},
    "tunemesh.recommendations": {
        "tracking.id",
        "region",
        "endpoint.url",
        "start",
        "imported.until",
        "calls.per.second",
        "workers",
        "max.in.flight",
        "users.dataset.arn",
        "items.dataset.arn",
        "datasets.start",
        "dataset.calls.per.second",
    },
}


_FREE = ("tunemesh.kafka", "tunemesh.kafka.python")
"""Groups that are passed on to the clients as they are."""
