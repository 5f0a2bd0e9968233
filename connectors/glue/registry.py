"""The AWS Glue Schema Registry.

:meth:`GlueRegistry.by_id` serves records in flight: it waits until the registry answers, since a
record is not at fault when a server is down or credentials are being rotated. Whatever the registry
answers for one id alone makes that id unknown; a registry that refuses every id is an error. The
other methods serve the command line and the start of a job: they give up after a few attempts, or
after the time that was set, with an error that says what to do. All work against AWS and against
moto, which has neither ``list_schema_versions`` nor ``check_schema_version_validity``: versions are
walked by number.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import botocore.exceptions
import botocore.parsers

from connectors.aws.classification import (
    CREDENTIAL_CODES,
    TRANSIENT_CODES,
    is_like_throttling,
)
from connectors.aws.sdk import error_code, sdk_client
from connectors.clock import SYSTEM_CLOCK, Clock, growing_waits
from schemas.codec import RegisteredSchema, SchemaLookup, UnknownSchemaId
from schemas.compatibility import incompatibilities
from schemas.errors import TunemeshError
from schemas.model import Contract, SchemaVersion
from schemas.timestamps import epoch_ms

UNKNOWN_FOR_SECONDS = 60.0
"""How long an unknown id is not looked up again: it may be registered meanwhile."""

MAX_UNKNOWN_IDS = 10_000
"""Unknown ids that are remembered; malformed records may carry a new one each."""

PENDING_SECONDS = 60.0
"""How long a registration waits for Glue's own check, which takes a second or two."""

MAX_CALL_ATTEMPTS = 5
"""Attempts of a call that a person waits for; 3 seconds of waits in all."""

# Of Glue itself.
_TRANSIENT_CODES = TRANSIENT_CODES | {
    "ConcurrentModificationException",
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


class NotRegistered(RegistryError):
    """The registry does not have a contract's schema version."""


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
        *,
        create_client: Callable[[], Any] | None = None,
        known: Mapping[bytes, RegisteredSchema] | None = None,
        wait_seconds: float = 0.0,
    ) -> None:
        """Use a client; makes no request.

        ``create_client`` returns one with the credentials of now, for when they are refused.
        ``known`` are schema versions by their 16-byte ids that are not looked up. ``wait_seconds``:
        how long a call that is not for a record waits for a registry that does not answer.
        """
        self.registry_name = registry_name
        self._client = client
        self._clock = clock
        self._create_client = create_client
        self._renewal = threading.Lock()
        self._wait_seconds = wait_seconds
        self._known: dict[bytes, RegisteredSchema] = dict(known or {})
        self._unknown: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._unknown_lock = threading.Lock()
        self._pending: set[bytes] = set()
        # One request for an id however many threads need it; few ids wait for each other.
        self._lookups = tuple(threading.Lock() for _ in range(16))
        self._complete: dict[str, tuple[float, int | None]] = {}
        self._complete_lock = threading.Lock()
        self._logged_losses: set[str] = set()

    @classmethod
    def connect(
        cls,
        region: str,
        endpoint_url: str | None = None,
        registry_name: str = "tunemesh",
        *,
        known: Mapping[bytes, RegisteredSchema] | None = None,
        wait_seconds: float = 0.0,
    ) -> GlueRegistry:
        """The registry of that name, by :func:`connectors.aws.sdk.sdk_client`; makes no request."""

        def create_client() -> Any:
            return sdk_client(
                "glue",
                region,
                endpoint_url,
                connect_timeout=3,
                read_timeout=10,
                retries={"total_max_attempts": 1, "mode": "standard"},  # repeated by _call
            )

        return cls(
            create_client(),
            registry_name,
            create_client=create_client,
            known=known,
            wait_seconds=wait_seconds,
        )

    # For records in flight.

    def by_id(self, version_id: bytes) -> RegisteredSchema:
        """The schema version of a 16-byte id.

        Blocks while the registry cannot be reached, throttles or refuses the credentials,
        indefinitely if need be; credentials are read again meanwhile. A version never changes, so
        it is looked up once; an unknown id is looked up again after a minute. ``subject`` is the
        schema's name, and ``registry/name`` when it is of another registry.

        Raises UnknownSchemaId for an id that the registry does not have, or refuses while it
        answers for others; RegistryError when it refuses every id: that is no record's fault.
        """
        schema = self._known.get(version_id)
        if schema is not None:
            return schema
        with self._lookups[version_id[-1] % len(self._lookups)]:
            schema = self._known.get(version_id)
            if schema is not None:
                return schema
            if (why := self._unknown_why(version_id)) is not None:
                raise UnknownSchemaId(why)
            try:
                schema = self._known[version_id] = self._look_up(version_id)
            except UnknownSchemaId as error:
                self._remember_unknown(version_id, str(error))
                raise
            return schema

    def _look_up(self, version_id: bytes) -> RegisteredSchema:
        text = str(UUID(bytes=version_id))
        try:
            answer = self._settled(
                f"look up schema version {text}",
                lambda: self._client.get_schema_version(SchemaVersionId=text),
                # The id is all that can be invalid in this request.
                absent=(_NOT_FOUND, "InvalidInputException"),
                indefinitely=True,
                pending_seconds=0.0 if version_id in self._pending else PENDING_SECONDS,
            )
        except RegistryError as error:
            if self._answers_for_others(version_id):
                raise UnknownSchemaId(f"the registry refuses it ({_code_of(error)})") from error
            raise
        return self._schema_of(version_id, answer or {})

    def _schema_of(self, version_id: bytes, answer: Mapping[str, Any]) -> RegisteredSchema:
        """The schema in an answer of GetSchemaVersion; raises UnknownSchemaId without one."""
        status, definition = answer.get("Status"), answer.get("SchemaDefinition")
        if status == "PENDING":
            self._pending.add(version_id)
        if status in ("PENDING", "FAILURE") or not definition:
            raise UnknownSchemaId("" if status is None else f"its version is {status}")
        arn, data_format = str(answer.get("SchemaArn")), answer.get("DataFormat", "AVRO")
        if data_format != "AVRO":
            return RegisteredSchema(f"{arn} ({data_format})", "null")
        # arn:aws:glue:REGION:ACCOUNT:schema/REGISTRY/NAME
        registry, _, name = arn.rpartition(":")[2].removeprefix("schema/").partition("/")
        subject = name if registry == self.registry_name else f"{registry}/{name}"
        return RegisteredSchema(subject, str(definition))

    def _answers_for_others(self, version_id: bytes) -> bool:
        """Whether the registry answers for an id that was known before, if only that it is gone."""
        other = next((known for known in reversed(list(self._known)) if known != version_id), None)
        if other is None:
            return False
        text = str(UUID(bytes=other))
        try:
            self._call(
                f"look up schema version {text}",
                lambda: self._client.get_schema_version(SchemaVersionId=text),
                absent=(_NOT_FOUND,),
                indefinitely=True,
            )
        except RegistryError:
            return False
        return True

    def has_lost(self, contract: Contract, published_ms: float) -> bool:
        """See :class:`schemas.codec.SchemaLookup`.

        So it may be where the schema or one of its numbers is gone, where one of the contract's
        versions is not registered, and for a record that is older than the schema. Blocks as
        :meth:`by_id` does; a result is used for a minute.
        """
        with self._complete_lock:
            known = self._complete.get(contract.name)
            if known is None or self._clock.monotonic() - known[0] >= UNKNOWN_FOR_SECONDS:
                known = self._clock.monotonic(), self._complete_since(contract)
                self._complete[contract.name] = known
        if known[1] is not None and published_ms >= known[1]:
            return False
        if contract.name not in self._logged_losses:
            self._logged_losses.add(contract.name)
            _log.warning(
                "the registry %r may have lost versions of %s: records that were written with them"
                " are read by the definitions of the contract",
                self.registry_name,
                contract.subject,
            )
        return True

    def _complete_since(self, contract: Contract) -> int | None:
        """Epoch milliseconds since which the registry has had each version; None: one is gone."""
        try:
            schema = self._schema(contract, indefinitely=True)
            if schema is None:
                return None
            latest = int(schema["LatestSchemaVersion"])
            answers = [
                self._call(
                    f"look up version {number} of {contract.subject}",
                    partial(self._request_version, contract, number),
                    absent=(_NOT_FOUND,),
                    indefinitely=True,
                )
                for number in range(1, int(schema.get("NextSchemaVersion", latest + 1)))
            ]
            versions = [
                RegisteredVersion(
                    number, UUID(answer["SchemaVersionId"]), str(answer["SchemaDefinition"])
                )
                for number, answer in enumerate(answers, 1)
                if answer is not None
            ]
            complete = len(versions) == len(answers) and all(
                _id_of(version, versions) is not None for version in contract.versions
            )
            first = answers[0] if answers else None
            return None if first is None or not complete else epoch_ms(str(first["CreatedTime"]))
        except (RegistryError, LookupError, TypeError, ValueError) as error:
            # Without the permission to ask, or with another answer than Glue's, nothing shows that
            # a version is gone.
            _log.warning("cannot check whether %s is complete: %s", contract.subject, error)
            return 0

    def _unknown_why(self, version_id: bytes) -> str | None:
        with self._unknown_lock:
            since, why = self._unknown.get(version_id, (0.0, None))
            return why if self._clock.monotonic() - since < UNKNOWN_FOR_SECONDS else None

    def _remember_unknown(self, version_id: bytes, why: str) -> None:
        with self._unknown_lock:
            self._unknown[version_id] = self._clock.monotonic(), why
            self._unknown.move_to_end(version_id)
            while len(self._unknown) > MAX_UNKNOWN_IDS:
                self._unknown.popitem(last=False)

    # For people and for the start of a job.

    def version_id(self, contract: Contract, number: int | None = None) -> UUID:
        """Id of a contract's schema version (the newest by default), by its definition.

        Raises NotRegistered, RegistryError.
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
            known: UUID | None = UUID(answer["SchemaVersionId"])
        else:
            # Registered with other white space by another tool, or not checked by Glue yet.
            known = _id_of(version, self.registered_versions(contract))
        if known is None:
            raise NotRegistered(
                f"{contract.name}.v{version.number} is not registered in {self.registry_name!r};"
                " run `tunemesh schemas register`"
            )
        self._known.setdefault(known.bytes, RegisteredSchema(contract.subject, version.definition))
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
            partial(self._request_version, contract, number),
        )
        return answer if answer is not None and answer["Status"] == "AVAILABLE" else None

    def _request_version(self, contract: Contract, number: int) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.get_schema_version(
            SchemaId=self._schema_id(contract), SchemaVersionNumber={"VersionNumber": number}
        )
        return answer

    def _settled(
        self,
        what: str,
        request: Callable[[], dict[str, Any]],
        absent: tuple[str, ...] = (_NOT_FOUND,),
        *,
        indefinitely: bool = False,
        pending_seconds: float = PENDING_SECONDS,
    ) -> dict[str, Any] | None:
        """A schema version after Glue's check, or as it is after a minute; None when absent."""
        deadline = self._clock.monotonic() + pending_seconds
        for wait in _waits():
            answer = self._call(what, request, absent, indefinitely=indefinitely)
            if answer is None or answer.get("Status") != "PENDING":
                return answer
            if self._clock.monotonic() >= deadline:
                return answer
            self._log_wait(what, "still checks it", wait, indefinitely)
        raise AssertionError("waits do not end")

    def _schema(self, contract: Contract, *, indefinitely: bool = False) -> dict[str, Any] | None:
        return self._call(
            f"look up {contract.subject}",
            lambda: self._client.get_schema(SchemaId=self._schema_id(contract)),
            absent=(_NOT_FOUND,),
            indefinitely=indefinitely,
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

        Transient errors and refused credentials, which are read again, are retried:
        ``indefinitely``, or MAX_CALL_ATTEMPTS times and for as long as the registry is waited for.
        Raises RegistryError.
        """
        started = self._clock.monotonic()
        for attempt, wait in enumerate(_waits(), start=1):
            client = self._client
            try:
                return request()
            except botocore.exceptions.ClientError as error:
                code = error_code(error)
                if code in absent:
                    return None
                answer = f"answers {code}: {error.response.get('Error', {}).get('Message', '')}"
                if code in CREDENTIAL_CODES:
                    self._renew(client)
                elif not _is_transient(error, code):
                    raise RegistryError(
                        f"cannot {what}: the registry at {self._endpoint} {answer}"
                    ) from error
                problem: Exception = error
            except _TRANSIENT_ERRORS as error:
                answer, problem = f"does not answer ({error})", error
            except botocore.exceptions.BotoCoreError as error:
                # Of the credential chain.
                if not indefinitely and not self._wait_seconds:
                    raise RegistryError(f"cannot {what}: {error}") from error
                answer, problem = f"cannot be called ({error})", error
                self._renew(client)
            waited = self._clock.monotonic() - started
            tried_enough = attempt >= MAX_CALL_ATTEMPTS and waited >= self._wait_seconds
            if tried_enough and not indefinitely:
                raise RegistryUnavailable(
                    f"cannot {what}: the registry at {self._endpoint} {answer}, tried {attempt}"
                    f" times in {waited:.0f} s. Is it up? Locally: `tunemesh status`"
                ) from problem
            self._log_wait(what, answer, wait, indefinitely)
        raise AssertionError("waits do not end")

    def _renew(self, refused: Any) -> None:
        """Replace a client whose credentials were refused by one with those of now."""
        with self._renewal:
            if self._client is not refused or self._create_client is None:
                return
            try:
                self._client = self._create_client()
            except botocore.exceptions.BotoCoreError as error:
                # A file that is being written, or a profile that is not there yet.
                _log.warning("cannot read the AWS credentials: %s", error)

    def _log_wait(self, what: str, answer: str, seconds: float, indefinitely: bool) -> None:
        # A job that does not start or stands still must say why; a command does in its one error.
        level = logging.WARNING if indefinitely or self._wait_seconds else logging.INFO
        _log.log(
            level,
            "cannot %s: the registry at %s %s; again in %g s",
            what,
            self._endpoint,
            answer,
            seconds,
        )
        self._clock.sleep(seconds)

    @property
    def _endpoint(self) -> str:
        return str(self._client.meta.endpoint_url)


def _waits() -> Iterator[float]:
    return growing_waits(0.2, 10.0, 2.0)


def _is_transient(error: botocore.exceptions.ClientError, code: str) -> bool:
    # A code that is only a status comes from something in between, such as a load balancer.
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return (
        code in _TRANSIENT_CODES
        or is_like_throttling(code)
        or status in (408, 429)
        or status >= 500
    )


def _code_of(error: RegistryError) -> str:
    cause = error.__cause__
    return error_code(cause) if isinstance(cause, botocore.exceptions.ClientError) else str(cause)


def _id_of(version: SchemaVersion, registered: list[RegisteredVersion]) -> UUID | None:
    """Id of a contract's version among the registered ones: the same JSON, whatever its spaces."""
    wanted = version.avro
    for candidate in registered:
        with contextlib.suppress(ValueError):
            if json.loads(candidate.definition) == wanted:
                return candidate.version_id
    return None
