"""A replay set: NDJSON files (plain or gzip), one per domain.

``<domain>.ndjson`` or ``<domain>.ndjson.gz`` for every contract that the enrichment reads;
``interactions`` is required. ``expected.json`` may hold a ``schedule``: for a line of a dimension
file (1-based) the time ``at_ms`` at which it is sent. Without a schedule, a later line of the
same id is an update sent at its ``updated_at``, or with the first lines when it has none.

A line with only an id and ``deleted: true`` is sent as a record on an odd line, and as a tombstone
(a null value) on an even one.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from schemas.errors import TunemeshError
from schemas.model import Contract, Contracts, Role
from verification.entries import Entry, Kind, Scheduled, merge_scheduled


class ReplaySetError(TunemeshError):
    """A replay set cannot be read."""


class ReplayDirectory:
    """A source of entries from a directory; only scheduled lines are kept in memory.

    Raises ReplaySetError at the first file or line that cannot be read.
    """

    def __init__(self, folder: Path, contracts: Contracts) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise ReplaySetError(f"{folder} is not a directory")
        interactions = contracts.only(Role.INTERACTION)
        events = self._file(interactions)
        if events is None:
            raise ReplaySetError(
                f"{folder} has no {interactions.name}.ndjson or {interactions.name}.ndjson.gz"
            )
        self._events = events
        self._interactions_name = interactions.name
        self._dimensions = [
            (contract, path)
            for role in (Role.USER, Role.ITEM)
            for contract in contracts.with_role(role)
            if (path := self._file(contract)) is not None
        ]
        self._schedule = self._read_schedule()
        self._scheduled: list[Scheduled] = []
        self._later: dict[str, set[int]] = {}
        self._first_lines = 0
        for contract, path in self._dimensions:
            self._plan(contract, path)
        self._scheduled.sort()
        self._event_lines = sum(1 for _ in _lines(self._events))

    @property
    def description(self) -> str:
        """A description for the ledger and the terminal."""
        return f"replay set {self.folder.name}: {self._event_lines:,} event lines"

    @property
    def dimension_count(self) -> int:
        """Number of lines of the dimension files that are sent first."""
        return self._first_lines

    @property
    def stream_count(self) -> int:
        """Number of event lines and scheduled dimension lines."""
        return self._event_lines + len(self._scheduled)

    def dimensions(self) -> Iterator[Entry]:
        """Yield users and items without their scheduled lines, file by file."""
        for contract, path in self._dimensions:
            later = self._later[contract.name]
            for number, record in _records(path):
                if number not in later:
                    yield _version(contract, record, number, path)

    def stream(self) -> Iterator[Entry]:
        """Yield event lines in order, with the scheduled lines between them."""
        return merge_scheduled(self._interactions(), self._scheduled)

    def _interactions(self) -> Iterator[Entry]:
        seen: set[str] = set()
        for number, record in _records(self._events):
            event_id = str(record.get("event_id"))
            kind = Kind.DUPLICATE if event_id in seen else Kind.VALID
            seen.add(event_id)
            where = f"{self._events}, line {number}"
            yield Entry(self._interactions_name, record, kind, where=where)

    def _file(self, contract: Contract) -> Path | None:
        for ending in (".ndjson", ".ndjson.gz"):
            path = self.folder / f"{contract.name}{ending}"
            if path.is_file():
                return path
        return None

    def _read_schedule(self) -> dict[str, dict[int, int]] | None:
        path = self.folder / "expected.json"
        if not path.is_file():
            return None
        try:
            schedule = json.loads(path.read_text()).get("schedule")
            if schedule is None:
                return None
            return {
                domain: {int(line["line"]): int(line["at_ms"]) for line in lines}
                for domain, lines in schedule.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReplaySetError(
                f"{path}: the schedule is invalid ({error}); expected"
                ' {"schedule": {"users": [{"line": 2, "at_ms": 0}, ...], ...}}'
            ) from None

    def _plan(self, contract: Contract, path: Path) -> None:
        times = None if self._schedule is None else self._schedule.get(contract.name, {})
        mapping = contract.item or contract.user
        updated = mapping.updated if mapping else None
        later: set[int] = set()
        seen: set[str] = set()
        count = 0
        for number, record in _records(path):
            count += 1
            if times is not None:
                at_ms = times.get(number)
            else:
                key = str(record.get(contract.key))
                at_ms = record.get(updated) if key in seen and updated else None
                seen.add(key)
            if at_ms is None:
                continue
            later.add(number)
            entry = _version(contract, record, number, path)
            self._scheduled.append(Scheduled(int(at_ms), len(self._scheduled), entry))
        if times is not None and (unknown := [line for line in times if line > count]):
            raise ReplaySetError(
                f"{self.folder / 'expected.json'}: the schedule names line {unknown[0]} of"
                f" {path.name}, which has {count} lines"
            )
        self._later[contract.name] = later
        self._first_lines += count - len(later)


def _version(contract: Contract, record: dict[str, Any], number: int, path: Path) -> Entry:
    where = f"{path}, line {number}"
    mapping = contract.item or contract.user
    deleted = mapping.deleted if mapping else None
    is_only_deletion = deleted is not None and record.get(deleted) is True and len(record) == 2
    if is_only_deletion and number % 2 == 0 and record.get(contract.key):
        return Entry(contract.name, None, Kind.VERSION, key=str(record[contract.key]), where=where)
    return Entry(contract.name, record, Kind.VERSION, where=where)


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line numbers and lines of a file, without empty ones."""
    number = 0
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ReplaySetError(f"{path}, after line {number}: {error}") from None


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line numbers and objects of a file."""
    for number, line in _lines(path):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ReplaySetError(f"{path}, line {number}: not JSON: {error}") from None
        if not isinstance(record, dict):
            raise ReplaySetError(f"{path}, line {number}: expected a JSON object")
        yield number, record
