"""The imports' own rules: names, attempts, outputs, patience. The service is in the integration
tests."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from batch.imports.calls import Calls, Pace
from batch.imports.errors import ImportsError, ServiceRefused
from batch.imports.output import read_output
from batch.imports.plan import (
    Attempt,
    DatasetSchemas,
    DatasetType,
    ImportSettings,
    Mode,
    find_usable,
    next_name,
)
from batch.imports.states import Waiting
from tests.support.clock import StoppedTime

ROLE = "arn:aws:iam::000000000000:role/r"
SCHEMA = '{"name": "Users", "fields": []}'


def attempt(name: str, status: str, at: float) -> Attempt:
    return Attempt(name, f"arn:{name}", status, at)


def refusal(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


class Answers:
    """A client whose one operation answers, or raises, one after the other."""

    def __init__(self, *answers: object) -> None:
        self._answers: Iterator[object] = iter(answers)

    def operation(self, **members: Any) -> object:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def calls(time: StoppedTime, *answers: object, **pace: float) -> Calls:
    return Calls(Answers(*answers), Pace(**pace), time.clock)


def test_names_follow_from_settings_and_content() -> None:
    """The same again, however the schema was written; another schema or content is another name."""
    settings = ImportSettings(role_arn=ROLE, name="a" * 24)
    spaced = json.dumps(json.loads(SCHEMA), indent=2)
    name = settings.schema_name(DatasetType.INTERACTIONS, SCHEMA)
    assert name == settings.schema_name(DatasetType.INTERACTIONS, spaced)
    assert name != settings.schema_name(DatasetType.INTERACTIONS, '{"name": "Items"}')
    prefix = settings.job_prefix(DatasetType.INTERACTIONS, "0123456789ab")
    assert settings.version_prefix(["b", "a"]) == settings.version_prefix(["a", "b"])
    assert settings.version_prefix(["a"]) != settings.version_prefix(["b"])
    longest = (name, f"{prefix}999", f"{settings.version_prefix(['a'])}999")
    assert max(map(len, longest)) <= 63


@pytest.mark.parametrize("name", ["", "-a", "a b", "a" * 25, "ä"])
def test_a_name_that_cannot_be_used_is_refused(name: str) -> None:
    """Before anything is asked of the service."""
    with pytest.raises(ImportsError, match="24 at most"):
        ImportSettings(role_arn=ROLE, name=name)


def test_what_was_attempts_is_gone_on_with() -> None:
    """Under way or done; not what has failed, and not another content's."""
    attempts = [attempt("x-1", "CREATE FAILED", 1), attempt("x-2", "CREATE IN_PROGRESS", 2)]
    found = find_usable(attempts, "x-", newest_only=True)
    assert found is not None
    assert found.name == "x-2"
    assert find_usable(attempts[:1], "x-", newest_only=True) is None
    assert find_usable(attempts, "y-", newest_only=True) is None


def test_a_full_import_counts_only_while_nothing_came_after_it() -> None:
    """An incremental one counts for good."""
    attempts = [attempt("x-1", "ACTIVE", 1), attempt("y-1", "ACTIVE", 2)]
    assert find_usable(attempts, "x-", newest_only=True) is None
    assert find_usable(attempts, "x-", newest_only=False) == attempts[0]
    failed_after = [attempts[0], attempt("y-1", "CREATE FAILED", 2)]
    assert find_usable(failed_after, "x-", newest_only=True) == attempts[0]


def test_the_next_attempt_has_the_next_number() -> None:
    """Names of failed ones are taken for good."""
    assert next_name([], "x-") == "x-1"
    attempts = [attempt(name, "CREATE FAILED", 1) for name in ("x-1", "x-10", "x-other", "y-30")]
    assert next_name(attempts, "x-") == "x-11"


def test_throttling_is_waited_out_less_and_less_often() -> None:
    """The pauses grow to a bound; an answer ends them."""
    time = StoppedTime()
    throttled = [refusal("ThrottlingException")] * 5
    made = calls(time, *throttled, {"found": 1}, first_poll=1.0, max_poll=3.0)
    assert made.call("operation") == {"found": 1}
    assert time.slept == [1.0, 1.5, 2.25, 3.0, 3.0]


def test_a_service_that_does_not_answer_is_asked_again() -> None:
    """A lost connection, an internal failure, codes that the caller declares transient."""
    time = StoppedTime()
    lost = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    made = calls(time, lost, refusal("InternalFailure"), refusal("LimitExceededException"), {})
    assert made.call("operation", again=frozenset(["LimitExceededException"])) == {}


def test_patience_ends_with_what_to_do() -> None:
    """The last reason, and that nothing is lost."""
    time = StoppedTime()
    made = calls(time, *[refusal("ThrottlingException", "Rate exceeded")] * 99, patience=60.0)
    with pytest.raises(ImportsError, match=r"Rate exceeded.*60 s.*run the same command again"):
        made.call("operation")
    assert time.seconds < 120


def test_a_refusal_is_not_tried_again() -> None:
    """Its code and message are the service's."""
    time = StoppedTime()
    with pytest.raises(ServiceRefused, match=r"operation: no \(InvalidInputException\)") as raised:
        calls(time, refusal("InvalidInputException"), {}).call("operation")
    assert raised.value.code == "InvalidInputException"
    assert not time.slept


def test_all_pages_are_read() -> None:
    """Until there is no token."""
    time = StoppedTime()
    made = calls(time, {"things": [{"n": 1}, {"n": 2}], "nextToken": "t"}, {"things": [{"n": 3}]})
    assert list(made.pages("operation", "things")) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_waiting_ends_when_it_is_active_and_says_how_it_stands() -> None:
    """A line for each change, and one now and then in between."""
    time = StoppedTime()
    lines: list[str] = []
    statuses = iter(["CREATE PENDING", *["CREATE IN_PROGRESS"] * 20, "ACTIVE"])
    waiting = Waiting(calls(time, first_poll=1.0, max_poll=5.0), lines.append)
    waiting.until_active(lambda: {"status": next(statuses)}, "the training")
    assert lines[0] == "the training: CREATE PENDING, 0 s"
    assert lines[1].startswith("the training: CREATE IN_PROGRESS, ")
    assert lines[-1].startswith("the training: ACTIVE, ")
    assert 4 < len(lines) < 15


def test_waiting_ends_with_the_services_reason() -> None:
    """A failure, a deletion, and one that takes too long."""
    time = StoppedTime()
    waiting = Waiting(calls(time, max_wait=100.0), lambda line: None)
    failed = {"status": "CREATE FAILED", "failureReason": "Row 3 is bad."}
    with pytest.raises(ImportsError, match=r"the job: CREATE FAILED: Row 3 is bad\. Mend it\."):
        waiting.until_active(lambda: failed, "the job", "Mend it.")
    with pytest.raises(ImportsError, match="being deleted"):
        waiting.until_active(lambda: {"status": "DELETE PENDING"}, "the job")
    with pytest.raises(ImportsError, match="not ready after 100 s"):
        waiting.until_active(lambda: {"status": "CREATE PENDING"}, "the job")


class Bucket:
    """S3 with the objects of one output."""

    def __init__(self, **objects: str) -> None:
        self.objects = {key.replace("__", "/"): text for key, text in objects.items()}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        if Key not in self.objects:
            raise refusal("NoSuchKey")
        return {"Body": io.BytesIO(self.objects[Key].encode()), "ETag": ""}

    def get_paginator(self, operation: str) -> Bucket:
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:
        found = [(key, text) for key, text in self.objects.items() if key.startswith(Prefix)]
        for key, text in found:
            entry = {"Key": key, "Size": len(text), "ETag": f'"{text}"'}
            yield {"Contents": [entry]}


def report(interactions: int, **others: Any) -> str:
    counts = {"users": 1, "items": 0, "interactions": interactions}
    document = {name: {"written": count} for name, count in counts.items()}
    return json.dumps({**document, "trainable": True, **others})


def bucket(run: str, interactions: int = 1000, **others: Any) -> Bucket:
    found = Bucket()
    found.objects = {
        f"{run}/report.json": report(interactions, **others),
        f"{run}/users/part-0.csv": "users",
        f"{run}/interactions/part-0.csv": "interactions",
        f"{run}/interactions/part-1.csv": "more",
    }
    return found


def test_the_same_content_in_another_place_is_the_same() -> None:
    """And another content is not; a dataset without files has none."""
    first = read_output(bucket("a"), "s3://b/a", Mode.FULL)
    second = read_output(bucket("c"), "s3://b/c/", Mode.FULL)
    assert first.location == "s3://b/a/"
    assert first.folder(DatasetType.USERS) == "s3://b/a/users/"
    assert first.contents == second.contents
    assert set(first.contents) == {DatasetType.USERS, DatasetType.INTERACTIONS}
    changed = bucket("a")
    changed.objects["a/interactions/part-1.csv"] = "other"
    third = read_output(changed, "s3://b/a", Mode.FULL)
    assert third.contents[DatasetType.USERS] == first.contents[DatasetType.USERS]
    assert third.contents[DatasetType.INTERACTIONS] != first.contents[DatasetType.INTERACTIONS]


@pytest.mark.parametrize(
    ("found", "location", "mode", "reason"),
    [
        (bucket("a"), "a", Mode.FULL, "not the location of a bootstrap output"),
        (bucket("a"), "s3://b", Mode.FULL, "not the location of a bootstrap output"),
        (bucket("a"), "s3://b/other", Mode.FULL, "no report.json"),
        (Bucket(a__report_json="x"), "s3://b/a", Mode.FULL, "no report.json"),
        (
            bucket("a", trainable=False, problems=["only 3 users"]),
            "s3://b/a",
            Mode.FULL,
            "only 3 users",
        ),
        (bucket("a", 999), "s3://b/a", Mode.INCREMENTAL, "has 999 interactions"),
        (bucket("a", 0), "s3://b/a", Mode.FULL, "no interactions"),
        (bucket("a", items={"written": 5}), "s3://b/a", Mode.FULL, "is not complete"),
        (bucket("a", items={}), "s3://b/a", Mode.FULL, "is not the report"),
    ],
)
def test_an_output_that_cannot_be_imported_is_refused(
    found: Bucket, location: str, mode: Mode, reason: str
) -> None:
    """Before anything is asked of Personalize."""
    with pytest.raises(ImportsError, match=reason):
        read_output(found, location, mode)


def test_an_incremental_output_may_have_no_interactions() -> None:
    """New items alone are worth an import."""
    assert read_output(bucket("a", 0), "s3://b/a", Mode.INCREMENTAL).rows(DatasetType.USERS) == 1


def test_each_dataset_has_its_schema() -> None:
    """By its type."""
    schemas = DatasetSchemas("u", "i", "x")
    assert [schemas.of(dataset) for dataset in DatasetType] == ["u", "i", "x"]
