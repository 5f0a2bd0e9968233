"""The AWS Glue Schema Registry, as the only thing in this package that talks to a network.

Two uses with two tempers. The decoder asks :meth:`GlueRegistry.by_id` for a record in flight and
waits for ever when the registry cannot be reached: a record is not at fault when a server is. The
command line and the start of a job ask the rest, which gives up after a few attempts and says
what to do. Works against AWS and against moto, which has neither ``list_schema_versions`` nor
``check_schema_version_validity``: versions are walked by number.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import boto3
import botocore.config
import botocore.exceptions
import botocore.parsers

from connectors.aws.endpoint import is_loopback
from connectors.clock import SYSTEM_CLOCK, Clock
from schemas.codec import RegisteredSchema, SchemaLookup, UnknownSchemaId
from schemas.compatibility import incompatibilities
from schemas.errors import TunemeshError
from schemas.model import Contract, SchemaVersion

UNKNOWN_FOR_SECONDS = 60.0
"""How long an id that the registry does not know is not asked for again: it may be registered."""

MAX_UNKNOWN_IDS = 10_000
"""Unknown ids that are remembered; poison records may carry a new one each."""

PENDING_SECONDS = 60.0
"""How long a registration waits for Glue's own check, which takes a second or two."""

MAX_CALL_ATTEMPTS = 5
"""Attempts of a call that somebody waits for; 3 seconds of backoff in all."""

_FIRST_BACKOFF_SECONDS = 0.2
_MAX_BACKOFF_SECONDS = 10.0

# By code, as everywhere: Glue answers a throttled call with status 400. ExpiredToken: the
# credentials of a long-running job are being renewed.
_TRANSIENT_CODES = frozenset(
    {
        "ConcurrentModificationException",
        "ExpiredToken",
        "ExpiredTokenException",
        "InternalFailure",
        "InternalServerException",
        "InternalServiceException",
        "OperationTimeoutException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)
_TRANSIENT_ERRORS = (
    botocore.exceptions.ConnectionError,  # refused, no such host, timed out
    botocore.exceptions.HTTPClientError,  # reset, closed, no answer in time
    botocore.parsers.ResponseParserError,  # a proxy's error page
    botocore.exceptions.MetadataRetrievalError,
    botocore.exceptions.CredentialRetrievalError,
)
_NOT_FOUND = "EntityNotFoundException"

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class RegistryError(TunemeshError):
    """The registry refused, lacks something or cannot be reached; says what to do next."""


class Registration(NamedTuple):
    """One schema version of a contract in the registry; ``created``: not there before."""

    number: int
    version_id: UUID
    created: bool


class RegisteredVersion(NamedTuple):
    """One version as the registry numbers it, which need not be the contract's number."""

    number: int
    version_id: UUID
    definition: str


class GlueRegistry(SchemaLookup):
    """One registry, by name. Thread safe."""

    def __init__(
        self,
        client: Any,
        registry_name: str = "tunemesh",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.registry_name = registry_name
        self._client = client
        self._clock = clock
        self._found: dict[bytes, RegisteredSchema] = {}
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._unknown_lock = threading.Lock()
        # One request an id however many threads ask for it; ids apart do not wait for each other.
        self._asking = tuple(threading.Lock() for _ in range(16))

    @classmethod
    def connect(
        cls, region: str, endpoint_url: str | None = None, registry_name: str = "tunemesh"
    ) -> GlueRegistry:
        """Connect with the usual chain of credentials; no request is made yet.

        An endpoint on this machine gets the laptop platform's credentials (``local``) instead,
        and no proxy: the real ones have no business there.
        """
        local = endpoint_url is not None and is_loopback(endpoint_url)
        # A session of its own: the default session must not be shared by threads.
        session = boto3.session.Session(
            region_name=region,
            aws_access_key_id="local" if local else None,
            aws_secret_access_key="local" if local else None,
        )
        config = botocore.config.Config(
            connect_timeout=3,
            read_timeout=10,
            retries={"total_max_attempts": 1, "mode": "standard"},  # retried here
            proxies={} if local else None,
        )
        return cls(session.client("glue", endpoint_url=endpoint_url, config=config), registry_name)

    # For records in flight.

    def by_id(self, version_id: bytes) -> RegisteredSchema:
        """The schema version of a 16-byte id.

        Blocks while the registry cannot be reached or throttles, for ever if need be. What was
        found is kept for ever (a version never changes), what was not for a minute. Its
        ``subject`` is the schema's name, and ``registry/name`` when it is of another registry.
        Raises UnknownSchemaId, and RegistryError when access is denied: that is no record's fault.
        """
        found = self._found.get(version_id)
        if found is not None:
            return found
        with self._asking[version_id[-1] % len(self._asking)]:
            found = self._found.get(version_id)
            if found is not None:
                return found
            if self._is_known_as_unknown(version_id):
                raise UnknownSchemaId(str(UUID(bytes=version_id)))
            found = self._fetch(version_id)
            if found is None:
                self._remember_unknown(version_id)
                raise UnknownSchemaId(str(UUID(bytes=version_id)))
            self._found[version_id] = found
            return found

    def _fetch(self, version_id: bytes) -> RegisteredSchema | None:
        named = str(UUID(bytes=version_id))
        backoffs = _backoffs()
        while True:
            answer = self._call(
                f"look up schema version {named}",
                lambda: self._client.get_schema_version(SchemaVersionId=named),
                # The id is all that there is to be invalid in this request.
                absent=(_NOT_FOUND, "InvalidInputException"),
                attempts=None,
            )
            if answer is None or answer["Status"] == "FAILURE":
                return None
            if answer["Status"] != "PENDING":
                break
            _log.warning("schema version %s is pending in the registry, waiting for it", named)
            self._clock.sleep(next(backoffs))
        if answer.get("DataFormat", "AVRO") != "AVRO":
            return RegisteredSchema(f"{answer['SchemaArn']} ({answer['DataFormat']})", "null")
        # arn:aws:glue:REGION:ACCOUNT:schema/REGISTRY/NAME
        _, registry, name = str(answer["SchemaArn"]).rsplit(":", 1)[1].split("/", 2)
        subject = name if registry == self.registry_name else f"{registry}/{name}"
        return RegisteredSchema(subject, str(answer["SchemaDefinition"]))

    def _is_known_as_unknown(self, version_id: bytes) -> bool:
        with self._unknown_lock:
            since = self._unknown.get(version_id)
            return since is not None and self._clock.monotonic() - since < UNKNOWN_FOR_SECONDS

    def _remember_unknown(self, version_id: bytes) -> None:
        with self._unknown_lock:
            self._unknown[version_id] = self._clock.monotonic()
            self._unknown.move_to_end(version_id)
            while len(self._unknown) > MAX_UNKNOWN_IDS:
                self._unknown.popitem(last=False)

    # For people and for the start of a job.

    def version_id(self, contract: Contract, number: int | None = None) -> UUID:
        """Id of a contract's schema version (the newest by default), by its definition.

        Raises RegistryError when it is not registered.
        """
        version = contract.newest if number is None else contract.versions[number - 1]
        answer = self._call(
            f"look up {contract.subject}",
            lambda: self._client.get_schema_by_definition(
                SchemaId=self._schema_id(contract), SchemaDefinition=version.definition
            ),
            absent=(_NOT_FOUND,),
        )
        if answer is not None and answer["Status"] == "AVAILABLE":
            return UUID(answer["SchemaVersionId"])
        # Registered with other white space, by somebody else's tool, or not checked by Glue yet.
        known = _id_of(version, self.registered_versions(contract))
        if known is None:
            raise RegistryError(
                f"{contract.name}.v{version.number} is not registered in {self.registry_name!r};"
                " run `tunemesh schemas register`"
            )
        return known

    def registered_versions(self, contract: Contract) -> list[RegisteredVersion]:
        """Usable versions of a contract's schema in the registry, oldest first; may be none."""
        schema = self._schema(contract)
        if schema is None:
            return []
        versions = []
        for number in range(1, int(schema["LatestSchemaVersion"]) + 1):
            answer = self._version(contract, number)
            if answer is not None:
                versions.append(
                    RegisteredVersion(
                        number, UUID(answer["SchemaVersionId"]), str(answer["SchemaDefinition"])
                    )
                )
        return versions

    def registered_compatibility(self, contract: Contract) -> str | None:
        """The mode that the registry holds for a contract's schema; None when there is none."""
        schema = self._schema(contract)
        return None if schema is None else str(schema["Compatibility"])

    def register(self, contract: Contract) -> list[Registration]:
        """Register what is not there yet of a contract's versions, oldest first.

        Every version passes the gate (:mod:`schemas.compatibility`) before the first one is
        written; registry and schema are made when absent. Doing it again changes nothing.
        Raises RegistryError with each incompatible field.
        """
        registered = self.registered_versions(contract)
        self._gate(contract, registered)
        done: list[Registration] = []
        for version in contract.versions:
            known = _id_of(version, registered)
            created = known is None
            if known is None:
                known = self._add(contract, version)
                added = RegisteredVersion(len(registered) + 1, known, version.definition)
                registered = [*registered, added]
            done.append(Registration(version.number, known, created))
        return done

    def _gate(self, contract: Contract, registered: list[RegisteredVersion]) -> None:
        history = [version.definition for version in registered]
        for version in contract.versions:
            if _id_of(version, registered) is not None:
                continue
            found = incompatibilities(contract.compatibility, version.definition, history)
            if found:
                raise RegistryError(
                    f"{contract.name}.v{version.number} is not {contract.compatibility}"
                    f" compatible with what {self.registry_name!r} holds, nothing was"
                    f" registered: {'; '.join(found)}"
                )
            history.append(version.definition)

    def _add(self, contract: Contract, version: SchemaVersion) -> UUID:
        what = f"register {contract.name}.v{version.number}"
        schema = self._schema(contract)
        if schema is None:
            self._call(
                f"make the registry {self.registry_name}",
                lambda: self._client.create_registry(RegistryName=self.registry_name),
                absent=("AlreadyExistsException",),
            )
            created = self._call(
                what,
                lambda: self._client.create_schema(
                    RegistryId={"RegistryName": self.registry_name},
                    SchemaName=contract.subject,
                    DataFormat="AVRO",
                    Compatibility=contract.compatibility,
                    SchemaDefinition=version.definition,
                ),
                # Somebody was faster: then it is one more version of theirs.
                absent=("AlreadyExistsException",),
            )
            if created is not None:
                return self._available(contract, version, created["SchemaVersionId"])
        elif schema["Compatibility"] != contract.compatibility:
            self._call(
                f"set {contract.subject} to {contract.compatibility}",
                lambda: self._client.update_schema(
                    SchemaId=self._schema_id(contract), Compatibility=contract.compatibility
                ),
            )
        answer = self._call(
            what,
            lambda: self._client.register_schema_version(
                SchemaId=self._schema_id(contract), SchemaDefinition=version.definition
            ),
        )
        assert answer is not None  # nothing counts as absent above
        return self._available(contract, version, answer["SchemaVersionId"])

    def _available(self, contract: Contract, version: SchemaVersion, version_id: str) -> UUID:
        """Wait until Glue has checked a version."""
        answer = self._await_status(
            f"look up {contract.subject}",
            lambda: self._client.get_schema_version(SchemaVersionId=version_id),
        )
        status = "missing" if answer is None else str(answer["Status"])
        if status != "AVAILABLE":
            raise RegistryError(
                f"the registry did not take {contract.name}.v{version.number}: its version"
                f" {version_id} is {status}. Compare it with `tunemesh schemas diff"
                f" {contract.name}`, delete that version in the registry, register again"
            )
        return UUID(version_id)

    def _version(self, contract: Contract, number: int) -> dict[str, Any] | None:
        """A version by the registry's number; None when it was deleted or refused."""
        answer = self._await_status(
            f"look up version {number} of {contract.subject}",
            lambda: self._client.get_schema_version(
                SchemaId=self._schema_id(contract), SchemaVersionNumber={"VersionNumber": number}
            ),
        )
        return answer if answer is not None and answer["Status"] == "AVAILABLE" else None

    def _await_status(
        self, what: str, request: Callable[[], dict[str, Any]]
    ) -> dict[str, Any] | None:
        deadline = self._clock.monotonic() + PENDING_SECONDS
        for backoff in _backoffs():
            answer = self._call(what, request, absent=(_NOT_FOUND,))
            if (
                answer is None
                or answer["Status"] != "PENDING"
                or self._clock.monotonic() > deadline
            ):
                return answer
            self._clock.sleep(backoff)
        raise AssertionError("backoffs never end")

    def _schema(self, contract: Contract) -> dict[str, Any] | None:
        return self._call(
            f"look up {contract.subject}",
            lambda: self._client.get_schema(SchemaId=self._schema_id(contract)),
            absent=(_NOT_FOUND,),
        )

    def _schema_id(self, contract: Contract) -> dict[str, str]:
        return {"RegistryName": self.registry_name, "SchemaName": contract.subject}

    def _call(
        self,
        what: str,
        request: Callable[[], _T],
        absent: tuple[str, ...] = (),
        attempts: int | None = MAX_CALL_ATTEMPTS,
    ) -> _T | None:
        """Make a request; None for the error codes in ``absent``.

        Transient errors are retried ``attempts`` times, None: for ever. Raises RegistryError.
        """
        for attempt, backoff in enumerate(_backoffs(), start=1):
            try:
                return request()
            except botocore.exceptions.ClientError as error:
                code = str(error.response.get("Error", {}).get("Code", ""))
                if code in absent:
                    return None
                if not _is_transient(error, code):
                    raise RegistryError(
                        f"cannot {what}: the registry at {self._endpoint} answers {code}:"
                        f" {error.response.get('Error', {}).get('Message', '')}"
                    ) from error
                problem: Exception = error
            except _TRANSIENT_ERRORS as error:
                problem = error
            except botocore.exceptions.BotoCoreError as error:
                raise RegistryError(f"cannot {what}: {error}") from error
            if attempts is not None and attempt >= attempts:
                raise RegistryError(
                    f"cannot {what}: the registry at {self._endpoint} does not answer, tried"
                    f" {attempt} times ({problem}). Is it up? Locally: `tunemesh status`"
                ) from problem
            # A job that stands still must say why; a command says it in its one error.
            level = logging.WARNING if attempts is None else logging.INFO
            _log.log(level, "cannot %s (%d): %s; again in %g s", what, attempt, problem, backoff)
            self._clock.sleep(backoff)
        raise AssertionError("backoffs never end")

    @property
    def _endpoint(self) -> str:
        return str(self._client.meta.endpoint_url)


def _is_transient(error: botocore.exceptions.ClientError, code: str) -> bool:
    if code in _TRANSIENT_CODES:
        return True
    # A code that is only a status comes from something in between, such as a load balancer.
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return bool(status >= 500)


def _id_of(version: SchemaVersion, registered: list[RegisteredVersion]) -> UUID | None:
    """Id of a contract's version among the registered ones: the same JSON, whatever its spaces."""
    wanted = version.avro
    for one in registered:
        try:
            same = json.loads(one.definition) == wanted
        except ValueError:
            continue
        if same:
            return one.version_id
    return None


def _backoffs() -> itertools.chain[float]:
    """Seconds to wait before each further attempt: doubling, then the longest for ever."""
    doubling = []
    seconds = _FIRST_BACKOFF_SECONDS
    while seconds < _MAX_BACKOFF_SECONDS:
        doubling.append(seconds)
        seconds *= 2
    return itertools.chain(doubling, itertools.repeat(_MAX_BACKOFF_SECONDS))
