"""Records as `_bulk` wants them, and the limits of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.delivery import Rejected
from connectors.opensearch.documents import (
    DIMENSIONS,
    LATE_EVENTS_INDEX,
    MAX_AGE_DAYS,
    MAX_VERSION,
    BulkEntry,
    bulk_body,
    event_entry,
    trend_entry,
)


def event(**changed: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "event_id": "e-1",
        "user_id": None,
        "session_id": "s-1",
        "item_id": "song-1",
        "occurred_at": 1_764_000_000_123,
        "published_at": 1_764_000_000_456,
        "impression": [],
        "user": None,
        "item": {"title": "Jóga\n", "creator": None, "genres": ["pop"]},
    }
    return record | changed


def trend(**changed: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "window_start": 1_764_000_000_000,
        "dimension": "item",
        "key": "song-1",
        "label": "Jóga",
        "plays": 3,
        "skips": 1,
        "listeners": 2,
        "completion": 0.5,
        "version": 7,
    }
    return record | changed


def lines(entry: BulkEntry | Rejected) -> list[Any]:
    assert isinstance(entry, BulkEntry), entry
    assert entry.lines.endswith(b"\n")
    return [json.loads(line) for line in entry.lines[:-1].split(b"\n")]


class TestEvents:
    def test_an_event_goes_to_the_index_of_its_day(self) -> None:
        """By the time at which it happened, with the event's id; nulls are left out."""
        entry = event_entry(event())
        assert lines(entry) == [
            {"index": {"_index": "tunemesh-events-2025.11.24", "_id": "e-1"}},
            {
                "event_id": "e-1",
                "session_id": "s-1",
                "item_id": "song-1",
                "occurred_at": 1_764_000_000_123,
                "published_at": 1_764_000_000_456,
                "impression": [],
                "item": {"title": "Jóga\n", "genres": ["pop"]},
            },
        ]
        assert isinstance(entry, BulkEntry)
        assert (entry.index, entry.id) == ("tunemesh-events-2025.11.24", "e-1")
        assert entry.version is None

    @pytest.mark.parametrize(
        ("occurred_at", "day"),
        [
            (0, "1970.01.01"),
            (951_782_399_999, "2000.02.28"),
            (951_782_400_000, "2000.02.29"),
            (1_767_225_599_999, "2025.12.31"),
            (1_767_225_600_000, "2026.01.01"),
            (253_402_300_799_999, "9999.12.31"),
        ],
    )
    def test_days_are_those_of_utc(self, occurred_at: int, day: str) -> None:
        """The last millisecond belongs to the day that ends."""
        entry = event_entry(event(occurred_at=occurred_at, published_at=occurred_at))
        assert isinstance(entry, BulkEntry)
        assert entry.index == f"tunemesh-events-{day}"

    def test_old_events_share_an_index(self) -> None:
        """Else a thousand of them would make a thousand indices, and stop the cluster."""
        occurred_at, day_ms = 1_764_000_000_000, 86_400_000
        found = set()
        for days in range(1_000):
            entry = event_entry(event(occurred_at=occurred_at - days * day_ms))
            assert isinstance(entry, BulkEntry)
            found.add(entry.index)
        assert len(found) == MAX_AGE_DAYS + 1
        assert LATE_EVENTS_INDEX in found

    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [
            # The enrichment writes it into every event.
            ("published_at", None, "published_at"),
            # occurred_at is a whole number of milliseconds, of a year with four digits.
            *(
                ("occurred_at", time, "occurred_at")
                for time in (None, "1764000000123", 1.5, -1, True, 253_402_300_800_000)
            ),
            # OpenSearch refuses a whole call for one longer id.
            ("event_id", None, "missing"),
            ("event_id", "", "empty"),
            ("event_id", 7, "not a text"),
            ("event_id", "é" * 257, "514 bytes, at most 512"),
            # Half of a surrogate pair cannot be written as UTF-8.
            ("event_id", "\ud800", "surrogate"),
            ("item_id", "\ud800", "surrogate"),
        ],
    )
    def test_what_cannot_be_a_document_is_rejected(
        self, field: str, value: object, said: str
    ) -> None:
        """With the field and what is wrong with it."""
        outcome = event_entry(event(**{field: value}))
        assert isinstance(outcome, Rejected)
        assert outcome.code == ("InvalidDocument" if said == "surrogate" else "InvalidEvent")
        assert said in outcome.message

    def test_an_id_may_have_512_bytes(self) -> None:
        """The limit itself is allowed."""
        assert isinstance(event_entry(event(event_id="é" * 256)), BulkEntry)


class TestTrends:
    def test_a_trend_has_a_version_and_an_id_of_its_own(self) -> None:
        """Dimension, window and key are the id; the newest version wins."""
        entry = trend_entry(trend())
        assert lines(entry) == [
            {
                "index": {
                    "_index": "tunemesh-trends",
                    "_id": "item/1764000000000/song-1",
                    "version": 7,
                    "version_type": "external_gte",
                }
            },
            trend(),
        ]
        assert isinstance(entry, BulkEntry)
        assert entry.version == 7

    def test_label_and_completion_may_be_unknown(self) -> None:
        """Then they are left out."""
        document = lines(trend_entry(trend(label=None, completion=None)))[1]
        assert trend().keys() - document.keys() == {"label", "completion"}

    @pytest.mark.parametrize("dimension", DIMENSIONS)
    def test_every_dimension(self, dimension: str) -> None:
        """The same key in two dimensions is two documents."""
        entry = trend_entry(trend(dimension=dimension))
        assert isinstance(entry, BulkEntry)
        assert entry.id.startswith(f"{dimension}/")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("dimension", "planet"),
            ("dimension", None),
            ("window_start", None),
            ("plays", -1),
            ("skips", 1.0),
            ("listeners", "2"),
            ("version", None),
            ("version", True),
            ("version", MAX_VERSION + 1),
            ("completion", 1.01),
            ("completion", "0.5"),
            ("completion", float("nan")),
            ("key", None),
            ("key", ""),
            ("key", "x" * 500),
        ],
    )
    def test_what_is_none_of_it_is_rejected(self, field: str, value: object) -> None:
        """By the name of the field."""
        outcome = trend_entry(trend(**{field: value}))
        assert isinstance(outcome, Rejected)
        assert outcome.code == "InvalidTrend"
        assert field in outcome.message


def test_a_body_is_the_lines_of_its_entries() -> None:
    """Two lines a document, each ended, the last one too."""
    entries = [trend_entry(trend(key=str(n))) for n in range(3)]
    made = [entry for entry in entries if isinstance(entry, BulkEntry)]
    body = bulk_body(made)
    assert body.count(b"\n") == 6
    assert body == made[0].lines + made[1].lines + made[2].lines
