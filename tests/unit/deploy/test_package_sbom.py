"""The SBOM: valid, current, and true of the lock, of the jars and of what is installed."""

from __future__ import annotations

import json
import re
from importlib import metadata
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

from deploy.local.settings import PROJECT
from deploy.package import requirements, sbom

Document = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Document:
    read: Document = json.loads(sbom.FILE.read_text(encoding="utf-8"))
    return read


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_file_is_current_and_valid() -> None:
    """`make sbom` was not forgotten."""
    text = sbom.FILE.read_bytes()
    assert text == sbom.of_repository()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.decode()) is None


def test_it_lists_every_pin_and_every_jar_and_nothing_else(document: Document) -> None:
    """Read from the lists line by line."""
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    pins = {f"pkg:pypi/{n}@{v}" for n, v in re.findall(r"(?m)^([a-z][\w.-]*)==([^ ;]+)", lock)}
    jars = set()
    for line in (PROJECT / "pom-deps.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            coordinates, sha256, _ = line.split()
            coordinates, _, extension = coordinates.partition("@")
            group, artifact, version, *classifier = coordinates.split(":")
            suffix = "&".join(
                [f"classifier={c}" for c in classifier]
                + ([f"type={extension}"] if extension else [])
            )
            purl = f"pkg:maven/{group}/{artifact}@{version}" + (f"?{suffix}" if suffix else "")
            jars.add((purl, sha256))
    listed = document["components"]
    assert {c["purl"] for c in listed if c["purl"].startswith("pkg:pypi/")} == pins
    assert {
        (c["purl"], c["hashes"][0]["content"]) for c in listed if c["purl"].startswith("pkg:maven/")
    } == jars
    assert len(listed) == len(pins) + len(jars)


def test_what_is_installed_is_in_it_with_its_dependencies(document: Document) -> None:
    """By the metadata of the virtual environment, not by the lock."""
    python = [c for c in document["components"] if "group" not in c]
    components = {f"{c['name']} {c['version']}": c["bom-ref"] for c in python}
    depends = {d["ref"]: set(d.get("dependsOn", ())) for d in document["dependencies"]}
    checked = 0
    for installed in metadata.distributions():
        name = canonical(installed.name)
        if name in ("tunemesh", "pip"):
            continue
        refs = depends[components[f"{name} {installed.version}"]]
        for line in installed.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                wanted = f"pkg:pypi/{canonical(needed.name)}@"
                assert any(ref.startswith(wanted) for ref in refs), (name, line)
                checked += 1
    assert checked > 100
    assert depends["tunemesh"] == {c["bom-ref"] for c in document["components"]}


def test_it_depends_on_nothing_but_its_inputs() -> None:
    """The same package, the same bytes; another hash, another serial number."""
    pin = requirements.Requirement("a", "1", "", ("0" * 64,), ())
    one = sbom.describe("x", "1", [pin], [], {"a": "0" * 64})
    assert one == sbom.describe("x", "1", [pin], [], {"a": "0" * 64})
    other = sbom.describe("x", "1", [pin], [], {"a": "1" * 64})
    assert json.loads(one)["serialNumber"] != json.loads(other)["serialNumber"]
    assert "timestamp" not in json.loads(one)["metadata"]
