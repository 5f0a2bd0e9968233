"""The AWS Glue Schema Registry.

:meth:`GlueRegistry.by_id` serves records in flight: it waits until the registry answers, since a
record is not at fault when a server is down. The other methods serve the command line and the start
of a job: they give up after a few attempts with an error that says what to do. All work against AWS
and against moto, which has neither ``list_schema_versions`` nor ``check_schema_version_validity``:
versions are walked by number.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import botocore.exceptions
import botocore.parsers

from connectors.aws.classification import TRANSIENT_CODES
from connectors.aws.sdk import error_code, sdk_client
from connectors.clock import SYSTEM_CLOCK, Clock, growing_waits
from schemas.codec import RegisteredSchema, SchemaLookup, UnknownSchemaId
from schemas.compatibility import incompatibilities
from schemas.errors import TunemeshError
from schemas.model import Contract, SchemaVersion

UNKNOWN_FOR_SECONDS = 60.0
"""How long an unknown id is not looked up again: it may be registered meanwhile."""

MAX_UNKNOWN_IDS = 10_000
"""Unknown ids that are remembered; malformed records may carry a new one each."""

PENDING_SECONDS = 60.0
"""How long a registration waits for Glue's own check, which takes a second or two."""

MAX_CALL_ATTEMPTS = 5
"""Attempts of a call that a person waits for; 3 seconds of waits in all."""

# Of Glue itself; ExpiredToken: the credentials of a long-running job are being renewed.
_TRANSIENT_CODES = TRANSIENT_CODES | {
    "ConcurrentModificationException",
    "ExpiredToken",
    "ExpiredTokenException",
    "OperationTimeoutException",
}
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


class RegistryUnavailable(RegistryError):
    """The registry does not answer; a later attempt may succeed."""


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
        self._known: dict[bytes, RegisteredSchema] = {}
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._unknown_lock = threading.Lock()
        # One request for an id however many threads need it; few ids wait for each other.
        self._lookups = tuple(threading.Lock() for _ in range(16))

    @classmethod
    def connect(
        cls, region: str, endpoint_url: str | None = None, registry_name: str = "tunemesh"
    ) -> GlueRegistry:
        """The registry of that name, by :func:`connectors.aws.sdk.sdk_client`; makes no request."""
        client = sdk_client(
            "glue",
            region,
            endpoint_url,
            connect_timeout=3,
            read_timeout=10,
            retries={"total_max_attempts": 1, "mode": "standard"},  # repeated by _call
        )
        return cls(client, registry_name)

    # For records in flight.

    def by_id(self, version_id: bytes) -> RegisteredSchema:
        """The schema version of a 16-byte id.

        Blocks while the registry cannot be reached or throttles, indefinitely if need be. A version
        never changes, so it is looked up once; an unknown id is looked up again after a minute.
        ``subject`` is the schema's name, and ``registry/name`` when it is of another registry.
        Raises UnknownSchemaId, and RegistryError when access is denied: that is no record's fault.
        """
        schema = self._known.get(version_id)
        if schema is not None:
            return schema
        with self._lookups[version_id[-1] % len(self._lookups)]:
            schema = self._known.get(version_id)
            if schema is None and not self._is_known_as_unknown(version_id):
                schema = self._look_up(version_id)
                if schema is None:
                    self._remember_unknown(version_id)
                else:
                    self._known[version_id] = schema
            if schema is None:
                raise UnknownSchemaId(str(UUID(bytes=version_id)))
            return schema

    def _look_up(self, version_id: bytes) -> RegisteredSchema | None:
        text = str(UUID(bytes=version_id))
        answer = self._settled(
            f"look up schema version {text}",
            lambda: self._client.get_schema_version(SchemaVersionId=text),
            # The id is all that can be invalid in this request.
            absent=(_NOT_FOUND, "InvalidInputException"),
            indefinitely=True,
        )
        if answer is None or answer["Status"] == "FAILURE":
            return None
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
        # Registered with other white space by another tool, or not checked by Glue yet.
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
        written; registry and schema are created when absent. Doing it again changes nothing.
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
            faults = incompatibilities(contract.compatibility, version.definition, history)
            if faults:
                raise RegistryError(
                    f"{contract.name}.v{version.number} is not {contract.compatibility}"
                    f" compatible with what {self.registry_name!r} holds, nothing was"
                    f" registered: {'; '.join(faults)}"
                )
            history.append(version.definition)

    def _add(self, contract: Contract, version: SchemaVersion) -> UUID:
        what = f"register {contract.name}.v{version.number}"
        schema = self._schema(contract)
        if schema is None:
            self._call(
                f"create the registry {self.registry_name}",
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
                # Another process was faster: then it is one more version of its schema.
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
        answer = self._settled(
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
        answer = self._settled(
            f"look up version {number} of {contract.subject}",
            lambda: self._client.get_schema_version(
                SchemaId=self._schema_id(contract), SchemaVersionNumber={"VersionNumber": number}
            ),
        )
        return answer if answer is not None and answer["Status"] == "AVAILABLE" else None

    def _settled(
        self,
        what: str,
        request: Callable[[], dict[str, Any]],
        absent: tuple[str, ...] = (_NOT_FOUND,),
        *,
        indefinitely: bool = False,
    ) -> dict[str, Any] | None:
        """A schema version after Glue's check, or as it is after a minute; None when absent."""
        deadline = self._clock.monotonic() + PENDING_SECONDS
        for wait in _waits():
            answer = self._call(what, request, absent, indefinitely=indefinitely)
            if answer is None or answer["Status"] != "PENDING":
                return answer
            if not indefinitely and self._clock.monotonic() > deadline:
                return answer
            self._log_wait(what, "the registry still checks it", wait, indefinitely)
        raise AssertionError("waits do not end")

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
        *,
        indefinitely: bool = False,
    ) -> _T | None:
        """Make a request; None for the error codes in ``absent``.

        Transient errors are retried, ``indefinitely`` or MAX_CALL_ATTEMPTS times. Raises
        RegistryError.
        """
        for attempt, wait in enumerate(_waits(), start=1):
            try:
                return request()
            except botocore.exceptions.ClientError as error:
                code = error_code(error)
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
            if attempt >= MAX_CALL_ATTEMPTS and not indefinitely:
                raise RegistryUnavailable(
                    f"cannot {what}: the registry at {self._endpoint} does not answer, tried"
                    f" {attempt} times ({problem}). Is it up? Locally: `tunemesh status`"
                ) from problem
            self._log_wait(what, str(problem), wait, indefinitely)
        raise AssertionError("waits do not end")

    def _log_wait(self, what: str, why: str, seconds: float, indefinitely: bool) -> None:
        # A job that stands still must say why; a command says it in its one error.
        level = logging.WARNING if indefinitely else logging.INFO
        _log.log(level, "cannot %s: %s; again in %g s", what, why, seconds)
        self._clock.sleep(seconds)

    @property
    def _endpoint(self) -> str:
        return str(self._client.meta.endpoint_url)


def _waits() -> Iterator[float]:
    return growing_waits(0.2, 10.0, 2.0)


def _is_transient(error: botocore.exceptions.ClientError, code: str) -> bool:
    # A code that is only a status comes from something in between, such as a load balancer.
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code in _TRANSIENT_CODES or status >= 500


def _id_of(version: SchemaVersion, registered: list[RegisteredVersion]) -> UUID | None:
    """Id of a contract's version among the registered ones: the same JSON, whatever its spaces."""
    wanted = version.avro
    for candidate in registered:
        with contextlib.suppress(ValueError):
            if json.loads(candidate.definition) == wanted:
                return candidate.version_id
    return None
