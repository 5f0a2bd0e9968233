"""Interactions, the item streams and what AWS has around handlers, without servers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp.test_utils import TestClient, TestServer
from botocore.exceptions import ClientError
from confluent_kafka import KafkaError
from yarl import URL

from connectors.glue.registry import RegistryError, RegistryUnavailable
from connectors.stores.dynamodb import to_item
from deploy.local.lambda_host import event_source
from deploy.local.lambda_host.event_source import FINISHED, Checkpoints, StreamMapping
from deploy.local.lambda_host.gateway import application, event_of, handlers
from schemas.codec import Decoder, Encoder, RegisteredSchema, SchemaLookup
from schemas.errors import SettingError
from schemas.model import Contract, load_contracts
from services import interactions, item_stream, items, publishing, user_store, users
from services.http import not_found, request_of, respond
from services.interactions import Interactions
from services.outbox import _in_order
from services.publishing import Message, TopicPublisher
from services.settings import ServiceSettings
from tests.support.waiting import LIMIT_SECONDS

CONTRACTS = load_contracts()
NOW_MS = 1_790_000_000_000
ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/tunemesh-songs/stream/2026-01-01T00:00:00.000"
EVENT: dict[str, Any] = {
    "event_id": "e1",
    "session_id": "x",
    "item_id": "s1",
    "event_type": "play",
    "occurred_at": NOW_MS,
}


class Topics:
    """Takes messages but those whose keys are in ``refused``."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.taken: list[Message] = []

    def publish(self, messages: Sequence[Message], seconds: float) -> list[str | None]:
        problems: list[str | None] = []
        for message in messages:
            if message.key in self.refused:
                problems.append("refused by broker-1")
            else:
                self.taken.append(message)
                problems.append(None)
        return problems


class AnyVersion(SchemaLookup):
    """The schema of dead letters, under every id."""

    def by_id(self, version_id: bytes) -> RegisteredSchema:
        contract = CONTRACTS["dead-letters"]
        return RegisteredSchema(contract.subject, contract.newest.definition)


def post(topics: Topics, body: Any) -> tuple[int, Any]:
    service = Interactions(CONTRACTS["interactions"], topics, lambda: NOW_MS)
    answer = respond(
        service.serve, event_of("POST", "/interactions", {}, json.dumps(body).encode())
    )
    return answer["statusCode"], json.loads(answer["body"])


def test_an_event_that_the_broker_does_not_take_may_be_sent_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """503 for one alone or when it is all of them; among others it is one of the errors.

    The broker's own text is in the log alone.
    """
    broken = {**EVENT, "user_id": "away"}

    assert post(Topics("away"), broken)[0] == 503
    assert post(Topics("away"), [broken])[0] == 503
    status, answer = post(Topics("away"), [EVENT, broken])
    assert (status, answer["accepted"]) == (207, 1)
    assert [(e["index"], e["reason"]) for e in answer["errors"]] == [(1, "not_published")]
    assert "broker-1" not in str(answer)
    assert post(Topics("away"), [broken, {}])[0] == 400
    assert "refused by broker-1" in caplog.text
    assert "away" not in caplog.text


def test_a_request_has_from_one_to_five_hundred_events() -> None:
    """More are refused as a whole, before any is published."""
    topics = Topics()
    status, answer = post(topics, [EVENT] * 501)
    assert (status, answer["error"]["reason"]) == (400, "wrong_count")
    assert topics.taken == []
    assert post(topics, [EVENT] * 500)[0] == 202
    assert len(topics.taken) == 500


def change(number: int, name: str, song: dict[str, Any], table: str = "songs") -> dict[str, Any]:
    content: dict[str, Any] = {
        "Keys": {"song_id": {"S": song["song_id"]}},
        "SequenceNumber": str(number),
    }
    if name != "REMOVE":
        content["NewImage"] = to_item(song)
    arn = ARN.replace("songs", table)
    return {"eventName": name, "eventSourceARN": arn, "dynamodb": content}


def test_a_batch_of_changes_is_published_up_to_the_first_that_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The answer names that one; the mapping comes again from there."""
    songs: list[dict[str, Any]] = [
        {"song_id": key, "title": "T", "genres": []} for key in ("a", "b", "c")
    ]
    records = [change(number, "INSERT", song) for number, song in enumerate(songs, 10)]

    answer = item_stream.publish(records, Topics("b"))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "11"}]}
    assert "change 11 of songs is not published" in caplog.text
    assert "'b'" not in caplog.text
    topics = Topics()
    assert item_stream.publish(records, topics) == {"batchItemFailures": []}
    assert [message.key for message in topics.taken] == ["a", "b", "c"]
    nulls = dict.fromkeys(("artist", "duration_seconds", "released_at", "updated_at"))
    assert topics.taken[0].record == {**songs[0], **nulls, "deleted": False}


def test_a_removed_item_is_a_tombstone_and_an_unknown_table_is_an_error() -> None:
    """A stream that no domain has is a mistake in the deployment, not a record to drop."""
    topics = Topics()
    item_stream.publish([change(1, "REMOVE", {"song_id": "a"})], topics)
    assert [(m.key, m.record) for m in topics.taken] == [("a", None)]
    with pytest.raises(item_stream.UnknownTable):
        item_stream.publish([change(1, "REMOVE", {"song_id": "a"}, table="nothing")], topics)


MALFORMED_IMAGES: list[tuple[dict[str, Any], str, str]] = [
    ({"title": {"NS": ["1"]}}, "wrong_type", "'title'"),
    ({"title": {"B": b"\xff"}}, "wrong_type", "'title'"),
    ({"duration_seconds": {"N": "1.5"}}, "wrong_type", "'duration_seconds'"),
    ({"title": {"NULL": True}}, "missing_field", "'title'"),
    ({"title": {"S": "x" * 300_000}}, "oversize", "the record"),
]
MALFORMED_CHANGES = [
    ({"NewImage": {**to_item({"song_id": "s2", "title": "T", "genres": []}), **image}}, *expected)
    for image, *expected in MALFORMED_IMAGES
] + [({"Keys": {"song_id": {"S": "k" * 257}}}, "invalid_value", "'song_id'")]


@pytest.mark.parametrize(("content", "reason", "place"), MALFORMED_CHANGES)
def test_a_change_that_does_not_fit_is_a_dead_letter_in_its_order(
    content: dict[str, Any], reason: str, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are published; repeated, it is the same dead letter."""
    bad = change(11, "MODIFY" if "NewImage" in content else "REMOVE", {"song_id": "s2"})
    bad["dynamodb"] |= {"ApproximateCreationDateTime": 1_790_000_000.5, **content}
    song = {"song_id": "s1", "title": "T", "genres": []}
    batch = [change(10, "INSERT", song), bad, change(12, "REMOVE", song)]
    offsets = set()
    for _ in range(2):
        topics = Topics()
        assert item_stream.publish(batch, topics) == {"batchItemFailures": []}
        assert [m.contract.name for m in topics.taken] == ["songs", "dead-letters", "songs"]
        message = topics.taken[1]
        assert message.record is not None
        letter = Decoder(CONTRACTS["dead-letters"], AnyVersion()).decode(
            Encoder(CONTRACTS["dead-letters"], UUID(int=1)).encode(message.record)
        )
        offsets.add(letter["offset"])
    assert len(offsets) == 1
    assert (letter["topic"], letter["partition"], letter["step"]) == ("songs", -1, "publish")
    assert (letter["error_code"], letter["timestamp"]) == (reason, 1_790_000_000_500)
    assert letter["key"] == message.key.encode()
    if "NewImage" in content:
        assert json.loads(letter["payload"]).keys() == content["NewImage"].keys()
    assert place in letter["message"]
    for value in ("1.5", "xxx", "kkk", "s2"):
        assert value not in letter["message"] + caplog.text


def test_a_dead_letter_that_the_broker_does_not_take_is_repeated() -> None:
    """Nothing behind it counts as published."""
    bad = change(11, "MODIFY", {"song_id": "s2"})
    later = change(12, "REMOVE", {"song_id": "s1"})
    answer = item_stream.publish([bad, later], Topics("s2"))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "11"}]}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [({"Keys": {"id": {"S": "a"}}}, "song_id"), ({"Keys": {"song_id": {"N": "1"}}}, "song_id")],
)
def test_a_table_that_is_not_as_the_domain_has_it_stops_its_stream(
    changed: dict[str, Any], expected: str
) -> None:
    """A mistake in the deployment: every change would be a dead letter."""
    one = change(1, "REMOVE", {"song_id": "a"})
    one["dynamodb"] |= changed
    with pytest.raises(item_stream.UnknownTable, match=expected):
        item_stream.publish([one], Topics())
    with pytest.raises(item_stream.UnknownTable, match="StreamViewType"):
        item_stream.publish(
            [change(1, "REMOVE", {"song_id": "a"}) | {"eventName": "MODIFY"}], Topics()
        )


def test_what_followed_a_failed_change_of_its_key_is_sent_again_behind_it() -> None:
    """Other keys are not held up."""
    rows: list[tuple[Any, ...]] = [(n, "users", key, {}) for n, key in enumerate("aba", 1)]
    assert _in_order(rows, [None, None, None]) == ([1, 2, 3], None)
    published, problem = _in_order(rows, ["lost", None, None])
    assert published == [2]
    assert problem == "change 1 of users: lost"


def test_every_domain_has_its_handler_by_its_role() -> None:
    """A new item domain has the items' one without code."""
    found = handlers(CONTRACTS)
    assert found["users"] is users.handler
    assert found["songs"] is items.handler
    assert found["podcasts"] is items.handler
    assert found["interactions"] is interactions.handler
    assert set(found) == {"users", "songs", "podcasts", "interactions"}


@pytest.mark.parametrize("path", ["/songs/%ff", "/songs/a%C3", "/%ff"])
def test_a_path_that_is_not_utf8_is_a_bad_request(path: str) -> None:
    """With U+FFFD instead, different ids would be one."""

    async def status() -> int:
        server = TestServer(application(CONTRACTS))
        async with TestClient(server) as client, client.get(URL(path, encoded=True)) as answer:
            return answer.status

    assert asyncio.run(status()) == HTTPStatus.BAD_REQUEST


def test_the_gateways_event_is_the_request() -> None:
    """Path, id, headers and body arrive as they were sent, bytes that are no text too."""
    event = event_of("PUT", "/songs/a%2Fb", {"If-Match": '"5"'}, b"\xff\x00")
    request = request_of(event)
    assert (request.method, request.domain, request.id) == ("PUT", "songs", "a/b")
    assert request.headers == {"if-match": '"5"'}
    assert request.body == b"\xff\x00"
    plain = request_of(event_of("GET", "/songs", {}, b""))
    assert (plain.domain, plain.id, plain.body) == ("songs", None, b"")


def test_a_missing_or_invalid_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a handler does not need may be missing; the message has the variable."""
    for name in ("TUNEMESH_DATABASE", "TUNEMESH_BOOTSTRAP_SERVERS", "TUNEMESH_KAFKA_PROPERTIES"):
        monkeypatch.delenv(name, raising=False)
    settings = ServiceSettings.from_environment()
    with pytest.raises(SettingError, match="TUNEMESH_DATABASE is missing; expected the users' dat"):
        _ = settings.required_database
    with pytest.raises(SettingError, match="TUNEMESH_BOOTSTRAP_SERVERS is missing; expected Kafka"):
        settings.publisher()
    for text in ("[]", "{", "7"):
        monkeypatch.setenv("TUNEMESH_KAFKA_PROPERTIES", text)
        with pytest.raises(SettingError, match=r"TUNEMESH_KAFKA_PROPERTIES .* a JSON object"):
            ServiceSettings.from_environment()
    monkeypatch.setenv("TUNEMESH_KAFKA_PROPERTIES", '{"b": 1, "a": "x"}')
    assert ServiceSettings.from_environment().kafka_properties == (("a", "x"), ("b", "1"))


def test_a_password_is_in_no_error_and_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Malformed properties, and a connection string that libpq does not take."""
    monkeypatch.setenv("TUNEMESH_KAFKA_PROPERTIES", '{"sasl.password": "hunter2"')
    with pytest.raises(SettingError, match="TUNEMESH_KAFKA_PROPERTIES") as malformed:
        ServiceSettings.from_environment()
    monkeypatch.setenv("TUNEMESH_KAFKA_PROPERTIES", '{"sasl.password": "hunter2"}')
    monkeypatch.setenv("TUNEMESH_DATABASE", "postgresql://app:hunter2 !@db/users")
    settings = ServiceSettings.from_environment()
    with pytest.raises(SettingError, match="TUNEMESH_DATABASE") as invalid:
        user_store.connect(settings.required_database)
    for text in (str(malformed.value), str(invalid.value), repr(settings)):
        assert "hunter2" not in text


class Denying:
    """A producer of librdkafka whose broker denies every message."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self.waiting: list[Any] = []

    def produce(self, topic: str, *, on_delivery: Any, **record: Any) -> None:
        self.waiting.append(on_delivery)

    def poll(self, seconds: float) -> None:
        while self.waiting:
            self.waiting.pop()(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), None)

    def purge(self) -> None:
        """Nothing is under way."""


class Registry:
    """Answers with an id, or with an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def version_id(self, contract: Contract) -> UUID:
        if self.error is not None:
            raise self.error
        return UUID(int=1)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RegistryUnavailable("arn:aws:glue:x does not answer"), 503),
        (RegistryError("role/x answers AccessDeniedException"), 500),
        (None, 500),  # the broker denies it
    ],
)
def test_what_is_denied_is_500_with_fixed_text_and_logged(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception | None,
    status: int,
) -> None:
    """Another attempt does not help; 503 is for servers that do not answer."""
    monkeypatch.setattr(publishing, "Producer", Denying)
    publisher = TopicPublisher("b:9092", Registry(error))
    service = Interactions(CONTRACTS["interactions"], publisher, lambda: NOW_MS)
    event = event_of("POST", "/interactions", {}, json.dumps(EVENT).encode())
    answer = respond(service.serve, event)
    assert answer["statusCode"] == status
    told = "authorization failed" if error is None else str(error)
    assert told in caplog.text
    assert told not in answer["body"]


class Streams:
    """A stream of two shards, a parent and its child, as DynamoDB Streams answers."""

    def __init__(self) -> None:
        self.shards = {"parent": [1, 2, 3], "child": [4, 5]}
        self.trimmed = False
        self.outdated: list[str] = []
        self.parent: dict[str, Any] = {"ShardId": "parent"}

    def list_streams(self, TableName: str) -> dict[str, Any]:
        return {"Streams": [{"StreamArn": ARN, "StreamLabel": "1"}]}

    def describe_stream(self, StreamArn: str, ExclusiveStartShardId: str = "") -> dict[str, Any]:
        if not ExclusiveStartShardId:
            child = {"ShardId": "child", "ParentShardId": "parent"}
            return {"StreamDescription": {"Shards": [child], "LastEvaluatedShardId": "child"}}
        return {"StreamDescription": {"Shards": [self.parent]}}

    def get_shard_iterator(
        self, StreamArn: str, ShardId: str, ShardIteratorType: str, SequenceNumber: str = "0"
    ) -> dict[str, Any]:
        if self.trimmed and ShardIteratorType == "AFTER_SEQUENCE_NUMBER":
            raise ClientError({"Error": {"Code": "TrimmedDataAccessException"}}, "GetShardIterator")
        return {"ShardIterator": f"{ShardId}:{SequenceNumber}"}

    def get_records(self, ShardIterator: str, Limit: int) -> dict[str, Any]:
        if self.outdated:
            raise ClientError({"Error": {"Code": self.outdated.pop()}}, "GetRecords")
        shard, _, after = ShardIterator.partition(":")
        numbers = [number for number in self.shards[shard] if number > int(after)][:2]
        records = [
            {
                "eventName": "INSERT",
                "dynamodb": {
                    "SequenceNumber": str(number),
                    "ApproximateCreationDateTime": datetime.fromtimestamp(number, UTC),
                },
            }
            for number in numbers
        ]
        last = max(numbers, default=int(after))
        if not numbers and shard == "parent":
            return {"Records": []}
        return {"Records": records, "NextShardIterator": f"{shard}:{last}"}


class Handler:
    """Takes changes until it has seen ``wanted`` of them; fails on demand."""

    def __init__(self, stop: threading.Event, wanted: int, failures: Sequence[str] = ()) -> None:
        self.stop = stop
        self.wanted = wanted
        self.failures = list(failures)
        self.seen: list[str] = []

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        numbers = [record["dynamodb"]["SequenceNumber"] for record in event["Records"]]
        json.dumps(event)  # as Lambda would get it
        failing = next((number for number in numbers if number in self.failures), None)
        if failing is not None:
            self.failures.remove(failing)
            self.seen += numbers[: numbers.index(failing)]
            return {"batchItemFailures": [{"itemIdentifier": failing}]}
        self.seen += numbers
        if len(self.seen) >= self.wanted:
            self.stop.set()
        return {"batchItemFailures": []}


def run_mapping(path: Path, streams: Streams, wanted: int, failures: Sequence[str] = ()) -> Handler:
    stop = threading.Event()
    handler = Handler(stop, wanted, failures)
    mapping = StreamMapping(streams, "tunemesh-songs", handler, Checkpoints(path), stop)
    thread = threading.Thread(target=mapping.run)
    thread.start()
    thread.join(LIMIT_SECONDS)
    assert not thread.is_alive()
    return handler


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints.json"


def test_a_stream_is_handed_on_in_order_parent_before_child(path: Path) -> None:
    """Each change once while nothing fails; the next start continues after the last."""
    streams = Streams()
    assert run_mapping(path, streams, 5).seen == ["1", "2", "3", "4", "5"]
    assert json.loads(path.read_text()) == {"parent": FINISHED, "child": "5"}

    streams.shards["child"] += [6, 7]
    assert run_mapping(path, streams, 2).seen == ["6", "7"]


def test_a_failed_change_comes_again_before_what_follows_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is passed over, nothing overtakes."""
    monkeypatch.setattr(event_source, "RETRY_SECONDS", 0.01)
    handler = run_mapping(path, Streams(), 5, failures=["2", "4"])
    assert handler.seen == ["1", "2", "3", "4", "5"]


def test_finished_shards_do_not_fill_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones are forgotten; a shard that is still read never is."""
    monkeypatch.setattr(event_source, "MAX_FINISHED_SHARDS", 3)
    checkpoints = Checkpoints(path)
    checkpoints.put("read", "7")
    for number in range(10):
        checkpoints.put(f"shard-{number}", "1")
        checkpoints.put(f"shard-{number}", FINISHED)
    kept = {"read": "7", **dict.fromkeys(("shard-7", "shard-8", "shard-9"), FINISHED)}
    assert json.loads(path.read_text()) == kept


def test_a_gap_in_a_stream_is_said_and_not_passed_in_silence(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream keeps a day; who was away longer has to publish the table anew."""
    streams = Streams()
    run_mapping(path, streams, 5)
    streams.trimmed = True
    streams.shards["child"] = [8, 9]
    assert run_mapping(path, streams, 2).seen == ["8", "9"]
    assert "never published" in caplog.text


def test_an_outdated_iterator_is_no_problem(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a table that has not changed for some time."""
    streams = Streams()
    streams.outdated = ["TrimmedDataAccessException", "ExpiredIteratorException"]
    seen = run_mapping(path, streams, 5).seen
    assert seen == ["1", "2", "3", "4", "5"]
    assert caplog.text == ""


def test_an_expired_shard_that_was_handled_to_its_end_has_no_gap(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of it was left to publish."""
    path.write_text(json.dumps({"parent": "3"}))
    streams = Streams()
    streams.trimmed = True
    streams.shards["parent"] = []
    streams.parent["SequenceNumberRange"] = {"EndingSequenceNumber": "3"}
    assert run_mapping(path, streams, 2).seen == ["4", "5"]
    assert caplog.text == ""


def test_a_path_without_a_domain_has_an_error_of_the_same_shape() -> None:
    """As every other error; HEAD has no body."""
    answer = not_found(event_of("GET", "/albums/a1", {}, b""))
    assert answer["statusCode"] == 404
    error = json.loads(answer["body"])["error"]
    message = "there is no domain 'albums'"
    assert error == {"reason": "not_found", "message": message, "field": "path"}
    head = not_found(event_of("HEAD", "/albums", {}, b""))
    assert (head["statusCode"], head.get("body")) == (404, None)
