"""What is checked before the topics of a run are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.model import Contracts, load_contracts
from verification.endpoints import Endpoints
from verification.entries import Kind
from verification.ledger import Ledger, ledger_path
from verification.publications import Publication
from verification.verify import MissingContracts, VerifySettings, verify

CONTRACTS = load_contracts()
WITHOUT_SONGS = Contracts({name: c for name, c in CONTRACTS.by_name.items() if name != "songs"})
NO_REGISTRY: Any = None


def write_ledger(home: Path, run: str, contracts: dict[str, str] | None) -> None:
    about: dict[str, Any] = {"cluster_id": "x", "start": {}, "started_ms": 1}
    if contracts is not None:
        about["contracts"] = contracts
    with Ledger.create(ledger_path(home, run), about) as ledger:
        rows = [Publication(topic, b"k", b"v", Kind.VERSION) for topic in ("users", "songs")]
        ledger.record_sent(1, rows)


@pytest.mark.parametrize(
    ("contracts", "folder"),
    [
        ({"users": "/ours/users", "songs": "/mesh/songs"}, "/mesh"),
        (None, "the folder of their contracts"),
    ],
)
def test_a_run_with_another_domain_names_its_contracts(
    tmp_path: Path, contracts: dict[str, str] | None, folder: str
) -> None:
    """A shell without TUNEMESH_CONTRACTS is told its value; an older ledger has not recorded it."""
    write_ledger(tmp_path, "monday", contracts)
    endpoints = Endpoints("nowhere:1", tmp_path, "us-east-1", "tunemesh", "b", "p/")
    with pytest.raises(MissingContracts) as refused:
        verify(endpoints, "monday", VerifySettings(), registry=NO_REGISTRY, contracts=WITHOUT_SONGS)
    assert str(refused.value) == (
        "the run monday has records of the topics songs, which no contract has here. Set"
        f" TUNEMESH_CONTRACTS to {folder}"
    )
    assert refused.value.exit_code == 2
