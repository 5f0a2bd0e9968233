"""The report of the upgrade demo, and its source."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from cli.demos.upgrade import AFTER_SECONDS, Step, document, longest_pause, newer
from schemas.model import BUILT_IN_FOLDER, load_contracts
from verification.flow import until_set
from verification.generator import GeneratedHour, Hour
from verification.publications import Publisher


def step(name: str, pause_s: float, **kind: bool) -> Step:
    return Step(name, 100.0, 110.0, pause_s=pause_s, **kind)


def accounts(lost: int, *, ok: bool) -> Any:
    return SimpleNamespace(produced=10, lost=lost, invented=1, misenriched=2, ok=ok)


def test_a_pause_is_the_longest_time_without_an_accepted_event() -> None:
    """During the step and a while after it."""
    accepted = [50.0, 90.0, 99.5, 100.5, 104.0, 110.5, 111.0, 110.0 + AFTER_SECONDS, 200.0]
    assert longest_pause(accepted, step("one", 0)) == pytest.approx(9.0)
    assert longest_pause(accepted[:6], step("one", 0)) == pytest.approx(6.5)
    assert longest_pause([], step("none", 0)) == 0


def test_the_report_has_medians_of_the_upgrades_that_fit_and_of_the_plain_ones() -> None:
    """And the counts of the reconciliation report."""
    steps = [
        *(step("fits", pause, fits=True) for pause in (3.0, 9.0, 4.0)),
        *(step("plain", pause, plain=True) for pause in (12.0, 20.0, 13.0)),
        step("another plan", 99.0),
    ]
    found = document(steps, accounts(3, ok=False), 500.0)
    assert (found["median_pause_s"], found["plain_pause_s"]) == (4.0, 13.0)
    assert (found["lost"], found["invented"], found["misenriched"]) == (3, 1, 2)
    assert (found["events"], found["ok"], len(found["steps"])) == (10, False, 7)


def test_a_source_ends_when_the_event_is_set() -> None:
    """All users and items are published."""
    hour = GeneratedHour(Hour(interactions=500, start_ms=1_760_000_000_000))
    ended = threading.Event()
    until = until_set(hour, ended)
    assert len(list(until.dimensions())) == until.dimension_count == hour.dimension_count
    taken = []
    for entry in until.stream():
        taken.append(entry)
        if len(taken) == 7:
            ended.set()
    assert len(taken) == 7
    interactions = [entry.record for entry in taken if entry.domain == "interactions"]
    assert interactions
    assert all(record is not None and record["device"] for record in interactions)


def test_entries_can_be_published_under_newer_contracts() -> None:
    """Removed fields are left out; the ledger has the fields of its own contracts."""
    contracts = newer(load_contracts((BUILT_IN_FOLDER,)))
    accounts = load_contracts((BUILT_IN_FOLDER,))
    ids = {contract.name: uuid4() for contract in contracts.sources}
    publisher, same = Publisher(contracts, ids, accounts), Publisher(accounts, ids)
    hour = Hour(500, 1_760_000_000_000, users=100, songs=100, podcasts=20)
    flowing = GeneratedHour(hour)
    for entry in (*flowing.dimensions(), *flowing.stream()):
        found = publisher.create_publication(entry, 1_760_000_000_000)
        assert (found.value is None) == (entry.record is None)
        # The accounts have it as the jobs read it, with their contracts.
        if entry.domain == "interactions" and entry.record is not None:
            assert b"ios" not in (found.value or b"")
            record = {name: value for name, value in entry.record.items() if name != "device"}
            read = same.create_publication(replace(entry, record=record), 1_760_000_000_000)
            assert found.value != read.value
        else:
            read = same.create_publication(entry, 1_760_000_000_000)
        assert found.body == read.body
