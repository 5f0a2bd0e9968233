"""Where the laptop platform keeps its state, and on which ports its parts listen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emulators import aws
from schemas.errors import TunemeshError

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


PROMETHEUS_PORTS = "TUNEMESH_PROMETHEUS_PORTS"


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable, its default ("" for none) and its meaning."""

    name: str
    default: str
    meaning: str


VARIABLES = (
    Variable("TUNEMESH_HOME", ".tunemesh", "data, logs, ledgers and reports of the local platform"),
    Variable("TUNEMESH_CONTRACTS", "", "more contract folders, separated as in `PATH`; absolute"),
    Variable("TUNEMESH_KAFKA_PORT", "29092", "port of Kafka"),
    Variable("TUNEMESH_KAFKA_CONTROLLER_PORT", "29093", "port of Kafka's controller"),
    Variable("TUNEMESH_AWS_PORT", "25000", "port of Glue, Lake Formation, Firehose and S3 (moto)"),
    Variable("TUNEMESH_PERSONALIZE_PORT", "28500", "port of the emulator of Personalize"),
    Variable("TUNEMESH_FLINK_PORT", "28081", "port of Flink's REST API and web UI"),
    Variable("TUNEMESH_OPENSEARCH_PORT", "29200", "port of OpenSearch"),
    Variable("TUNEMESH_POSTGRESQL_PORT", "25432", "port of PostgreSQL"),
    Variable("TUNEMESH_DYNAMODB_PORT", "28000", "port of DynamoDB Local"),
    Variable("TUNEMESH_SERVICES_PORT", "28600", "port of the domains' back ends"),
    Variable("TUNEMESH_TASKMANAGERS", "2", "TaskManagers of the local cluster, 1 to 16"),
    Variable("TUNEMESH_TASK_SLOTS", "1", "task slots of each TaskManager, 1 to 16"),
    Variable(
        PROMETHEUS_PORTS,
        "",
        "FIRST-LAST: ports at which Flink's processes offer metrics to Prometheus, on every"
        " interface of the machine",
    ),
    Variable("TUNEMESH_START_SECONDS", "120", "how long a service may take to start, 1 to 3600"),
    Variable("TUNEMESH_STOP_SECONDS", "20", "how long a service may take to stop, 1 to 600"),
    Variable("TUNEMESH_JAR_CACHE", "", "jars; default: tunemesh/jars in the user's cache folder"),
    Variable("TUNEMESH_MAVEN_REPOSITORY", "", "a mirror for the jars; default: Maven Central"),
    Variable(
        "TUNEMESH_WHEEL_CACHE",
        "",
        "wheels of packages; default: tunemesh/wheels in the user's cache folder",
    ),
    Variable("TUNEMESH_POSTGRESQL", "", "users' store of `tunemesh export`, as libpq accepts it"),
    Variable("TUNEMESH_DYNAMODB_URL", "", "endpoint of the items' stores of `tunemesh export`"),
    Variable("IS_LOCAL", "", "set: the job runs in this process, with a local property file"),
    Variable("TUNEMESH_PARALLELISM", "2", "parallelism of a job that runs in this process"),
    Variable("TUNEMESH_BOOTSTRAP_SERVERS", "", "brokers of the back ends"),
    Variable(
        "TUNEMESH_KAFKA_PROPERTIES",
        "",
        "properties of librdkafka for the back ends, as a JSON object",
    ),
    Variable("TUNEMESH_REGISTRY", "tunemesh", "name of the back ends' Glue registry"),
    Variable("TUNEMESH_DATABASE", "", "users' database of the back ends, as libpq accepts it"),
)
"""Every variable that tunemesh reads, also outside of this module; the reference page has them."""

_DEFAULTS = {variable.name: variable.default for variable in VARIABLES}


class SettingError(TunemeshError):
    """A variable with a value that cannot be used: its name, the value, what was expected."""

    exit_code = 2

    def __init__(self, name: str, value: str, expected: str) -> None:
        super().__init__(f"{name}={value!r}: expected {expected}.")


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a part, and the environment variable that moves it."""

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
    """Ports from which servers that cannot be told one each take the first that is free."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """The platform's settings; see :meth:`from_environment` for the variables behind them."""

    home: Path
    jar_cache: Path
    kafka: Port
    kafka_controller: Port
    aws: Port
    personalize: Port
    flink: Port
    opensearch: Port
    postgresql: Port
    dynamodb: Port
    services: Port
    taskmanagers: int
    task_slots: int
    prometheus: PortRange | None
    """Where Flink's processes offer metrics to Prometheus; None: nowhere."""
    start_seconds: float
    stop_seconds: float

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> LocalSettings:
        """Settings from `TUNEMESH_*` variables and defaults.

        A relative TUNEMESH_HOME counts from the current directory, as does its default,
        `.tunemesh`. Raises :class:`SettingError` at the first value that cannot be used.
        """

        def number(name: str, low: int, high: int) -> int:
            text = environ.get(name) or _DEFAULTS[name]
            if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
                raise SettingError(name, text, f"a whole number from {low} to {high}")
            return int(text)

        def port(name: str) -> Port:
            return Port(number(name, 1, 65535), name)

        taskmanagers = number("TUNEMESH_TASKMANAGERS", 1, 16)
        settings = cls(
            home=Path(environ.get("TUNEMESH_HOME") or _DEFAULTS["TUNEMESH_HOME"])
            .expanduser()
            .absolute(),
            jar_cache=jar_cache(environ),
            kafka=port("TUNEMESH_KAFKA_PORT"),
            kafka_controller=port("TUNEMESH_KAFKA_CONTROLLER_PORT"),
            aws=port("TUNEMESH_AWS_PORT"),
            personalize=port("TUNEMESH_PERSONALIZE_PORT"),
            flink=port("TUNEMESH_FLINK_PORT"),
            opensearch=port("TUNEMESH_OPENSEARCH_PORT"),
            postgresql=port("TUNEMESH_POSTGRESQL_PORT"),
            dynamodb=port("TUNEMESH_DYNAMODB_PORT"),
            services=port("TUNEMESH_SERVICES_PORT"),
            taskmanagers=taskmanagers,
            task_slots=number("TUNEMESH_TASK_SLOTS", 1, 16),
            prometheus=_prometheus_ports(environ, taskmanagers + 1),
            start_seconds=float(number("TUNEMESH_START_SECONDS", 1, 3600)),
            stop_seconds=float(number("TUNEMESH_STOP_SECONDS", 1, 600)),
        )
        settings.check_ports()
        return settings

    def check_ports(self) -> None:
        """Raises :class:`SettingError` when two parts would share a port."""
        seen: dict[int, str] = {}
        for port in self.ports():
            if port.number in seen:
                raise SettingError(
                    port.variable,
                    str(port.number),
                    f"a port of its own, but {seen[port.number]} has the same",
                )
            seen[port.number] = port.variable
        taken = self.prometheus
        if taken is None:
            return
        for number, variable in seen.items():
            if taken.first <= number <= taken.last:
                expected = f"ports without {number}, which is that of {variable}"
                raise SettingError(PROMETHEUS_PORTS, str(taken), expected)

    def ports(self) -> tuple[Port, ...]:
        """Every port that the platform listens on, beside Flink's internal ones."""
        return (
            self.kafka,
            self.kafka_controller,
            self.aws,
            self.personalize,
            self.opensearch,
            self.postgresql,
            self.dynamodb,
            self.services,
            self.flink,
        )

    def data(self, part: str) -> Path:
        """The folder with a part's data; `--fresh` empties it."""
        return self.home / "data" / part

    def log(self, part: str) -> Path:
        """The file that a part's output goes to."""
        return self.home / "logs" / f"{part}.log"

    @property
    def run(self) -> Path:
        """The folder with what is known of the running processes, and with generated
        configuration."""
        return self.home / "run"

    @property
    def reports(self) -> Path:
        """The folder that demos and benchmarks write their reports to."""
        return self.home / "reports"


def _prometheus_ports(environ: Mapping[str, str], processes: int) -> PortRange | None:
    """The range in TUNEMESH_PROMETHEUS_PORTS; None when it is empty or not set."""
    text = environ.get(PROMETHEUS_PORTS, "")
    if not text:
        return None
    first, _, last = text.partition("-")
    if all(part.isascii() and part.isdigit() for part in (first, last)):
        found = PortRange(int(first), int(last))
        if found.first > 0 and found.first + processes - 1 <= found.last <= 65535:
            return found
    raise SettingError(
        PROMETHEUS_PORTS,
        text,
        f"FIRST-LAST with at least {processes} ports: the JobManager's and one a TaskManager",
    )


def jar_cache(environ: Mapping[str, str]) -> Path:
    """The jar cache of this user: TUNEMESH_JAR_CACHE, else `tunemesh/jars` in the user's cache
    folder."""
    chosen = environ.get("TUNEMESH_JAR_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    cache = environ.get("XDG_CACHE_HOME")
    base = Path(cache) if cache else Path(environ.get("HOME") or Path.home()) / ".cache"
    return base / "tunemesh" / "jars"


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
