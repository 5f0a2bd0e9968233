"""Later versions of a contract, made up here."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from schemas.contracts import Contract, SchemaVersion


def next_version(
    contract: Contract, *added: dict[str, Any], removed: Collection[str] = ()
) -> Contract:
    """The contract with one version more: fields added at the end, fields removed."""
    avro = contract.newest.avro
    avro["fields"] = [f for f in avro["fields"] if f["name"] not in removed] + list(added)
    version = SchemaVersion(contract.newest.number + 1, json.dumps(avro))
    return replace(contract, versions=(*contract.versions, version))
