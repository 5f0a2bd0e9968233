"""The arguments of `tunemesh bootstrap`, and where a bootstrap ends and the stream begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from click.testing import CliRunner

from batch.bootstrap.products import required_columns
from batch.imports.errors import ImportsError
from cli.bootstrap import (
    Products,
    bootstrap,
    left_out,
    open_products,
    rejected_lines,
    stream_settings,
)
from connectors.catalog.catalog import OpenedProduct
from connectors.catalog.errors import CatalogError, NotGranted
from connectors.products.location import Location
from connectors.products.manifest import Manifest
from schemas.model import load_contracts
from schemas.timestamps import epoch_ms

CONTRACTS = load_contracts()


class Shelf:
    """A catalog with invented versions."""

    def __init__(self, until: int | None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.granted = {c.name: tuple(sorted(required_columns(c))) for c in CONTRACTS.sources}
        manifest = Manifest("", 1, "v1", 0, None, 1_000, (), ())
        created = {"users": 900, "songs": 800, "podcasts": 950, "interactions": 1_200}
        self.manifests = {
            name: replace(manifest, product=name, created_at=at) for name, at in created.items()
        }
        self.manifests["interactions"] = replace(self.manifests["interactions"], until=until)

    def open_product(
        self, product: str, consumer: str, columns: Sequence[str] | None = None
    ) -> OpenedProduct:
        self.asked.append((product, consumer))
        if product not in self.granted:
            raise NotGranted(f"{consumer} may not read {product}")
        return OpenedProduct(
            Location("b", f"{product}/"), self.manifests[product], self.granted[product]
        )


def opened(shelf: Any, since: int | None = None, until: int | None = None) -> Products:
    return open_products(shelf, CONTRACTS, "someone", since, until)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1795443900000", 1_795_443_900_000),
        ("2026-11-23T14:25:00Z", 1_795_443_900_000),
        ("2026-11-23T15:25:00+01:00", 1_795_443_900_000),
        ("2026-11-23T14:25:00", 1_795_443_900_000),
        ("2026-11-23T14:25:00.0006", 1_795_443_900_000),
    ],
)
def test_a_time_is_milliseconds_or_iso_8601(text: str, at: int) -> None:
    """UTC without an offset, in any time zone."""
    assert epoch_ms(text) == at


def test_an_invalid_time_is_refused() -> None:
    """With an example."""
    with pytest.raises(ValueError, match="2026-11-23T14:25:00Z"):
        epoch_ms("yesterday")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--aws", "eu-west-1", "--from", "s3://b/r/"], "--role"),
        (["--aws", "eu-west-1", "--role", "arn:x"], "--from"),
        (["--from", "s3://b/r/", "--until", "1"], "--since and --until are options"),
        (["--incremental"], "--incremental needs --since"),
    ],
)
def test_contradicting_options_are_refused(arguments: list[str], said: str) -> None:
    """Before any call to AWS."""
    result = CliRunner().invoke(bootstrap, arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_every_product_is_opened_for_the_consumer() -> None:
    """Users, items of each domain, interactions."""
    shelf = Shelf(1_000)
    found = opened(shelf)
    assert [name for name, _ in shelf.asked] == list(found.opened)
    assert set(shelf.asked) == {
        (name, "someone") for name in ("users", "songs", "podcasts", "interactions")
    }
    request = found.request()
    assert request.products["songs"] == "s3://b/songs/versions/v1/manifest.json"
    assert request.columns["users"] == ("user_id",)


def test_the_stream_begins_where_the_interactions_end() -> None:
    """At the requested time, else at the end of the product."""
    assert stream_settings(opened(Shelf(1_000))) == {
        "datasets.start": "800",
        "imported.until": "1000",
    }
    assert opened(Shelf(1_000), 5, 700).window.until == 700
    assert opened(Shelf(None), None, 1_200).window.until == 1_200
    assert "imported.until" not in stream_settings(opened(Shelf(None)))


@pytest.mark.parametrize(("ends", "asked"), [(1_000, 1_001), (None, 1_201)])
def test_a_product_that_ends_before_the_hand_over_is_refused(ends: int | None, asked: int) -> None:
    """Interactions in between would be neither imported nor streamed."""
    with pytest.raises(ImportsError, match=f"tunemesh export interactions --until {asked}"):
        opened(Shelf(ends), until=asked)


def test_everything_that_is_not_granted_is_named_at_once() -> None:
    """A product without a grant, and ones whose grant lacks the ids; and what helps."""
    shelf = Shelf(1_000)
    del shelf.granted["songs"]
    shelf.granted["users"] = ("subscription",)
    shelf.granted["interactions"] = ("item_id", "event_type")
    with pytest.raises(CatalogError) as refused:
        opened(shelf)
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert "someone may not read user_id of the product users" in lines[0]
    assert lines[0].endswith("for: tunemesh catalog grant users someone --pii pseudonymous")
    assert lines[1] == "someone may not read songs"
    assert "device, event_id, impression, item_type, occurred_at" in lines[2]
    assert lines[2].endswith("catalog grant interactions someone --pii pseudonymous")


def test_too_few_interactions_are_found_before_the_job_runs() -> None:
    """Of a training; what is added to an earlier import may be less."""
    shelf = Shelf(1_000)
    shelf.manifests["interactions"] = replace(shelf.manifests["interactions"], rows=999)
    with pytest.raises(ImportsError, match=r"has 999 rows\. A training needs 1,000 interactions"):
        opened(shelf)
    assert opened(shelf, since=5).window.since == 5


def test_rejected_rows_are_shown_with_their_reasons() -> None:
    """By product, and where they are listed."""
    request = opened(Shelf(1_000)).request()
    rejected = [
        {"product": "songs", "reason": "deleted", "count": 1_200},
        {"product": "songs", "reason": "superseded", "count": 3},
        {"product": "users", "reason": "too_long", "count": 1},
    ]
    assert list(rejected_lines(request, {"rejected": rejected})) == [
        "  rejected of songs: 1,200 deleted, 3 superseded",
        "  rejected of users: 1 too_long",
        f"  listed in {request.folder}/rejected/",
    ]
    assert list(rejected_lines(request, {"rejected": []})) == []


def test_a_product_without_a_contract_is_named() -> None:
    """It is in the catalog, and the shell lacks TUNEMESH_CONTRACTS."""

    @dataclass
    class Found:
        name: str
        role: str

    class WithAudiobooks(Shelf):
        def find(self) -> tuple[Found, ...]:
            return (
                Found("songs", "item"), Found("audiobooks", "item"), Found("trends-daily", "trend"),
            )  # fmt: skip

    catalog: Any = WithAudiobooks(1_000)
    (line,) = left_out(catalog, CONTRACTS)
    assert line.startswith("audiobooks is left out: the catalog has it, but no contract here.")


def test_the_same_input_is_the_same_run() -> None:
    """Another version, column or time is another run."""
    run = opened(Shelf(1_000)).run
    assert opened(Shelf(1_000)).run == run
    other = Shelf(1_000)
    other.manifests["songs"] = replace(other.manifests["songs"], version="v2")
    runs = {run, opened(other).run, opened(Shelf(1_000), 1).run, opened(Shelf(1_000), 1, 9).run}
    assert len(runs) == 4
