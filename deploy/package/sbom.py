"""Lists what a package or the repository consists of: an SBOM in CycloneDX's JSON format.

Components are the pins of requirements.lock with what they depend on, and the jars of pom-deps.txt.
``sbom.cdx.json`` has all of them; a package has its own beside it, with the hash of each wheel.
The same inputs give the same bytes: there is no time in it, and its serial number is a hash.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from deploy.local import jars
from deploy.local.jars import Jar
from deploy.local.settings import PROJECT
from deploy.package import requirements
from deploy.package.contents import project_version
from deploy.package.requirements import Requirement

FILE = PROJECT / "sbom.cdx.json"
"""The SBOM of the repository: everything that set-up installs."""


def describe(
    name: str,
    version: str,
    pins: Iterable[Requirement],
    listed: Iterable[Jar],
    wheels: Mapping[str, str] | None = None,
) -> bytes:
    """Return the SBOM of a program; ``wheels``: the sha256 of each requirement's wheel, by name."""
    root = Component(name=name, version=version, type=ComponentType.APPLICATION, bom_ref=name)
    bom = Bom(metadata=BomMetaData(component=root))
    python = [(pin, _package(pin, wheels or {})) for pin in pins]
    for pin, component in python:
        bom.components.add(component)
        bom.register_dependency(component, [c for other, c in python if pin.name in other.via])
    sets: dict[str, list[Jar]] = {}
    for jar in listed:
        sets.setdefault(jar.coordinates, []).append(jar)
    java = [_jar(same) for same in sets.values()]
    bom.components.update(java)
    bom.register_dependency(root, bom.components)
    return _stable(JsonV1Dot6(bom).output_as_string())


def of_repository(project: Path = PROJECT) -> bytes:
    """Return the SBOM of everything that set-up installs."""
    pins = requirements.parse_pins((project / "requirements.lock").read_text(encoding="utf-8"))
    listed = jars.load(project / "pom-deps.txt")
    return describe("tunemesh", project_version(project), pins, listed)


def _package(pin: Requirement, wheels: Mapping[str, str]) -> Component:
    purl = PackageURL("pypi", None, pin.name, pin.version)
    return Component(
        name=pin.name,
        version=pin.version,
        purl=purl,
        bom_ref=str(purl),
        hashes=[_sha256(wheels[pin.name])] if pin.name in wheels else [],
        properties=[Property(name="tunemesh:marker", value=pin.marker)] if pin.marker else [],
    )


def _jar(same: Sequence[Jar]) -> Component:
    """Return the component of a jar, which may be in several sets."""
    jar = same[0]
    qualifiers = {"classifier": jar.classifier, "type": jar.extension}
    if jar.extension == "jar":
        del qualifiers["type"]
    purl = PackageURL("maven", jar.group, jar.artifact, jar.version, qualifiers)
    return Component(
        group=jar.group,
        name=jar.artifact,
        version=jar.version,
        purl=purl,
        bom_ref=str(purl),
        hashes=[_sha256(jar.sha256)],
        properties=[Property(name="tunemesh:jar-set", value=each.jar_set) for each in same],
    )


def _sha256(content: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=content)


def _stable(text: str) -> bytes:
    """Return the document without its time, and with a serial number that depends on the rest."""
    document = json.loads(text)
    del document["serialNumber"], document["metadata"]["timestamp"]
    number = uuid5(NAMESPACE_OID, json.dumps(document, sort_keys=True))
    document["serialNumber"] = f"urn:uuid:{number}"
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write sbom.cdx.json."""
    parser = argparse.ArgumentParser(prog="python -m deploy.package.sbom", description=main.__doc__)
    parser.parse_args(arguments)
    FILE.write_bytes(of_repository())
    return 0


if __name__ == "__main__":
    sys.exit(main())
