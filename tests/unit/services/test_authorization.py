"""What callers may do, by what an authoriser of API Gateway passes to the handlers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from deploy.local.lambda_host.__main__ import handler_environment
from deploy.local.lambda_host.gateway import event_of
from deploy.local.settings import LocalSettings
from schemas.codec import Record
from schemas.errors import SettingError
from schemas.model import load_contracts
from services import interactions, items, users
from services.authorization import caller_of
from services.domain import Decide, Domain
from services.interactions import Interactions
from services.publishing import Message
from services.records import Rules
from services.settings import ServiceSettings

CONTRACTS = load_contracts()
NOW_MS = 1_790_000_000_000
SONG = {"title": "A", "genres": ["fado"]}
PLAY = {
    "event_id": "e1",
    "session_id": "x",
    "item_id": "s1",
    "event_type": "play",
    "occurred_at": NOW_MS,
}
UNAUTHENTICATED = {
    "error": {
        "reason": "unauthenticated",
        "message": "the request has no authenticated caller",
        "field": None,
    }
}


def jwt(**claims: Any) -> dict[str, Any]:
    return {"jwt": {"claims": claims, "scopes": None}}


USER = jwt(sub="u1", scope="openid")


class Store:
    """Keeps records in memory."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}

    def read(self, key: str) -> Record | None:
        return self.records.get(key)

    def change(self, key: str, decide: Decide) -> None:
        change = decide(self.records.get(key))
        if change is not None and change.record is not None:
            self.records[key] = change.record


class Topic:
    """Takes every message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, messages: Sequence[Message], seconds: float) -> list[str | None]:
        self.messages += messages
        return [None] * len(messages)


class BackEnds:
    """The three handlers, with stores in memory; called as API Gateway does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.users, self.songs, self.topic = Store(), Store(), Topic()
        rules = Rules(CONTRACTS["users"])
        for user in ("u1", "u2"):
            record = rules.completed({"user_id": user, "updated_at": 1_780_000_000_000})
            self.users.records[user] = record
        domain = Domain(rules, self.users, lambda: NOW_MS)
        songs = Domain(Rules(CONTRACTS["songs"]), self.songs, lambda: NOW_MS)
        plays = Interactions(CONTRACTS["interactions"], self.topic, lambda: NOW_MS)
        monkeypatch.setattr(users, "_users", lambda: domain)
        monkeypatch.setattr(items, "_items", lambda name: songs)
        monkeypatch.setattr(interactions, "_interactions", lambda: plays)

    def call(
        self, method: str, path: str, body: Any = None, authorizer: Mapping[str, Any] | None = None
    ) -> tuple[int, Any]:
        event = event_of(method, path, {}, b"" if body is None else json.dumps(body).encode())
        if authorizer is not None:
            event["requestContext"]["authorizer"] = authorizer
        handler = {"users": users, "songs": items, "interactions": interactions}
        answer = handler[path.split("/")[1]].handler(event, None)
        return answer["statusCode"], json.loads(answer.get("body") or "null")


@pytest.fixture
def back_ends(monkeypatch: pytest.MonkeyPatch) -> BackEnds:
    monkeypatch.delenv("TUNEMESH_AUTHORIZATION", raising=False)
    return BackEnds(monkeypatch)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/users/u1", None),
        ("DELETE", "/users/u1", None),
        ("PUT", "/songs/s1", SONG),
        ("GET", "/songs/s1", None),
        ("POST", "/interactions", PLAY),
    ],
)
@pytest.mark.parametrize("authorizer", [None, {}, {"iam": {"userId": "u1"}}, {"jwt": "u1"}])
def test_without_a_caller_nothing_is_served(
    back_ends: BackEnds, method: str, path: str, body: Any, authorizer: Any
) -> None:
    """An API without an authoriser, or with one of another kind: 401 and a fixed text."""
    assert back_ends.call(method, path, body, authorizer) == (401, UNAUTHENTICATED)
    assert back_ends.topic.messages == []
    assert back_ends.songs.records == {}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/users/u1", None, 200),
        ("HEAD", "/users/u1", None, 200),
        ("PUT", "/users/u1", {"country": "PT"}, 200),
        ("DELETE", "/users/u1", None, 204),
        ("POST", "/interactions", PLAY, 202),
        ("POST", "/interactions", {**PLAY, "user_id": "u1"}, 202),
        ("POST", "/interactions", {**PLAY, "user_id": None}, 202),
        ("GET", "/songs/none", None, 404),
        ("GET", "/users/u2", None, 403),
        ("GET", "/users/none", None, 403),
        ("PUT", "/users/u2", {"country": "PT"}, 403),
        ("PUT", "/users/u1", {"user_id": "u2"}, 400),
        ("DELETE", "/users/u2", None, 403),
        ("POST", "/users", {"user_id": "u2"}, 403),
        ("POST", "/interactions", {**PLAY, "user_id": "u2"}, 403),
        ("POST", "/interactions", [{**PLAY, "user_id": "u2"}], 403),
        ("PUT", "/songs/s1", SONG, 403),
        ("POST", "/songs", SONG, 403),
        ("DELETE", "/songs/s1", None, 403),
    ],
)
@pytest.mark.parametrize("authorizer", [USER, {"lambda": {"sub": "u1"}}], ids=["jwt", "lambda"])
def test_a_user_acts_only_for_themselves(
    back_ends: BackEnds, authorizer: Any, method: str, path: str, body: Any, status: int
) -> None:
    """The answer does not tell whether another user exists."""
    answered, content = back_ends.call(method, path, body, authorizer)
    assert answered == status
    if status == 403 and "error" in content:
        assert content["error"]["reason"] == "forbidden"
        assert content["error"]["message"] == "the caller is not permitted to do this"
        assert back_ends.topic.messages == []
        assert "u2" not in json.dumps(content)


def test_the_user_of_an_event_is_the_caller(back_ends: BackEnds) -> None:
    """Absent it is filled in, null stays anonymous, and another user's is one of the errors."""
    status, answer = back_ends.call(
        "POST",
        "/interactions",
        [PLAY, {**PLAY, "event_id": "e2", "user_id": None}, {**PLAY, "user_id": "u2"}, {}],
        USER,
    )
    assert (status, answer["accepted"]) == (207, 2)
    assert [(e["index"], e["reason"]) for e in answer["errors"]] == [
        (2, "forbidden"),
        (3, "missing_field"),
    ]
    sent = [message.record["user_id"] for message in back_ends.topic.messages if message.record]
    assert sent == ["u1", None]


def test_a_new_user_gets_the_callers_id(back_ends: BackEnds) -> None:
    """And not a generated one, which the caller could not read."""
    status, user = back_ends.call("POST", "/users", {"country": "PT"}, jwt(sub="u3"))
    assert (status, user["user_id"]) == (201, "u3")


@pytest.mark.parametrize(
    ("scope", "method", "path", "body", "status"),
    [
        ("users/read", "GET", "/users/u2", None, 200),
        ("users/read", "DELETE", "/users/u2", None, 403),
        ("users/write", "DELETE", "/users/u2", None, 204),
        ("users/write", "GET", "/users/u2", None, 403),
        ("songs/write", "PUT", "/songs/s1", SONG, 201),
        ("podcasts/write", "PUT", "/songs/s1", SONG, 403),
        ("interactions/write", "POST", "/interactions", {**PLAY, "user_id": "u2"}, 202),
        ("users/write", "POST", "/interactions", PLAY, 403),
    ],
)
@pytest.mark.parametrize(
    ("claim", "written"), [("scope", "openid {}"), ("scp", "[openid {}]")], ids=["scope", "scp"]
)
def test_a_service_acts_by_its_scopes(
    back_ends: BackEnds,
    claim: str,
    written: str,
    scope: str,
    method: str,
    path: str,
    body: Any,
    status: int,
) -> None:
    """For every user, in one domain, either reading or writing."""
    assert back_ends.call(method, path, body, jwt(**{claim: written.format(scope)}))[0] == status


def test_scopes_may_be_a_list() -> None:
    """Of a Lambda authoriser; API Gateway makes a text of a list in a token."""
    caller = caller_of({"lambda": {"scp": ["users/read", 7, "songs/write"]}}, "sub")
    assert caller is not None
    assert caller.scopes == {"users/read", "songs/write"}


def test_the_claim_with_the_user_id_is_a_setting(
    back_ends: BackEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some identity providers have an id of their own in `sub`."""
    monkeypatch.setenv("TUNEMESH_USER_CLAIM", "custom:user_id")
    own = {"jwt": {"claims": {"sub": "idp-77", "custom:user_id": "u1"}}}
    assert back_ends.call("GET", "/users/u1", None, own)[0] == 200
    assert back_ends.call("GET", "/users/idp-77", None, own)[0] == 403
    assert back_ends.call("GET", "/users/u1", None, jwt(sub="u1"))[0] == 403


@pytest.mark.parametrize("claim", [None, "", 7, True, ["u1"], {"id": "u1"}])
def test_a_claim_that_is_no_text_is_no_user(claim: Any) -> None:
    """A caller without user and scopes may do nothing but read items."""
    caller = caller_of({"lambda": {"sub": claim}}, "sub")
    assert caller is not None
    assert (caller.user, caller.scopes) == (None, frozenset())


def test_off_is_explicit_and_set_by_the_local_platform(
    back_ends: BackEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no authoriser there; any other text is an invalid setting and opens nothing."""
    local = handler_environment(LocalSettings.from_environment({}))
    monkeypatch.setenv("TUNEMESH_AUTHORIZATION", local["TUNEMESH_AUTHORIZATION"])
    assert back_ends.call("GET", "/users/u2")[0] == 200
    monkeypatch.setenv("TUNEMESH_AUTHORIZATION", "false")
    assert back_ends.call("GET", "/users/u2")[0] == 500
    with pytest.raises(SettingError, match="required or off"):
        ServiceSettings.from_environment()
