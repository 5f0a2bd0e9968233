"""The servers of the tests of the jobs, and an application that most of them share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from schemas.model import BUILT_IN_FOLDER
from tests.flink.mesh import Mesh, make_mesh


@pytest.fixture(scope="session")
def audiobooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the contract of one more item domain, as somebody would add it."""
    root = tmp_path_factory.mktemp("contracts")
    folder = root / "audiobooks"
    folder.mkdir()
    contract = yaml.safe_load((BUILT_IN_FOLDER / "podcasts" / "contract.yaml").read_text())
    contract["id"] = "tunemesh.audiobooks"
    contract["name"] = "audiobooks"
    contract["schema"][0]["name"] = contract["schema"][0]["physicalName"] = "audiobooks"
    contract["schema"][0]["properties"][0]["name"] = "isbn"
    for entry in contract["customProperties"]:
        if entry["property"] == "item":
            entry["value"] = {
                "type": "audiobook",
                "item_id": "isbn",
                "title": "name",
                "creator": ["narrator", "author"],
                "genres": "shelves",
                "duration": {"field": "minutes_in_ms", "unit": "ms"},
                "deleted": "withdrawn",
            }
        elif entry["property"] == "catalogTable":
            entry["value"] = "tunemesh_audiobooks.audiobooks"
    (folder / "contract.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))
    optional = {"type": ["null", "string"], "default": None}
    fields = [
        {"name": "isbn", "type": "string"},
        {"name": "shelves", "type": {"type": "array", "items": "string"}},
        {"name": "narrator", **optional},
        {"name": "author", **optional},
        {"name": "minutes_in_ms", "type": ["null", "long"], "default": None},
        {"name": "name", "type": "string"},
        {"name": "withdrawn", "type": "boolean", "default": False},
    ]
    avro = {"type": "record", "name": "Audiobook", "namespace": "shop", "fields": fields}
    (folder / "audiobooks.v1.avsc").write_text(json.dumps(avro))
    return root


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory, audiobooks: Path) -> Iterator[Mesh]:
    """Kafka, registry and Personalize on ports of their own, topics made, schemas registered."""
    yield from make_mesh(tmp_path_factory.mktemp("mesh"), audiobooks)


@pytest.fixture(scope="session")
def environ(audiobooks: Path, java_home: Path) -> dict[str, str]:
    """The environment of applications: this one, with Java and the contract folder."""
    return {**os.environ, "JAVA_HOME": str(java_home), "TUNEMESH_CONTRACTS": str(audiobooks)}
