"""Settings of an application: property groups -> frozen dataclasses, checked at the start.

Managed Flink writes the property groups to ``/etc/flink/application_properties.json``; locally a
file of the same shape is used: a list of ``{"PropertyGroupId": ..., "PropertyMap": {...}}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from connectors.kafka import KafkaSettings
from schemas.errors import TunemeshError

MANAGED_PROPERTIES = Path("/etc/flink/application_properties.json")
LOCAL_PROPERTIES = Path("application_properties.json")

PIPELINES = ("enrichment", "recommendations", "analytics")
"""What an application can run, in the order in which records pass."""

DEFAULT_GROUP_ID = "tunemesh"
DEFAULT_PIPELINES = ("enrichment", "recommendations")
"""What it runs unless told."""

APPLICATIONS: tuple[tuple[str, ...], ...] = (
    *((name,) for name in PIPELINES),
    DEFAULT_PIPELINES,
    PIPELINES,
)
"""What an application can be: each has a compiled plan in jobs/plans."""

Groups = Mapping[str, Mapping[str, str]]


class SettingError(TunemeshError):
    """A setting that cannot be used: its group and name, the value, and what was expected."""

    exit_code = 2

    def __init__(self, group: str, name: str, value: str | None, expected: str) -> None:
        given = "is missing" if value is None else f"is {value!r}"
        super().__init__(
            f"the property {name!r} of the group {group!r} {given}; expected {expected}"
        )


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
    items read so far. Said where it is not so, events come out without them; left out where it is
    so, events wait until the first checkpoint.
    """

    start: str = "earliest"
    restored: bool = False


@dataclass(frozen=True, slots=True)
class RecommendationsSettings:
    """Personalize: event tracker and datasets, endpoint, the quotas, among how many workers they
    are divided.

    Each worker process (a TaskManager) paces itself at ``calls_per_second / workers``.
    ``datasets_start``: where users and items start without restored state; with an import from the
    data products, the moment of the import.
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


def read_groups(path: Path) -> Groups:
    """The property groups of a file; raises TunemeshError when it is missing or malformed."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        groups = {entry["PropertyGroupId"]: dict(entry["PropertyMap"]) for entry in entries}
        for group, values in groups.items():
            for text in (group, *values, *values.values()):
                if not isinstance(text, str):
                    raise TypeError(f"{text!r} in the group {group!r} is not a text")
        return groups
    except FileNotFoundError:
        raise TunemeshError(
            f"there is no property file {path}; on Managed Flink it is there by itself, locally"
            " name one with --properties or put application_properties.json into this directory"
        ) from None
    except OSError as error:
        raise TunemeshError(f"the property file {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TunemeshError(
            f"{path} is not a list of property groups: {type(error).__name__}: {error}"
        ) from error


def application_settings(groups: Groups) -> ApplicationSettings:
    """Settings from property groups; raises SettingError for the first that cannot be used."""
    _refuse_unknown(groups)
    application = _Group(groups, "tunemesh.application")
    pipelines = tuple(
        p.strip() for p in application.text("pipelines", ",".join(DEFAULT_PIPELINES)).split(",")
    )
    if tuple(sorted(pipelines)) not in {tuple(sorted(known)) for known in APPLICATIONS}:
        raise SettingError(
            application.name,
            "pipelines",
            ",".join(pipelines),
            " or ".join(",".join(known) for known in APPLICATIONS),
        )
    kafka = _Group(groups, "tunemesh.kafka")
    registry = _Group(groups, "tunemesh.registry")
    enrichment = _Group(groups, "tunemesh.enrichment")
    run = _Group(groups, "kinesis.analytics.flink.run.options")
    return ApplicationSettings(
        pipelines=tuple(p for p in PIPELINES if p in pipelines),
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
    group = _Group(groups, "tunemesh.recommendations")
    return RecommendationsSettings(
        tracking_id=group.text("tracking.id"),
        users_dataset_arn=group.dataset_arn("users.dataset.arn", "/USERS"),
        items_dataset_arn=group.dataset_arn("items.dataset.arn", "/ITEMS"),
        region=group.text("region"),
        endpoint_url=group.optional("endpoint.url"),
        start=group.start("start", "earliest"),
        calls_per_second=float(group.whole("calls.per.second", 1000, 1, 100_000)),
        workers=group.whole("workers", 1, 1, 1000),
        max_in_flight=group.whole("max.in.flight", 80, 1, 1000),
        datasets_start=group.start("datasets.start", "earliest"),
        dataset_calls_per_second=float(group.whole("dataset.calls.per.second", 10, 1, 10_000)),
    )


def _analytics(groups: Groups) -> AnalyticsSettings:
    group = _Group(groups, "tunemesh.analytics")
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


def _refuse_unknown(groups: Groups) -> None:
    for group, values in groups.items():
        if group.startswith("tunemesh.") and group not in (*_KNOWN, *_FREE):
            known = ", ".join(sorted((*_KNOWN, *_FREE)))
            raise TunemeshError(f"there is no property group {group!r}; groups: {known}")
        for name in sorted(set(values) - _KNOWN.get(group, set(values))):
            known = ", ".join(sorted(_KNOWN[group]))
            raise SettingError(group, name, values[name], f"one of the properties {known}")


class _Group:
    """A property group with what reads and checks its values."""

    def __init__(self, groups: Groups, name: str) -> None:
        self.name = name
        self.values = groups.get(name, {})

    def text(self, name: str, default: str | None = None) -> str:
        value = self.values.get(name, default)
        if value is None or not value.strip():
            raise SettingError(self.name, name, value, "a value")
        return value.strip()

    def optional(self, name: str) -> str | None:
        return self.values.get(name) or None

    def one_of(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.text(name, default)
        if value not in choices:
            raise SettingError(self.name, name, value, " or ".join(choices))
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        value = self.text(name, str(default))
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise SettingError(self.name, name, value, f"a whole number from {low} to {high}")
        return int(value)

    def dataset_arn(self, name: str, ending: str) -> str:
        value = self.text(name)
        if not (value.startswith("arn:") and value.endswith(ending)):
            raise SettingError(self.name, name, value, f"the ARN of a dataset, ending in {ending}")
        return value

    def start(self, name: str, default: str) -> str:
        value = self.text(name, default)
        whole = value.isascii() and value.isdigit()
        if value not in ("earliest", "latest", "committed") and not whole:
            raise SettingError(
                self.name, name, value, "earliest, latest, committed or epoch milliseconds"
            )
        return value
