"""Settings of the local platform: its folder, the ports of its services, what it downloads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from emulators import aws
from schemas.errors import SettingError
from schemas.settings import ENVIRONMENT, FOLDER, Kind, group, matching, read, setting, whole

HOST = "127.0.0.1"
"""Every server of the platform listens here and nowhere else."""

PROJECT = Path(__file__).resolve().parents[2]
"""The repository: where the jobs, the contracts and pom-deps.txt are."""

REGION = aws.REGION
ACCOUNT = aws.ACCOUNT
ACCESS_KEY = "local"
SECRET_KEY = "local"
"""What stands for AWS credentials: the services accept anything, the clients need something."""

REGISTRY = "tunemesh"
TRACKING_ID = "tunemesh-local-tracker"
"""The local Personalize's event tracker ..."""

DATASETS = f"arn:aws:personalize:{REGION}:{ACCOUNT}:dataset/tunemesh"
"""... and where its datasets are: /USERS, /ITEMS."""

IMPORT_ROLE = f"arn:aws:iam::{ACCOUNT}:role/tunemesh-personalize"
"""What stands for the role that lets Personalize read the bucket."""

BUCKET = "tunemesh-data"
DELIVERY_STREAM = "tunemesh-interactions-enriched"
DELIVERY_PREFIX = "interactions-enriched/"
"""Where Firehose puts the enriched interactions: the bucket, and how its objects' names begin."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service, and the environment variable that changes it."""

    number: int
    variable: str

    @property
    def address(self) -> str:
        """`127.0.0.1:number`."""
        return f"{HOST}:{self.number}"

    @property
    def url(self) -> str:
        """`http://127.0.0.1:number`."""
        return f"http://{self.address}"


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports of which each of several servers takes the first free one."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


_NUMBER = whole(1, 65_535)


def port(variable: str, default: int, description: str) -> Port:
    """Declare a field that is a port."""
    kind = Kind(_NUMBER.expected, lambda text: Port(_NUMBER.parse(text), variable))
    return setting(variable, kind, f"port of {description}", default=str(default))


def _port_range(text: str) -> PortRange:
    first, last = map(_NUMBER.parse, text.split("-"))
    return PortRange(first, last)


@group(ENVIRONMENT)
class CacheSettings:
    """Where downloads are kept, and where jars come from."""

    folder: Path = setting(
        "XDG_CACHE_HOME", FOLDER, "has tunemesh/jars and tunemesh/wheels", default="~/.cache"
    )
    jars: Path | None = setting(
        "TUNEMESH_JAR_CACHE", FOLDER, "jars, if not in XDG_CACHE_HOME/tunemesh", default=None
    )
    wheels: Path | None = setting(
        "TUNEMESH_WHEEL_CACHE", FOLDER, "wheels, if not in XDG_CACHE_HOME/tunemesh", default=None
    )
    maven_repository: str | None = setting(
        "TUNEMESH_MAVEN_REPOSITORY",
        matching(r"(https?://|file:).*", "an http, https or file address"),
        "a mirror for the jars; default: Maven Central",
        default=None,
    )


@group(ENVIRONMENT)
class HomeSettings:
    """The folder of the platform; it can be read although other settings are invalid."""

    home: Path = setting(
        "TUNEMESH_HOME", FOLDER, "data, logs, ledgers and reports", default=".tunemesh"
    )


@group(ENVIRONMENT)
class LocalSettings:
    """The settings of the platform."""

    home: Path
    jar_cache: Path
    kafka: Port = port("TUNEMESH_KAFKA_PORT", 29092, "Kafka")
    kafka_controller: Port = port("TUNEMESH_KAFKA_CONTROLLER_PORT", 29093, "Kafka's controller")
    aws: Port = port("TUNEMESH_AWS_PORT", 25000, "Glue, Lake Formation, Firehose and S3 (moto)")
    personalize: Port = port("TUNEMESH_PERSONALIZE_PORT", 28500, "the emulator of Personalize")
    opensearch: Port = port("TUNEMESH_OPENSEARCH_PORT", 29200, "OpenSearch")
    postgresql: Port = port("TUNEMESH_POSTGRESQL_PORT", 25432, "PostgreSQL")
    dynamodb: Port = port("TUNEMESH_DYNAMODB_PORT", 28000, "DynamoDB Local")
    services: Port = port("TUNEMESH_SERVICES_PORT", 28600, "the domains' back ends")
    flink: Port = port("TUNEMESH_FLINK_PORT", 28081, "Flink's REST API and web UI")
    taskmanagers: int = setting(
        "TUNEMESH_TASKMANAGERS", whole(1, 16), "TaskManagers of the local cluster", default="2"
    )
    task_slots: int = setting(
        "TUNEMESH_TASK_SLOTS", whole(1, 16), "task slots of each TaskManager", default="1"
    )
    prometheus: PortRange | None = setting(
        "TUNEMESH_PROMETHEUS_PORTS",
        Kind("FIRST-LAST, a port for the JobManager and one for each TaskManager", _port_range),
        "ports at which Flink's processes offer metrics to Prometheus, on every interface of the"
        " machine",
        default=None,
    )
    start_seconds: float = setting(
        "TUNEMESH_START_SECONDS", whole(1, 3600), "time for a service to start", default="120"
    )
    stop_seconds: float = setting(
        "TUNEMESH_STOP_SECONDS", whole(1, 600), "time for a service to stop", default="20"
    )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> LocalSettings:
        """Settings from `TUNEMESH_*` variables; raises :class:`SettingError` for an invalid one."""
        home = read(HomeSettings, {ENVIRONMENT: environ}).home
        settings = read(cls, {ENVIRONMENT: environ}, home=home, jar_cache=jar_cache(environ))
        settings.check_ports()
        return settings

    def check_ports(self) -> None:
        """Raise :class:`SettingError` when two services share a port, or Flink has too few."""
        seen: dict[int, str] = {}
        for port in self.ports():
            if port.number in seen:
                expected = f"a port of its own, but {seen[port.number]} has the same"
                raise SettingError(port.variable, str(port.number), expected)
            seen[port.number] = port.variable
        if self.prometheus is None:
            return
        taken = range(self.prometheus.first, self.prometheus.last + 1)
        expected = f"at least {self.taskmanagers + 1} ports: the JobManager's and the TaskManagers'"
        for number in seen.keys() & taken:
            expected = f"ports without {number}, which is that of {seen[number]}"
        if len(taken) <= self.taskmanagers or seen.keys() & taken:
            raise SettingError("TUNEMESH_PROMETHEUS_PORTS", str(self.prometheus), expected)

    def ports(self) -> tuple[Port, ...]:
        """Every port that the platform listens on, beside Flink's internal ones."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(value for value in values if isinstance(value, Port))

    def data(self, service: str) -> Path:
        """Return the folder with a service's data; `--fresh` empties it."""
        return self.home / "data" / service

    def log(self, server: str) -> Path:
        """Return the file with a server's output."""
        return self.home / "logs" / f"{server}.log"

    @property
    def run(self) -> Path:
        """The folder with what is known of the running processes, and with generated
        configuration."""
        return self.home / "run"

    @property
    def reports(self) -> Path:
        """The folder that demos and benchmarks write their reports to."""
        return self.home / "reports"


def jar_cache(environ: Mapping[str, str]) -> Path:
    """The folder with this user's jars."""
    settings = read(CacheSettings, {ENVIRONMENT: environ})
    return settings.jars or settings.folder / "tunemesh" / "jars"


def wheel_cache(environ: Mapping[str, str]) -> Path:
    """The folder with this user's wheels."""
    settings = read(CacheSettings, {ENVIRONMENT: environ})
    return settings.wheels or settings.folder / "tunemesh" / "wheels"


def aws_environment(settings: LocalSettings) -> dict[str, str]:
    """What makes AWS clients of a child process talk to this machine only."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_GLUE": settings.aws.url,
        "AWS_ENDPOINT_URL_FIREHOSE": settings.aws.url,
        "AWS_ENDPOINT_URL_S3": settings.aws.url,
        "AWS_ENDPOINT_URL_DYNAMODB": settings.dynamodb.url,
        "AWS_ENDPOINT_URL_DYNAMODB_STREAMS": settings.dynamodb.url,
        "AWS_ENDPOINT_URL_LAKEFORMATION": settings.aws.url,
        "AWS_ENDPOINT_URL_STS": settings.aws.url,
        "AWS_ENDPOINT_URL_PERSONALIZE": settings.personalize.url,
        "AWS_ENDPOINT_URL_PERSONALIZE_EVENTS": settings.personalize.url,
        "AWS_ENDPOINT_URL_PERSONALIZE_RUNTIME": settings.personalize.url,
    }
