"""The registry client: waits for records in flight, gives up for commands, caches answers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import botocore.exceptions
import pytest

from connectors.aws.classification import CREDENTIAL_CODES
from connectors.glue import registry as module
from connectors.glue.registry import (
    MAX_CALL_ATTEMPTS,
    UNKNOWN_FOR_SECONDS,
    GlueRegistry,
    RegistryError,
)
from schemas.codec import RegisteredSchema, UnknownSchemaId
from schemas.model import load_contracts
from tests.support.clock import StoppedTime

SONGS = load_contracts()["songs"]
ID = UUID(int=1)
ARN = "arn:aws:glue:us-east-1:000000000000:schema/tunemesh/songs"


def failure(code: str, status: int = 400) -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError(
        {
            "Error": {"Code": code, "Message": "the reason"},
            "ResponseMetadata": {"HTTPStatusCode": status},
        },
        "GetSchemaVersion",
    )


UNREACHABLE = botocore.exceptions.EndpointConnectionError(endpoint_url="http://registry")
TRANSIENT: list[Exception] = [
    failure("ThrottlingException"),
    failure("InternalServiceException", 500),
    failure("503", 503),
    failure("429", 429),
    failure("TooManyRequestsOfSomeKind"),
    UNREACHABLE,
    botocore.exceptions.ReadTimeoutError(endpoint_url="http://registry"),
    botocore.exceptions.ConnectTimeoutError(endpoint_url="http://registry"),
    botocore.exceptions.ConnectionClosedError(endpoint_url="http://registry"),
]


def version(status: str = "AVAILABLE", arn: str = ARN, data_format: str = "AVRO") -> dict[str, Any]:
    return {
        "SchemaVersionId": str(ID),
        "SchemaDefinition": SONGS.newest.definition,
        "SchemaArn": arn,
        "DataFormat": data_format,
        "Status": status,
    }


class Client:
    """Answers get_schema_version from a list, the last answer indefinitely; exceptions are
    raised."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.meta = SimpleNamespace(endpoint_url="http://registry")

    def get_schema_version(self, **_: Any) -> dict[str, Any]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    get_schema = get_schema_by_definition = get_schema_version


def registry(client: Client, time: StoppedTime | None = None) -> GlueRegistry:
    time = time or StoppedTime()
    return GlueRegistry(client, "tunemesh", clock=time.clock)


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda error: type(error).__name__)
def test_a_record_waits_for_the_registry_however_long_it_takes(error: Exception) -> None:
    """500 failures, then an answer: the record is decoded, not a dead letter."""
    time = StoppedTime()
    client = Client(*[error] * 500, version())
    assert registry(client, time).by_id(ID.bytes).subject == "songs"
    assert client.asked == 501
    assert time.slept[:4] == [0.2, 0.4, 0.8, 1.6]
    assert max(time.slept) == 10.0


def test_a_job_that_waits_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """A pipeline that stands still without a word is the worst of outages."""
    registry(Client(UNREACHABLE, version())).by_id(ID.bytes)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(ID) in caplog.text


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda error: type(error).__name__)
def test_a_person_does_not_wait_for_ever(error: Exception) -> None:
    """A few attempts, then the address and what to look at."""
    time = StoppedTime()
    client = Client(error)
    with pytest.raises(RegistryError, match=r"http://registry .*, tried 5 times.*tunemesh status"):
        registry(client, time).registered_versions(SONGS)
    assert client.asked == MAX_CALL_ATTEMPTS
    assert sum(time.slept) < 5


OTHER = UUID(int=2)
REFUSALS = ["AccessDeniedException", "ValidationException", "GlueEncryptionException", "Unheard"]


class PerId(Client):
    """Refuses the ids of ``refused`` and answers for the others."""

    def __init__(self, refused: dict[UUID, Exception | dict[str, Any]]) -> None:
        super().__init__()
        self.refused = refused

    def get_schema_version(self, **request: Any) -> dict[str, Any]:
        self.asked += 1
        answer = self.refused.get(UUID(request["SchemaVersionId"]), version())
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("code", REFUSALS)
def test_an_id_that_alone_is_refused_is_unknown(code: str) -> None:
    """A record that names it is a dead letter; the others pass, and it is looked up once."""
    client = PerId({ID: failure(code)})
    glue = registry(client)
    glue.by_id(OTHER.bytes)
    for _ in range(3):
        with pytest.raises(UnknownSchemaId, match=code):
            glue.by_id(ID.bytes)
    assert glue.by_id(UUID(int=3).bytes).subject == "songs"
    assert client.asked == 4  # OTHER, ID, OTHER again to compare, the third


@pytest.mark.parametrize("code", REFUSALS)
def test_a_registry_that_refuses_every_id_is_no_records_fault(code: str) -> None:
    """The job stops with the service's own words."""
    client = PerId({OTHER: version()})
    glue = registry(client)
    glue.by_id(OTHER.bytes)
    client.refused = {ID: failure(code), OTHER: failure(code)}
    with pytest.raises(RegistryError, match=f"{code}: the reason"):
        glue.by_id(ID.bytes)
    client.refused = {}
    assert glue.by_id(ID.bytes).subject == "songs"


def test_a_version_that_is_gone_still_shows_that_the_registry_answers() -> None:
    """What is compared with need not be there any more."""
    client = PerId({OTHER: version()})
    glue = registry(client)
    glue.by_id(OTHER.bytes)
    denied, gone = failure("AccessDeniedException"), failure("EntityNotFoundException")
    client.refused = {ID: denied, OTHER: gone}
    with pytest.raises(UnknownSchemaId, match="AccessDeniedException"):
        glue.by_id(ID.bytes)


@pytest.mark.parametrize(
    "answer",
    [{}, {"Status": "AVAILABLE"}, version() | {"SchemaDefinition": None}, version("FAILURE")],
)
def test_an_answer_without_a_schema_is_an_unknown_id(answer: dict[str, Any]) -> None:
    """Whatever else it has or lacks."""
    with pytest.raises(UnknownSchemaId):
        registry(Client(answer)).by_id(ID.bytes)


@pytest.mark.parametrize(
    ("answer", "subject"),
    [
        # Records of a version that is being deleted are in the topics.
        (version("DELETING"), "songs"),
        # Ids are unique in the account; names only within a registry.
        (version(arn=ARN.replace("tunemesh", "staging")), "staging/songs"),
        (version(data_format="JSON"), None),
        *((version(arn=arn), None) for arn in ("", "songs", "arn:aws:glue:us-east-1:0:schema/a")),
    ],
)
def test_the_subject_of_a_version(answer: dict[str, Any], subject: str | None) -> None:
    """A record that names a version of another schema is a dead letter."""
    found = registry(Client(answer)).by_id(ID.bytes).subject
    assert found == subject if subject else found != "songs"


@pytest.mark.parametrize(
    "error",
    [
        *map(failure, sorted(CREDENTIAL_CODES)),
        botocore.exceptions.NoCredentialsError(),
        botocore.exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET"),
        botocore.exceptions.CredentialRetrievalError(provider="sts", error_msg="not now"),
    ],
    ids=str,
)
def test_credentials_that_are_being_rotated_are_read_again_and_waited_for(
    error: Exception,
) -> None:
    """The record waits, however long that takes."""
    clients = [Client(error) for _ in range(8)] + [Client(version())]
    if isinstance(error, botocore.exceptions.CredentialRetrievalError):
        clients = [Client(error, error, version())]  # the same chain tries again
    following = iter(clients[1:])
    glue = GlueRegistry(
        clients[0], "tunemesh", StoppedTime().clock, create_client=lambda: next(following)
    )
    assert glue.by_id(ID.bytes).subject == "songs"
    assert next(following, None) is None


def test_credentials_that_cannot_be_read_yet_are_waited_for() -> None:
    """A profile's file may be half written."""
    answers: list[Exception | Client] = [
        botocore.exceptions.ProfileNotFound(profile="mesh"),
        Client(version()),
    ]

    def create_client() -> Client:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    refused = Client(failure("UnrecognizedClientException"))
    glue = GlueRegistry(refused, "tunemesh", StoppedTime().clock, create_client=create_client)
    assert glue.by_id(ID.bytes).subject == "songs"
    assert refused.asked == 2


@pytest.mark.parametrize("error", [UNREACHABLE, botocore.exceptions.NoCredentialsError()])
def test_a_start_waits_for_the_registry_for_the_time_that_was_set(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Minutes instead of seconds; it says what it waits for, and then why it gives up."""
    time = StoppedTime()
    glue = GlueRegistry(Client(*[error] * 20, version()), clock=time.clock, wait_seconds=300)
    assert glue.version_id(SONGS) == ID
    assert 100 < time.seconds < 300
    assert "look up songs: the registry at http://registry" in caplog.records[0].getMessage()
    time = StoppedTime()
    glue = GlueRegistry(Client(error), clock=time.clock, wait_seconds=300)
    with pytest.raises(RegistryError, match=r"http://registry .* in 3\d\d s.*tunemesh status"):
        glue.version_id(SONGS)


def test_a_version_that_is_never_checked_delays_its_records_once() -> None:
    """After a minute it is unknown; later records that name it do not wait for another minute."""
    time = StoppedTime()
    glue = registry(Client(version("PENDING")), time)
    for expected in (60, 0):
        before = time.seconds
        with pytest.raises(UnknownSchemaId, match="PENDING"):
            glue.by_id(ID.bytes)
        assert expected <= time.seconds - before < expected + 10
        time.seconds += UNKNOWN_FOR_SECONDS


CREATED_MS = 1_795_000_000_000


class Versions(Client):
    """A schema with numbered versions, some of which are gone."""

    def __init__(self, *definitions: str | None, schema: dict[str, Any] | Exception) -> None:
        super().__init__(schema)
        self.definitions = definitions

    def get_schema(self, **_: Any) -> dict[str, Any]:
        return super().get_schema_version()

    def get_schema_version(self, **request: Any) -> dict[str, Any]:
        definition = self.definitions[request["SchemaVersionNumber"]["VersionNumber"] - 1]
        if definition is None:
            raise failure("EntityNotFoundException")
        created = "2026-11-18T11:06:40.000Z"
        return version() | {"SchemaDefinition": definition, "CreatedTime": created}


ONE = {"LatestSchemaVersion": 1, "NextSchemaVersion": 2}
NEWEST = SONGS.newest.definition


@pytest.mark.parametrize(
    ("client", "published_ms", "lost"),
    [
        (Versions(NEWEST, schema=ONE), CREATED_MS, False),
        (Versions(NEWEST, schema=ONE), CREATED_MS - 1, True),
        (Versions(schema=failure("EntityNotFoundException")), CREATED_MS, True),
        (Versions(NEWEST, None, schema=ONE | {"NextSchemaVersion": 3}), CREATED_MS, True),
        (Versions(None, NEWEST, schema=ONE | {"NextSchemaVersion": 3}), CREATED_MS, True),
        (Versions('"string"', schema=ONE), CREATED_MS, True),
        # Without the permission to ask nothing shows it.
        (Versions(schema=failure("AccessDeniedException")), 0, False),
        (Versions(schema={}), 0, False),
    ],
)
def test_what_shows_that_a_version_may_be_gone(
    client: Versions, published_ms: int, lost: bool
) -> None:
    """A missing schema or number, a version that is not there, a record older than the schema."""
    assert registry(client).has_lost(SONGS, published_ms) is lost


def test_whether_a_version_is_gone_is_asked_once_a_minute() -> None:
    """However many records name an unknown id."""
    time, client = StoppedTime(), Versions(NEWEST, schema=ONE)
    glue = registry(client, time)
    for asked in (1, 1, 2):
        assert not glue.has_lost(SONGS, CREATED_MS)
        assert client.asked == asked
        time.seconds += UNKNOWN_FOR_SECONDS / 2


def test_known_versions_are_not_looked_up() -> None:
    """Those of the settings, and those whose ids were looked up by their definitions."""
    schema = RegisteredSchema("songs", NEWEST)
    client = Client(version())
    glue = GlueRegistry(client, known={OTHER.bytes: schema})
    assert glue.by_id(OTHER.bytes) is schema
    assert glue.version_id(SONGS) == ID
    assert glue.by_id(ID.bytes) == schema
    assert client.asked == 1


def test_absent_credentials_are_told_in_one_line() -> None:
    """Not a traceback from botocore."""
    with pytest.raises(RegistryError, match="Unable to locate credentials"):
        registry(Client(botocore.exceptions.NoCredentialsError())).registered_versions(SONGS)


def test_a_found_version_is_never_asked_for_again() -> None:
    """A version does not change."""
    client = Client(version())
    glue = registry(client)
    assert {glue.by_id(ID.bytes) for _ in range(3)} == {
        RegisteredSchema("songs", SONGS.newest.definition)
    }
    assert client.asked == 1


@pytest.mark.parametrize("code", ["EntityNotFoundException", "InvalidInputException"])
def test_an_unknown_id_is_asked_for_once_a_minute(code: str) -> None:
    """It may be registered meanwhile; then it is found."""
    time, client = StoppedTime(), Client(failure(code), version())
    glue = registry(client, time)
    for _ in range(3):
        with pytest.raises(UnknownSchemaId):
            glue.by_id(ID.bytes)
    assert client.asked == 1
    time.seconds += UNKNOWN_FOR_SECONDS
    assert glue.by_id(ID.bytes).subject == "songs"


def test_unknown_ids_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Malformed records may carry a new one each: the oldest is dropped."""
    monkeypatch.setattr(module, "MAX_UNKNOWN_IDS", 3)
    client = Client(failure("EntityNotFoundException"))
    glue = registry(client)
    for number in (1, 2, 3, 4, 4, 3, 2):
        with pytest.raises(UnknownSchemaId):
            glue.by_id(UUID(int=number).bytes)
    assert client.asked == 4
    with pytest.raises(UnknownSchemaId):
        glue.by_id(UUID(int=1).bytes)
    assert client.asked == 5


def test_a_pending_version_is_waited_for() -> None:
    """Glue checks a new version for a second or two."""
    client = Client(version("PENDING"), version("PENDING"), version())
    assert registry(client).by_id(ID.bytes).subject == "songs"
    assert client.asked == 3


def test_many_threads_ask_once() -> None:
    """The subtasks of a thread-mode worker share a registry."""
    entered = threading.Barrier(8)

    class Slow(Client):
        def get_schema_version(self, **_: Any) -> dict[str, Any]:
            threading.Event().wait(0.05)
            return super().get_schema_version()

    client = Slow(version())
    glue = registry(client)

    def ask() -> RegisteredSchema:
        entered.wait()
        return glue.by_id(ID.bytes)

    with ThreadPoolExecutor(8) as pool:
        assert len({found.result() for found in [pool.submit(ask) for _ in range(8)]}) == 1
    assert client.asked == 1


@pytest.mark.parametrize(
    ("status", "said"),
    [
        # After a minute the error has the version's id and state.
        ("PENDING", rf"version {ID} is PENDING"),
        # On AWS a version that its own check refuses is there, as FAILURE.
        ("FAILURE", r"is FAILURE.*schemas diff songs"),
    ],
)
def test_a_registration_without_an_available_version_is_an_error(status: str, said: str) -> None:
    """It does not wait indefinitely for Glue's check."""

    class Empty(Client):
        def get_schema(self, **_: Any) -> dict[str, Any]:
            raise failure("EntityNotFoundException")

        create_registry = create_schema = Client.get_schema_version

    with pytest.raises(RegistryError, match=said):
        registry(Empty(version(status))).register(SONGS)
