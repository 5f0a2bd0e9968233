"""A delivery function: what it decodes records to, delivers and leaves over."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast
from uuid import UUID

import cloudpickle
import pytest
from pyflink.table import Row

from connectors.delivery import Outcome, Rejected
from connectors.delivery.outcomes import DELIVERED
from connectors.glue.registry import GlueRegistry
from jobs import delivery_functions
from jobs.dead_letter_limit import DeadLetterLimitReached
from jobs.decode_functions import VersionOf
from jobs.delivery_functions import Deliver, EngineThread, Target, dataset_target, events_target
from jobs.functions import Opened
from jobs.micro_batch.left_over import LeftOver, Sink
from jobs.settings import RecommendationsSettings, RegistrySettings
from jobs.worker import Shared
from schemas.codec import Decoder, Encoder, Record, RegisteredSchema, SchemaLookup
from schemas.dead_letter import SourceRecord
from schemas.invalid import InvalidRecord, Reason
from schemas.model import Contract, Role, load_contracts
from tests.support.delivery_fakes import FakeRecord, ScriptedDestination

CONTRACTS = load_contracts()
ENRICHED = CONTRACTS.only(Role.ENRICHED)
ID = UUID(int=7)
UNTIL_MS = 1_790_000_000_000


DEAD_LETTER = CONTRACTS.only(Role.DEAD_LETTER)
SETTINGS = RecommendationsSettings("t", "u", "i", "eu-west-1")


class Registry(SchemaLookup):
    """The newest version of one contract."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    def by_id(self, version_id: bytes) -> RegisteredSchema:
        assert version_id == ID.bytes
        return RegisteredSchema(self.contract.subject, self.contract.newest.definition)

    def version_id(self, contract: Contract) -> UUID:
        assert contract == self.contract
        return ID


def opened(contract: Contract) -> Opened:
    """As a function has it, with those methods of the registry that decoders call."""
    return Opened(CONTRACTS, cast(GlueRegistry, Registry(contract)))


def decoded(published_at: int, imported_until: int | None) -> Record | LeftOver | None:
    """An event as it is decoded for PutEvents."""
    decode = events_target(replace(SETTINGS, imported_until=imported_until)).decoder(
        opened(ENRICHED)
    )
    record = next(iter(ENRICHED.examples("valid").values())) | {"published_at": published_at}
    value = Encoder(ENRICHED, ID).encode(record)
    # It was enriched after its publication; that time does not count.
    return decode(SourceRecord("e", 0, 0, UNTIL_MS + 1, b"k", value))


@pytest.mark.parametrize(
    ("published_at", "imported_until", "sent"),
    [
        (UNTIL_MS - 1, UNTIL_MS, False),
        (UNTIL_MS, UNTIL_MS, True),
        (UNTIL_MS - 1, None, True),
        (0, None, True),
    ],
)
def test_an_imported_interaction_is_not_sent(
    published_at: int, imported_until: int | None, sent: bool
) -> None:
    """By the time at which the interaction itself was published, to the millisecond."""
    record = decoded(published_at, imported_until)
    if sent:
        assert isinstance(record, dict)
        assert record["published_at"] == published_at
    else:
        assert record is None


@pytest.mark.parametrize("role", [Role.USER, Role.ITEM])
def test_targets_are_pickled_into_a_job_and_still_share_an_engine(role: Role) -> None:
    """Each subtask unpickles one of its own; name and settings say which engine is theirs."""
    for target in events_target(SETTINGS), dataset_target(role, SETTINGS):
        pickled = cloudpickle.loads(cloudpickle.dumps(target))
        assert (pickled.name, pickled.settings) == (target.name, target.settings)
        assert hash(pickled.settings) == hash(target.settings)


class DeliverFakes(Deliver[FakeRecord]):
    """A delivery function whose registry has the schema of dead letters alone."""

    def connect(self) -> Opened:
        return opened(DEAD_LETTER)


class WithoutMetrics:
    """A function's context where metrics are switched off."""

    def get_metric_group(self) -> None:
        raise RuntimeError("Metric has not been enabled.")


def decode_fake(source: SourceRecord) -> FakeRecord | LeftOver | None:
    """By what the payload says."""
    if source.payload == b"invalid":
        raise InvalidRecord(Reason.WRONG_TYPE, "it is invalid")
    if source.payload == b"deleted":
        return LeftOver(Sink.DELETIONS, b"id", b"deletion")
    return None if source.payload == b"imported" else FakeRecord(str(source.payload), source.offset)


def refuse(batch: Sequence[FakeRecord], _: int) -> Outcome:
    """Refuse a batch with one bad record, and repeat what was sent."""
    if any("refused" in str(record.key) for record in batch):
        keys = ", ".join(str(record.key) for record in batch)
        return Rejected("Bad", f"one of {keys} is Bad", whole_call=True)
    return DELIVERED


def deliver_fakes(
    settings: RecommendationsSettings,
) -> tuple[Deliver[FakeRecord], ScriptedDestination]:
    """A function that is open, and its destination, which refuses some records."""
    destination = ScriptedDestination(refuse, latency=0)
    target = Target(
        "deliver_fakes",
        "post",
        settings,
        lambda _: decode_fake,
        lambda _: destination,
        lambda record: {"event_id": "e", "user_id": record.key, "item_id": "Bad"},
    )
    function = DeliverFakes(target, RegistrySettings("eu-west-1"), ())
    function.open(WithoutMetrics())
    return function, destination


def batch(*payloads: str) -> str:
    """A micro-batch of records."""
    return "".join(
        f"topic/0/{offset} 5 1 {len(payload)} k{payload}" for offset, payload in enumerate(payloads)
    )


def test_a_batch_is_delivered_and_leaves_over_what_belongs_elsewhere() -> None:
    """Dead letters of both steps, and records of other sinks."""
    function, destination = deliver_fakes(SETTINGS)
    left_over = function.eval(batch("first", "invalid", "deleted", "imported", "refused", "last"))
    function.close()
    assert {record.number for record in destination.accepted} == {0, 5}
    assert [text[:8] for text in left_over] == ["L0000001", "D0000002", "L0000001"]
    assert left_over[1][8:] == "iddeletion"
    decoder = Decoder(DEAD_LETTER, Registry(DEAD_LETTER))
    dead_letters = [decoder.decode(left_over[i][9:].encode("latin-1")) for i in (0, 2)]
    assert [(d["offset"], d["step"], d["error_code"]) for d in dead_letters] == [
        (1, "decode", "wrong_type"),
        (4, "deliver", "post.Bad"),
    ]
    # The id of a user is personal, that of an item is not.
    assert dead_letters[1]["message"] == "one of <user_id> is Bad"
    assert dead_letters[1]["event_id"] == "e"


def test_dead_letters_of_both_steps_count_for_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the records; the batch that reaches it leaves over nothing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = replace(SETTINGS, max_consecutive=3, max_percent=0)
    function, _ = deliver_fakes(settings)
    mixed = "invalid", "refused", "first", "invalid", "refused"
    assert len(function.eval(batch(*mixed))) == 4
    with pytest.raises(
        DeadLetterLimitReached,
        match=r"pipeline recommendations .* 3 of 3 .* deliver_fakes .* 2 of them wrong_type",
    ):
        function.eval(batch("invalid", "last"))
    function.close()
    function.open(WithoutMetrics())
    with pytest.raises(DeadLetterLimitReached):
        function.eval(batch("invalid"))
    function.close()


class VersionOfFakes(VersionOf):
    """A function whose registry has the schema of dead letters alone."""

    def connect(self) -> Opened:
        return opened(DEAD_LETTER)


def test_versions_that_cannot_be_decoded_stop_a_pipeline_of_recommendations_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their dead letters are the enrichment's: here they would be passed over in silence."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = replace(SETTINGS, max_consecutive=3)
    function = VersionOfFakes(Role.USER, settings, RegistrySettings("eu-west-1"), ())
    function.open(WithoutMetrics())
    for offset in (1, 2):
        assert function.eval(b"u", b"malformed", f"users/0/{offset}", 1) == Row(None, None)
    assert function.eval(b"u", None, "users/0/3", 1) != Row(None, None)
    for offset in (4, 5):
        assert function.eval(b"u", b"malformed", f"users/0/{offset}", 1) == Row(None, None)
    with pytest.raises(DeadLetterLimitReached, match=r"version_of_user .* bad_magic_byte"):
        function.eval(b"u", b"malformed", "users/0/6", 1)


def test_changed_settings_leave_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread and connections; those of the former settings are closed."""
    monkeypatch.setattr(delivery_functions, "ENGINES", Shared[EngineThread]())
    before = threading.active_count()
    destinations: list[ScriptedDestination] = []
    for tracking_id in ("one", "two", "three"):
        function, destination = deliver_fakes(replace(SETTINGS, tracking_id=tracking_id))
        destinations.append(destination)
        function.close()
        assert threading.active_count() == before + 1
    assert [destination.closed for destination in destinations] == [True, True, False]


def test_an_engine_that_cannot_be_created_leaves_no_thread() -> None:
    """A job with a wrong setting restarts again and again."""

    def create() -> ScriptedDestination:
        raise ValueError("no such region")

    before = threading.active_count()
    with pytest.raises(ValueError, match="no such region"):
        EngineThread(create, 1.0)
    assert threading.active_count() == before
