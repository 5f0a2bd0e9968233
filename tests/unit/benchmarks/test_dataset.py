"""The dataset fits the contracts, is repeatable, and has what joins must get right."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any
from uuid import UUID

import pytest

from benchmarks.dataset import (
    Shape,
    dimensions,
    event_number,
    event_time,
    interaction,
    interactions,
)
from benchmarks.errors import BenchmarkError
from benchmarks.expected import Newest, differing_fields, without_origins
from benchmarks.output import check, sampled
from benchmarks.systems.catalog import FULL_RUN, OURS, QUICK_RUN, catalog, chosen
from schemas.codec import Encoder, encode_body, parse_plain
from schemas.model import load_contracts

SHAPE = Shape.of(events=3_000, users=300, items=1_100, base_ms=1_763_000_000_000)
CONTRACTS = load_contracts()
VERSION = UUID(int=7)


class Appended:
    """A record of an output topic, as far as the check looks at it."""

    def __init__(self, value: bytes, at_ms: int = 1) -> None:
        self._value, self._at = value, at_ms

    def value(self) -> bytes:
        """The record's value."""
        return self._value

    def timestamp(self) -> tuple[int, int]:
        """Kind 2 is LogAppendTime."""
        return 2, self._at


def loaded() -> Newest:
    """All versions of all dimensions, taken in."""
    newest = Newest(CONTRACTS)
    for offset, published in enumerate(dimensions(SHAPE)):
        newest.add(published.topic, published.record, published.timestamp, f"t/0/{offset}")
    return newest


def enriched(newest: Newest, number: int) -> dict[str, Any]:
    """The expected record of an interaction."""
    return newest.enrich(
        interaction(SHAPE, number), event_time(SHAPE, number), f"interactions/0/{number}"
    )


def test_every_record_fits_its_contract() -> None:
    """What is published is what the product publishes: the newest schema version."""
    schemas = {c.topic: parse_plain(c.newest.definition) for c in CONTRACTS.sources}
    for published in [*dimensions(SHAPE), *interactions(SHAPE)]:
        encode_body(schemas[published.topic], published.record)
        assert published.key


def test_the_same_shape_is_the_same_data() -> None:
    """A benchmark is repeated on the same bytes; any record can be made again alone."""
    assert list(islice(interactions(SHAPE), 50)) == list(islice(interactions(SHAPE), 50))
    fifth = next(islice(interactions(SHAPE), 5, None))
    assert fifth.record == interaction(SHAPE, 5)


def test_event_ids_are_uuids_that_carry_their_number() -> None:
    """The check for lost and doubled events needs no table of two million ids."""
    for number in (0, 1, 2_999, 123_456_789):
        event_id = interaction(SHAPE, number)["event_id"]
        assert str(UUID(event_id)) == event_id
        assert event_number(event_id.encode()) == number


def test_interactions_are_published_after_all_dimensions() -> None:
    """By their Kafka timestamps too: that is what a cold start goes by."""
    newest_dimension = max(published.timestamp for published in dimensions(SHAPE))
    assert newest_dimension < event_time(SHAPE, 0) <= event_time(SHAPE, SHAPE.events - 1)
    assert event_time(SHAPE, SHAPE.events - 1) < SHAPE.base_ms + 2 * 3_600_000


def test_the_data_has_the_cases_that_tell_joins_apart() -> None:
    """Anonymous listeners, unknown items, deletions, and updates in both orders."""
    events = [published.record for published in interactions(SHAPE)]
    assert any(event["user_id"] is None for event in events)
    assert any(event["item_id"].startswith("unknown") for event in events)
    versions = Counter((p.topic, p.key) for p in dimensions(SHAPE))
    assert max(versions.values()) > 1
    assert any(p.record["deleted"] for p in dimensions(SHAPE))
    assert any(p.record["updated_at"] is None for p in dimensions(SHAPE))


def test_an_older_version_never_wins() -> None:
    """Not even when it is published last; a newer one does, a deleted one is attached no more."""
    newest = loaded()
    updated = newest.items["s1"][1]
    older = newest.items["s2"][1]
    assert updated is not None
    assert updated["title"] == "Song title 1 (1)"
    assert older is not None
    assert older["title"] == "Song title 2"
    assert newest.items["s3"][1] is None
    assert newest.users["u3"][1] is None


def test_without_updated_at_the_kafka_timestamp_orders_versions() -> None:
    """And of two equal versions the later one in the topic holds."""
    newest = Newest(CONTRACTS)
    user: dict[str, Any] = {"user_id": "u", "country": "IT", "age_band": None, "subscription": None}
    user |= {"created_at": None, "updated_at": None, "deleted": False}
    newest.add("users", user, 2_000, "users/0/0")
    newest.add("users", user | {"country": "FR"}, 1_999, "users/0/1")
    assert newest.users["u"][1]["country"] == "IT"  # type: ignore[index]
    newest.add("users", user | {"country": "DE"}, 2_000, "users/0/2")
    assert newest.users["u"][1]["origin"] == "users/0/2"  # type: ignore[index]


def test_the_expected_record_fits_the_enriched_contract() -> None:
    """With user and item of either domain, and without."""
    newest = loaded()
    schema = parse_plain(CONTRACTS["interactions-enriched"].newest.definition)
    records = [enriched(newest, number) for number in range(SHAPE.events)]
    for record in records:
        encode_body(schema, record)
    kinds = {None if r["item"] is None else r["item"]["item_type"] for r in records}
    assert kinds == {None, "song", "podcast"}
    assert all(record["user"] is None for record in records if record["user_id"] is None)


def output(numbers: range | list[int], **changed: Any) -> list[Any]:
    """An output topic with the expected records of those events."""
    newest = loaded()
    encoder = Encoder(CONTRACTS["interactions-enriched"], VERSION)
    return [Appended(encoder.encode(enriched(newest, n) | changed)) for n in numbers]


def checked(messages: list[Any], *, origins: bool = True) -> Any:
    """The check of an output against every hundredth event."""
    newest = loaded()
    sample = {number: enriched(newest, number) for number in sampled(SHAPE.events, 30)}
    contract = CONTRACTS["interactions-enriched"]
    return check(messages, contract, SHAPE.events, sample, origins=origins)


def test_a_right_output_is_found_complete() -> None:
    """Every event once, the whole sample equal."""
    found = checked(output(range(SHAPE.events)))
    assert found.complete
    assert (found.distinct, found.compared) == (SHAPE.events, 30)


def test_doubled_and_invented_events_are_found() -> None:
    """Whatever else is right about them."""
    strange = no_record()
    found = checked([*output([1, 2, 2]), Appended(strange), *output([3], event_id="f" * 36)])
    assert (found.distinct, found.duplicates, found.invented) == (2, 1, 2)
    assert not found.complete


def no_record() -> bytes:
    """A value that is no record at all."""
    return b"\x03\x00" + bytes(16) + b"?"


def test_a_wrong_field_is_named() -> None:
    """So that a system that joins wrongly is not compared by its speed."""
    found = checked(output([0, 100, 200], published_at=1, user=None))
    assert found.different == 3
    assert found.fields["published_at"] == 3
    assert found.fields["user"] >= 1
    assert found.examples


def test_a_system_without_origins_is_compared_by_everything_else() -> None:
    """PyFlink's Kafka source does not say where a record came from."""
    newest = loaded()
    expected = enriched(newest, 0)
    blank = expected | {"origin": ""}
    assert differing_fields(expected, blank) == ("origin",)
    assert differing_fields(without_origins(expected), without_origins(blank)) == ()
    assert without_origins(expected)["item_id"] == expected["item_id"]


def test_nested_differences_are_named_by_their_path() -> None:
    """user.country, not just user."""
    left = {"a": 1, "user": {"country": "IT", "age": 3}}
    right = {"a": 1, "user": {"country": "FR", "age": 3}}
    assert differing_fields(left, right) == ("user.country",)


def test_a_sample_is_spread_over_all_events() -> None:
    """Also when there are fewer events than the sample is large."""
    assert list(sampled(10, 5)) == [0, 2, 4, 6, 8]
    assert list(sampled(3, 20)) == [0, 1, 2]


def test_the_full_run_names_systems_that_exist(tmp_path: Any) -> None:
    """And an unknown name is answered with those that there are."""
    systems = catalog(tmp_path)
    for run in (FULL_RUN, QUICK_RUN):
        assert [system.name for system in chosen(run, systems)] == list(run)
    with pytest.raises(BenchmarkError, match="java-rocksdb"):
        chosen(["spark"], systems)


def test_ours_runs_between_two_runs_of_its_yardstick() -> None:
    """The speed of the machine drifts: a ratio needs the yardstick on both sides."""
    for run in (FULL_RUN, QUICK_RUN):
        assert OURS in run
        for at, name in enumerate(run):
            if name == OURS:
                assert (run[at - 1], run[at + 1]) == ("java-rocksdb", "java-rocksdb")


def test_avro_writes_the_event_id_where_the_check_looks_for_it() -> None:
    """One byte of length after the header, then 36 bytes; a change of the contract breaks that."""
    value = output([5])[0].value()
    assert value[18] == 72
    assert event_number(value[19:55]) == 5
