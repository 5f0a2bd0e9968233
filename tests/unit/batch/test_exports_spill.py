"""Promises of the rows on disk: all of an event in one file, all of a day in one, none lost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from batch.exports import spill
from batch.exports.spill import DayFiles, HashFiles

DAY_MS = 86_400_000


def rows(first: int, count: int) -> pa.RecordBatch:
    numbers = range(first, first + count)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([f"e{n % 50}" for n in numbers]),
            pa.array([n * DAY_MS // 10 for n in numbers], pa.timestamp("ms", tz="UTC")),
        ],
        names=["event_id", "occurred_at"],
    )


def test_all_rows_of_a_key_are_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any order of arrival; files are removed after they were read."""
    monkeypatch.setattr(spill, "PENDING_ROWS", 64)
    files = HashFiles(tmp_path, "event_id", 5)
    for start in range(0, 1000, 30):
        files.add(rows(start, 30))
    keys = [table.column("event_id").to_pylist() for table in files.tables()]
    assert len(keys) == 5
    assert sum(map(len, keys)) == 1020
    assert sum(len(set(one)) for one in keys) == 50
    assert list(tmp_path.iterdir()) == []


def test_days_are_in_order_and_of_utc(tmp_path: Path) -> None:
    """A row is in the file of its day, whichever batch it came with."""
    files = DayFiles(tmp_path, "occurred_at")
    for start in (30, 0, 15):
        files.add(pa.Table.from_batches([rows(start, 15)]))
    found = {
        day: [row["occurred_at"] for batch in batches for row in batch.to_pylist()]
        for day, batches in files.days()
    }
    counts = {f"1970-01-0{day}": 5 if day == 5 else 10 for day in range(1, 6)}
    assert {day: len(times) for day, times in found.items()} == counts
    assert list(found) == sorted(found)
    assert all(
        time.astimezone(UTC).strftime("%Y-%m-%d") == day
        for day, times in found.items()
        for time in times
        if isinstance(time, datetime)
    )
