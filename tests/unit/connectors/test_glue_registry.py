"""The registry client: waits for records in flight, gives up for commands, caches answers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import botocore.exceptions
import pytest

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
    with pytest.raises(RegistryError, match=r"http://registry does not answer.*tunemesh status"):
        registry(client, time).registered_versions(SONGS)
    assert client.asked == MAX_CALL_ATTEMPTS
    assert sum(time.slept) < 5


@pytest.mark.parametrize("code", ["AccessDeniedException", "UnrecognizedClientException"])
def test_denied_access_is_neither_waited_for_nor_the_records_fault(code: str) -> None:
    """The job stops with the service's own words."""
    client = Client(failure(code))
    with pytest.raises(RegistryError, match=f"{code}: the reason"):
        registry(client).by_id(ID.bytes)
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


def test_a_version_that_glue_refused_is_unknown() -> None:
    """A record that claims it is a dead letter, not a reason to stop."""
    with pytest.raises(UnknownSchemaId):
        registry(Client(version("FAILURE"))).by_id(ID.bytes)


def test_a_schema_of_another_registry_or_format_is_not_taken_for_ours() -> None:
    """Ids are unique in the account; names only within a registry."""
    foreign = version(arn=ARN.replace("tunemesh", "staging"))
    assert registry(Client(foreign)).by_id(ID.bytes).subject == "staging/songs"
    assert registry(Client(version(data_format="JSON"))).by_id(ID.bytes).subject != "songs"


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
