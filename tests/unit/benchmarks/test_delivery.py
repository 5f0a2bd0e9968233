"""The input of the delivery benchmark, as in docs/benchmarks/method.md."""

from __future__ import annotations

import fastavro

from benchmarks.delivery import event, updates
from benchmarks.search import EVENTS_INDEX, backlog
from connectors.firehose import FirehoseRecord, firehose_record
from connectors.opensearch import BulkEntry, event_entry
from connectors.personalize import ITEMS, EventRequests, PutEventsEvent, dataset_fields
from connectors.personalize.datasets import DatasetEntry, DatasetRequests
from schemas.model import Role, load_contracts


def test_five_updates_per_song_with_increasing_versions() -> None:
    """Every song is updated, and a later update is a newer version."""
    records = updates(200)
    assert len(records) == 1_000
    assert len({record.id for record in records}) == 200
    assert [record.version for record in records] == sorted(record.version for record in records)
    requests = DatasetRequests(ITEMS, dataset_fields(load_contracts(), ITEMS))
    assert all(isinstance(requests.convert(record), DatasetEntry) for record in records)


def test_each_event_is_a_session_of_its_own() -> None:
    """Each event is then a call; all events are valid."""
    records = [event("m", number) for number in range(100)]
    assert len({record["session_id"] for record in records}) == 100
    assert len({record["event_id"] for record in records}) == 100
    assert all(isinstance(EventRequests().convert(record), PutEventsEvent) for record in records)


def test_the_documents_are_enriched_interactions_of_one_day() -> None:
    """They match the contract, are valid for OpenSearch and Firehose, and are in one index."""
    contract = load_contracts().only(Role.ENRICHED)
    records = backlog(2_000)
    schema = fastavro.parse_schema(dict(contract.newest.avro))
    assert all(fastavro.validate(record, schema, strict=True) for record in records)
    assert len({record["event_id"] for record in records}) == 2_000
    assert any(record["user"] is None for record in records)
    assert any(record["item"] is None for record in records)
    entries = [event_entry(record) for record in records]
    assert {entry.index for entry in entries if isinstance(entry, BulkEntry)} == {EVENTS_INDEX}
    assert all(isinstance(firehose_record(record), FirehoseRecord) for record in records)
