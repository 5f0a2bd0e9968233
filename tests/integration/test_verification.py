"""Replay, ledger, verify and dead letters on a real Kafka, with a stand-in for the pipeline.

The stand-in enriches and delivers right; its variants make one mistake each, and verify has to name
that one.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from cli.dlq import dlq
from cli.replay import replay as replay_command
from cli.verify import verify as verify_command
from connectors.aws.sdk import sdk_client
from connectors.glue.registry import GlueRegistry
from connectors.kafka.librdkafka import KafkaOffsets
from deploy.dead_letters import (
    DeadLetter,
    DeadLetterError,
    read_dead_letters,
    replay_dead_letters,
    select,
)
from deploy.local import platform
from deploy.local.endpoints import local_endpoints
from deploy.local.kafka import TopicSpec, create_topics
from deploy.local.settings import TRACKING_ID, LocalSettings
from schemas.codec import Decoder, Encoder
from schemas.dead_letter import SourceRecord, dead_letter
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract, Role, load_contracts
from tests.support import ports
from tests.support.servers import Received, http_server
from tests.support.waiting import LIMIT_SECONDS
from verification.directory import ReplayDirectory
from verification.endpoints import Endpoints
from verification.generator import GeneratedHour, Hour
from verification.ledger import Ledger, Status
from verification.personalize_events import PersonalizeReader
from verification.positions import KafkaUnavailable, TopicReader, topic_beginnings, topic_ends
from verification.progress import Step
from verification.publications import UnusableEntry
from verification.reconcile import Accepted, Fault
from verification.reference import item_content, user_content
from verification.replay import ReplaySettings, ReplaySummary, connect_registry, replay
from verification.verify import VerifyReport, VerifySettings, positions, verify

CONTRACTS = load_contracts()
DAY_MS = 86_400_000
FAST = ReplaySettings(settle=0.0)
AT_ONCE = VerifySettings(wait=LIMIT_SECONDS, quiet=0.0)


@functools.cache
def registry_at(url: str) -> GlueRegistry:
    """One client for all tests; making one takes a second."""
    return GlueRegistry.connect("us-east-1", url)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSettings]:
    """A platform with Kafka, registry and Personalize on ports of its own, topics made."""
    home = str(tmp_path_factory.mktemp("platform"))
    environment = {**os.environ, **ports.variables(), "TUNEMESH_HOME": home}
    found = LocalSettings.from_environment(environment)
    try:
        platform.up(found, ["kafka", "aws", "personalize"], environ=environment)
        create_topics(
            found.kafka.address,
            [
                TopicSpec(
                    contract.topic,
                    config={"message.timestamp.type": "LogAppendTime"}
                    if contract.name in ("interactions-enriched", "dead-letters")
                    else {},
                )
                for contract in CONTRACTS
            ],
        )
        registry = connect_registry(local_endpoints(found))
        for contract in CONTRACTS:
            registry.register(contract)
        yield found
    finally:
        platform.down(found)


class PersonalizeStub:
    """Answers the pages that verification reads, from a list."""

    url = ""

    def __init__(self) -> None:
        self.accepted: list[Accepted] = []

    def __call__(self, request: Received) -> tuple[int, bytes]:
        url = urlsplit(request.path)
        after, limit = (int(parse_qs(url.query)[name][0]) for name in ("after", "limit"))
        rows = self.accepted if url.path.endswith("events") else []
        lines = [
            {
                "rowid": number,
                "event_id": one.event_id,
                "accepted_at": one.accepted_ms,
                "duplicates": one.duplicates,
            }
            for number, one in enumerate(rows, 1)
            if number > after
        ]
        return 200, "".join(f"{json.dumps(one)}\n" for one in lines[:limit]).encode()


@pytest.fixture
def personalize() -> Iterator[PersonalizeStub]:
    stub = PersonalizeStub()
    with http_server(stub) as stub.url:
        yield stub


@pytest.fixture
def endpoints(settings: LocalSettings, personalize: PersonalizeStub) -> Endpoints:
    """The platform's Kafka, the stub, and the module's folder: runs know of each other."""
    return replace(local_endpoints(settings), personalize=personalize.url)


@dataclass
class Output:
    """What the stand-in is about to put out, for a variant to corrupt."""

    enriched: list[dict[str, Any]] = field(default_factory=list)
    letters: list[dict[str, Any]] = field(default_factory=list)
    accepted: dict[str, Accepted] = field(default_factory=dict)
    older: dict[str, dict[str, Any]] = field(default_factory=dict)
    """For a user or item its first version, where there is a newer one by now."""


def check_ids(*ids: str) -> None:
    if not all(ids):
        raise InvalidRecord(Reason.MISSING_ID, "no id")
    if max(map(len, ids)) > 256:
        raise InvalidRecord(Reason.INVALID_VALUE, "too long")


class Pipeline:
    """Reads what is on the topics, in the order of publication, and does what the job shall do."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.bootstrap_servers = endpoints.bootstrap_servers
        self.registry = registry_at(endpoints.registry_endpoint or "")
        self.decoders = {c.topic: Decoder(c, self.registry) for c in CONTRACTS.sources}
        self.known: dict[str, tuple[tuple[int, int], dict[str, Any] | None]] = {}
        self.output = Output()

    def run(self, start: Mapping[str, Mapping[int, int]]) -> Output:
        """Everything published since ``start``; dimensions from the topics' beginning."""
        messages = []
        beginnings = topic_beginnings(
            self.bootstrap_servers, [contract.topic for contract in CONTRACTS.sources]
        )
        for contract in CONTRACTS.sources:
            events = contract.role is Role.INTERACTION
            since = start if events else beginnings
            with TopicReader(
                self.bootstrap_servers, contract.topic, since[contract.topic]
            ) as reader:
                messages += [(m.timestamp()[1], events, m.offset(), m) for m in reader.read()]
        for _, events, _, message in sorted(messages, key=lambda one: one[:3]):
            contract = CONTRACTS.for_topic(message.topic())
            place = start.get(contract.topic, {}).get(message.partition(), 0)
            try:
                if events:
                    self._event(message)
                else:
                    self._version(contract, message)
            except InvalidRecord as error:
                if message.offset() >= place:
                    self.output.letters.append(self._letter(message, error))
        return self.output

    def _version(self, contract: Contract, message: Any) -> None:
        value, origin = message.value(), self._origin(message)
        mapping = contract.item or contract.user
        assert mapping is not None
        content: dict[str, Any] | None = None
        updated = None
        if value is None:
            key = message.key().decode()
        else:
            record = self.decoders[contract.topic].decode(value)
            key = record[contract.newest.field_names[0]]
            check_ids(key)
            updated = record[mapping.updated or ""]
            if updated is not None and updated > message.timestamp()[1] + DAY_MS:
                raise InvalidRecord(Reason.FUTURE_TIMESTAMP, "far ahead")
            if not record[mapping.deleted or ""]:
                plain = (
                    user_content(contract.user, record)
                    if contract.user
                    else item_content(contract.item, record)  # type: ignore[arg-type]
                )
                content = {**plain, "origin": origin}
        moment = message.timestamp()[1] if updated is None else updated
        order = (moment, message.offset())
        if key not in self.known or self.known[key][0] < order:
            before = self.known.get(key, (None, None))[1]
            if before is not None:
                self.output.older.setdefault(key, before)
            self.known[key] = (order, content)

    def _event(self, message: Any) -> None:
        record = self.decoders["interactions"].decode(message.value())
        check_ids(record["event_id"], record["item_id"], record["session_id"])
        if record["user_id"] is not None:
            check_ids(record["user_id"])
        if record["occurred_at"] > message.timestamp()[1] + DAY_MS:
            raise InvalidRecord(Reason.FUTURE_TIMESTAMP, "far ahead")
        record |= {
            "origin": self._origin(message),
            "published_at": message.timestamp()[1],
            "user": self.known.get(record["user_id"] or "", (None, None))[1],
            "item": self.known.get(record["item_id"], (None, None))[1],
        }
        self.output.enriched.append(record)
        event_id = record["event_id"]
        before = self.output.accepted.get(event_id)
        now = time.time_ns() // 1_000_000
        self.output.accepted[event_id] = Accepted(
            event_id, before.accepted_ms if before else now, before.duplicates + 1 if before else 0
        )

    @staticmethod
    def _origin(message: Any) -> str:
        return f"{message.topic()}/{message.partition()}/{message.offset()}"

    @staticmethod
    def _letter(message: Any, error: InvalidRecord) -> dict[str, Any]:
        source = SourceRecord(
            message.topic(), message.partition(), message.offset(), message.timestamp()[1],
            message.key(), message.value(),
        )  # fmt: skip
        return {
            **dead_letter(source, "decode", str(error.reason), error.message, source.timestamp_ms)
        }

    def emit(self, stub: PersonalizeStub) -> None:
        """Write the output to its topics, and to the stub."""
        producer = Producer({"bootstrap.servers": self.bootstrap_servers, "acks": "all"})
        enriched, letters = CONTRACTS.only(Role.ENRICHED), CONTRACTS.only(Role.DEAD_LETTER)
        for contract, records in ((enriched, self.output.enriched), (letters, self.output.letters)):
            encoder = Encoder(contract, self.registry.version_id(contract))
            for record in records:
                producer.produce(contract.topic, value=encoder.encode(record))
                while len(producer) > 50_000:
                    producer.poll(0.1)
        assert producer.flush(60) == 0
        stub.accepted += self.output.accepted.values()


_moments = iter(range(1_763_000_000_000, 1_764_000_000_000, 1_000_000))


def generated(events: int = 400, *, anomalies: bool = True) -> GeneratedHour:
    """Another hour at each call, so that event ids differ."""
    return GeneratedHour(Hour(events, next(_moments), anomalies=anomalies, malformed_share=0.05))


def start_of(summary: ReplaySummary) -> dict[str, dict[int, int]]:
    with Ledger.open(summary.ledger) as ledger:
        return positions(ledger.about()["start"])


def went_through(
    endpoints: Endpoints,
    personalize: PersonalizeStub,
    corrupt: Callable[[Output], str] | None = None,
) -> tuple[VerifyReport, str]:
    """Replay, pipeline, verify; the report and what ``corrupt`` says that it corrupted."""
    registry = registry_at(endpoints.registry_endpoint or "")
    summary = replay(generated(), endpoints, FAST, registry=registry)
    pipeline = Pipeline(endpoints)
    output = pipeline.run(start_of(summary))
    corrupted = corrupt(output) if corrupt else ""
    pipeline.emit(personalize)
    return verify(endpoints, summary.run, AT_ONCE, registry=registry), corrupted


def test_what_goes_through_right_is_all_accounted_for(
    endpoints: Endpoints, personalize: PersonalizeStub
) -> None:
    """Twice on the same topics: the second run is not confused by the first."""
    for _ in range(2):
        report, _ = went_through(endpoints, personalize)
        assert report.findings == ()
        assert report.ok
        assert (report.valid, report.enriched, report.accepted) == (400, 400, 400)
        assert report.produced == 400 + 2 + 20
        assert report.duplicates_ignored == 2
        assert report.enriched_records == 402
        assert set(report.dead_letters) == {str(reason) for reason in Reason}
        assert report.emission_p50_ms is not None
        assert report.acceptance_p99_ms is not None
    written = json.loads((endpoints.home / "reports" / "verify.json").read_text())
    assert written["ok"] is True
    assert (written["lost"], written["invented"], written["misenriched"]) == (0, 0, 0)


def test_users_and_items_of_other_producers_are_no_mistake(
    endpoints: Endpoints, personalize: PersonalizeStub
) -> None:
    """Back ends publish under the same ids, before a run and during it."""
    registry = registry_at(endpoints.registry_endpoint or "")
    songs = CONTRACTS["songs"]
    encoder = Encoder(songs, registry.version_id(songs))
    producer = Producer({"bootstrap.servers": endpoints.bootstrap_servers, "acks": "all"})

    def publish() -> None:
        for number in range(1, 121):
            song: dict[str, Any] = {"song_id": f"s{number}", "title": "of a back end", "genres": []}
            song = {**songs.newest.defaults, **song}
            producer.produce(songs.topic, key=f"s{number}", value=encoder.encode(song))
        assert producer.flush(30) == 0

    publish()
    summary = replay(generated(60), endpoints, FAST, registry=registry, before_interactions=publish)
    pipeline = Pipeline(endpoints)
    output = pipeline.run(start_of(summary))
    titles = {record["item"]["title"] for record in output.enriched if record["item"]}
    assert "of a back end" in titles
    pipeline.emit(personalize)
    assert verify(endpoints, summary.run, AT_ONCE, registry=registry).findings == ()


def lose_one(output: Output) -> str:
    event_id = str(output.enriched[7]["event_id"])
    output.enriched = [one for one in output.enriched if one["event_id"] != event_id]
    del output.accepted[event_id]
    return event_id


def never_deliver_one(output: Output) -> str:
    event_id = str(output.enriched[7]["event_id"])
    del output.accepted[event_id]
    return event_id


def invent_one(output: Output) -> str:
    output.enriched.append({**output.enriched[0], "event_id": "ghost"})
    return "ghost"


def invent_an_acceptance(output: Output) -> str:
    output.accepted["ghost"] = Accepted("ghost", time.time_ns() // 1_000_000)
    return "ghost"


def attach_an_older_version(output: Output) -> str:
    """The version before the newest, to the last event of an item that had an update."""
    for record in reversed(output.enriched):
        older = output.older.get(record["item_id"])
        if older and record["item"] and record["item"] != older:
            record["item"] = older
            return str(record["event_id"])
    raise AssertionError("no event of an updated item")


def attach_nothing(output: Output) -> str:
    # Settling takes no time here: only what an earlier run had published is 5 s old by now.
    record = next(one for one in output.enriched if one["user"])
    record["user"] = None
    return str(record["event_id"])


def attach_other_content(output: Output) -> str:
    record = next(one for one in output.enriched if one["item"])
    record["item"] = {**record["item"], "title": "something else"}
    return str(record["event_id"])


def change_the_event(output: Output) -> str:
    output.enriched[3] = {**output.enriched[3], "event_type": "changed"}
    return str(output.enriched[3]["event_id"])


def name_a_wrong_reason(output: Output) -> str:
    letter = next(one for one in output.letters if one["error_code"] == "truncated_body")
    letter["error_code"] = "wrong_type"
    return f"{letter['topic']}/{letter['partition']}/{letter['offset']}"


def swallow_malformed(output: Output) -> str:
    letter = output.letters.pop()
    return f"{letter['topic']}/{letter['partition']}/{letter['offset']}"


@pytest.mark.parametrize(
    ("corrupt", "fault"),
    [
        (lose_one, Fault.NOT_ENRICHED),
        (never_deliver_one, Fault.NOT_ACCEPTED),
        (invent_one, Fault.INVENTED_ENRICHED),
        (invent_an_acceptance, Fault.INVENTED_ACCEPTED),
        (attach_an_older_version, Fault.MISENRICHED),
        (attach_other_content, Fault.MISENRICHED),
        (change_the_event, Fault.ALTERED),
        (name_a_wrong_reason, Fault.WRONG_DEAD_LETTER),
        (swallow_malformed, Fault.NO_DEAD_LETTER),
    ],
)
def test_each_mistake_is_named_and_nothing_else(
    endpoints: Endpoints,
    personalize: PersonalizeStub,
    corrupt: Callable[[Output], str],
    fault: Fault,
) -> None:
    """One finding, of that kind, with the id of the record that it was made on."""
    report, corrupted = went_through(endpoints, personalize, corrupt)
    (found,) = report.findings
    assert found.fault is fault
    assert corrupted in (found.id, found.detail.split(":")[0], found.detail.rpartition(" ")[2])
    assert not report.ok


def test_a_missing_user_is_named_once_it_was_there_for_five_seconds(
    endpoints: Endpoints, personalize: PersonalizeStub
) -> None:
    """With the settling time that replay has by default."""
    source = generated(60, anomalies=False)
    summary = replay(source, endpoints, ReplaySettings())
    pipeline = Pipeline(endpoints)
    corrupted = attach_nothing(pipeline.run(start_of(summary)))
    pipeline.emit(personalize)
    (found,) = verify(endpoints, summary.run, AT_ONCE).findings
    assert (found.fault, found.id) == (Fault.MISENRICHED, corrupted)
    assert "missing" in found.detail


def test_verify_waits_for_a_pipeline_that_is_still_at_work(
    endpoints: Endpoints, personalize: PersonalizeStub
) -> None:
    """On a condition, with a limit; what is late but there is not lost."""
    summary = replay(generated(100), endpoints, FAST)
    pipeline = Pipeline(endpoints)
    pipeline.run(start_of(summary))
    notes: list[str] = []

    def emit_at_last(step: Step) -> None:
        notes.append(step.note)
        if len(notes) == 2:
            pipeline.emit(personalize)

    patient = VerifySettings(wait=LIMIT_SECONDS, quiet=LIMIT_SECONDS)
    report = verify(endpoints, summary.run, patient, emit_at_last)
    assert report.ok
    assert report.seconds < LIMIT_SECONDS
    assert notes[0] == notes[1] != ""
    assert notes[-1] == ""


def test_the_rate_is_kept_and_timestamps_are_the_moment_of_sending(endpoints: Endpoints) -> None:
    """Not faster than asked for; each record has its own moment."""
    source = generated(100, anomalies=False)
    summary = replay(source, endpoints, ReplaySettings(rate=50, settle=0.0))
    # A busy machine may be slower.
    assert 5 <= summary.events_per_second <= 52
    with Ledger.open(summary.ledger) as ledger:
        rows = [row for row in ledger.rows() if row.topic == "interactions"]
    assert {row.status for row in rows} == {Status.ACKNOWLEDGED}
    moments = [row.timestamp or 0 for row in rows]
    assert moments == sorted(moments)
    assert len(set(moments)) > 10


def test_an_update_is_on_the_topic_before_the_next_event(endpoints: Endpoints) -> None:
    """In the order of the ledger, timestamps never go back across an update."""
    summary = replay(generated(300), endpoints, FAST)
    assert summary.updates > 5
    with Ledger.open(summary.ledger) as ledger:
        rows = list(ledger.rows())[summary.dimensions :]
    for before, after in itertools.pairwise(rows):
        if before.topic != after.topic and "interactions" in (before.topic, after.topic):
            assert (before.timestamp or 0) <= (after.timestamp or 0)


def test_keys_follow_the_contract(endpoints: Endpoints) -> None:
    """The user, or the session of somebody unknown; the id of users and items."""
    summary = replay(generated(200, anomalies=False), endpoints, FAST)
    start = start_of(summary)
    decoder = Decoder(CONTRACTS["interactions"], connect_registry(endpoints))
    anonymous = 0
    with TopicReader(endpoints.bootstrap_servers, "interactions", start["interactions"]) as reader:
        for message in reader.read():
            record = decoder.decode(message.value())
            anonymous += record["user_id"] is None
            assert message.key().decode() == (record["user_id"] or record["session_id"])
    assert anonymous > 0


def test_a_bad_line_stops_the_replay_before_anything_is_sent(
    endpoints: Endpoints, tmp_path: Path
) -> None:
    """No ledger, no record: the line is named instead."""
    event = {
        "event_id": "e1", "user_id": "u1", "session_id": "x", "item_id": "s1",
        "event_type": "play", "occurred_at": 1_790_000_000_000,
    }  # fmt: skip
    lines = [json.dumps(event), json.dumps({**event, "played_ms": "long"})]
    (tmp_path / "interactions.ndjson").write_text("\n".join(lines))
    elsewhere = replace(endpoints, home=tmp_path / "home")
    source = ReplayDirectory(tmp_path, CONTRACTS)
    with pytest.raises(UnusableEntry, match=r"interactions\.ndjson, line 2"):
        replay(source, elsewhere, FAST)
    assert not elsewhere.home.exists()


def test_without_kafka_the_message_says_what_to_do(endpoints: Endpoints) -> None:
    """And not a traceback of the client."""
    nowhere = replace(endpoints, bootstrap_servers=f"127.0.0.1:{ports.free_port()}")
    with pytest.raises(KafkaUnavailable, match="tunemesh up"):
        replay(generated(10), nowhere, FAST)


def test_the_real_personalize_is_read_as_the_stub_is(settings: LocalSettings) -> None:
    """Accepted events, repetitions and events left out, over more than one look."""
    client = sdk_client("personalize-events", "us-east-1", settings.personalize.url)

    def put(event_id: str, sent_at: int) -> None:
        event = {"eventId": event_id, "eventType": "play", "itemId": "s1", "sentAt": sent_at}
        client.put_events(trackingId=TRACKING_ID, userId="u", sessionId="x", eventList=[event])

    reader = PersonalizeReader(settings.personalize.url)
    before = time.time_ns() // 1_000_000
    put("reader-1", 1_763_000_000)
    put("reader-2", 1_763_000_001)
    first = {one.event_id: one for one in reader.accepted() if one.event_id.startswith("reader")}
    assert set(first) == {"reader-1", "reader-2"}
    assert before <= first["reader-1"].accepted_ms <= time.time_ns() // 1_000_000
    put("reader-1", 1_763_000_000)
    put("reader-3", 1_763_000_001)
    assert [one.event_id for one in reader.accepted()] == []
    assert dict(reader.duplicates())["reader-1"] == 1
    ignored = {one.event_id: one for one in reader.ignored()}
    assert (ignored["reader-3"].reason, ignored["reader-3"].same_as) == ("identical", "reader-2")


@pytest.fixture
def command(
    settings: LocalSettings, personalize: PersonalizeStub, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs a sub-command against the platform, the stub in place of Personalize."""
    port = urlsplit(personalize.url).port
    for name, value in (
        ("TUNEMESH_KAFKA_PORT", settings.kafka.number),
        ("TUNEMESH_KAFKA_CONTROLLER_PORT", settings.kafka_controller.number),
        ("TUNEMESH_AWS_PORT", settings.aws.number),
        ("TUNEMESH_FLINK_PORT", settings.flink.number),
        ("TUNEMESH_PERSONALIZE_PORT", port),
        ("TUNEMESH_HOME", settings.home),
    ):
        monkeypatch.setenv(name, str(value))

    def run(group: Any, *arguments: str) -> Result:
        return CliRunner().invoke(group, arguments)

    return run


def test_the_commands_from_replay_to_a_replayed_dead_letter(
    settings: LocalSettings, personalize: PersonalizeStub, command: Callable[..., Result]
) -> None:
    """As a person uses them: replay, verify, dlq list, show, replay."""
    endpoints = local_endpoints()
    arguments = ("--generate", "300", "--anomalies", "--malformed", "0.05", "--settle", "0")
    sent = command(replay_command, *arguments, "--run", "by-hand")
    assert sent.exit_code == 0, sent.output
    assert "run by-hand" in sent.output

    unfinished = command(verify_command, "--wait", "0")
    assert unfinished.exit_code == 1
    assert "lost: not enriched: 300" in unfinished.output
    assert "... and 280 more" in unfinished.output

    path = settings.home / "ledger" / "by-hand.sqlite"
    with Ledger.open(path) as ledger:
        start = positions(ledger.about()["start"])
        assert ledger.about()["contracts"]["songs"] == str(CONTRACTS["songs"].folder)
    pipeline = Pipeline(endpoints)
    output = pipeline.run(start)
    pipeline.emit(personalize)
    verified = command(verify_command, "--run", "by-hand")
    assert verified.exit_code == 0, verified.output
    assert "every record is reconciled" in verified.output

    listed = command(dlq, "list", "--reason", "trailing_bytes")
    assert listed.exit_code == 0, listed.output
    assert "trailing_bytes" in listed.output
    assert "bad_magic_byte" not in listed.output
    nonsense = command(dlq, "replay", "--reason", "nonsense")
    assert isinstance(nonsense.exception, DeadLetterError)
    assert "trailing_bytes" in str(nonsense.exception)

    letter = next(
        one
        for one in output.letters
        if one["error_code"] == "trailing_bytes" and one["topic"] == "interactions"
    )
    name = f"{letter['topic']}:{letter['partition']}:{letter['offset']}"
    shown = command(dlq, "show", name)
    assert shown.exit_code == 0, shown.output
    assert letter["payload"][:16].hex(" ") in shown.output
    assert "do not decode: trailing_bytes" in shown.output

    before = topic_ends(endpoints.bootstrap_servers, ["interactions"])["interactions"]
    replayed = command(dlq, "replay", name)
    assert replayed.exit_code == 0, replayed.output
    with TopicReader(endpoints.bootstrap_servers, "interactions", before) as reader:
        (record,) = reader.read()
    assert (record.key(), record.value()) == (letter["key"], letter["payload"])
    assert record.headers() == [("tunemesh-replayed-from", name.encode())]
    lines = command(dlq, "list", "--reason", "trailing_bytes").output.splitlines()
    (new, done, data), *_ = [
        line.split()[3:6] for line in lines if line.startswith("interactions ")
    ]
    assert (int(new) > 0, done, data) == (True, "1", "pseudonymous")
    refused = command(dlq, "replay", name)
    assert refused.exit_code == 1
    assert "--again" in refused.output
    assert command(dlq, "replay", name, "--again").exit_code == 0

    # What was published again is beyond the run: it is nobody's invention.
    assert command(verify_command, "--run", "by-hand").exit_code == 0


def test_a_replay_of_a_reason_takes_exactly_those(endpoints: Endpoints) -> None:
    """Each where it came from; one refused at delivery goes back to the enriched topic."""
    encoder = Encoder(
        CONTRACTS.only(Role.DEAD_LETTER),
        connect_registry(endpoints).version_id(CONTRACTS.only(Role.DEAD_LETTER)),
    )
    producer = Producer({"bootstrap.servers": endpoints.bootstrap_servers, "acks": "all"})
    for offset, (topic, step, code) in enumerate(
        [
            ("interactions-enriched", "deliver", "TooStrange"),
            ("songs", "decode", "TooStrange"),
            ("songs", "decode", "Other"),
        ]
    ):
        source = SourceRecord(topic, 0, 900_000 + offset, 5, b"k", f"payload {offset}".encode())
        letter = dead_letter(source, step, code, "strange", 77)
        producer.produce("dead-letters", value=encoder.encode(letter))
    assert producer.flush(60) == 0
    before = topic_ends(endpoints.bootstrap_servers, ["interactions-enriched", "songs"])
    chosen = select(read_dead_letters(endpoints), "TooStrange")
    assert replay_dead_letters(chosen, endpoints).skipped == ()
    for topic, payload in (
        ("interactions-enriched", b"payload 0"),
        ("songs", b"payload 1"),
    ):
        with TopicReader(endpoints.bootstrap_servers, topic, before[topic]) as reader:
            (record,) = reader.read()
        assert (record.key(), record.value()) == (b"k", payload)


def test_a_letter_with_only_the_head_is_replayed_from_its_topic(endpoints: Endpoints) -> None:
    """The record itself is still where the letter points to."""
    whole = b"z" * 5_000
    start = topic_ends(endpoints.bootstrap_servers, ["podcasts"])["podcasts"]
    producer = Producer({"bootstrap.servers": endpoints.bootstrap_servers, "acks": "all"})
    producer.produce("podcasts", value=whole, key=b"large", partition=1)
    assert producer.flush(60) == 0
    source = SourceRecord("podcasts", 1, start[1], 5, b"large", whole)
    letter = DeadLetter(**dead_letter(source, "decode", "x", "y", 77, max_value_bytes=6_000))
    assert letter.payload is not None
    assert len(letter.payload) < len(whole)
    before = topic_ends(endpoints.bootstrap_servers, ["podcasts"])["podcasts"]
    assert replay_dead_letters([letter], endpoints).replayed == (letter.id,)
    with TopicReader(endpoints.bootstrap_servers, "podcasts", before) as reader:
        (record,) = reader.read()
    assert (record.key(), record.value()) == (b"large", whole)
    gone = replace(letter, offset=start[1] + 50)
    with pytest.raises((DeadLetterError, KafkaUnavailable), match="no longer"):
        replay_dead_letters([gone], endpoints)


@pytest.fixture(scope="module")
def transactional(settings: LocalSettings) -> Iterator[str]:
    """A topic with the offsets of every kind of transaction.

    0 a record, 1 its marker, 2 aborted, 3 its marker, 4 a record, 5 its marker, 6 aborted, 7 its
    marker, 8 a record of a transaction that stays open.
    """
    topic = "transactional"
    create_topics(settings.kafka.address, [TopicSpec(topic, partitions=1)])
    producer = Producer(
        {"bootstrap.servers": settings.kafka.address, "transactional.id": "test", "linger.ms": 0}
    )
    producer.init_transactions(60)
    for value, ends in ((b"first", True), (b"x", False), (b"second", True), (b"x", False)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(20)
        (producer.commit_transaction if ends else producer.abort_transaction)(20)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    producer.flush(20)
    yield topic
    producer.abort_transaction(20)


def test_a_topic_is_read_past_the_offsets_without_records(
    settings: LocalSettings, transactional: str
) -> None:
    """Up to its end, as often as it is read; what is aborted or open is not read."""
    with TopicReader(settings.kafka.address, transactional, {0: 0}) as reader:
        assert [message.value() for message in reader.read()] == [b"first", b"second"]
        assert list(reader.read()) == []


def test_the_first_record_behind_a_position_is_found(
    settings: LocalSettings, transactional: str
) -> None:
    """An open transaction is where the topic ends, but not its log."""
    kafka, partition = KafkaOffsets(settings.kafka.address, {}), (transactional, 0)
    assert kafka.ends([partition]) == {partition: 8}
    assert kafka.log_ends([partition]) == {partition: 9}
    found = {position: kafka.first_records({partition: position}) for position in range(9)}
    assert [found[position][partition] for position in range(9)] == [0, 4, 4, 4, 4, 8, 8, 8, 8]
