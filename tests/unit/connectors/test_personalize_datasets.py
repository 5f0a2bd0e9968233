"""Users and items as PutUsers and PutItems want them, and the limits of these calls."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import botocore.session
import pytest

from connectors.delivery import Rejected
from connectors.personalize import dataset_destination, datasets
from connectors.personalize.datasets import (
    ITEMS,
    USERS,
    Dataset,
    DatasetEntry,
    DatasetField,
    DatasetRecord,
    DatasetRequests,
    FieldKind,
    dataset_fields,
    put_records_body,
)
from schemas.model import Contracts, Role, SchemaVersion, load_contracts
from schemas.projection import project_item, project_user, record_id
from schemas.rules import MAX_ID_LENGTH
from tests.unit.schemas.test_projection import PODCAST, SONG, USER

CONTRACTS = load_contracts()
USER_FIELDS, ITEM_FIELDS = (dataset_fields(CONTRACTS, one) for one in (USERS, ITEMS))


def of_domain(name: str, **changed: Any) -> DatasetRecord:
    """A record of a domain, by the way that the pipeline takes: through the projection."""
    contract = CONTRACTS[name]
    raw: dict[str, Any] = {"users": USER, "songs": SONG, "podcasts": PODCAST}[name] | changed
    project = project_user if name == "users" else project_item
    return DatasetRecord(record_id(contract, raw), (3, 4), project(contract, raw, f"{name}/0/1"))


def convert(record: DatasetRecord, dataset: Dataset = ITEMS) -> DatasetEntry | Rejected:
    fields = USER_FIELDS if dataset is USERS else ITEM_FIELDS
    return DatasetRequests(dataset, fields).convert(record)


def entry_of(record: DatasetRecord, dataset: Dataset = ITEMS) -> DatasetEntry:
    entry = convert(record, dataset)
    assert isinstance(entry, DatasetEntry), entry
    return entry


def properties(record: DatasetRecord, dataset: Dataset = ITEMS) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.loads(entry_of(record, dataset).text)["properties"])
    return found


class TestMapping:
    def test_a_user(self) -> None:
        """Everything known of the user but where it was read; milliseconds become seconds."""
        entry = entry_of(of_domain("users", created_at=1_764_000_000_999), USERS)
        assert (entry.id, entry.version) == ("u-1", (3, 4))
        assert json.loads(entry.text) == {
            "userId": "u-1",
            "properties": '{"country":"PT","ageBand":"25-34","subscription":"free",'
            '"creationTimestamp":1764000000}',
        }
        assert entry.size == len(entry.text.encode())

    def test_a_song(self) -> None:
        """Genres are categories, joined by a bar."""
        assert properties(of_domain("songs", released_at=9_000)) == {
            "itemType": "song",
            "title": "Title",
            "creator": "Artist",
            "genres": "fado|pop",
            "durationMs": 211_000,
            "creationTimestamp": 9,
        }

    def test_a_podcast(self) -> None:
        """The same dataset, from other fields."""
        assert properties(of_domain("podcasts")) == {
            "itemType": "podcast",
            "title": "Talk",
            "creator": "Host",
            "genres": "news",
            "language": "pt",
        }

    def test_what_is_not_known_is_absent(self) -> None:
        """No nulls, no empty texts: the service replaces the record, so absent means unknown."""
        song = of_domain("songs", artist=None, genres=["", ""], duration_seconds=None)
        assert set(properties(song)) == {"itemType", "title", "creationTimestamp"}

    def test_a_user_of_whom_nothing_is_known_is_a_user(self) -> None:
        """There are no properties then, rather than empty ones."""
        nothing = dict.fromkeys(("country", "age_band", "subscription", "created_at"))
        entry = entry_of(DatasetRecord("u-2", (0,), nothing), USERS)
        assert json.loads(entry.text) == {"userId": "u-2"}

    @pytest.mark.parametrize(
        ("ms", "seconds"), [(0, 0), (999, 0), (1_000, 1), (-315_619_200_000, 0)]
    )
    def test_a_creation_before_1970_counts_as_1970(self, ms: int, seconds: int) -> None:
        """A song of the sixties must not be a dead letter."""
        assert properties(of_domain("songs", released_at=ms))["creationTimestamp"] == seconds

    def test_text_is_sent_as_it_is(self) -> None:
        """Letters of every script and quotes arrive."""
        title = 'ラップ "🎧" \\ \n'
        assert properties(of_domain("songs", title=title))["title"] == title

    def test_a_category_never_becomes_two(self) -> None:
        """Personalize separates categories by |: in one it becomes /, in free text it stays."""
        song = of_domain("songs", title="Drum|Bass", artist="A|B", genres=["Drum|Bass", "pop"])
        sent = properties(song)
        assert (sent["title"], sent["creator"]) == ("Drum|Bass", "A/B")
        assert sent["genres"] == "Drum/Bass|pop"

    def test_fields_are_those_of_the_contract(self) -> None:
        """Whoever adds a field to the enriched user or item adds it to the dataset."""
        for name, dataset, fields in (("user", USERS, USER_FIELDS), ("item", ITEMS, ITEM_FIELDS)):
            avro = CONTRACTS["interactions-enriched"].newest.avro["fields"]
            union = next(field["type"] for field in avro if field["name"] == name)
            names = [field["name"] for field in union[1]["fields"]]
            assert [field.source for field in fields] == [one for one in names if one != "origin"]
            assert len({field.key.lower() for field in fields}) == len(fields)
            assert dataset.enriched_field == name
        projected = {*of_domain("songs").record, *of_domain("podcasts").record}
        assert projected == {field.source for field in ITEM_FIELDS} | {"origin"}
        assert set(of_domain("users").record) == {f.source for f in USER_FIELDS} | {"origin"}

    @pytest.mark.parametrize(
        ("source", "column", "key"),
        [
            ("age_band", "AGE_BAND", "ageBand"),
            ("title", "TITLE", "title"),
            ("created_at", "CREATION_TIMESTAMP", "creationTimestamp"),
        ],
    )
    def test_names_of_a_field(self, source: str, column: str, key: str) -> None:
        """In capitals in the dataset's schema, in camel case in properties."""
        field = DatasetField(source, FieldKind.TEXT)
        assert (field.column, field.key) == (column, key)


class TestLimits:
    def test_the_constants_are_those_of_the_service_model(self) -> None:
        """botocore's model, which it does not enforce itself, has the same limits."""
        model = botocore.session.Session().get_service_model("personalize-events")
        shape = model.shape_for
        for dataset, noun in ((USERS, "User"), (ITEMS, "Item")):
            operation = model.operation_model(dataset.operation)
            assert operation.http["requestUri"] == dataset.path
            assert set(operation.input_shape.members) == {"datasetArn", dataset.member}
            assert shape(f"{noun}List").metadata["max"] == datasets.MAX_RECORDS_PER_CALL
            assert set(shape(noun).members) == {dataset.id_member, "properties"}
            limits = shape(f"{noun}Properties").metadata
            assert limits["max"] == dataset.max_properties_length
        assert shape("StringType").metadata["max"] == MAX_ID_LENGTH
        assert shape("Arn").metadata["max"] == dataset_destination.MAX_ARN_LENGTH
        assert shape("Arn").metadata["pattern"] == dataset_destination._ARN.pattern

    @pytest.mark.parametrize(("id", "said"), [("x" * 257, "at most 256"), ("", "empty")])
    @pytest.mark.parametrize("dataset", [USERS, ITEMS])
    def test_ids_have_a_longest_and_a_shortest(self, dataset: Dataset, id: str, said: str) -> None:
        """By the name that the service has for it."""
        entry_of(DatasetRecord("é" * 256, (0,), {}), dataset)
        outcome = convert(DatasetRecord(id, (0,), {}), dataset)
        assert isinstance(outcome, Rejected)
        assert outcome.message.startswith(dataset.id_member)
        assert said in outcome.message

    @pytest.mark.parametrize(
        ("field", "good", "bad"),
        [("title", "x" * 1000, "x" * 1001), ("genres", ["x" * 499] * 2, ["x" * 500] * 2)],
    )
    def test_a_text_has_at_most_a_thousand_characters(
        self, field: str, good: Any, bad: Any
    ) -> None:
        """A list counts as it is sent; the message names the field and not the value."""
        record = of_domain("songs").record
        entry_of(DatasetRecord("s", (0,), {**record, field: good}))
        outcome = convert(DatasetRecord("s", (0,), {**record, field: bad}))
        assert outcome == Rejected("InvalidRecord", f"{field} has 1001 characters, at most 1000")

    @pytest.mark.parametrize(
        ("id", "changed", "said"),
        [
            # The projection makes no value of another type; a mapping to the wrong field does.
            ("s", {"title": 7}, "title is not "),
            ("s", {"genres": "pop"}, "genres is not "),
            ("s", {"genres": [1]}, "genres is not "),
            ("s", {"duration_ms": "1"}, "duration_ms is not "),
            ("s", {"duration_ms": True}, "duration_ms is not "),
            ("s", {"duration_ms": float("nan")}, "duration_ms is not "),
            ("s", {"duration_ms": float("inf")}, "duration_ms is not "),
            ("s", {"created_at": "1970"}, "created_at is not "),
            # Half of a surrogate pair cannot be written as UTF-8.
            ("\ud800", {}, "the id is not valid Unicode"),
            ("s", {"title": "\ud800"}, "title is not valid Unicode"),
            ("s", {"genres": ["a", "\ud800"]}, "genres is not valid Unicode"),
        ],
    )
    def test_what_cannot_be_sent_is_rejected_by_name(
        self, id: str, changed: dict[str, Any], said: str
    ) -> None:
        """Of the field, or of the id."""
        outcome = convert(DatasetRecord(id, (0,), {**of_domain("songs").record, **changed}))
        assert isinstance(outcome, Rejected)
        assert outcome.message.startswith(said)

    @pytest.mark.parametrize(("dataset", "most"), [(USERS, 24_000), (ITEMS, 32_000)])
    def test_properties_have_a_longest(self, dataset: Dataset, most: int) -> None:
        """Exactly the limit is sent, one character more is rejected."""
        fields = [DatasetField(f"f{n}", FieldKind.TEXT) for n in range(40)]
        full = {f"f{n}": "x" * 990 for n in range(most // 1_000)}
        rest = most - len(json.dumps({**full, "f39": ""}, separators=(",", ":")))
        requests = DatasetRequests(dataset, fields)
        entry = requests.convert(DatasetRecord("s", (0,), {**full, "f39": "x" * rest}))
        assert isinstance(entry, DatasetEntry)
        assert len(json.loads(entry.text)["properties"]) == most
        assert requests.convert(DatasetRecord("s", (0,), {**full, "f39": "x" * (rest + 1)})) == (
            Rejected("InvalidRecord", f"properties have {most + 1} characters, at most {most}")
        )

    @pytest.mark.parametrize("character", ["🎧", '"', "\\", "\x01", "é", "\x7f"])
    def test_no_record_is_larger_than_said(self, character: str) -> None:
        """For all characters: the engine rejects nothing that the service would take."""
        fields = [DatasetField(f"f{n}", FieldKind.TEXT) for n in range(40)]
        requests = DatasetRequests(ITEMS, fields)
        for length in range(50, 1000, 50):
            record = {f"f{n}": character * length for n in range(40)}
            entry = requests.convert(DatasetRecord(character * 256, (0,), record))
            if isinstance(entry, DatasetEntry):
                assert entry.size <= requests.max_record_bytes


class TestBody:
    @pytest.mark.parametrize("dataset", [USERS, ITEMS])
    def test_a_call(self, dataset: Dataset) -> None:
        """The ARN once, the records in their order."""
        entries = [entry_of(DatasetRecord(f"r-{n}", (n,), {}), dataset) for n in range(10)]
        body = json.loads(put_records_body(dataset, 'a"rn', entries))
        assert body["datasetArn"] == 'a"rn'
        assert [one[dataset.id_member] for one in body[dataset.member]] == [
            f"r-{n}" for n in range(10)
        ]
        assert set(body) == {"datasetArn", dataset.member}

    @pytest.mark.parametrize("count", [0, 11])
    def test_a_call_has_one_to_ten_records(self, count: int) -> None:
        """The engine's limits see to it; this is the last guard."""
        entry = entry_of(DatasetRecord("s", (0,), {}))
        with pytest.raises(ValueError, match="PutItems allows 1 to 10"):
            put_records_body(ITEMS, "arn", [entry] * count)


def test_an_avro_type_that_personalize_lacks_is_named() -> None:
    """A field that could not be sent stops the start, not the stream."""
    enriched = CONTRACTS.only(Role.ENRICHED)
    avro = enriched.newest.avro
    union = next(field["type"] for field in avro["fields"] if field["name"] == "item")
    union[1]["fields"].append({"name": "cover", "type": ["null", "bytes"]})
    changed = replace(enriched, versions=(SchemaVersion(1, json.dumps(avro)),))
    with pytest.raises(ValueError, match=r"cover .*bytes"):
        dataset_fields(Contracts({enriched.name: changed}), ITEMS)
