"""The contract of the Personalize emulator, tested with boto3 against its process.

All other tests rely on the emulator. tests/unit/emulators tests the rules for single requests.
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
    ANSWER_SECONDS,
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
    """One process for the tests that only add data, without quotas of users and items."""
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
    """An event whose time is derived from its id: two ids are never the same interaction."""
    sent_at = 1_763_000_000 + _numbers.setdefault(event_id, len(_numbers))
    return {"eventId": event_id, "eventType": "play", "itemId": "s1", "sentAt": sent_at, **members}


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


def put_items(client: Any, *items: str) -> None:
    """The catalogue has other tests' items: those that it lacks would not be recommended."""
    client.put_items(datasetArn=ITEMS, items=[{"itemId": item} for item in items])


def recommended(server: Server, user: str, count: int = 25) -> list[str]:
    answer = server.runtime.get_recommendations(campaignArn=CAMPAIGN, userId=user, numResults=count)
    return [item["itemId"] for item in answer["itemList"]]


# --- PutEvents ---------------------------------------------------------------------------------


def test_an_accepted_event_is_stored_with_all_members(server: Server) -> None:
    """As boto3 sends them, with times in milliseconds and the time of acceptance."""
    before = int(time.time() * 1000)
    answer = put(
        server.events,
        event(
            "complete",
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
    (row,) = [row for row in server.rows("events") if row["event_id"] == "complete"]
    assert before <= row.pop("accepted_at") <= int(time.time() * 1000)
    del row["rowid"]
    assert row == {
        "event_id": "complete",
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
    """botocore sends both."""
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


def test_ids_of_users_are_not_repeated(server: Server) -> None:
    """By the message for one that is too long; 256 characters are not."""
    put(server.events, event("limits"), userId="u" * 256, sessionId="s" * 256)
    message = refused(lambda: put(server.events, event("x"), userId="u" * 257))[2]
    assert "'userId'" in message
    assert "uuu" not in message


def test_an_invalid_event_refuses_the_call(server: Server) -> None:
    """The valid events of the same call are not stored either."""
    before = server.stats()["accepted_events"]
    invalid = event("forbidden", properties='{"EVENTTYPE": "x"}')
    code, _, message = refused(lambda: put(server.events, event("valid"), invalid))
    assert code == "InvalidInputException"
    assert "'EVENTTYPE' can't be included in 'eventList.2.member.properties'" in message
    assert server.stats()["accepted_events"] == before


def test_a_repeated_event_id_is_accepted_and_ignored(server: Server) -> None:
    """The response is 200; the first event stays, and its repetitions are counted."""
    before = server.stats()
    put(server.events, event("repeated", itemId="first"))
    put(server.events, event("repeated", itemId="second"), event("repeated", itemId="third"))
    (row,) = [row for row in server.rows("events") if row["event_id"] == "repeated"]
    assert (row["item_id"], row["duplicates"]) == ("first", 2)
    after = server.stats()
    assert after["accepted_events"] == before["accepted_events"] + 1
    assert after["duplicates_ignored"] == before["duplicates_ignored"] + 2


def test_the_same_interaction_with_two_ids_is_stored_once(server: Server) -> None:
    """With the same user, time and properties; the ignored event has the id of the stored one."""
    before = server.stats()["identical_ignored"]
    put(server.events, event("same-a", sentAt=1.5), event("same-b", sentAt=1.5))
    put(server.events, event("same-c", sentAt=1.5), userId="another user")
    (row,) = [row for row in server.rows("ignored") if row["event_id"] == "same-b"]
    assert (row["reason"], row["same_as"]) == ("identical", "same-a")
    assert server.stats()["identical_ignored"] == before + 1


def test_events_of_the_session_null_are_accepted_and_ignored(server: Server) -> None:
    """As in the service (aws/aws-sdk-js#3371); the emulator counts them."""
    before = server.stats()
    put(server.events, event("null-session"), sessionId="null")
    after = server.stats()
    assert after["accepted_events"] == before["accepted_events"]
    assert after["ignored_null_session"] == before["ignored_null_session"] + 1


def test_an_event_without_an_id_gets_one(server: Server) -> None:
    """Two events without an id get different ones."""
    without_id = event("without-id", itemId="without-id-item")
    del without_id["eventId"]
    put(server.events, without_id, {**without_id, "sentAt": 2})
    ids = {row["event_id"] for row in server.rows("events") if row["item_id"] == "without-id-item"}
    assert len(ids) == 2


# --- PutUsers, PutItems, actions ---------------------------------------------------------------


def test_a_later_user_or_item_replaces_the_earlier_one(server: Server) -> None:
    """With all its properties: one that the later record omits is removed."""
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


def test_records_have_limits(server: Server) -> None:
    """Ten in a call, properties of 24,000 characters for users and 32,000 for items."""
    client = server.events

    def users(count: int, length: int) -> object:
        text = json.dumps({"a": "x" * (length - 8)}, separators=(",", ":"))
        assert len(text) == length
        users = [{"userId": f"u{n}", "properties": text} for n in range(count)]
        return client.put_users(datasetArn=USERS, users=users)

    users(10, 24_000)
    assert "'users'" in refused(lambda: users(11, 100))[2]
    assert "properties" in refused(lambda: users(1, 24_001))[2]
    properties = json.dumps({"title": "x" * 32_000})
    item = {"itemId": "large", "properties": properties}
    assert "properties" in refused(lambda: client.put_items(datasetArn=ITEMS, items=[item]))[2]


def test_actions_are_validated_and_not_offered(server: Server) -> None:
    """A valid call gets an error of the model with the reason."""
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


def test_a_play_changes_recommendations_at_once(tmp_path: Path) -> None:
    """The first response after the play was accepted depends on it; also after a restart."""
    with running(tmp_path) as server:
        client = server.events
        for genre in ("rock", "jazz"):
            for fan in range(5):
                plays = [event(f"{genre}{fan}{n}", itemId=f"{genre}-{n}") for n in range(4)]
                put(client, *plays, userId=f"{genre}-fan-{fan}", sessionId=f"{genre}{fan}")
        put(client, event("extra", itemId="rock-0"), userId="rock-fan-9")
        assert recommended(server, "new", 1) == ["rock-0"]
        put(client, event("new-play", itemId="jazz-2"), userId="new")
        assert set(recommended(server, "new", 3)) == {"jazz-0", "jazz-1", "jazz-3"}
        put(client, event("anonymous", itemId="rock-2"), userId="x", sessionId="y")
        put(client, event("late-play", itemId="rock-2"), userId="new")
        assert set(recommended(server, "new", 3)) == {"rock-0", "rock-1", "rock-3"}
        before = {user: recommended(server, user, 500) for user in ("new", "unknown", "jazz-fan-1")}
        server.stop(signal.SIGKILL)
        server.start()
        assert before == {user: recommended(server, user, 500) for user in before}


def test_a_response_has_the_shape_of_the_service(server: Server) -> None:
    """25 results by default, scores with a sum of at most 1, an id for later events."""
    client = server.events
    for page in range(4):
        items = [f"shape-{page}{n}" for n in range(10)]
        put_items(client, *items)
        put(client, *(event(item, itemId=item) for item in items))
    answer = server.runtime.get_recommendations(campaignArn=CAMPAIGN, userId="shape-unknown")
    assert len(answer["itemList"]) == 25
    assert sum(item["score"] for item in answer["itemList"]) <= 1.0
    assert len(recommended(server, "u1", 500)) > 30
    put(client, event("feedback", recommendationId=answer["recommendationId"]))


def test_anonymous_events_count_for_the_session(server: Server) -> None:
    """Its id is the user id of a request for recommendations, as in the service."""
    client = server.events
    put_items(client, "anon-0", "anon-1")
    for fan in range(3):
        pair = [event(f"anon{fan}{n}", itemId=f"anon-{n}") for n in range(2)]
        put(client, *pair, userId=f"anon-fan-{fan}")
    client.put_events(
        trackingId=TRACKING_ID, sessionId="anonymous", eventList=[event("anon", itemId="anon-0")]
    )
    assert recommended(server, "anonymous", 1) == ["anon-1"]


def test_a_ranking_has_every_item_once_and_unknown_items_last(server: Server) -> None:
    """Up to 500 items."""
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
def test_invalid_queries_are_refused(server: Server, members: dict[str, Any], code: str) -> None:
    """Limits, unknown campaigns, and members that are not offered."""
    query = {"campaignArn": CAMPAIGN, "userId": "u1", **members}
    assert refused(lambda: server.runtime.get_recommendations(**query))[0] == code


# --- the wire format ---------------------------------------------------------------------------


def test_errors_have_the_wire_format_of_the_service(server: Server) -> None:
    """The type in a header and in the body, and a request id."""
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
    status, body, _ = server.request("/unknown", "POST", {})
    assert (status, json.loads(body)["__type"]) == (404, "UnknownOperationException")


def test_wrong_credentials_have_different_errors(tmp_path: Path) -> None:
    """Unknown key, key without permission, and wrong secret: a client must stop for each."""
    options = (
        "--credentials",
        "local:local",
        "--credentials",
        "known:other",
        "--denied-key",
        "low",
    )
    with running(tmp_path, *options, "--credentials", "low:local") as server:

        def code(key: str) -> tuple[str, int]:
            client = server.client("personalize-events", key=key)
            return refused(lambda: put(client, event("x")))[:2]

        put(server.events, event("accepted"))
        assert recommended(server, "u1") == ["s1"]
        assert code("unknown") == ("UnrecognizedClientException", 403)
        assert code("low") == ("AccessDeniedException", 403)
        assert code("known") == ("InvalidSignatureException", 403)
        assert server.stats()["operations"]["PutEvents"]["refused"] == 3


# --- quotas ------------------------------------------------------------------------------------

ACCEPTED, THROTTLED = (200, ""), (400, "ThrottlingException")


def call_status(call: Callable[[], object]) -> tuple[int, str]:
    """The HTTP status of a call, and the error code, which is empty for an accepted call."""
    try:
        call()
    except ClientError as error:
        return answer_to(error)
    return ACCEPTED


def test_calls_above_the_quota_are_throttled(tmp_path: Path) -> None:
    """HTTP 400 with the code ThrottlingException; nothing of the call is stored."""
    with running(tmp_path, "--quota", "put_events=1") as server:
        client = server.events
        statuses = [call_status(partial(put, client, event(f"quota-{n}"))) for n in range(20)]
        assert statuses[0] == ACCEPTED
        assert set(statuses) == {ACCEPTED, THROTTLED}
        stats = server.stats()
        assert stats["accepted_events"] == statuses.count(ACCEPTED)
        assert stats["operations"]["PutEvents"]["throttled"] == statuses.count(THROTTLED)


def test_users_and_items_have_ten_calls_a_second(tmp_path: Path) -> None:
    """The service's default quotas, separate for users and items; later calls pass again."""
    with running(tmp_path) as server:
        client = server.events

        def put_user() -> object:
            return client.put_users(datasetArn=USERS, users=[{"userId": "u"}])

        started = time.monotonic()
        # Side by side: one caller alone may be slower than the quota on a busy machine.
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(call_status, [put_user] * 80))
        seconds = time.monotonic() - started
        assert set(statuses) == {ACCEPTED, THROTTLED}
        assert statuses.count(ACCEPTED) <= 10 + 10 * seconds + 1
        client.put_items(datasetArn=ITEMS, items=[{"itemId": "i"}])
        wait_until(lambda: call_status(put_user) == ACCEPTED, "a call within the quota")


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
def test_an_injected_error_is_that_of_the_service(
    server: Server, kind: str, code: str, status: int
) -> None:
    """With its code and status; nothing is stored, and the next call passes."""
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


def wait_until_fired(server: Server) -> None:
    """Wait until the service has handled the call that its client has given up."""

    def is_fired() -> bool:
        (rule,) = json.loads(server.request("/_local/faults")[1])["rules"]
        return bool(rule["fired"] == 1)

    wait_until(is_fired, "the fault has happened")


def test_a_timeout_holds_the_call_without_a_response(server: Server) -> None:
    """Until the client closes the connection; nothing is stored."""
    server.use_faults({"operation": "PutEvents", "kind": "timeout", "seconds": 30, "first": 1})
    before = server.stats()["accepted_events"]
    client = server.client("personalize-events", timeout=0.3)
    with pytest.raises(ReadTimeoutError):
        put(client, event("timeout"))
    wait_until_fired(server)
    assert server.stats()["accepted_events"] == before


def test_a_timeout_ends_after_its_seconds(server: Server) -> None:
    """The held connection is closed without a response."""
    server.use_faults({"operation": "PutEvents", "kind": "timeout", "seconds": 0.2, "first": 1})
    with pytest.raises(ConnectionClosedError):
        put(server.events, event("held"))


@pytest.mark.parametrize("kind", ["error500", "error503", "timeout", "disconnect"])
def test_a_failure_after_the_write_leaves_its_events(server: Server, kind: str) -> None:
    """The client sends them again, and the eventId prevents a duplicate."""
    rule = {"operation": "PutEvents", "kind": kind, "after_write": True, "first": 1}
    server.use_faults(rule | ({"seconds": 30} if kind == "timeout" else {}))
    name = f"after-{kind}"
    client = server.client("personalize-events", timeout=0.5)
    with pytest.raises((ClientError, ReadTimeoutError, ConnectionClosedError)):
        put(client, event(name))
    wait_until_fired(server)
    put(server.events, event(name))
    (row,) = [row for row in server.rows("events") if row["event_id"] == name]
    assert row["duplicates"] == 1


def test_a_partial_failure_stores_the_first_half(server: Server) -> None:
    """The response is 500; the second call stores the other half."""
    server.use_faults({"operation": "PutEvents", "kind": "partial", "first": 1})
    events = [event(f"half-{n}") for n in range(5)]
    assert refused(lambda: put(server.events, *events))[:2] == ("InternalFailure", 500)

    def duplicates() -> dict[str, int]:
        rows = [row for row in server.rows("events") if row["event_id"].startswith("half-")]
        return {row["event_id"]: row["duplicates"] for row in rows}

    assert duplicates() == {"half-0": 0, "half-1": 0}
    put(server.events, *events)
    assert duplicates() == {"half-0": 1, "half-1": 1, "half-2": 0, "half-3": 0, "half-4": 0}


def test_a_slow_call_has_a_late_response(server: Server) -> None:
    """It does not delay other calls."""
    server.use_faults({"operation": "PutEvents", "kind": "slow", "seconds": 1.0})

    def is_overtaken() -> bool:
        started = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(put, server.events, event("slow"))
            recommended(server, "u1")
            overtaken = not slow.done()
            slow.result()
        assert time.monotonic() - started >= 1.0
        return overtaken

    wait_until(is_overtaken, "another call is faster than the slow one")


def test_an_invalid_plan_is_refused(server: Server) -> None:
    """With the reason; the previous plan stays."""
    server.use_faults({"operation": "PutItems", "kind": "slow"})
    invalid = {"rules": [{"operation": "PutEvent", "kind": "slow"}]}
    status, body, _ = server.request("/_local/faults", "PUT", invalid)
    assert status == 400
    assert "PutEvent" in json.loads(body)["message"]
    assert len(json.loads(server.request("/_local/faults")[1])["rules"]) == 1
    assert json.loads(server.request("/_local/faults", "DELETE")[1])["rules"] == []


def test_a_fault_plan_can_be_given_at_the_start(tmp_path: Path) -> None:
    """With the option --faults."""
    plan = tmp_path / "faults.json"
    plan.write_text('{"seed": 1, "rules": [{"operation": "PutEvents", "kind": "throttle"}]}')
    with running(tmp_path / "data", "--faults", str(plan)) as server:
        assert refused(lambda: put(server.events, event("x")))[0] == "ThrottlingException"


# --- the process -------------------------------------------------------------------------------


def test_accepted_events_are_stored_after_a_kill(tmp_path: Path) -> None:
    """kill -9 during concurrent calls: all events with the response 200 are stored afterwards."""
    with running(tmp_path) as server:
        accepted: list[str] = []

        client = server.events  # created before the threads: boto3's session is not thread-safe

        def send(worker: int) -> None:
            for number in range(10_000):
                name = f"kill-{worker}-{number}"
                try:
                    put(client, event(name, sentAt=number), userId=f"u{worker}")
                except Exception:  # noqa: BLE001 - the process ended; botocore has several errors for it
                    return
                accepted.append(name)

        with ThreadPoolExecutor(4) as pool:
            workers = [pool.submit(send, worker) for worker in range(4)]
            wait_until(lambda: len(accepted) >= 200, "200 accepted events")
            server.process.kill()
            for worker in workers:
                worker.result(timeout=ANSWER_SECONDS)
        server.process.communicate(timeout=ANSWER_SECONDS)
        server.start()
        stored = {row["event_id"] for row in server.rows("events")}
        assert set(accepted) <= stored
        # Each worker has at most one call without a response; its event may be stored or not.
        assert len(stored) <= len(accepted) + 4
        put(server.events, event(accepted[0], sentAt=77), userId="u0")
        stats = server.stats()
        assert (stats["accepted_events"], stats["duplicates_ignored"]) == (len(stored), 1)


def test_sigterm_stops_the_process_cleanly(tmp_path: Path) -> None:
    """Also while a call is held: exit code 0, no traceback, and all accepted events are stored."""
    with running(tmp_path) as server:
        put(server.events, event("before"))
        server.use_faults({"operation": "PutEvents", "kind": "timeout", "seconds": 300})
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(put, server.events, event("held"))
            wait_until(
                lambda: server.stats()["operations"]["PutEvents"]["faults"] == {"timeout": 1},
                "the held call",
            )
            code, output = server.stop()
            assert isinstance(held.exception(ANSWER_SECONDS), ConnectionClosedError)
        assert code == 0
        assert "Traceback" not in output
        server.start()
        assert [row["event_id"] for row in server.rows("events")] == ["before"]


def test_it_listens_on_loopback_only(server: Server) -> None:
    """The port is open on no other address of the machine."""
    listening = Path("/proc/net/tcp")
    if not listening.exists():
        pytest.skip("needs /proc")
    port = f":{server.port:04X}"
    lines = [line.split() for line in listening.read_text().splitlines()[1:]]
    addresses = {line[1] for line in lines if line[1].endswith(port) and line[3] == "0A"}
    assert addresses == {f"0100007F{port}"}


def start_and_fail(*options: str) -> str:
    """Starts the emulator with wrong options; returns the line on stderr. Asserts exit code 2."""
    command = [sys.executable, "-m", "emulators.personalize", *options]
    completed = subprocess.run(
        command,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=ANSWER_SECONDS,
        env=dict(os.environ),
        check=False,
    )
    assert completed.returncode == 2, completed.stderr
    (line,) = completed.stderr.splitlines()
    return line


def test_a_port_in_use_is_reported_in_one_line(server: Server, tmp_path: Path) -> None:
    """With the number, and the option that changes it."""
    line = start_and_fail("--port", str(server.port), "--data", str(tmp_path))
    assert f"port {server.port}" in line
    assert "--port" in line


def test_a_data_folder_in_use_is_reported_in_one_line(server: Server) -> None:
    """Two processes cannot write to the same folder."""
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
def test_a_wrong_option_is_reported_in_one_line(
    tmp_path: Path, options: tuple[str, ...], expected: str
) -> None:
    """With the wrong value."""
    line = start_and_fail("--port", str(free_port()), "--data", str(tmp_path), *options)
    assert expected in line


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}],
    ids=lambda headers: next(iter(headers)),
)
def test_pages_of_other_sites_are_refused(server: Server, headers: dict[str, str]) -> None:
    """Also below /_local/: a page could read what is stored, or make calls fail."""
    for path, method in (("/_local/events", "GET"), ("/_local/faults", "PUT"), ("/events", "POST")):
        status, body, answered = server.request(path, method, {"rules": []}, **headers)
        assert (status, "refused" in json.loads(body)["message"]) == (403, True)
        assert "Access-Control-Allow-Origin" not in answered
