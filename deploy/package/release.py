"""release.json: the description of a package, for comparison with what runs."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fastavro.schema import to_parsing_canonical_form
from pydantic import TypeAdapter

from deploy.package.contents import RELEASE
from deploy.package.errors import PackageError
from schemas.model import Contracts, Role

FORMAT = 1

RUNTIME = "FLINK-2_2"
"""The service's name of the runtime (`RuntimeEnvironment`)."""

STATELESS = frozenset(
    {
        "stream-exec-calc",
        "stream-exec-correlate",
        "stream-exec-exchange",
        "stream-exec-expand",
        "stream-exec-python-calc",
        "stream-exec-python-correlate",
        "stream-exec-union",
        "stream-exec-values",
    }
)
"""Types of plan nodes without state in a savepoint; every other type counts as stateful."""


@dataclass(frozen=True, slots=True)
class PlanDescription:
    """A compiled plan: the hash of its text, and of each operator with state, by its uid.

    An operator's hash covers what its state depends on: its node in the plan without the
    description, and the types of its input rows. Equal hashes of equal uids: the state fits.
    """

    sha256: str
    operators: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PackageDescription:
    """The content of release.json.

    ``content_hash``: sha256 over all members but release.json; ``python``: the version of its
    wheels; ``plans`` by pipeline (0.1.0 has further ones, of several pipelines, under their
    names joined by ``_``); ``schemas``: of each contract the sha256 of each schema version's text,
    by number; ``layout``: the sha256 of what determines the layout of the enrichment's state
    (:func:`layout_hash`).
    """

    application: str
    version: str
    content_hash: str
    python: str
    runtime: str
    plans: Mapping[str, PlanDescription]
    schemas: Mapping[str, Mapping[int, str]]
    layout: str

    @property
    def name(self) -> str:
        """``tunemesh-<application>-<version>-<first 12 digits of the content hash>``."""
        return f"tunemesh-{self.application}-{self.version}-{self.content_hash[:12]}"

    def application_plan(self, pipelines: Sequence[str]) -> PlanDescription:
        """Return the plan of an application with these pipelines; raises KeyError with the name of
        a pipeline that the package does not have."""
        if plan := self.plans.get("_".join(pipelines)):
            return plan
        plans = [self.plans[pipeline] for pipeline in pipelines]
        sha256 = _sha256(" ".join(plan.sha256 for plan in plans))
        return PlanDescription(sha256, {k: v for plan in plans for k, v in plan.operators.items()})

    def json(self) -> bytes:
        """Return the content of release.json."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n").encode()


def describe_plan(text: str) -> PlanDescription:
    """Return the fingerprints of a compiled plan."""
    plan = json.loads(text)
    types = {node["id"]: node["outputType"] for node in plan["nodes"]}
    operators = {}
    for node in plan["nodes"]:
        if node["type"].rpartition("_")[0] in STATELESS:
            continue
        inputs = [types[edge["source"]] for edge in plan["edges"] if edge["target"] == node["id"]]
        relevant = {key: value for key, value in node.items() if key != "description"}
        text_of_node = json.dumps([relevant, inputs], sort_keys=True)
        operators[f"{node['id']}_{node['type']}"] = _sha256(text_of_node)
    return PlanDescription(_sha256(text), operators)


def describe_plans(members: Mapping[str, bytes]) -> dict[str, PlanDescription]:
    """Describe the plans among a package's members."""
    return {
        Path(name).stem: describe_plan(members[name].decode())
        for name in sorted(members)
        if name.startswith("jobs/plans/")
    }


def schema_hashes(contracts: Contracts) -> dict[str, dict[int, str]]:
    """Return the hash of each schema version of each contract."""
    return {
        contract.name: {entry.number: _sha256(entry.definition) for entry in contract.versions}
        for contract in sorted(contracts, key=lambda contract: contract.name)
    }


def layout_hash(contracts: Contracts) -> str:
    """Return the hash of the schema of enriched events, without documentation.

    The state has users, items and events as bytes in its layout: with another layout a savepoint
    would be restored, but decoded wrongly.
    """
    return _sha256(to_parsing_canonical_form(contracts.only(Role.ENRICHED).newest.avro))


def read_description(path: Path) -> PackageDescription:
    """Return the description of a package, given as the zip or as an unpacked folder.

    Raises PackageError for another file, or a package of a later format.
    """
    try:
        if path.is_dir():
            text = (path / RELEASE).read_text(encoding="utf-8")
        else:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(RELEASE).decode()
        if (format := json.loads(text)["format"]) != FORMAT:
            raise ValueError(f"format {format!r}, expected {FORMAT}")
        return TypeAdapter(PackageDescription).validate_json(text)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError) as error:
        raise PackageError(
            f"{path} is not a package of tunemesh, or of another version:"
            f" {type(error).__name__}: {error}"
        ) from error


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
