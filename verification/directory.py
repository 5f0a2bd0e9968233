"""A replay set: NDJSON files (plain or gzip), one per domain.

docs/reference/file-formats.md describes the format.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from schemas.errors import TunemeshError
from schemas.invalid import Reason
from schemas.model import Contract, Contracts, Role
from verification.anomalies import Anomalies, add_anomalies
from verification.entries import Entry, Kind, Scheduled, merge_scheduled
from verification.malformed import reasons_of

MALFORMED, VALUE, KEY = "$malformed", "$value", "$key"
"""Properties of a malformed line; no Avro field has such a name."""


class ReplaySetError(TunemeshError):
    """A replay set cannot be read."""


class ReplayDirectory:
    """A source of entries from a directory; only scheduled lines are kept in memory.

    ``notes`` name the files that are not read, and the domains without one. Raises ReplaySetError
    at the first file or line that cannot be read.
    """

    def __init__(
        self, folder: Path, contracts: Contracts, anomalies: Anomalies | None = None
    ) -> None:
        self.folder = folder
        self._anomalies = anomalies
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
        self.notes = tuple(self._note(contracts))
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
        anomalies = "" if self._anomalies is None else ", with added anomalies"
        return f"replay set {self.folder.name}: {self._event_lines:,} event lines{anomalies}"

    @property
    def dimension_count(self) -> int:
        """Number of lines of the dimension files that are sent first."""
        added = 0
        if self._anomalies is not None:
            added = sum(len(reasons_of(contract)) for contract, _ in self._dimensions)
        return self._first_lines + added

    @property
    def stream_count(self) -> int:
        """Number of event lines and scheduled dimension lines; approximate with anomalies."""
        added = 0 if self._anomalies is None else self._anomalies.count(self._event_lines)
        return self._event_lines + added + len(self._scheduled)

    def dimensions(self) -> Iterator[Entry]:
        """Yield users and items without their scheduled lines, file by file."""
        for contract, path in self._dimensions:
            later = self._later[contract.name]
            example: Entry | None = None
            for number, record in _records(path):
                if number not in later:
                    entry = _version(contract, record, number, path)
                    if example is None and entry.kind is Kind.VERSION and len(record) > 2:
                        example = entry
                    yield entry
            if self._anomalies is not None and example is not None:
                for turn, reason in enumerate(reasons_of(contract)):
                    yield replace(example, kind=Kind.MALFORMED, reason=reason, variant=turn)

    def stream(self) -> Iterator[Entry]:
        """Yield event lines in order, with the scheduled lines between them."""
        entries = self._interactions()
        if self._anomalies is not None:
            entries = add_anomalies(entries, self._anomalies)
        return merge_scheduled(entries, self._scheduled)

    def _interactions(self) -> Iterator[Entry]:
        seen: set[str] = set()
        for number, record in _records(self._events):
            where = f"{self._events}, line {number}"
            if MALFORMED in record:
                yield _malformed(self._interactions_name, record, number, where)
                continue
            event_id = str(record.get("event_id"))
            kind = Kind.DUPLICATE if event_id in seen else Kind.VALID
            seen.add(event_id)
            yield Entry(self._interactions_name, record, kind, where=where)

    def _note(self, contracts: Contracts) -> Iterator[str]:
        read = {self._events, *(path for _, path in self._dimensions)}
        names = {contract.name for contract in contracts.sources}
        for path in sorted(self.folder.iterdir()):
            name = path.name.removesuffix(".gz").removesuffix(".ndjson")
            if path in read or name == path.name or not path.is_file():
                continue
            why = (
                "there is another file of this domain"
                if name in names
                else f"no contract has this name; there are: {', '.join(sorted(names))}."
                " TUNEMESH_CONTRACTS adds contracts"
            )
            yield f"{path} is ignored: {why}"
        present = {self._interactions_name, *(contract.name for contract, _ in self._dimensions)}
        if absent := sorted(names - present):
            yield f"{self.folder} has no file of {', '.join(absent)}"

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
            if not isinstance(at_ms, int):
                continue
            later.add(number)
            entry = _version(contract, record, number, path)
            self._scheduled.append(Scheduled(at_ms, len(self._scheduled), entry))
        if times is not None and (unknown := [line for line in times if line > count]):
            raise ReplaySetError(
                f"{self.folder / 'expected.json'}: the schedule names line {unknown[0]} of"
                f" {path.name}, which has {count} lines"
            )
        self._later[contract.name] = later
        self._first_lines += count - len(later)


def _malformed(domain: str, record: dict[str, Any], number: int, where: str) -> Entry:
    """Return the entry of a line with the property $malformed."""
    fields = {name: value for name, value in record.items() if not name.startswith("$")}
    try:
        reason = Reason(record[MALFORMED])
        value = record.get(VALUE)
        content = None if value is None else base64.b64decode(value, validate=True)
    except (ValueError, TypeError) as error:
        raise ReplaySetError(
            f"{where}: {error}; expected {MALFORMED} to be one of {', '.join(Reason)}, and {VALUE}"
            " to be base64"
        ) from None
    if content is not None and fields:
        raise ReplaySetError(f"{where}: with {VALUE} a line has no fields, but {', '.join(fields)}")
    key = record.get(KEY)
    return Entry(
        domain,
        fields,
        Kind.MALFORMED,
        key=None if key is None else str(key),
        reason=reason,
        variant=number,
        where=where,
        value=content,
    )


def _version(contract: Contract, record: dict[str, Any], number: int, path: Path) -> Entry:
    where = f"{path}, line {number}"
    if MALFORMED in record:
        entry = _malformed(contract.name, record, number, where)
        if entry.reason is Reason.EMPTY_VALUE:
            raise ReplaySetError(f"{where}: a record of {contract.name} without a value deletes")
        if entry.value is not None and entry.key is None:
            raise ReplaySetError(f"{where}: {KEY} is missing, which a compacted topic needs")
        return entry
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
