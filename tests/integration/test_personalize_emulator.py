"""The contract of the local Personalize, driven through boto3 against the real process.

Everything else trusts this server, so what a client sees of it is held here: by a client that
botocore made, over a socket, in another process. Rules for a single request are in
tests/unit/emulators.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from deploy.local.settings import PROJECT
from tests.support.personalize_server import (
    ARN,
    CAMPAIGN,
    ITEMS,
    TRACKING_ID,
    USERS,
    Server,
    running,
)
from tests.support.ports import free_port
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One process for the tests that only add to it; the quotas on records have their own."""
    options = ("--quota", "put_users=off", "--quota", "put_items=off")
    with running(tmp_path_factory.mktemp("shared"), *options) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """The shared process without faults from another test."""
    shared.request("/_local/faults", "DELETE")
    yield shared
    shared.request("/_local/faults", "DELETE")


_numbers: dict[str, int] = {}


def event(event_id: str, **members: Any) -> dict[str, Any]:
    """An event with a time of its own for each id: two ids are never the same interaction."""
    sent_at = 1_763_000_000 + _numbers.setdefault(event_id, len(_numbers))
    return {
        "eventId": event_id,
        "eventType": "play",
        "itemId": "s1",
        "sentAt": sent_at,
        **members,
    }


def put(client: Any, *events: dict[str, Any], **members: Any) -> Any:
    base = {"trackingId": TRACKING_ID, "userId": "u1", "sessionId": "sess-1"}
    return client.put_events(**{**base, **members}, eventList=list(events))


def answer_to(error: ClientError) -> tuple[int, str]:
    return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]


def refused(call: Callable[[], object]) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as raised:
        call()
    (status, code), error = answer_to(raised.value), raised.value.response["Error"]
    return code, status, error["Message"]


def recommended(server: Server, user: str, count: int = 25) -> list[str]:
    answer = server.runtime.get_recommendations(campaignArn=CAMPAIGN, userId=user, numResults=count)
    return [item["itemId"] for item in answer["itemList"]]


# --- PutEvents ---------------------------------------------------------------------------------


def test_an_accepted_event_is_kept_whole(server: Server) -> None:
    """What boto3 sends is what is stored, in milliseconds, with the time of acceptance."""
    before = int(time.time() * 1000)
    answer = put(
        server.events,
        event(
            "whole",
            sentAt=1763000000.25,
            eventValue=0.75,
            properties='{"device": "ios"}',
            recommendationId="RID-1",
            impression=["s1", "s2"],
            metricAttribution={"eventAttributionSource": "home"},
        ),
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert answer["ResponseMetadata"]["RequestId"]
    (row,) = [row for row in server.rows("events") if row["event_id"] == "whole"]
    assert before <= row.pop("accepted_at") <= int(time.time() * 1000)
    del row["rowid"]
    assert row == {
        "event_id": "whole",
        "user_id": "u1",
        "session_id": "sess-1",
        "item_id": "s1",
        "event_type": "play",
        "event_value": 0.75,
        "sent_at": 1763000000250,
        "properties": '{"device": "ios"}',
        "recommendation_id": "RID-1",
        "impression": ["s1", "s2"],
        "attribution_source": "home",
        "duplicates": 0,
    }


def test_ten_events_pass_and_eleven_are_refused(server: Server) -> None:
    """botocore sends both without complaint."""
    before = server.stats()["accepted_events"]
    put(server.events, *(event(f"ten-{n}") for n in range(10)))
    code, status, message = refused(
        lambda: put(server.events, *(event(f"eleven-{n}") for n in range(11)))
    )
    assert (code, status) == ("InvalidInputException", 400)
    assert message == (
        "1 validation error detected: Value at 'eventList' failed to satisfy constraint: "
        "Member must have length less than or equal to 10"
    )
    assert server.stats()["accepted_events"] == before + 10


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"itemId": "i" * 300}, "eventList.1.member.itemId"),
        ({"eventId": "e" * 257}, "eventList.1.member.eventId"),
        ({"properties": json.dumps({"a": "x" * 1024})}, "eventList.1.member.properties"),
        ({"recommendationId": "r" * 41}, "eventList.1.member.recommendationId"),
        ({"impression": ["i"] * 26}, "eventList.1.member.impression"),
    ],
)
def test_what_is_too_long_is_refused(server: Server, changes: dict[str, Any], path: str) -> None:
    """The model's maxima, which botocore does not check; the client's own exception class."""
    client = server.events
    with pytest.raises(client.exceptions.InvalidInputException, match=path):
        put(client, event("too-long", **changes))


def test_ids_of_user_and_session_have_their_limits(server: Server) -> None:
    """256 characters, not 257; the message does not repeat the user's id."""
    put(server.events, event("limits"), userId="u" * 256, sessionId="s" * 256)
    assert refused(lambda: put(server.events, event("x"), sessionId="s" * 257))[0] == (
        "InvalidInputException"
    )
    message = refused(lambda: put(server.events, event("x"), userId="u" * 257))[2]
    assert "'userId'" in message
    assert "uuu" not in message


@pytest.mark.parametrize("key", ["userId", "sessionid", "EVENTTYPE", "Timestamp", "impression"])
def test_a_forbidden_key_in_the_properties_is_refused(server: Server, key: str) -> None:
    """In any case, and with it the good events of the same call."""
    before = server.stats()["accepted_events"]
    bad = event("forbidden", properties=json.dumps({key: "x"}))
    code, _, message = refused(lambda: put(server.events, event("good"), bad))
    assert code == "InvalidInputException"
    assert f"'{key}' can't be included in 'eventList.2.member.properties'" in message
    assert server.stats()["accepted_events"] == before


def test_an_event_id_seen_before_is_answered_200_and_ignored(server: Server) -> None:
    """The first stands, its repetitions are counted: replays are harmless."""
    before = server.stats()
    put(server.events, event("again", itemId="first"))
    put(server.events, event("again", itemId="second"), event("again", itemId="third"))
    (row,) = [row for row in server.rows("events") if row["event_id"] == "again"]
    assert (row["item_id"], row["duplicates"]) == ("first", 2)
    after = server.stats()
    assert after["accepted_events"] == before["accepted_events"] + 1
    assert after["duplicates_ignored"] == before["duplicates_ignored"] + 2


def test_the_same_interaction_under_two_ids_is_kept_once(server: Server) -> None:
    """Same listener, timestamp and properties: one is kept, and which is on record."""
    before = server.stats()["identical_ignored"]
    put(server.events, event("same-a", sentAt=1.5), event("same-b", sentAt=1.5))
    put(server.events, event("same-c", sentAt=1.5), userId="another user")
    (row,) = [row for row in server.rows("ignored") if row["event_id"] == "same-b"]
    assert (row["reason"], row["same_as"]) == ("identical", "same-a")
    assert server.stats()["identical_ignored"] == before + 1


def test_the_session_null_is_answered_200_and_ignored(server: Server) -> None:
    """As the service does (aws/aws-sdk-js#3371); here it is counted."""
    before = server.stats()
    put(server.events, event("nobody's"), sessionId="null")
    after = server.stats()
    assert after["accepted_events"] == before["accepted_events"]
    assert after["ignored_null_session"] == before["ignored_null_session"] + 1


def test_an_event_without_an_id_gets_one(server: Server) -> None:
    """Two of them are two."""
    nameless = event("nameless", itemId="nameless-item")
    del nameless["eventId"]
    put(server.events, nameless, {**nameless, "sentAt": 2})
    ids = {row["event_id"] for row in server.rows("events") if row["item_id"] == "nameless-item"}
    assert len(ids) == 2


# --- PutUsers, PutItems, actions ---------------------------------------------------------------


def test_a_later_user_or_item_replaces_the_earlier_one(server: Server) -> None:
    """The whole of it: a property that is left out is gone."""
    client = server.events
    client.put_users(
        datasetArn=USERS, users=[{"userId": "ua", "properties": '{"country":"DE","age":"30"}'}]
    )
    client.put_users(datasetArn=USERS, users=[{"userId": "ua", "properties": '{"country":"FR"}'}])
    client.put_items(datasetArn=ITEMS, items=[{"itemId": "ia", "properties": '{"title":"old"}'}])
    client.put_items(datasetArn=ITEMS, items=[{"itemId": "ia"}, {"itemId": "ib"}])
    users = {row["user_id"]: row["properties"] for row in server.rows("users")}
    items = {row["item_id"]: row["properties"] for row in server.rows("items")}
    assert users["ua"] == '{"country":"FR"}'
    assert (items["ia"], items["ib"]) == (None, None)
    stats = server.stats()
    assert (stats["users"], stats["items"]) == (len(users), len(items))


def test_records_have_their_limits(server: Server) -> None:
    """Ten a call, properties of 24,000 characters for users and 32,000 for items."""
    client = server.events

    def users(count: int, length: int) -> object:
        text = json.dumps({"a": "x" * (length - 8)}, separators=(",", ":"))
        assert len(text) == length
        users = [{"userId": f"u{n}", "properties": text} for n in range(count)]
        return client.put_users(datasetArn=USERS, users=users)

    users(10, 24_000)
    assert "'users'" in refused(lambda: users(11, 100))[2]
    assert "properties" in refused(lambda: users(1, 24_001))[2]
    big = json.dumps({"title": "x" * 32_000})
    item = {"itemId": "big", "properties": big}
    assert "properties" in refused(lambda: client.put_items(datasetArn=ITEMS, items=[item]))[2]


def test_actions_are_validated_and_said_not_to_be_offered(server: Server) -> None:
    """A bad call is bad, a good one gets a modelled error that says why."""
    client = server.events
    arn = f"{ARN}:dataset/tunemesh/ACTIONS"
    with pytest.raises(client.exceptions.InvalidInputException, match="'actions'"):
        client.put_actions(datasetArn=arn, actions=[{"actionId": "a"}] * 11)
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="not offered"):
        client.put_actions(datasetArn=arn, actions=[{"actionId": "a"}])
    interaction = {"actionId": "a", "sessionId": "s", "timestamp": 1, "eventType": "Viewed"}
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="not offered"):
        client.put_action_interactions(trackingId="t", actionInteractions=[interaction])
    runtime = server.runtime
    with pytest.raises(runtime.exceptions.InvalidInputException, match="not offered"):
        runtime.get_action_recommendations(campaignArn=CAMPAIGN, userId="u")


# --- recommendations ---------------------------------------------------------------------------


def test_a_play_moves_recommendations_at_once(tmp_path: Path) -> None:
    """The next answer after the 200 of the play already knows it."""
    with running(tmp_path) as server:
        client = server.events
        for taste in ("rock", "jazz"):
            for fan in range(5):
                played = [event(f"{taste}{fan}{n}", itemId=f"{taste}-{n}") for n in range(4)]
                put(client, *played, userId=f"{taste}-fan-{fan}", sessionId=f"{taste}{fan}")
        put(client, event("extra", itemId="rock-0"), userId="rock-fan-9")
        assert recommended(server, "new", 1) == ["rock-0"]
        put(client, event("new-play", itemId="jazz-2"), userId="new")
        assert set(recommended(server, "new", 3)) == {"jazz-0", "jazz-1", "jazz-3"}
        put(client, event("anonymous", itemId="rock-2"), userId="x", sessionId="y")
        put(client, event("late-play", itemId="rock-2"), userId="new")
        assert set(recommended(server, "new", 3)) == {"rock-0", "rock-1", "rock-3"}
        before = {user: recommended(server, user, 500) for user in ("new", "nobody", "jazz-fan-1")}
        server.stop(signal.SIGKILL)
        server.start()
        assert before == {user: recommended(server, user, 500) for user in before}


def test_an_answer_has_the_services_shape(server: Server) -> None:
    """Default of 25 results, scores that sum to at most 1, an id that an event can carry back."""
    client = server.events
    for page in range(4):
        put(client, *(event(f"shape{page}{n}", itemId=f"shape-{page}{n}") for n in range(10)))
    answer = server.runtime.get_recommendations(campaignArn=CAMPAIGN, userId="shape-unknown")
    assert len(answer["itemList"]) == 25
    assert sum(item["score"] for item in answer["itemList"]) <= 1.0
    assert len(recommended(server, "u1", 500)) > 30
    put(client, event("feedback", recommendationId=answer["recommendationId"]))


def test_anonymous_listening_counts_for_the_session(server: Server) -> None:
    """Ask with the session as the user, as with the service."""
    client = server.events
    for fan in range(3):
        pair = [event(f"anon{fan}{n}", itemId=f"anon-{n}") for n in range(2)]
        put(client, *pair, userId=f"anon-fan-{fan}")
    client.put_events(
        trackingId=TRACKING_ID, sessionId="no-name", eventList=[event("anon", itemId="anon-0")]
    )
    assert recommended(server, "no-name", 1) == ["anon-1"]


def test_a_ranking_returns_every_item_once_unknown_ones_last(server: Server) -> None:
    """Up to 500, not 501."""
    client = server.events
    put(client, event("rank1", itemId="rank-a"), event("rank2", itemId="rank-b"))
    runtime = server.runtime

    def rank(items: list[str]) -> list[str]:
        answer = runtime.get_personalized_ranking(
            campaignArn=CAMPAIGN, userId="u1", inputList=items
        )
        assert answer["recommendationId"]
        return [item["itemId"] for item in answer["personalizedRanking"]]

    assert rank(["?2", "rank-a", "?1", "rank-b"])[2:] == ["?2", "?1"]
    assert len(rank([f"?{n}" for n in range(500)])) == 500
    with pytest.raises(runtime.exceptions.InvalidInputException, match="inputList"):
        rank([f"?{n}" for n in range(501)])


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"campaignArn": f"{ARN}:campaign/other"}, "ResourceNotFoundException"),
        ({"campaignArn": "campaign"}, "InvalidInputException"),
        ({"userId": "u" * 257}, "InvalidInputException"),
        ({"filterArn": f"{ARN}:filter/f"}, "ResourceNotFoundException"),
        ({"context": {"device": "ios"}}, "InvalidInputException"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    server: Server, members: dict[str, Any], code: str
) -> None:
    """Limits, unknown campaigns, and what is not offered: never ignored."""
    asked = {"campaignArn": CAMPAIGN, "userId": "u1", **members}
    assert refused(lambda: server.runtime.get_recommendations(**asked))[0] == code


# --- the wire ----------------------------------------------------------------------------------


def test_errors_are_in_the_services_wire_form(server: Server) -> None:
    """Type in a header and in the body, a request id; without a signature nothing is read."""
    status, body, headers = server.request("/events", "POST", {})
    assert status == 403
    assert headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"
    assert json.loads(body) == {
        "__type": "MissingAuthenticationTokenException",
        "message": "Missing Authentication Token",
    }
    assert headers["x-amzn-RequestId"]
    status, body, _ = server.request("/events", "POST", {}, Authorization="AWS4-HMAC-SHA256 x")
    assert (status, json.loads(body)["__type"]) == (403, "IncompleteSignatureException")
    status, body, _ = server.request("/nowhere", "POST", {})
    assert (status, json.loads(body)["__type"]) == (404, "UnknownOperationException")


def test_wrong_credentials_are_told_apart(tmp_path: Path) -> None:
    """Unknown key, key without permission, wrong secret: what a client must stop for."""
    options = ("--credentials", "local:local", "--credentials", "good:other", "--denied-key", "low")
    with running(tmp_path, *options, "--credentials", "low:local") as server:

        def code(key: str) -> tuple[str, int]:
            client = server.client("personalize-events", key=key)
            return refused(lambda: put(client, event("x")))[:2]

        put(server.events, event("fine"))
        assert recommended(server, "u1") == ["s1"]
        assert code("stranger") == ("UnrecognizedClientException", 403)
        assert code("low") == ("AccessDeniedException", 403)
        assert code("good") == ("InvalidSignatureException", 403)
        assert server.stats()["operations"]["PutEvents"]["refused"] == 3


# --- quotas ------------------------------------------------------------------------------------

ACCEPTED, THROTTLED = (200, ""), (400, "ThrottlingException")


def answer_of(call: Callable[[], object]) -> tuple[int, str]:
    """The HTTP status of a call, and its error code if it was refused."""
    try:
        call()
    except ClientError as error:
        return answer_to(error)
    return ACCEPTED


def test_calls_beyond_the_quota_are_throttled(tmp_path: Path) -> None:
    """HTTP 400 with the code ThrottlingException, and nothing of the call is kept."""
    with running(tmp_path, "--quota", "put_events=5") as server:
        client = server.events
        answers = [answer_of(partial(put, client, event(f"quota-{n}"))) for n in range(30)]
        assert answers[:5] == [ACCEPTED] * 5
        assert set(answers) == {ACCEPTED, THROTTLED}
        stats = server.stats()
        assert stats["accepted_events"] == answers.count(ACCEPTED)
        assert stats["operations"]["PutEvents"]["throttled"] == answers.count(THROTTLED)


def test_users_and_items_have_ten_calls_a_second(tmp_path: Path) -> None:
    """The service's default quota, each its own; the next second lets calls through again."""
    with running(tmp_path) as server:
        client = server.events

        def put_user() -> object:
            return client.put_users(datasetArn=USERS, users=[{"userId": "u"}])

        started = time.monotonic()
        answers = [answer_of(put_user) for _ in range(40)]
        seconds = time.monotonic() - started
        assert set(answers) == {ACCEPTED, THROTTLED}
        assert answers.count(ACCEPTED) <= 10 + 10 * seconds + 1
        client.put_items(datasetArn=ITEMS, items=[{"itemId": "i"}])
        wait_until(lambda: answer_of(put_user) == ACCEPTED, "a call within the quota", 5.0)


# --- failures on demand ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        ("throttle", "ThrottlingException", 400),
        ("error500", "InternalFailure", 500),
        ("error503", "ServiceUnavailable", 503),
        ("in_use", "ResourceInUseException", 409),
        ("access_denied", "AccessDeniedException", 403),
        ("expired_token", "ExpiredTokenException", 403),
        ("unrecognized_client", "UnrecognizedClientException", 403),
    ],
)
def test_an_injected_error_is_the_real_one(
    server: Server, kind: str, code: str, status: int
) -> None:
    """By code and status; nothing is kept; the call after it passes; it is counted."""
    before = server.stats()
    server.use_faults({"operation": "PutEvents", "kind": kind, "first": 1})
    assert refused(lambda: put(server.events, event(f"fault-{kind}")))[:2] == (code, status)
    assert server.stats()["accepted_events"] == before["accepted_events"]
    put(server.events, event(f"fault-{kind}"))
    after = server.stats()
    assert after["accepted_events"] == before["accepted_events"] + 1
    old, new = before["operations"]["PutEvents"], after["operations"]["PutEvents"]
    assert new["faults"][kind] == old["faults"].get(kind, 0) + 1
    assert (new["throttled"], new["refused"]) == (old["throttled"], old["refused"])
    (rule,) = json.loads(server.request("/_local/faults")[1])["rules"]
    assert (rule["matched"], rule["fired"]) == (2, 1)


def test_a_timeout_holds_the_call_without_an_answer(server: Server) -> None:
    """The client gives up, nothing was kept."""
    server.use_faults({"operation": "PutEvents", "kind": "timeout", "seconds": 30, "first": 1})
    before = server.stats()["accepted_events"]
    impatient = server.client("personalize-events", timeout=0.3)
    with pytest.raises(ReadTimeoutError):
        put(impatient, event("timeout"))
    assert server.stats()["accepted_events"] == before


def test_a_timeout_ends_by_itself(server: Server) -> None:
    """A held connection is closed without an answer after its seconds."""
    server.use_faults({"operation": "PutEvents", "kind": "timeout", "seconds": 0.2, "first": 1})
    with pytest.raises(ConnectionClosedError):
        put(server.events, event("held"))


@pytest.mark.parametrize("kind", ["error500", "error503", "timeout", "disconnect"])
def test_a_failure_after_the_write_leaves_its_events(server: Server, kind: str) -> None:
    """The nasty case: the client cannot know, sends again, and the eventId makes it harmless."""
    rule = {"operation": "PutEvents", "kind": kind, "after_write": True, "first": 1}
    server.use_faults(rule | ({"seconds": 30} if kind == "timeout" else {}))
    name = f"after-{kind}"
    client = server.client("personalize-events", timeout=2.0)
    with pytest.raises((ClientError, ReadTimeoutError, ConnectionClosedError)):
        put(client, event(name))
    put(client, event(name))
    (row,) = [row for row in server.rows("events") if row["event_id"] == name]
    assert row["duplicates"] == 1


def test_a_partial_failure_keeps_the_first_half(server: Server) -> None:
    """And answers 500; sending all of it again completes it."""
    server.use_faults({"operation": "PutEvents", "kind": "partial", "first": 1})
    events = [event(f"half-{n}") for n in range(5)]
    assert refused(lambda: put(server.events, *events))[:2] == ("InternalFailure", 500)

    def kept() -> dict[str, int]:
        rows = [row for row in server.rows("events") if row["event_id"].startswith("half-")]
        return {row["event_id"]: row["duplicates"] for row in rows}

    assert kept() == {"half-0": 0, "half-1": 0}
    put(server.events, *events)
    assert kept() == {"half-0": 1, "half-1": 1, "half-2": 0, "half-3": 0, "half-4": 0}


def test_a_slow_call_is_answered_late(server: Server) -> None:
    """Other calls are not held up by it."""
    server.use_faults({"operation": "PutEvents", "kind": "slow", "seconds": 1.0})
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(put, server.events, event("slow"))
        recommended(server, "u1")
        assert not slow.done()
        slow.result()
    assert time.monotonic() - started >= 1.0


def test_a_plan_that_makes_no_sense_is_refused(server: Server) -> None:
    """With the reason; the plan before it stays."""
    server.use_faults({"operation": "PutItems", "kind": "slow"})
    bad = {"rules": [{"operation": "PutEvent", "kind": "slow"}]}
    status, body, _ = server.request("/_local/faults", "PUT", bad)
    assert status == 400
    assert "PutEvent" in json.loads(body)["message"]
    assert len(json.loads(server.request("/_local/faults")[1])["rules"]) == 1
    assert json.loads(server.request("/_local/faults", "DELETE")[1])["rules"] == []


def test_faults_can_be_given_at_the_start(tmp_path: Path) -> None:
    """--faults FILE."""
    plan = tmp_path / "faults.json"
    plan.write_text('{"seed": 1, "rules": [{"operation": "PutEvents", "kind": "throttle"}]}')
    with running(tmp_path / "data", "--faults", str(plan)) as server:
        assert refused(lambda: put(server.events, event("x")))[0] == "ThrottlingException"


# --- the process -------------------------------------------------------------------------------


def test_every_accepted_event_survives_a_kill(tmp_path: Path) -> None:
    """kill -9 in the middle of concurrent calls: whatever was answered 200 is there afterwards."""
    with running(tmp_path) as server:
        accepted: list[str] = []

        client = server.events  # made before the threads: boto3's default session is not safe

        def send(worker: int) -> None:
            for number in range(10_000):
                name = f"kill-{worker}-{number}"
                try:
                    put(client, event(name, sentAt=number), userId=f"u{worker}")
                except Exception:  # noqa: BLE001 - the server is gone, whatever botocore makes of it
                    return
                accepted.append(name)

        with ThreadPoolExecutor(4) as pool:
            workers = [pool.submit(send, worker) for worker in range(4)]
            wait_until(lambda: len(accepted) >= 200, "200 accepted events", 60.0)
            server.process.kill()
            for worker in workers:
                worker.result(timeout=60)
        server.process.communicate(timeout=20)
        server.start()
        kept = {row["event_id"] for row in server.rows("events")}
        assert set(accepted) <= kept
        # A call without an answer may have been kept or not; there was one a worker at most.
        assert len(kept) <= len(accepted) + 4
        put(server.events, event(accepted[0], sentAt=77), userId="u0")
        stats = server.stats()
        assert (stats["accepted_events"], stats["duplicates_ignored"]) == (len(kept), 1)


def test_it_stops_cleanly_when_told(tmp_path: Path) -> None:
    """SIGTERM, also while a call is held: exit code 0, no traceback, everything kept."""
    with running(tmp_path) as server:
        put(server.events, event("before"))
        server.use_faults({"operation": "PutEvents", "kind": "timeout", "seconds": 300})
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(put, server.events, event("held"))
            wait_until(
                lambda: server.stats()["operations"]["PutEvents"]["faults"] == {"timeout": 1},
                "the held call",
                10.0,
            )
            started = time.monotonic()
            code, output = server.stop()
            assert isinstance(held.exception(timeout=10), ConnectionClosedError)
        assert code == 0
        assert time.monotonic() - started < 8.0
        assert "Traceback" not in output
        server.start()
        assert [row["event_id"] for row in server.rows("events")] == ["before"]


def test_it_listens_on_loopback_only(server: Server) -> None:
    """No other address of this machine answers on its port."""
    listening = Path("/proc/net/tcp")
    if not listening.exists():
        pytest.skip("needs /proc")
    wanted = f":{server.port:04X}"
    lines = [line.split() for line in listening.read_text().splitlines()[1:]]
    addresses = {line[1] for line in lines if line[1].endswith(wanted) and line[3] == "0A"}
    assert addresses == {f"0100007F{wanted}"}


def start_and_fail(*options: str) -> str:
    """The one line on stderr of a start that must fail with exit code 2."""
    command = [sys.executable, "-m", "emulators.personalize", *options]
    ended = subprocess.run(
        command,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


def test_a_port_in_use_is_one_clear_line(server: Server, tmp_path: Path) -> None:
    """With the number and the setting that changes it; exit code 2."""
    line = start_and_fail("--port", str(server.port), "--data", str(tmp_path))
    assert f"port {server.port}" in line
    assert "--port" in line


def test_a_data_folder_in_use_is_one_clear_line(server: Server) -> None:
    """Two processes never write one folder."""
    line = start_and_fail("--port", str(free_port()), "--data", str(server.data))
    assert str(server.data) in line


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--quota", "put_event=1"), "put_event=1"),
        (("--faults", "/nonexistent/plan.json"), "/nonexistent/plan.json"),
        (("--credentials", "local"), "KEY:SECRET"),
    ],
)
def test_a_mistake_in_the_options_is_one_clear_line(
    tmp_path: Path, options: tuple[str, ...], expected: str
) -> None:
    """What was wrong, as it was written."""
    line = start_and_fail("--port", str(free_port()), "--data", str(tmp_path), *options)
    assert expected in line
