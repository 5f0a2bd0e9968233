"""Which users are erased, in which batches, and which of their events are left out."""

from __future__ import annotations

import csv
from typing import Any

import pyarrow as pa
import pytest

from batch.bootstrap.settings import Window
from batch.deletions.batches import Batch, csv_file, merge, merged, parts
from batch.deletions.run import describe, is_listable, pending
from batch.deletions.users import DeletedUsers
from batch.imports.errors import ImportsError
from cli.bootstrap import Products, check_deletions
from connectors.catalog.catalog import OpenedProduct
from connectors.products.manifest import Manifest
from schemas.model import load_contracts

CONTRACTS = load_contracts()


def batch(name: str = "b", result: dict[str, Any] | None = None, **deletions: int) -> Batch:
    return Batch("group", name, 1_000, deletions, result)


def test_of_several_deletions_of_a_user_the_newest_counts() -> None:
    """A user may be there again, and be deleted again."""
    assert merged([batch(a=5, b=1), batch(a=3), batch(b=2)]) == {"a": 5, "b": 2}
    deletions = {"a": 5}
    merge(deletions, {"a": 4, "c": 1})
    assert deletions == {"a": 5, "c": 1}


def test_who_was_erased_is_not_erased_again_unless_deleted_again() -> None:
    """Those who are there again are not erased."""
    users = DeletedUsers({"old": 5, "twice": 7, "new": 1}, {"back": 3})
    assert pending(users, {"old": 5, "twice": 6}) == {"twice": 7, "new": 1}
    assert pending(users, {}) == {"old": 5, "twice": 7, "new": 1}


def test_the_file_has_a_header_and_one_column() -> None:
    """Quotation marks and commas in ids are escaped as Personalize reads them."""
    ids = ["u1", 'a"b', "c,d", "e\\f", "ü"]
    text = csv_file(ids).decode()
    rows = list(csv.reader(text.splitlines(), doublequote=False, escapechar="\\", strict=True))
    assert rows == [["USER_ID"], *([user] for user in sorted(ids))]
    assert '""' not in text


@pytest.mark.parametrize(
    ("user", "expected"),
    [("u1", True), ("ü", True), ("USER_ID", False), ("a\nb", False), ("a\rb", False)],
)
def test_ids_that_no_file_can_have_are_left_out(user: str, expected: bool) -> None:
    """One of them would fail the job for all."""
    assert is_listable(user) is expected


def test_more_users_than_a_file_may_have_are_several_batches() -> None:
    """By the size of the file, at worst; each user is in one."""
    deletions = {f"user-{number:03}": number for number in range(100)}
    several = list(parts(deletions, max_bytes=200))
    assert len(several) > 5
    assert all(len(csv_file(part)) <= 200 for part in several)
    assert {user: at for part in several for user, at in part.items()} == deletions
    assert list(parts({})) == []
    assert len(list(parts({"u" * 300: 1}, max_bytes=10))) == 1


def test_a_report_has_no_ids() -> None:
    """It is kept longer than the users."""
    report = describe(batch("b1", {"job": "arn", "deleted": 3}, secret_user=5))
    assert report == {"batch": "b1", "created_at": 1_000, "users": 1, "job": "arn", "deleted": 3}
    assert "secret_user" not in str(describe(batch("b2", None, secret_user=5)))


def table(*rows: tuple[str | None, int, int]) -> Any:
    """Interactions: user, when they occurred, when they were published."""
    users, occurred, published = zip(*rows, strict=True)
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "occurred_at": pa.array(occurred, pa.timestamp("ms", tz="UTC")),
            "published_at": pa.array(published, pa.timestamp("ms", tz="UTC")),
        }
    )


def test_events_of_deleted_users_are_found() -> None:
    """All of those who are gone; of those who are there again, what was before."""
    users = DeletedUsers({"gone": 100}, {"back": 100})
    rows = table(
        ("gone", 50, 60),
        ("gone", 500, 600),
        ("back", 50, 60),
        ("back", 101, 102),
        ("back", 90, 200),  # late: it occurred before the deletion
        ("other", 50, 60),
        (None, 50, 60),
    )
    expected = [True, True, True, False, True, False, False]
    assert users.events(rows).to_pylist() == expected
    assert not any(DeletedUsers().events(rows).to_pylist())


def opened(product: str, created_at: int) -> OpenedProduct:
    manifest = Manifest(product, 1, "v", created_at, None, 0, (), ())
    return OpenedProduct(manifest=manifest, location=None, columns=())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("deleted", "stale"),
    [
        (DeletedUsers(), None),
        (DeletedUsers({"u": 5}, known_at=900), None),
        (DeletedUsers({"u": 5}, known_at=1_001), "interactions"),
        (DeletedUsers({"u": 5}, since_export=1, known_at=900), "users"),
        (DeletedUsers({"u": 5}, since_export=1, known_at=1_001), "users interactions"),
    ],
)
def test_a_bootstrap_refuses_products_older_than_the_deletions(
    deleted: DeletedUsers, stale: str | None
) -> None:
    """They may have data of deleted users, which would be imported again."""
    products = Products(
        {name: opened(name, 1_000) for name in ("users", "interactions")}, Window(None, None), 0
    )
    if stale is None:
        check_deletions(products, CONTRACTS, deleted)
        return
    with pytest.raises(ImportsError, match=f"tunemesh export {stale}$"):
        check_deletions(products, CONTRACTS, deleted)
