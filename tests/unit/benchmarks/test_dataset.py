"""The dataset of the benchmarks, and the check of outputs against it."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
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
from benchmarks.expected import NewestVersions, differing_fields, without_origins
from benchmarks.output import check, sample_numbers
from benchmarks.services import benchmark_settings
from benchmarks.systems import TASK_FOLDER
from benchmarks.systems.catalog import FULL_RUN, OURS, QUICK_RUN, catalog, select
from schemas.codec import Encoder, encode_body, parse_plain
from schemas.model import load_contracts

SHAPE = Shape.of(events=3_000, users=300, items=1_100, base_ms=1_763_000_000_000)
CONTRACTS = load_contracts()
VERSION = UUID(int=7)


class Appended:
    """A record of an output topic, as the check reads it."""

    def __init__(self, value: bytes, at_ms: int = 1) -> None:
        self._value, self._at = value, at_ms

    def value(self) -> bytes:
        """Return the record's value."""
        return self._value

    def timestamp(self) -> tuple[int, int]:
        """Return LogAppendTime (2) and the time."""
        return 2, self._at


def newest_versions() -> NewestVersions:
    """Return the newest versions of all dimension records."""
    newest = NewestVersions(CONTRACTS)
    for offset, published in enumerate(dimensions(SHAPE)):
        newest.add(published.topic, published.record, SHAPE.base_ms, f"t/0/{offset}")
    return newest


def enriched(newest: NewestVersions, number: int) -> dict[str, Any]:
    """Return the expected record of an interaction."""
    return newest.enrich(
        interaction(SHAPE, number), event_time(SHAPE, number), f"interactions/0/{number}"
    )


def test_every_record_fits_its_contract() -> None:
    """The dataset has the newest schema versions, as the product publishes them."""
    schemas = {c.topic: parse_plain(c.newest.definition) for c in CONTRACTS.sources}
    for published in [*dimensions(SHAPE), *interactions(SHAPE)]:
        encode_body(schemas[published.topic], published.record)
        assert published.key


def test_the_same_shape_is_the_same_data() -> None:
    """Runs are repeated on the same data; each record can be generated alone."""
    assert list(islice(interactions(SHAPE), 50)) == list(islice(interactions(SHAPE), 50))
    fifth = next(islice(interactions(SHAPE), 5, None))
    assert fifth.record == interaction(SHAPE, 5)


def test_event_ids_are_uuids_that_carry_their_number() -> None:
    """So the check for missing and duplicated events needs no table of ids."""
    for number in (0, 1, 2_999, 123_456_789):
        event_id = interaction(SHAPE, number)["event_id"]
        assert str(UUID(event_id)) == event_id
        assert event_number(event_id.encode()) == number


def test_no_time_is_later_than_two_hours_after_the_base_time() -> None:
    """The base time is two hours before the publication: no version and no event is ahead of it."""
    times = [p.record["updated_at"] or 0 for p in dimensions(SHAPE)]
    times += [p.record["occurred_at"] for p in interactions(SHAPE)]
    assert max(times) < SHAPE.base_ms + 2 * 3_600_000


def test_the_dataset_has_the_special_cases_of_joins() -> None:
    """Anonymous users, unknown items, deletions, and updates in both orders."""
    events = [published.record for published in interactions(SHAPE)]
    assert any(event["user_id"] is None for event in events)
    assert any(event["item_id"].startswith("unknown") for event in events)
    versions = Counter((p.topic, p.key) for p in dimensions(SHAPE))
    assert max(versions.values()) > 1
    assert any(p.record["deleted"] for p in dimensions(SHAPE))
    assert any(p.record["updated_at"] is None for p in dimensions(SHAPE))


def test_an_older_version_is_not_attached() -> None:
    """Not even if it is published last; nor is a deleted one."""
    newest = newest_versions()
    updated = newest.items["s1"][1]
    older = newest.items["s2"][1]
    assert updated is not None
    assert updated["title"] == "Song title 1 (1)"
    assert older is not None
    assert older["title"] == "Song title 2"
    assert newest.items["s3"][1] is None
    assert newest.users["u3"][1] is None


def test_without_updated_at_the_kafka_timestamp_orders_versions() -> None:
    """Of two equal versions the later one in the topic is the newest."""
    newest = NewestVersions(CONTRACTS)
    user: dict[str, Any] = {"user_id": "u", "country": "IT", "age_band": None, "subscription": None}
    user |= {"created_at": None, "updated_at": None, "deleted": False}
    newest.add("users", user, 2_000, "users/0/0")
    newest.add("users", user | {"country": "FR"}, 1_999, "users/0/1")
    assert newest.users["u"][1]["country"] == "IT"  # type: ignore[index]
    newest.add("users", user | {"country": "DE"}, 2_000, "users/0/2")
    assert newest.users["u"][1]["origin"] == "users/0/2"  # type: ignore[index]


def test_the_expected_record_fits_the_enriched_contract() -> None:
    """With a user and an item of each domain, and without."""
    newest = newest_versions()
    schema = parse_plain(CONTRACTS["interactions-enriched"].newest.definition)
    records = [enriched(newest, number) for number in range(SHAPE.events)]
    for record in records:
        encode_body(schema, record)
    kinds = {None if r["item"] is None else r["item"]["item_type"] for r in records}
    assert kinds == {None, "song", "podcast"}
    assert all(record["user"] is None for record in records if record["user_id"] is None)


def output(numbers: range | list[int], **changed: Any) -> list[Any]:
    """Return an output topic with the expected records of these events."""
    newest = newest_versions()
    encoder = Encoder(CONTRACTS["interactions-enriched"], VERSION)
    return [Appended(encoder.encode(enriched(newest, n) | changed)) for n in numbers]


def checked(messages: list[Any], *, origins: bool = True) -> Any:
    """Check an output against every hundredth event."""
    newest = newest_versions()
    sample = {number: enriched(newest, number) for number in sample_numbers(SHAPE.events, 30)}
    contract = CONTRACTS["interactions-enriched"]
    return check(messages, contract, SHAPE.events, sample, has_origins=origins)


def test_a_correct_output() -> None:
    """Every event once, and the sample is equal."""
    result = checked(output(range(SHAPE.events)))
    assert result.is_correct
    assert (result.distinct, result.compared) == (SHAPE.events, 30)


def test_duplicated_and_invented_events_are_counted() -> None:
    """Records without an event_id count as invented."""
    malformed = b"\x03\x00" + bytes(16) + b"?"
    result = checked([*output([1, 2, 2]), Appended(malformed), *output([3], event_id="f" * 36)])
    assert (result.distinct, result.duplicates, result.invented) == (2, 1, 2)
    assert not result.is_correct


def test_a_wrong_field_is_reported() -> None:
    """The rate of a system with a wrong output is not used."""
    result = checked(output([0, 100, 200], published_at=1, user=None))
    assert result.different == 3
    assert result.fields["published_at"] == 3
    assert result.fields["user"] >= 1
    assert result.examples


def test_a_system_without_origins_is_compared_by_everything_else() -> None:
    """PyFlink's Kafka source does not provide them."""
    newest = newest_versions()
    expected = enriched(newest, 0)
    blank = expected | {"origin": ""}
    assert differing_fields(expected, blank) == ("origin",)
    assert differing_fields(without_origins(expected), without_origins(blank)) == ()
    assert without_origins(expected)["item_id"] == expected["item_id"]


def test_nested_differences_are_named_by_their_path() -> None:
    """user.country, not only user."""
    left = {"a": 1, "user": {"country": "IT", "age": 3}}
    right = {"a": 1, "user": {"country": "FR", "age": 3}}
    assert differing_fields(left, right) == ("user.country",)


def test_a_sample_is_spread_over_all_events() -> None:
    """Also if there are fewer events than the size of the sample."""
    assert list(sample_numbers(10, 5)) == [0, 2, 4, 6, 8]
    assert list(sample_numbers(3, 20)) == [0, 1, 2]


def test_the_full_run_names_systems_that_exist(tmp_path: Any) -> None:
    """The error for an unknown name lists the existing ones."""
    systems = catalog(tmp_path)
    for run in (FULL_RUN, QUICK_RUN):
        assert [system.name for system in select(run, systems)] == list(run)
    with pytest.raises(BenchmarkError, match="java-rocksdb"):
        select(["spark"], systems)


def test_ours_runs_between_two_runs_of_the_baseline() -> None:
    """The speed of the machine changes: a ratio needs the baseline on both sides."""
    for run in (FULL_RUN, QUICK_RUN):
        assert OURS in run
        for at, name in enumerate(run):
            if name == OURS:
                assert (run[at - 1], run[at + 1]) == ("java-rocksdb", "java-rocksdb")


def test_a_run_deletes_no_record_of_the_services(tmp_path: Path) -> None:
    """Without its record a service is not stopped at the end."""
    settings = benchmark_settings(tmp_path)
    folders = {settings.run, settings.data("kafka").parent, settings.log("kafka").parent}
    assert tmp_path / TASK_FOLDER not in folders


def test_the_check_reads_the_event_id_from_its_position() -> None:
    """One byte of length after the header, then 36 bytes; it depends on the contract."""
    value = output([5])[0].value()
    assert value[18] == 72
    assert event_number(value[19:55]) == 5
