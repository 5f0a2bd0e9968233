"""Rows on disk between the steps of the interactions' export, so that memory stays bounded.

    hash-NNN.arrow         rows by a hash of their event_id: all rows of an event are in one file
    day-YYYY-MM-DD.arrow   one row for each event, by the day on which it occurred

A file is a sequence of compressed Arrow streams.
"""

from __future__ import annotations

import fcntl
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import TunemeshError

PENDING_ROWS: Final = 100_000
"""Rows in memory before they are divided among the files."""

_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression="lz4")


class SpillInUse(TunemeshError):
    """Another process works in the same folder."""


@contextmanager
def spill_folder(folder: Path) -> Iterator[Path]:
    """An empty folder for this process alone; removed at the end.

    What a killed process has left is removed at the start. Raises SpillInUse.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpillInUse(f"another export uses {folder}. Wait until it has ended.") from None
        work = folder / "rows"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


class HashFiles:
    """Divides rows among files by a hash of a text column."""

    def __init__(self, folder: Path, key: str, files: int) -> None:
        self._key = key
        self._paths = [folder / f"hash-{number:03}.arrow" for number in range(files)]
        self._pending: list[Any] = []
        self._pending_rows = 0

    def add(self, batch: Any) -> None:
        """Adds a RecordBatch."""
        if not batch.num_rows:
            return
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        if self._pending_rows >= PENDING_ROWS:
            self._divide()

    def tables(self) -> Iterator[Any]:
        """All rows, a table for each file, which is removed after it; call it after the last
        add."""
        self._divide()
        for path in self._paths:
            if path.exists():
                yield pa.Table.from_batches(list(read_streams(path)))
                path.unlink()

    def _divide(self) -> None:
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending)
        self._pending, self._pending_rows = [], 0
        count = len(self._paths)
        numbers = [zlib.crc32(key.encode()) % count for key in table.column(self._key).to_pylist()]
        for number, rows in groups(table, pa.array(numbers, type=pa.int32())):
            append(self._paths[number], rows)


class DayFiles:
    """Rows by the day of a timestamp column, in UTC."""

    def __init__(self, folder: Path, timestamp: str) -> None:
        self._folder = folder
        self._timestamp = timestamp

    def add(self, table: Any) -> None:
        """Adds rows."""
        days = pc.strftime(table.column(self._timestamp), "%Y-%m-%d").combine_chunks()
        for day, rows in groups(table, days):
            append(self._folder / f"day-{day}.arrow", rows)

    def days(self) -> Iterator[tuple[str, Iterator[Any]]]:
        """Each day with its RecordBatches, in order."""
        for path in sorted(self._folder.glob("day-*.arrow")):
            yield path.stem.removeprefix("day-"), read_streams(path)
            path.unlink()


def groups(table: Any, values: Any) -> Iterator[tuple[Any, Any]]:
    """The rows of each distinct value of an array beside the table, in their order."""
    order = pc.sort_indices(values)
    table, values = table.take(order), values.take(order)
    counts = sorted(
        (entry["values"].as_py(), entry["counts"].as_py()) for entry in pc.value_counts(values)
    )
    start = 0
    for value, count in counts:
        yield value, table.slice(start, count)
        start += count


def append(path: Path, table: Any) -> None:
    """Appends a stream with the rows of a table to a file."""
    with path.open("ab") as file, pa.ipc.new_stream(file, table.schema, options=_OPTIONS) as out:
        out.write_table(table)


def read_streams(path: Path) -> Iterator[Any]:
    """The RecordBatches of all streams in a file."""
    size = path.stat().st_size
    with pa.OSFile(str(path)) as file:
        while file.tell() < size:
            yield from pa.ipc.open_stream(file)
