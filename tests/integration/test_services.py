"""Promises of the back ends on a real PostgreSQL, DynamoDB Local and Kafka.

What is committed is published at least once and in order per key, whatever is killed in between;
what is not committed never is.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from cli import main
from connectors.aws.sdk import sdk_client
from connectors.clock import now_ms
from connectors.glue.registry import GlueRegistry
from connectors.products.location import Location
from connectors.products.manifest import read_manifest
from connectors.products.reader import ProductReader
from connectors.stores.dynamodb import ItemReader, table_name
from deploy.local import application, dynamodb, kafka, platform, postgresql, process
from deploy.local.application import connect_registry, topic_spec
from deploy.local.lambda_host.gateway import event_of
from deploy.local.settings import (
    BUCKET,
    DATASETS,
    DELIVERY_PREFIX,
    REGION,
    TRACKING_ID,
    LocalSettings,
)
from schemas.codec import Decoder
from schemas.model import BUILT_IN_FOLDER, Contract, Contracts, load_contracts
from services.domain import Domain
from services.http import respond
from services.item_store import ItemStore
from services.outbox import OutboxPublisher
from services.publishing import Message, TopicPublisher
from services.records import Rules
from services.user_store import UserStore, connect
from tests.support import ports
from tests.support.java_serializer import java_producer
from tests.support.servers import listening_addresses
from tests.support.waiting import wait_until
from verification.fill import fill
from verification.generator import GeneratedHour, Hour
from verification.positions import TopicReader

PARTS = ("kafka", "aws", "postgresql", "dynamodb", "services")

Published = tuple[str, dict[str, Any] | None]
"""A record as it is on a topic: its key, and what is in it; None for a tombstone."""


def audiobooks(folder: Path) -> Path:
    """A mesh with one more item domain: a copy of songs under another name, and no code."""
    source = BUILT_IN_FOLDER / "songs"
    target = folder / "audiobooks"
    target.mkdir(parents=True)
    contract = (source / "contract.yaml").read_text()
    for old, new in (("songs", "audiobooks"), ("song_id", "audiobook_id"), ("song", "audiobook")):
        contract = contract.replace(old, new)
    (target / "contract.yaml").write_text(contract)
    schema = (source / "songs.v1.avsc").read_text().replace("song_id", "audiobook_id")
    (target / "audiobooks.v1.avsc").write_text(schema)
    return folder


@dataclass(frozen=True)
class Mesh:
    """A platform with the back ends, and what is asked of it."""

    settings: LocalSettings
    environ: Mapping[str, str]
    contracts: Contracts
    registry: GlueRegistry

    def up(self, *names: str) -> None:
        platform.up(self.settings, names, environ=self.environ)

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """A request to the back ends; its status and JSON body."""
        request = urllib.request.Request(
            self.settings.services.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers=dict(headers or {}),
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                content = response.read()
                return response.status, json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def database(self) -> psycopg.Connection:
        return psycopg.connect(postgresql.connection_string(self.settings), autocommit=True)

    def published(self, name: str) -> list[Published]:
        """All that is on a domain's topic, each partition in its order."""
        contract = self.contracts[name]
        decoder = Decoder(contract, self.registry)
        start = dict.fromkeys(range(application.PARTITIONS), 0)
        published: list[Published] = []
        with TopicReader(self.settings.kafka.address, contract.topic, start) as reader:
            for message in reader.read():
                value = message.value()
                record = None if value is None else decoder.decode(value)
                published.append((message.key().decode(), record))
        return published

    def titles(self, name: str, field: str) -> dict[str, list[Any]]:
        """For each key of a topic, what a field went through."""
        history: dict[str, list[Any]] = {}
        for key, record in self.published(name):
            history.setdefault(key, []).append(None if record is None else record[field])
        return history

    def await_published(self, name: str, key: str, matches: Callable[[Any], bool]) -> Any:
        """Wait until a record of that key is on the topic; the record."""
        matching: list[Any] = []

        def is_published() -> bool:
            records = self.published(name)
            matching.extend(r for found, r in records if found == key and matches(r))
            return bool(matching)

        wait_until(is_published, f"{name} {key!r} is published")
        return matching[0]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """The parts on ports of their own, with audiobooks among the domains."""
    folder = tmp_path_factory.mktemp("platform")
    extra = audiobooks(folder / "mesh")
    environ = {
        **os.environ,
        **ports.variables(),
        "TUNEMESH_HOME": str(folder / "home"),
        "TUNEMESH_CONTRACTS": str(extra),
    }
    settings = LocalSettings.from_environment(environ)
    found = Mesh(
        settings, environ, load_contracts((BUILT_IN_FOLDER, extra)), connect_registry(settings)
    )
    try:
        found.up(*PARTS)
        yield found
    finally:
        platform.down(settings)
        shutil.rmtree(settings.home, ignore_errors=True)


@pytest.fixture
def whole(mesh: Mesh) -> Mesh:
    """The platform with everything running, whatever the test before has killed."""
    mesh.up(*PARTS)
    return mesh


def song(key: str, title: str = "Song", **more: Any) -> dict[str, Any]:
    return {"song_id": key, "title": title, "genres": ["rock"], **more}


def first_seen(history: list[Any]) -> list[Any]:
    """A history without what was there before: how a consumer that knows repetitions sees it."""
    return list(dict.fromkeys(history))


def test_the_parts_listen_on_loopback_only(whole: Mesh) -> None:
    """DynamoDB Local listens on every interface by default."""
    for part in ("postgresql", "dynamodb", "services"):
        assert listening_addresses(whole.settings, part) == {"127.0.0.1"}, part


def test_what_the_services_store_is_the_user_s_alone(whole: Mesh) -> None:
    """Kafka's log, databases, objects: no other user of the machine reads them."""
    stored = list((whole.settings.home / "data").rglob("*"))
    assert {file.relative_to(whole.settings.home).parts[1] for file in stored} >= {
        "aws", "kafka", "postgresql", "dynamodb",
    }  # fmt: skip
    open_to_others = [
        file for file in stored if not file.is_symlink() and file.stat().st_mode & 0o077
    ]
    assert open_to_others == []


def test_the_database_does_not_run_as_root(whole: Mesh) -> None:
    """Whoever started it; and its data folder is its own."""
    record = process.read_record(whole.settings, "postgresql")
    found = process.find_process(record)
    assert found is not None
    assert found.uids().effective != 0
    cluster = whole.settings.data("postgresql") / "cluster"
    assert cluster.stat().st_uid == found.uids().effective


def test_a_user_goes_from_its_request_to_the_table_and_the_topic(whole: Mesh) -> None:
    """Made, replaced, deleted: a typed row, and each version on the topic in that order."""
    created_at = 1_500_000_000_123
    status, made = whole.call(
        "POST", "/users", {"user_id": "ada", "country": "GB", "created_at": created_at}
    )
    assert (status, made["deleted"]) == (201, False)
    assert whole.call("GET", "/users/ada") == (200, made)
    status, replaced = whole.call(
        "PUT", "/users/ada", {**made, "country": "PT", "updated_at": None}
    )
    assert status == 200
    with whole.database() as connection:
        row = connection.execute(
            "SELECT country, extract(epoch FROM created_at) * 1000, pg_typeof(created_at)::text"
            " FROM users WHERE user_id = 'ada'"
        ).fetchone()
    assert row == ("PT", created_at, "timestamp with time zone")
    assert whole.call("DELETE", "/users/ada") == (204, None)
    assert whole.call("GET", "/users/ada")[0] == 404

    gone = whole.await_published("users", "ada", lambda record: record["deleted"])
    versions = [record for key, record in whole.published("users") if key == "ada"]
    assert versions == [made, replaced, gone]
    erased = {"country": None, "age_band": None, "subscription": None, "created_at": None}
    assert gone == {"user_id": "ada", "updated_at": gone["updated_at"], "deleted": True, **erased}
    with whole.database() as connection:
        stored = connection.execute(
            "SELECT to_jsonb(users) FROM users WHERE user_id = 'ada'"
        ).fetchone()
    assert stored is not None
    present = {name for name, value in stored[0].items() if value is not None}
    assert present == {"user_id", "updated_at", "deleted"}
    assert made["updated_at"] < replaced["updated_at"] < gone["updated_at"]


@pytest.mark.parametrize(
    ("domain", "key_name"), [("songs", "song_id"), ("audiobooks", "audiobook_id")]
)
def test_an_item_of_any_domain_goes_to_its_table_and_its_topic(
    whole: Mesh, domain: str, key_name: str
) -> None:
    """Songs, and a domain that is nothing but a contract folder."""
    record = {key_name: "x/1", "title": "T", "genres": [], "duration_seconds": 7}
    status, made = whole.call("PUT", f"/{domain}/x%2F1", record)
    assert status == 201
    tables = dynamodb.create_client(whole.settings, "dynamodb")
    item = tables.get_item(TableName=f"tunemesh-{domain}", Key={key_name: {"S": "x/1"}})["Item"]
    assert item["genres"] == {"L": []}
    assert item["updated_at"] == {"N": str(made["updated_at"])}
    assert "artist" not in item
    assert ItemReader(whole.contracts[domain])(item) == made
    assert whole.call("DELETE", f"/{domain}/x%2F1")[0] == 204
    whole.await_published(domain, "x/1", lambda found: found["deleted"])
    versions = [record for key, record in whole.published(domain) if key == "x/1"]
    assert [record and record["deleted"] for record in versions] == [False, True]
    item = tables.get_item(TableName=f"tunemesh-{domain}", Key={key_name: {"S": "x/1"}})["Item"]
    assert (item["title"], item["genres"], "duration_seconds" in item) == (
        {"S": ""}, {"L": []}, False
    )  # fmt: skip


def test_an_item_removed_by_hand_becomes_a_tombstone_and_a_foreign_one_stops_no_other(
    whole: Mesh,
) -> None:
    """Another program writes to the table beside the back end: what does not fit is skipped."""
    tables = dynamodb.create_client(whole.settings, "dynamodb")
    tables.put_item(
        TableName="tunemesh-podcasts", Item={"podcast_id": {"S": "odd"}, "x": {"N": "1"}}
    )
    whole.call("PUT", "/podcasts/p1", {"title": "T", "categories": []})
    tables.delete_item(TableName="tunemesh-podcasts", Key={"podcast_id": {"S": "p1"}})

    whole.await_published("podcasts", "p1", lambda record: record is None)
    assert "odd" not in dict(whole.published("podcasts"))


def test_interactions_are_published_and_each_bad_one_is_reported(whole: Mesh) -> None:
    """The others of the request are published; the key is the user's, the session's for anonymous
    ones."""
    now = now_ms()
    good = {
        "event_id": "e1",
        "user_id": "ada",
        "session_id": "x",
        "item_id": "s1",
        "event_type": "play",
        "occurred_at": now,
    }
    events = [
        good,
        {**good, "event_id": "e2", "item_id": ""},
        {**good, "event_id": "e3", "user_id": None},
        {**good, "event_id": "e4", "occurred_at": "now"},
        7,
    ]
    status, answer = whole.call("POST", "/interactions", events)
    assert (status, answer["accepted"]) == (207, 2)
    assert [(e["index"], e["event_id"], e["reason"], e["field"]) for e in answer["errors"]] == [
        (1, "e2", "missing_id", "item_id"),
        (3, "e4", "wrong_type", "occurred_at"),
        (4, None, "wrong_type", None),
    ]
    keys = {record["event_id"]: key for key, record in whole.published("interactions") if record}
    assert keys == {"e1": "ada", "e3": "x"}
    assert whole.call("POST", "/interactions", {**good, "event_id": "e5"})[0] == 202
    assert whole.call("POST", "/interactions", events[1:2])[0] == 400
    assert whole.call("POST", "/interactions", [])[0] == 400


def test_mistakes_are_answered_over_http(whole: Mesh) -> None:
    """No traceback, no connection that just ends."""
    assert whole.call("POST", "/nothing", {})[0] == 404
    status, answer = whole.call("POST", "/users", {"user_id": "bad", "country": 1})
    assert (status, answer["error"]["field"]) == (400, "country")
    assert whole.call("PATCH", "/users/ada", {})[0] == 405


def test_what_is_rolled_back_is_never_published(whole: Mesh) -> None:
    """A commit that fails at its very end, and a connection that breaks before it."""
    with whole.database() as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'refused at commit'; END $$"
        )
        connection.execute("DROP TRIGGER IF EXISTS refuse ON users")
        connection.execute(
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON users"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
            " WHEN (NEW.country = 'XX') EXECUTE FUNCTION refuse()"
        )
    assert whole.call("PUT", "/users/eve", {"country": "XX"})[0] == 500
    assert whole.call("GET", "/users/eve")[0] == 404

    store = UserStore(postgresql.connection_string(whole.settings), whole.contracts["users"])
    broken = psycopg.connect(postgresql.connection_string(whole.settings))
    broken.execute(
        "INSERT INTO outbox (contract, key, record)"
        " VALUES ('users', 'eve', '{\"user_id\": \"eve\"}')"
    )
    # As if its process were gone: no COMMIT, no ROLLBACK. The number of the socket stays in use.
    with socket.socket(fileno=os.dup(broken.fileno())) as connection_of:
        connection_of.shutdown(socket.SHUT_RDWR)
    store.close()

    assert whole.call("PUT", "/users/eve", {"country": "FR"})[0] == 201
    whole.await_published("users", "eve", lambda record: record["country"] == "FR")
    assert [r["country"] for k, r in whole.published("users") if r and k == "eve"] == ["FR"]


def test_a_change_that_does_not_fit_is_a_dead_letter_and_the_others_are_published(
    whole: Mesh,
) -> None:
    """One that another program wrote, in the users' outbox and in a table of items."""
    odd = uuid.uuid4().hex
    insert = "INSERT INTO outbox (contract, key, record) VALUES (%s, %s, %s)"
    with whole.database() as connection:
        record = {"user_id": odd, "country": 7, "nothing": None}
        connection.execute(insert, ("users", odd, json.dumps(record)))
        connection.execute(insert, ("users", odd, None))
    whole.await_published("users", odd, lambda record: record is None)
    tables = dynamodb.create_client(whole.settings, "dynamodb")
    tables.put_item(
        TableName=table_name(whole.contracts["songs"]),
        Item={"song_id": {"S": odd}, "title": {"NS": ["1", "2"]}},
    )
    assert whole.call("PUT", f"/songs/{odd}2", song(f"{odd}2"))[0] == 201
    whole.await_published("songs", f"{odd}2", bool)
    letters = [letter for key, letter in whole.published("dead-letters") if letter and key == odd]
    by_topic = {
        letter["topic"]: (letter["partition"], letter["step"], letter["error_code"])
        for letter in letters
    }
    assert by_topic == {
        "users": (-1, "publish", "unknown_field"),
        "songs": (-1, "publish", "wrong_type"),
    }


def test_a_change_of_no_contract_stays_in_the_outbox(whole: Mesh) -> None:
    """A mistake in the deployment, which stops the publisher until it is mended."""
    with whole.database() as connection:
        connection.execute("INSERT INTO outbox (contract, key) VALUES ('nobodys', 'k')")
        assert whole.call("PUT", "/users/behind", {"country": "FR"})[0] == 201
        log = whole.settings.log("services")
        wait_until(lambda: "'nobodys'" in log.read_text(), "the log names the contract")
        assert "behind" not in [key for key, _ in whole.published("users")]
        connection.execute("DELETE FROM outbox WHERE contract = 'nobodys'")
    whole.await_published("users", "behind", bool)


class Writer(threading.Thread):
    """Commits numbered changes of a few keys through a domain's back end, as fast as it can."""

    def __init__(self, contract: Contract, store: Any, field: str, keys: list[str]) -> None:
        super().__init__(daemon=True)
        self.committed: dict[str, list[str]] = {key: [] for key in keys}
        self.end = threading.Event()
        self._domain = Domain(Rules(contract), store, now_ms)
        self._contract = contract
        self._field = field
        self._base = next(iter(contract.examples("valid").values()))

    def run(self) -> None:
        number = 0
        while not self.end.is_set():
            number += 1
            for key, done in self.committed.items():
                body = {**self._base, self._contract.key: key, self._field: str(number)}
                body.pop("updated_at", None)
                path, body["deleted"] = f"/{self._contract.name}/{key}", False
                event = event_of("PUT", path, {}, json.dumps(body).encode())
                if respond(self._domain.serve, event)["statusCode"] < 300:
                    done.append(str(number))
            self.end.wait(0.01)


@pytest.fixture
def writers(whole: Mesh) -> Iterator[list[tuple[str, str, Writer]]]:
    """Writers of users and songs, at work: topic, field, writer."""
    run = uuid.uuid4().hex[:6]
    users, songs = whole.contracts["users"], whole.contracts["songs"]
    store = UserStore(postgresql.connection_string(whole.settings), users)
    tables = dynamodb.create_client(whole.settings, "dynamodb")
    found = [
        ("users", "country", Writer(users, store, "country", [f"{run}u{n}" for n in range(5)])),
        (
            "songs",
            "title",
            Writer(
                songs, ItemStore(tables, Rules(songs)), "title", [f"{run}s{n}" for n in range(5)]
            ),
        ),
    ]
    for _, _, writer in found:
        writer.start()
    yield found
    for _, _, writer in found:
        writer.end.set()
        writer.join(20)
    store.close()


def await_some(writers: list[tuple[str, str, Writer]], more: int) -> None:
    """Wait until each writer has committed that many more changes."""
    committed = [next(iter(writer.committed.values())) for _, _, writer in writers]
    wanted = [len(done) + more for done in committed]
    wait_until(
        lambda: all(len(done) >= count for done, count in zip(committed, wanted, strict=True)),
        "changes are committed",
    )


def await_history(
    mesh: Mesh, name: str, field: str, committed: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """Wait until the last commit of each key is published; return what the field went through."""
    history: dict[str, list[Any]] = {}

    def is_complete() -> bool:
        history.update(mesh.titles(name, field))
        return all(done[-1] in history.get(key, ()) for key, done in committed.items())

    wait_until(is_complete, f"{name}: what was committed last is published")
    return history


def reconcile(mesh: Mesh, writers: list[tuple[str, str, Writer]]) -> None:
    """All that was committed is published, in order per key, and the newest comes last."""
    for _, _, writer in writers:
        writer.end.set()
        writer.join(20)
    for name, field, writer in writers:
        committed = writer.committed
        assert all(len(done) > 20 for done in committed.values())
        history = await_history(mesh, name, field, committed)
        for key, done in committed.items():
            assert first_seen(history[key]) == done
            assert history[key][-1] == done[-1]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("killed", "stores_accept"),
    [
        ("services", True),
        # The stores accept changes, which are published after its restart.
        ("kafka", True),
        # Requests fail meanwhile; what it has confirmed is there and comes.
        ("postgresql", False),
    ],
    ids=["the publishers", "the broker", "the database"],
)
def test_what_is_committed_is_published_in_order_when_a_service_is_killed(
    whole: Mesh, writers: list[tuple[str, str, Writer]], killed: str, stores_accept: bool
) -> None:
    """kill -9 while changes are committed."""
    await_some(writers, 15)
    process.kill(whole.settings, killed)
    if stores_accept:
        await_some(writers, 15)
    whole.up(killed)
    await_some(writers, 15)
    reconcile(whole, writers)


def test_a_second_publisher_stands_by(whole: Mesh) -> None:
    """While one publisher is active another publishes nothing; after its end, the other does."""
    database = postgresql.connection_string(whole.settings)
    publisher = TopicPublisher(whole.settings.kafka.address, whole.registry)
    second = OutboxPublisher(database, publisher, whole.contracts, threading.Event())
    whole.call("PUT", "/users/bob", {"country": "AA"})
    whole.await_published("users", "bob", lambda record: record["country"] == "AA")
    assert second.drain(lambda: True) == 0

    platform.down(whole.settings, ["services"])
    store = UserStore(database, whole.contracts["users"])
    domain = Domain(Rules(whole.contracts["users"]), store, now_ms)
    for country in ("BB", "CC"):
        event = event_of("PUT", "/users/bob", {}, json.dumps({"country": country}).encode())
        assert respond(domain.serve, event)["statusCode"] == 200
    store.close()
    # The database notices a moment later that the first one's connection has ended.
    wait_until(lambda: second.drain(lambda: True) == 2, "the second one publishes")
    assert whole.titles("users", "country")["bob"] == ["AA", "BB", "CC"]
    # What was published is nowhere but on the topic.
    with connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


def run_command(mesh: Mesh, *arguments: str, code: int = 0) -> str:
    """A command of `tunemesh` on the platform; its output."""
    result = CliRunner().invoke(main.tunemesh, arguments, env=dict(mesh.environ))
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.output


def enriched(user_id: str | None, number: int) -> dict[str, Any]:
    """An enriched interaction, as Firehose writes it."""
    return {
        "event_id": f"{user_id}-{number}",
        "user_id": user_id,
        "session_id": "x",
        "item_id": "s1",
        "item_type": "song",
        "event_type": "play",
        "occurred_at": 1_790_000_000_000 + number,
        "published_at": 1_790_000_000_000 + number,
        "origin": f"interactions/0/{number}",
        "user": {"country": "GB", "origin": "users/0/1"},
    }


def test_nothing_of_a_deleted_user_is_left(whole: Mesh) -> None:
    """From DELETE to Personalize and the data products, by the documented commands.

    gone: deleted in the back end; tombstone: removed, and a tombstone on the topic; back: deleted,
    and there again; kept: never deleted.
    """
    whole.up("personalize")
    settings, contracts = whole.settings, whole.contracts
    users = ("gone", "tombstone", "back", "kept")
    for user in users:
        whole.call("PUT", f"/users/{user}", {"country": "GB", "age_band": "30-39"})
    events = sdk_client("personalize-events", REGION, settings.personalize.url)
    for user in users:
        events.put_users(datasetArn=f"{DATASETS}/USERS", users=[{"userId": user}])
        event = {"eventType": "play", "itemId": f"of-{user}", "sentAt": 1_790_000_000}
        events.put_events(
            trackingId=TRACKING_ID, userId=user, sessionId=f"s-{user}", eventList=[event]
        )
    contract = contracts["deletions"]
    kafka.create_topics(settings.kafka.address, [topic_spec(contract)])
    whole.registry.register(contract)
    s3 = sdk_client("s3", REGION, settings.aws.url)
    s3.create_bucket(Bucket=BUCKET)
    lines = [enriched(user, number) for number, user in enumerate((*users, None) * 3)]
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    s3.put_object(Bucket=BUCKET, Key=f"{DELIVERY_PREFIX}2026/a", Body=body)
    assert "no user was erased yet" in run_command(whole, "deletions", "verify")
    # Other tests have deleted users, too.
    run_command(whole, "export", "users")
    others = int(run_command(whole, "deletions", "list").split()[3])

    assert whole.call("DELETE", "/users/gone")[0] == 204
    assert whole.call("DELETE", "/users/back")[0] == 204
    whole.call("PUT", "/users/back", {"country": "PT"})
    now = now_ms()
    deletions = [
        {"dataset": dataset, "id": name, "deleted_at": at, "origin": "users/0/1"}
        for dataset, name, at in (
            ("users", "gone", now),
            ("users", "tombstone", now),
            ("users", "back", 1_790_000_000_005),
            ("items", "song", now),
        )
    ]
    publisher = TopicPublisher(settings.kafka.address, whole.registry)
    messages = [Message(contract, str(record["id"]), record) for record in deletions]
    messages.append(Message(contracts["users"], "tombstone", None))
    assert not any(publisher.publish(messages, 20))
    with whole.database() as connection:
        connection.execute("DELETE FROM users WHERE user_id = 'tombstone'")
    run_command(whole, "export", "users")

    told = run_command(whole, "deletions", "list")
    assert f"to be erased: {others + 2} users" in told
    assert "there again, not erased: 1 user" in told
    assert "no call for: 1" in told
    told = run_command(whole, "deletions", "run")
    assert f"{others + 2} users erased, 4 records" in told
    report = (settings.reports / "deletions.json").read_text()
    assert json.loads(report)["batches"][0]["users"] == others + 2
    assert not any(user in report for user in users)
    assert "nothing to erase" in run_command(whole, "deletions", "run")

    run_command(whole, "export", "interactions", "users")
    for name, expected in (("interactions", {"back", "kept", None}), ("users", {"back", "kept"})):
        location = Location.of(contracts[name])
        reader = ProductReader(s3, location, read_manifest(s3, location), ["user_id"])
        stored = {row["user_id"] for row in reader.rows()}
        assert {user for user in stored if user in (*users, None)} == expected
    told = run_command(whole, "deletions", "verify")
    assert f"nothing of {others + 2} erased users is left" in told

    # A late event of the user comes after the job: it is found, and the next job erases it.
    late = {"eventType": "play", "itemId": "late", "sentAt": 1_790_000_001}
    events.put_events(trackingId=TRACKING_ID, userId="gone", sessionId="s", eventList=[late])
    found = run_command(whole, "deletions", "verify", code=1)
    assert "Personalize, events" in found
    assert "deletions run --again" in found
    run_command(whole, "deletions", "run", "--again")
    assert "nothing of" in run_command(whole, "deletions", "verify")
    logs = [file.read_text(errors="replace") for file in (settings.home / "logs").iterdir()]
    assert not any("tombstone" in text or '"gone"' in text for text in logs)


def test_a_replay_fills_the_stores_and_again_changes_nothing(whole: Mesh) -> None:
    """As many rows and items as the source has; what it dates itself is recognized."""
    source = GeneratedHour(Hour(interactions=300, seed=5))
    first = fill(source, whole.settings.services.url, whole.contracts)
    assert not first.problems
    assert first.stored["interactions"] == 300
    songs = whole.contracts["songs"]
    tables = dynamodb.create_client(whole.settings, "dynamodb")

    def generated() -> dict[str, Any]:
        items = tables.scan(TableName=table_name(songs))["Items"]
        reader = ItemReader(songs)
        # Other tests leave items that do not fit the contract.
        own = [i for i in items if i["title"].get("S", "").startswith(("Rock ", "Jazz "))]
        return {record["song_id"]: record for record in map(reader, own)}

    stored = generated()
    assert len(stored) == source.hour.song_count // 6
    again = fill(source, whole.settings.services.url, whole.contracts, interactions=False)
    assert not again.problems
    dated = {key: record for key, record in stored.items() if not record["deleted"]}
    assert {key: record for key, record in generated().items() if key in dated} == dated


def test_the_java_serializer_of_aws_finds_the_registered_schema(whole: Mesh) -> None:
    """Its text of the schema is not that of the file; without auto-registration it is found.

    Plain and compressed records, and those of a schema that it registers, are read by our decoder.
    """
    contract = whole.contracts["songs"]
    fields = {"song_id": "java", "genres": ["fado"], "deleted": False}
    compressions = ("NONE", "ZLIB")
    with java_producer(whole.settings, contract.newest.definition) as producer:
        for compression in compressions:
            producer.send(
                contract.topic,
                "java",
                {**fields, "title": compression},
                schemaName=contract.subject,
                schemaAutoRegistrationEnabled="false",
                compression=compression,
            )
        registered = producer.serialize(
            contract.topic,
            {**fields, "title": "registered"},
            schemaName="songs-java",
            schemaAutoRegistrationEnabled="true",
        )
    assert whole.titles("songs", "title")["java"] == list(compressions)
    decoder = Decoder(replace(contract, registered_as="songs-java"), whole.registry)
    assert decoder.decode(registered)["title"] == "registered"


def test_the_servers_refuse_what_a_page_of_another_site_sends(whole: Mesh) -> None:
    """Neither by the page's origin nor by a host name that resolves to this machine.

    The back ends accept text/plain, which a browser sends without asking first.
    """
    settings = whole.settings
    event = json.dumps([{"event_id": "page"}]).encode()
    refused = {
        "services": (settings.services.url + "/interactions", HTTPStatus.FORBIDDEN),
        "aws": (settings.aws.url + "/moto-api/reset", HTTPStatus.FORBIDDEN),
        # Jetty has no such host.
        "dynamodb": (settings.dynamodb.url, HTTPStatus.NOT_FOUND),
    }
    for part, (url, status) in refused.items():
        request = urllib.request.Request(url, event, {"Host": "evil.example"}, method="POST")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=20)
        assert caught.value.code == status, part
    origin = {"Origin": "http://evil.example"}
    code, body = whole.call(
        "POST", "/interactions", [{"event_id": "page"}], {**origin, "Content-Type": "text/plain"}
    )
    assert (code, "evil.example" in body["message"]) == (HTTPStatus.FORBIDDEN, True)
    # Every call of DynamoDB has headers that a browser asks for first; this answer forbids them.
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}
    request = urllib.request.Request(
        settings.dynamodb.url, headers={**origin, **asked}, method="OPTIONS"
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        assert "Access-Control-Allow-Origin" not in response.headers
    # Glue's registry is as before: moto's reset is not reachable without an origin either.
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(settings.aws.url + "/moto-api/reset", b"", timeout=20)
    assert whole.registry.registered_versions(whole.contracts["songs"])
