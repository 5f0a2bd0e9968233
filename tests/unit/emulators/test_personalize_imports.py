"""CSV rules, imported data, and training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from emulators.personalize.control import csv_rules, imports
from emulators.personalize.control.bulk import Bulk, Mode
from emulators.personalize.control.csv_rules import ImportRefused, read_batches
from emulators.personalize.control.erasure import erase
from emulators.personalize.control.imports import ImportJob, ServerStopping
from emulators.personalize.control.schemas import DatasetSchema, parse
from emulators.personalize.control.source import CsvObject, Source
from emulators.personalize.control.training import TrainingRefused, train
from emulators.personalize.store import EventsCall, Store, StoreReader
from tests.unit.emulators.test_personalize_store import event

NAMESPACE = "com.amazonaws.personalize.schema"


def schema(name: str, *fields: tuple[str, Any, str]) -> DatasetSchema:
    """Return a schema of fields (name, type, `categorical`, `textual` or nothing)."""
    entries = [
        {"name": field, "type": of, **({attribute: True} if attribute else {})}
        for field, of, attribute in fields
    ]
    return parse(
        json.dumps({"type": "record", "name": name, "namespace": NAMESPACE, "fields": entries})
    )


ITEMS = schema(
    "Items",
    ("ITEM_ID", "string", ""),
    ("GENRES", ["null", "string"], "categorical"),
    ("PRICE", ["null", "float"], ""),
    ("YEAR", ["null", "int"], ""),
    ("IS_NEW", ["null", "boolean"], ""),
    ("CREATION_TIMESTAMP", ["null", "long"], ""),
)
PLAYS = schema(
    "Interactions",
    ("USER_ID", "string", ""),
    ("ITEM_ID", "string", ""),
    ("TIMESTAMP", "long", ""),
    ("EVENT_TYPE", "string", ""),
)
USERS = schema("Users", ("USER_ID", "string", ""), ("COUNTRY", ["null", "string"], "categorical"))
HEADER = "ITEM_ID,GENRES,PRICE,YEAR,IS_NEW,CREATION_TIMESTAMP\n"


def rows(text: str, of: DatasetSchema = ITEMS) -> list[list[str]]:
    batches = read_batches(iter(text.splitlines(keepends=True)), of, "s3://b/k.csv")
    return [row for batch in batches for row in batch]


def test_values_are_read_as_they_were_written() -> None:
    """Quotation marks, backslashes, commas, categories, empty for null, other scripts."""
    text = HEADER + 'i1,"rock|a \\"b\\", c\\\\d",1.5,1999,true,1700000000\ni2,,,,,\nü,日,,,,\n'
    assert rows(text) == [
        ["i1", 'rock|a "b", c\\d', "1.5", "1999", "true", "1700000000"],
        ["i2", "", "", "", "", ""],
        ["ü", "日", "", "", "", ""],
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "line 3 has 0 values"),
        ("i2,rock", "line 3 has 2 values, expected 6"),
        (",rock,,,,", "ITEM_ID is '', expected a value"),
        (f"{'i' * 257},,,,,", "an id of at most 256"),
        (f"i2,{'g' * 1001},,,,", "at most 1000 characters"),
        ("i2,,dear,,,", "PRICE is 'dear', expected a number"),
        ("i2,,nan,,,", "PRICE is 'nan', expected a number"),
        ("i2,,,1999.5,,", "YEAR is '1999.5', expected a whole number"),
        ("i2,,,2147483648,,", "expected a whole number (int)"),
        ("i2,,,,yes,", "true or false"),
        ("i2,,,,,1700000000000", "seconds since 1970"),
        ("i2,,,,,-5", "seconds since 1970"),
        ("i2,,,,,٣", "seconds since 1970"),
        ("i2,EVENT_TYPE,,,,", "anything but a reserved keyword"),
        ('i2,"rock,,,,', "is not CSV"),
        ('i2,"rock""pop",,,,', "is not CSV"),
    ],
)
def test_the_error_of_an_invalid_line(line: str, reason: str) -> None:
    """It has the file, the line, the column, the value and what was expected."""
    with pytest.raises(ImportRefused) as raised:
        rows(f"{HEADER}i1,,,,,\n{line}\ni3,,,,,\n")
    assert reason in str(raised.value)
    assert "s3://b/k.csv, line" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEADER.replace("GENRES", '"GENRES"'), "header must not be in quotation marks"),
        ('"' + HEADER.strip().replace(",", '","') + '"\n', "header must not be in quotation marks"),
        (HEADER.replace(",", ", "), "the header is ITEM_ID, GENRES"),
        ("", "is empty"),
        ("ITEM_ID,GENRES\n", "the schema requires ITEM_ID,GENRES,PRICE"),
        ("GENRES,ITEM_ID,PRICE,YEAR,IS_NEW,CREATION_TIMESTAMP\n", "in this order"),
        (f"\ufeff{HEADER}", "byte order mark"),
        (f'{HEADER}i1,"a\nb",,,,\n', "has a line break"),
    ],
)
def test_an_invalid_file_is_refused(text: str, reason: str) -> None:
    """Header, order, line breaks."""
    with pytest.raises(ImportRefused, match=reason):
        rows(text)


def test_the_line_number_is_correct_in_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are counted from the start of the file."""
    monkeypatch.setattr(csv_rules, "BATCH_LINES", 3)
    valid = "".join(f"i{number},,,,,\n" for number in range(7))
    with pytest.raises(ImportRefused, match="line 9: PRICE"):
        rows(f"{HEADER}{valid}i9,,x,,,\n")


class Files:
    """Stands for S3: files by name."""

    def __init__(self, **files: str) -> None:
        self.files = files

    def list_objects(self, location: str) -> list[CsvObject]:
        return [CsvObject("b", name, len(text)) for name, text in self.files.items()]

    def read_lines(self, csv_object: CsvObject) -> Iterator[str]:
        yield from self.files[csv_object.key].splitlines(keepends=True)


def run(bulk: Bulk, arn: str, of: DatasetSchema, mode: Mode, *texts: str) -> int:
    files = Files(**{f"part{number}": text for number, text in enumerate(texts)})
    return imports.run_import(ImportJob(arn, "s3://b/", of, mode), bulk, cast(Source, files))


def plays(count: int, start: int = 0, users: int = 50) -> str:
    lines = [
        f"u{number % users},i{number % 30},{1_700_000_000 + number},play\n"
        for number in range(start, start + count)
    ]
    return "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE\n" + "".join(lines)


@pytest.fixture
def bulk(tmp_path: Path) -> Iterator[Bulk]:
    opened = Bulk(tmp_path / "bulk.db")
    yield opened
    opened.close()


def test_full_replaces_and_incremental_adds(bulk: Bulk) -> None:
    """All rows of both files, then only the new ones, then both."""
    assert run(bulk, "a", PLAYS, "FULL", plays(1000), plays(10)) == 1010
    run(bulk, "b", PLAYS, "FULL", plays(1500))
    assert bulk.counts()["interactions"] == 1500
    run(bulk, "c", PLAYS, "INCREMENTAL", plays(1000, start=5000))
    assert bulk.counts()["interactions"] == 2500
    pages = bulk.page("INTERACTIONS", 0, 10_000).splitlines()
    assert len(pages) == 2500
    last = json.loads(pages[1999])["rowid"]
    assert len(bulk.page("INTERACTIONS", last, 10_000).splitlines()) == 500


def test_a_published_job_is_not_run_again(bulk: Bulk) -> None:
    """As after a kill between the publication and the status."""
    run(bulk, "a", PLAYS, "FULL", plays(1000))
    run(bulk, "b", PLAYS, "INCREMENTAL", plays(1000))
    assert run(bulk, "b", PLAYS, "INCREMENTAL", plays(1000)) == 1000
    assert bulk.counts()["interactions"] == 2000


def test_a_cleared_dataset_accepts_a_job_of_the_same_name(bulk: Bulk) -> None:
    """A recreated dataset has neither rows nor published jobs."""
    run(bulk, "a", PLAYS, "FULL", plays(1000))
    run(bulk, "b", USERS, "FULL", "USER_ID,COUNTRY\nu1,de\n")
    bulk.clear("INTERACTIONS")
    assert bulk.counts() == {"users": 1, "items": 0, "interactions": 0}
    run(bulk, "a", PLAYS, "FULL", plays(2000))
    assert bulk.counts()["interactions"] == 2000


def test_users_are_replaced_by_id_and_the_last_row_of_a_file_is_kept(bulk: Bulk) -> None:
    """INCREMENTAL keeps the others."""
    header = "USER_ID,COUNTRY\n"
    run(bulk, "a", USERS, "FULL", f"{header}u1,de\nu2,fr\nu1,it\n")
    assert bulk.counts()["users"] == 2
    run(bulk, "b", USERS, "INCREMENTAL", f"{header}u2,\nu3,es\n")
    records = bulk.records("USERS", ["u1", "u2", "u3", "u4"])
    assert {user: record["COUNTRY"] for user, record in records.items()} == {
        "u1": "it",
        "u2": None,
        "u3": "es",
    }


def test_an_import_that_fails_changes_nothing(bulk: Bulk) -> None:
    """Not even if the invalid line is in the last file."""
    run(bulk, "a", PLAYS, "FULL", plays(1000))
    invalid = "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE\nu1,i1,soon,play\n"
    with pytest.raises(ImportRefused, match="TIMESTAMP"):
        run(bulk, "b", PLAYS, "FULL", plays(2000), invalid)
    assert bulk.counts()["interactions"] == 1000
    # The same name again, as after a restart.
    run(bulk, "b", PLAYS, "FULL", plays(2000))
    assert bulk.counts()["interactions"] == 2000


def test_an_import_that_is_stopped_changes_nothing(bulk: Bulk) -> None:
    """The server stops during the import."""
    job = ImportJob("a", "s3://b/", PLAYS, "FULL")
    with pytest.raises(ServerStopping):
        imports.run_import(job, bulk, cast(Source, Files(part=plays(1000))), lambda: True)
    assert bulk.counts()["interactions"] == 0
    run(bulk, "a", PLAYS, "FULL", plays(1000))
    assert bulk.counts()["interactions"] == 1000


def test_the_limits_of_an_import(bulk: Bulk) -> None:
    """1,000 interactions, a full import before an incremental one, ten event types."""
    with pytest.raises(ImportRefused, match="999 interactions; an import needs 1000"):
        run(bulk, "a", PLAYS, "FULL", plays(999))
    with pytest.raises(ImportRefused, match="the first import must have the mode FULL"):
        run(bulk, "b", PLAYS, "INCREMENTAL", plays(1000))
    kinds = "".join(f"u1,i1,1,type{number}\n" for number in range(11))
    with pytest.raises(ImportRefused, match="12 event types"):
        run(bulk, "c", PLAYS, "FULL", plays(1000) + kinds)


def put(path: Path, *events: tuple[str | None, str]) -> None:
    """Store events (user, item)."""
    store = Store(path)
    call = EventsCall(
        tuple(
            event(f"e{n}", str(n), user_id=user, item_id=item, sent_at=1_760_000_000_000 + n)
            for n, (user, item) in enumerate(events)
        )
    )
    store.write([call], 1_770_000_000_000)
    store.close()


def test_training_uses_imported_and_put_records(bulk: Bulk, tmp_path: Path) -> None:
    """Both are counted for the minimum, and both are in the model."""
    run(bulk, "a", PLAYS, "FULL", plays(1000))
    put(tmp_path / "put.db", *((None, f"new{number % 3}") for number in range(10)))
    trained = train(bulk, tmp_path / "put.db")
    assert trained.last_event == 10
    ranked = trained.model.rank("u1", ["i1", "new1", "unknown"])
    assert [item.item_id for item in ranked][-1] == "unknown"
    assert {item.item_id for item in ranked if item.score > 0} == {"i1", "new1"}


def test_training_uses_the_newest_interactions(bulk: Bulk, tmp_path: Path) -> None:
    """The limit excludes the oldest ones, not the last ones of the file."""
    put(tmp_path / "put.db")
    run(bulk, "a", PLAYS, "FULL", plays(1000, start=1000, users=100), plays(1000, users=100))
    model = train(bulk, tmp_path / "put.db", max_interactions=10).model
    assert model.sizes() == {"listeners": 10, "items": 10}
    ranked = model.rank("somebody", ["i5", "i15"])  # the oldest ten, the newest ten
    assert [(item.item_id, item.score > 0) for item in ranked] == [("i15", True), ("i5", False)]


def test_nothing_of_an_erased_user_is_left(bulk: Bulk, tmp_path: Path) -> None:
    """Neither a row nor a byte; the counts and a model are as if the user had never been there."""
    user, other = "a-user-to-forget", "another"
    database = tmp_path / "put.db"
    put(database, (user, "i1"), (other, "i2"), (None, "i3"), (user, "i4"))
    line = f"{user},i5,1700000000,play\n"
    run(bulk, "a", PLAYS, "FULL", plays(1000) + line)
    run(bulk, "b", PLAYS, "INCREMENTAL", plays(1000, start=3000) + line)
    run(bulk, "c", USERS, "FULL", f"USER_ID,COUNTRY\n{user},de\nu1,fr\n")
    before = StoreReader(database).totals()

    removed, imported = erase(frozenset((user, "unknown")), database, bulk)
    assert (removed.events, removed.users, imported) == (2, 0, 3)
    before.subtract(removed)
    assert StoreReader(database).totals() == before
    assert bulk.counts() == {"users": 1, "items": 0, "interactions": 2000}
    assert train(bulk, database).model.sizes()["listeners"] == 50 + 2
    for file in tmp_path.iterdir():
        assert user.encode() not in file.read_bytes(), file
    assert erase(frozenset((user,)), database, bulk)[1] == 0


@pytest.mark.parametrize(
    ("text", "event_type", "reason"),
    [
        (None, None, "There are 0 interactions"),
        (plays(1000, users=24), None, "24 users have two or more"),
        (plays(1000), "like", "There are 0 interactions"),
        (
            plays(1000) + "".join(f"once{number},i1,1,play\n" for number in range(5000)),
            None,
            "50 of 5050 users",
        ),
    ],
)
def test_training_has_minimums(
    bulk: Bulk, tmp_path: Path, text: str | None, event_type: str | None, reason: str
) -> None:
    """Of interactions, users with two interactions, and their share."""
    put(tmp_path / "put.db")
    if text is not None:
        run(bulk, "a", PLAYS, "FULL", text)
    with pytest.raises(TrainingRefused, match=reason):
        train(bulk, tmp_path / "put.db", event_type=event_type)
