"""A domain's requests, over a store that is a dictionary: statuses, versions, conflicts."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.model import load_contracts
from services.domain import Change, Decide, Domain
from services.http import Answer, Request, Response, Unavailable, respond
from services.records import Rules

CONTRACTS = load_contracts()
NOW_MS = 1_790_000_000_000
SONG: dict[str, Any] = {"song_id": "s1", "title": "Song", "genres": ["rock"]}


class Dictionary:
    """A record store; its changes are in ``changes``."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.changes: list[dict[str, Any] | None] = []
        self.away = False

    def read(self, key: str) -> dict[str, Any] | None:
        if self.away:
            raise Unavailable("the store is away")
        return self.records.get(key)

    def change(self, key: str, decide: Decide) -> None:
        change: Change | None = decide(self.read(key))
        if change is None:
            return
        self.changes.append(change.record)
        if change.record is None:
            del self.records[key]
        else:
            self.records[key] = change.record


class Caller:
    """Sends requests to the songs domain as events, and reads the answers."""

    def __init__(self, contract: str = "songs") -> None:
        self.store = Dictionary()
        self.now = NOW_MS
        self.contract = CONTRACTS[contract]
        self.domain = Domain(Rules(self.contract), self.store, lambda: self.now)

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        event = {
            "rawPath": path,
            "headers": headers,
            "requestContext": {"http": {"method": method}},
            "body": body if isinstance(body, str) else json.dumps(body),
        }
        return respond(self.domain.serve, event)

    def status(self, *arguments: Any, **more: Any) -> int:
        return int(self.send(*arguments, **more)["statusCode"])


@pytest.fixture
def caller() -> Caller:
    return Caller()


def error_of(answer: Answer) -> tuple[int, str, str | None]:
    error = json.loads(answer["body"])["error"]
    assert error["message"]
    return answer["statusCode"], error["reason"], error["field"]


def test_a_record_is_made_read_replaced_and_deleted(caller: Caller) -> None:
    """The whole life of it; each answer has the version as its ETag."""
    made = caller.send("POST", "/songs", SONG)
    assert made["statusCode"] == 201
    assert made["headers"]["location"] == "/songs/s1"
    assert made["headers"]["etag"] == f'"{NOW_MS}"'
    assert json.loads(caller.send("GET", "/songs/s1")["body"]) == json.loads(made["body"])

    replaced = caller.send("PUT", "/songs/s1", {**SONG, "title": "Other"})
    assert replaced["statusCode"] == 200
    assert json.loads(replaced["body"])["title"] == "Other"

    assert caller.status("DELETE", "/songs/s1") == 204
    assert caller.store.records["s1"]["deleted"] is True
    assert "Other" not in str(caller.store.records["s1"])
    assert error_of(caller.send("GET", "/songs/s1")) == (404, "not_found", "song_id")
    assert error_of(caller.send("DELETE", "/songs/s1")) == (404, "not_found", "song_id")
    assert caller.status("POST", "/songs", SONG) == 201


@pytest.mark.parametrize("method", ["DELETE", "PUT", "POST"])
def test_a_deleted_user_is_erased_however_they_are_deleted(method: str) -> None:
    """Only the id, the version and the mark are stored and published, as a newer version."""
    caller = Caller("users")
    user = {"user_id": "ada", "country": "GB", "age_band": "30-39", "subscription": "premium"}
    assert caller.status("PUT", "/users/ada", user) == 201
    if method == "DELETE":
        assert caller.status("DELETE", "/users/ada") == 204
    elif method == "PUT":
        assert caller.status("PUT", "/users/ada", {**user, "deleted": True}) == 200
    else:
        caller.store.records.clear()
        assert caller.status("POST", "/users", {**user, "deleted": True}) == 201

    (erased,) = caller.store.records.values()
    assert caller.store.changes[-1] == erased
    present = {name: value for name, value in erased.items() if value is not None}
    assert present == {"user_id": "ada", "updated_at": erased["updated_at"], "deleted": True}


def test_what_an_earlier_release_has_kept_of_a_deleted_user_is_erased() -> None:
    """It marked users only; DELETE once more erases them, after that there is nobody."""
    caller = Caller("users")
    caller.send("PUT", "/users/ada", {"user_id": "ada", "country": "GB"})
    kept = {**caller.store.records["ada"], "deleted": True}
    caller.store.records["ada"] = kept
    assert caller.status("GET", "/users/ada") == 404
    assert caller.status("DELETE", "/users/ada") == 204
    erased = caller.store.records["ada"]
    assert erased["country"] is None
    assert erased["updated_at"] > kept["updated_at"]
    assert caller.status("DELETE", "/users/ada") == 404


def test_versions_only_grow_while_the_clock_stands_or_goes_back(caller: Caller) -> None:
    """Each change is newer than the one before, so none of them loses downstream."""
    caller.send("PUT", "/songs/s1", SONG)
    for _ in range(3):
        caller.now -= 1_000
        caller.send("PUT", "/songs/s1", SONG)
    caller.send("DELETE", "/songs/s1")

    versions = [change["updated_at"] for change in caller.store.changes if change]
    assert versions == [NOW_MS + step for step in range(5)]


def test_a_source_may_keep_its_own_times_as_long_as_they_grow(caller: Caller) -> None:
    """An older version is a conflict and changes nothing; the same record again is none."""
    assert caller.status("PUT", "/songs/s1", {**SONG, "updated_at": 50}) == 201
    assert caller.status("PUT", "/songs/s1", {**SONG, "updated_at": 50}) == 200
    assert len(caller.store.changes) == 1

    older = caller.send("PUT", "/songs/s1", {**SONG, "title": "Late", "updated_at": 49})
    assert error_of(older) == (409, "version_conflict", "updated_at")
    other = caller.send("PUT", "/songs/s1", {**SONG, "title": "Other", "updated_at": 50})
    assert error_of(other) == (409, "version_conflict", "updated_at")
    assert caller.store.records["s1"]["title"] == "Song"

    assert caller.status("PUT", "/songs/s1", {**SONG, "updated_at": 51}) == 200


def test_a_change_may_be_conditional_on_the_version_that_was_read(caller: Caller) -> None:
    """If-Match, as RFC 9110, 13.1.1 has it: another version or none fails the precondition."""
    tag = caller.send("PUT", "/songs/s1", SONG)["headers"]["etag"]

    assert caller.status("PUT", "/songs/s1", SONG, headers={"If-Match": tag}) == 200
    late = caller.send("PUT", "/songs/s1", SONG, headers={"If-Match": tag})
    assert error_of(late) == (412, "version_conflict", "if-match")
    assert caller.status("DELETE", "/songs/s1", headers={"If-Match": tag}) == 412
    other = SONG | {"song_id": "s2"}
    for condition in (tag, "*"):
        assert caller.status("PUT", "/songs/s2", other, headers={"If-Match": condition}) == 412
    bad = caller.send("DELETE", "/songs/s1", headers={"If-Match": "5"})
    assert error_of(bad) == (400, "invalid_value", "if-match")


@pytest.mark.parametrize(
    ("condition", "status"),
    [("*", 200), ('"1", {tag}', 200), ("W/{tag}", 412), ('"1"', 412), ('"1", W/{tag}', 412)],
)
def test_if_match_takes_a_list_and_any_version(caller: Caller, condition: str, status: int) -> None:
    """A weak tag equals none."""
    tag = caller.send("PUT", "/songs/s1", SONG)["headers"]["etag"]
    changed = {**SONG, "title": "Another"}
    headers = {"If-Match": condition.replace("{tag}", tag)}
    assert caller.status("PUT", "/songs/s1", changed, headers=headers) == status


def test_an_event_may_come_through_a_named_stage(caller: Caller) -> None:
    """Its path begins with the stage, except for $default."""
    assert caller.status("PUT", "/songs/s1", SONG) == 201
    for stage, path in (("prod", "/prod/songs/s1"), ("$default", "/songs/s1")):
        context = {"stage": stage, "http": {"method": "GET"}}
        answer = respond(caller.domain.serve, {"rawPath": path, "requestContext": context})
        assert answer["statusCode"] == 200, stage


def test_another_payload_version_is_named(caller: Caller) -> None:
    """The integration's setting has to change."""
    event = {"version": "1.0", "path": "/songs/s1", "httpMethod": "GET", "requestContext": {}}
    answer = respond(caller.domain.serve, event)
    assert error_of(answer) == (500, "payload_version", None)
    assert "2.0" in answer["body"]


def test_head_is_get_without_a_body_and_405_names_the_methods(caller: Caller) -> None:
    """As RFC 9110 has it; an id that is no UTF-8 is no other id."""
    caller.send("PUT", "/songs/s1", SONG)
    get, head = (caller.send(method, "/songs/s1") for method in ("GET", "HEAD"))
    assert (head["statusCode"], head["headers"].get("etag")) == (200, get["headers"]["etag"])
    assert "body" not in head
    refused = caller.send("PATCH", "/songs/s1")
    assert refused["statusCode"] == 405
    assert refused["headers"]["allow"] == "GET, HEAD, PUT, DELETE"
    assert error_of(caller.send("GET", "/songs/%ff")) == (400, "invalid_value", "path")


def test_a_record_is_made_once(caller: Caller) -> None:
    """POST of an id that is there is a conflict, unless it is the same request again."""
    assert caller.status("POST", "/songs", SONG) == 201
    assert caller.status("POST", "/songs", SONG) == 201
    assert len(caller.store.changes) == 1
    other = caller.send("POST", "/songs", {**SONG, "title": "Other"})
    assert error_of(other) == (409, "exists", "song_id")


def test_a_record_without_an_id_is_given_one(caller: Caller) -> None:
    """Two of them are two records."""
    bodies = [
        json.loads(caller.send("POST", "/songs", {"title": "A", "genres": []})["body"])
        for _ in range(2)
    ]
    assert {body["song_id"] for body in bodies} == set(caller.store.records)
    assert len(caller.store.records) == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/songs", "{", (400, "not_json", None)),
        ("POST", "/songs", '{"song_id": NaN}', (400, "not_json", None)),
        ("POST", "/songs", "[" * 100_000, (400, "not_json", None)),
        ("POST", "/songs", [SONG], (400, "wrong_type", None)),
        ("POST", "/songs", {**SONG, "artist": 1}, (400, "wrong_type", "artist")),
        ("PUT", "/songs/s2", SONG, (400, "wrong_id", "song_id")),
        ("PUT", "/songs/" + "s" * 257, SONG, (400, "invalid_value", "song_id")),
        ("GET", "/songs/none", None, (404, "not_found", "song_id")),
        ("DELETE", "/songs/none", None, (404, "not_found", "song_id")),
        ("GET", "/songs", None, (405, "method_not_allowed", None)),
        ("PATCH", "/songs/s1", SONG, (405, "method_not_allowed", None)),
    ],
)
def test_a_mistake_is_answered_with_its_reason_and_field(
    caller: Caller, method: str, path: str, body: Any, expected: tuple[int, str, str | None]
) -> None:
    """A status of its own, nothing stored, no traceback."""
    answer = caller.send(method, path, body)

    assert error_of(answer) == expected
    assert "Traceback" not in answer["body"]
    assert caller.store.changes == []


def test_a_store_that_is_away_is_503_and_a_fault_of_ours_is_500(
    caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer says to retry, or to see the log, without the exception's text."""
    caller.store.away = True
    answer = caller.send("GET", "/songs/s1")
    assert error_of(answer) == (503, "unavailable", None)
    assert "away" not in answer["body"]
    assert "away" in caplog.text
    assert answer["headers"]["retry-after"] == "1"

    def broken(request: Request) -> Response:
        raise RuntimeError("the password is swordfish")

    event = {"rawPath": "/songs", "requestContext": {"http": {"method": "GET"}}}
    answer = respond(broken, event)
    assert error_of(answer) == (500, "internal", None)
    assert "swordfish" not in answer["body"]
    assert "swordfish" in caplog.text


def test_a_body_may_be_base64_and_an_id_percent_encoded(caller: Caller) -> None:
    """As API Gateway hands on what is not plain text."""
    event = {
        "rawPath": "/songs/a%2Fb c",
        "requestContext": {"http": {"method": "PUT"}},
        "body": base64.b64encode(json.dumps({**SONG, "song_id": "a/b c"}).encode()).decode(),
        "isBase64Encoded": True,
    }
    assert respond(caller.domain.serve, event)["statusCode"] == 201
    assert list(caller.store.records) == ["a/b c"]


def test_where_the_contract_has_no_deleted_field_the_record_goes(
    tmp_path: Path, repository: Path
) -> None:
    """Its removal is what is published then; without updated_at there is no version either."""
    source = repository / "schemas" / "contracts" / "songs"
    folder = tmp_path / "ringtones"
    folder.mkdir()
    schema = json.loads((source / "songs.v1.avsc").read_text())
    schema["fields"] = [f for f in schema["fields"] if f["name"] not in ("deleted", "updated_at")]
    (folder / "ringtones.v1.avsc").write_text(json.dumps(schema))
    contract = (source / "contract.yaml").read_text().replace("name: songs", "name: ringtones")
    lines = [
        line
        for line in contract.replace("physicalName: songs", "physicalName: ringtones").splitlines()
        if line.strip() not in ("updated: updated_at", "deleted: deleted")
    ]
    (folder / "contract.yaml").write_text("\n".join(lines))
    caller = Caller()
    rules = Rules(load_contracts((tmp_path,))["ringtones"])
    caller.domain = Domain(rules, caller.store, lambda: NOW_MS)

    made = caller.send("PUT", "/ringtones/s1", SONG)
    assert made["statusCode"] == 201
    assert "etag" not in made["headers"]
    conditional = caller.send("DELETE", "/ringtones/s1", headers={"if-match": "1"})
    assert error_of(conditional) == (400, "no_versions", "if-match")
    assert caller.status("DELETE", "/ringtones/s1") == 204
    assert caller.store.records == {}
    assert caller.store.changes[-1] is None
