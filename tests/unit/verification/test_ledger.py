"""The ledger: what it keeps, and what a crash leaves."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from deploy.local.settings import PROJECT
from schemas.invalid import Reason
from verification.entries import Kind
from verification.ledger import (
    DeliveryReport,
    Ledger,
    LedgerError,
    Status,
    ledger_path,
    prune,
    runs,
)
from verification.publications import Publication

EVENT = Publication("interactions", b"u1", b"\x03...", Kind.VALID, event_id="e1", body=b"body")
MALFORMED = Publication(
    "interactions", None, None, Kind.MALFORMED, event_id="e2", reason=Reason.EMPTY_VALUE
)
SONG = Publication(
    "songs", b"s1", b"x", Kind.VERSION, entity="s1", updated_at=5, deleted=True, body=b"song"
)


def test_sent_records_are_read_with_their_status(tmp_path: Path) -> None:
    """Acknowledged with a position, failed, or unknown without an answer."""
    with Ledger.create(tmp_path / "a.sqlite", {"run": "a", "started_ms": 1}) as ledger:
        ledger.record_sent(1, [EVENT, MALFORMED, SONG])
        ledger.record_reports(
            [DeliveryReport(1, 1, 42, 1000), DeliveryReport(2, None, None, None, "gone")]
        )
    with Ledger.open(tmp_path / "a.sqlite") as ledger:
        event, malformed, song = ledger.rows()
        assert [row.entity for row in ledger.rows(Kind.VERSION)] == ["s1"]
        assert ledger.ends() == {"interactions": {1: 43}}
        assert ledger.event_ids() == {"e1", "e2"}
        assert ledger.about()["run"] == "a"
    assert (event.topic, event.key, event.event_id, event.kind) == (
        "interactions", b"u1", "e1", Kind.VALID,
    )  # fmt: skip
    assert (event.partition, event.offset, event.timestamp) == (1, 42, 1000)
    assert (event.body, event.status) == (b"body", Status.ACKNOWLEDGED)
    assert (malformed.reason, malformed.status, malformed.key) == (
        Reason.EMPTY_VALUE,
        Status.FAILED,
        None,
    )
    assert (song.entity, song.updated_at, song.deleted) == ("s1", 5, True)
    assert (song.status, song.partition) == (Status.UNKNOWN, None)


def test_rows_cannot_be_changed_or_removed(tmp_path: Path) -> None:
    """The file rejects it, not only this class."""
    path = tmp_path / "a.sqlite"
    with Ledger.create(path, {}) as ledger:
        ledger.record_sent(1, [EVENT])
        ledger.record_reports([DeliveryReport(1, 0, 0, 0)])
        with pytest.raises(sqlite3.IntegrityError):
            ledger.record_reports([DeliveryReport(1, 0, 9, 9)])
    connection = sqlite3.connect(path)
    for statement in (
        "UPDATE sent SET key = 'x'",
        "DELETE FROM sent",
        "UPDATE reported SET offset = 7",
        "DELETE FROM reported",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_a_killed_writer_leaves_its_sends_as_unknown(tmp_path: Path) -> None:
    """Everything written before is in the file, in whole transactions."""
    path = tmp_path / "a.sqlite"
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from verification.entries import Kind\n"
        "from verification.ledger import DeliveryReport, Ledger\n"
        "from verification.publications import Publication\n"
        "ledger = Ledger.create(Path(sys.argv[1]), {})\n"
        "sent = [Publication('t', b'k', b'v', Kind.VALID, event_id=str(n)) for n in range(1000)]\n"
        "ledger.record_sent(1, sent)\n"
        "ledger.record_reports(DeliveryReport(n, 0, n, n) for n in range(1, 401))\n"
        "ledger._connection.execute('BEGIN')\n"
        "ledger._connection.execute('INSERT INTO reported VALUES (999, 0, 0, 0, NULL)')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        check=False,
    )
    assert done.returncode == -9
    with Ledger.open(path) as ledger:
        statuses = Counter(row.status for row in ledger.rows())
    assert statuses == {Status.ACKNOWLEDGED: 400, Status.UNKNOWN: 600}


def test_it_is_faster_than_any_replay(tmp_path: Path) -> None:
    """150,000 events a second with their answers on a quiet machine; CPU time, at most doubled by
    other processes."""
    events = [EVENT] * 500
    with Ledger.create(tmp_path / "a.sqlite", {}) as ledger:
        began = time.process_time()
        for first in range(1, 40_001, 500):
            ledger.record_sent(first, events)
            ledger.record_reports(DeliveryReport(n, 0, n, n) for n in range(first, first + 500))
        seconds = time.process_time() - began
    assert 40_000 / seconds > 20_000


def test_an_unusable_ledger_is_named(tmp_path: Path) -> None:
    """A missing file, an existing one, another format, another file type."""
    with pytest.raises(LedgerError, match=r"a\.sqlite does not exist"):
        Ledger.open(tmp_path / "a.sqlite")
    Ledger.create(tmp_path / "a.sqlite", {}).close()
    with pytest.raises(LedgerError, match="exists"):
        Ledger.create(tmp_path / "a.sqlite", {})
    Ledger.create(tmp_path / "b.sqlite", {"format": 99}).close()
    with pytest.raises(LedgerError, match="format 99"):
        Ledger.open(tmp_path / "b.sqlite")
    (tmp_path / "c.sqlite").write_text("not a database, and long enough to be read as one" * 50)
    with pytest.raises(LedgerError, match="not a ledger"):
        Ledger.open(tmp_path / "c.sqlite")


def test_ledgers_of_long_ago_are_removed(tmp_path: Path) -> None:
    """As a whole, and by when they were written: verification reads them all."""
    sizes = {}
    for number, name in enumerate(("c", "a", "b")):
        path = ledger_path(tmp_path, name)
        with Ledger.create(path, {"started_ms": number}) as ledger:
            ledger.record_sent(1, [EVENT] * 500)
        os.utime(path, (number, number))
        sizes[name] = path.stat().st_size
    for name in ("a", "b", "c"):
        with Ledger.open(ledger_path(tmp_path, name)) as ledger:
            assert len(ledger.event_ids()) == 1
    prune(tmp_path, sum(sizes.values()))
    assert runs(tmp_path) == ["c", "a", "b"]
    prune(tmp_path, sizes["a"] + sizes["b"])
    assert runs(tmp_path) == ["a", "b"]
    assert {path.name[0] for path in (tmp_path / "ledger").iterdir()} == {"a", "b"}
    prune(tmp_path, 0)
    assert list((tmp_path / "ledger").iterdir()) == []


def test_runs_are_listed_by_their_start(tmp_path: Path) -> None:
    """With any name; other files are ignored."""
    for name, started in (("b", 1), ("a", 2), ("c", 0)):
        Ledger.create(ledger_path(tmp_path, name), {"started_ms": started}).close()
    ledger_path(tmp_path, "d").write_text("no ledger" * 500)
    assert runs(tmp_path) == ["c", "b", "a"]
    assert runs(tmp_path / "nowhere") == []
