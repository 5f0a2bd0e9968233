"""`tunemesh schemas`: check contracts, register their versions, compare both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, NamedTuple

import click

from cli import terminal
from cli.connections import Mesh, with_mesh
from cli.contract_standard import standard_problems
from cli.parameters import CONTRACT
from connectors.glue.registry import GlueRegistry, RegisteredVersion
from connectors.products.columns import fields_without_column
from deploy.local.settings import REGISTRY
from schemas.checks import check as check_contracts
from schemas.compatibility import incompatibilities
from schemas.errors import TunemeshError, counted
from schemas.model import Contract, contract_folders, load_contracts, read_contracts


class ContractProblems(TunemeshError):
    """Contracts break a rule."""


@click.group()
def schemas() -> None:
    """Contracts: check them, register their schema versions, compare both."""


def _with_registry(command: Callable[..., Any]) -> Callable[..., Any]:
    @click.option("--registry", "name", default=REGISTRY, help="Name of the registry.")
    @with_mesh
    @wraps(command)
    def call(mesh: Mesh, name: str, **arguments: Any) -> Any:
        return command(mesh.registry(name), **arguments)

    return call


@schemas.command("check")
def schemas_check() -> None:
    """Check the contract folders, without a network.

    Checks each contract.yaml by the Open Data Contract Standard, the Avro schemas, the examples,
    the compatibility of schema versions, the types of mapped fields, and that contracts fit
    together.
    Reports everything that is wrong. Exits with 1 if there is a problem.
    """
    contracts, unusable = read_contracts()
    problems = check_contracts(contracts, is_complete=not unusable)
    header = ("contract", "role", "topic", "versions", "compatibility", "examples", "problems")
    rows = [
        (
            contract.name,
            contract.role,
            contract.topic,
            str(len(contract.versions)),
            contract.compatibility,
            " + ".join(str(_count_examples(contract, kind)) for kind in ("valid", "invalid")),
            str(sum(problem.contract == contract.name for problem in problems)),
        )
        for contract in contracts
    ]
    terminal.show(terminal.table(header, rows, numbers=("versions", "examples", "problems")))
    for contract in contracts.sources:
        if left_out := fields_without_column(contract):
            click.echo(
                f"{contract.name}: the data product has no column for {', '.join(left_out)}:"
                " no column type fits their types"
            )
    lines = [
        *_without_repetition(unusable, _standard_problems()),
        *(f"{problem.contract}: {problem.what}" for problem in problems),
    ]
    for line in lines:
        click.echo(line, err=True)
    if lines:
        raise ContractProblems(f"{counted(len(lines), 'problem')} in the contracts, see above")
    click.echo("all contracts are valid")


def _count_examples(contract: Contract, kind: str) -> int:
    return len(list((contract.folder / "examples" / kind).glob("*.json")))


def _standard_problems() -> list[str]:
    paths = (path for root in contract_folders() for path in sorted(root.glob("*/contract.yaml")))
    return [problem for path in paths for problem in standard_problems(path)]


def _without_repetition(unusable: Sequence[str], standard: Sequence[str]) -> list[str]:
    """Both; what the standard says of a property that is unusable already is left out."""
    known = {" ".join(line.split(" ", 2)[:2]).rstrip(":") for line in unusable}
    return [
        *unusable,
        *(line for line in standard if " ".join(line.split(" ", 2)[:2]).rstrip(":") not in known),
    ]


@schemas.command("register")
@_with_registry
def schemas_register(registry: GlueRegistry) -> None:
    """Register every schema version that the registry lacks.

    If a version is incompatible with the registered ones, nothing of its contract is registered.
    Idempotent.

    Example: tunemesh schemas register --region eu-west-1
    """
    contracts = load_contracts()
    rows = [
        (
            contract.name,
            f"v{version.number}",
            str(version.version_id),
            "registered" if version.created else "unchanged",
        )
        for contract in contracts
        for version in registry.register(contract)
    ]
    header = ("contract", "version", "schema version id", "state")
    terminal.show(terminal.table(header, rows))


@schemas.command("diff", short_help="Compare the registered schema versions with the folder's.")
@click.argument("contract", required=False, type=CONTRACT)
@_with_registry
def schemas_diff(registry: GlueRegistry, contract: Contract | None) -> None:
    """Compare the registered schema versions with those in the folder, field by field.

    Exits with 1 if a version is incompatible, or is in the registry only.

    Example: tunemesh schemas diff songs
    """
    comparisons = [
        compare(one, registry.registered_versions(one), registry.registered_compatibility(one))
        for one in (load_contracts() if contract is None else [contract])
    ]
    for comparison in comparisons:
        click.echo(comparison.text())
    if not all(comparison.is_registrable for comparison in comparisons):
        raise click.exceptions.Exit(1)


class Comparison(NamedTuple):
    """The differences between folder and registry in one contract."""

    contract: str
    state: str
    changes: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def is_registrable(self) -> bool:
        """Whether `tunemesh schemas register` would make both the same."""
        return not self.problems

    def text(self) -> str:
        """Return a line with the state, and one for each change and problem."""
        lines = [f"{self.contract}: {self.state}"]
        lines += (f"  {change}" for change in self.changes)
        lines += (f"  refused: {problem}" for problem in self.problems)
        return "\n".join(lines)


def compare(
    contract: Contract, registered: Sequence[RegisteredVersion], compatibility: str | None
) -> Comparison:
    """Compare a contract with its registered versions and mode (None: not registered)."""
    if not registered:
        missing = ", ".join(f"v{version.number}" for version in contract.versions)
        return Comparison(contract.name, f"not registered ({missing})", (), ())
    known = [json.loads(version.definition) for version in registered]
    ours = [version.avro for version in contract.versions]
    absent = [version for version in contract.versions if version.avro not in known]
    history = [version.definition for version in registered]
    changes: list[str] = []
    problems: list[str] = []
    for version in absent:
        base = json.loads(history[-1])
        changes += (f"v{version.number}: {line}" for line in field_changes(base, version.avro))
        problems += (
            f"v{version.number}: {problem}"
            for problem in incompatibilities(contract.compatibility, version.definition, history)
        )
        history.append(version.definition)
    problems += (
        f"version {version.number} of the registry ({version.version_id}) is in no file"
        for version, avro in zip(registered, known, strict=True)
        if avro not in ours
    )
    if compatibility != contract.compatibility:
        changes.append(f"compatibility: {compatibility} -> {contract.compatibility}")
    if absent:
        missing = ", ".join(f"v{version.number}" for version in absent)
        verdict = "not compatible" if problems else f"{contract.compatibility} compatible"
        state = f"{missing} not registered, {verdict}"
    else:
        state = "the same" if not (changes or problems) else "differs"
        state += f", {counted(len(contract.versions), 'version')}"
    return Comparison(contract.name, state, tuple(changes), tuple(problems))


def field_changes(before: dict[str, Any], after: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield fields added (+), removed (-) and changed (~), nested ones by path."""
    old = {entry["name"]: entry for entry in before["fields"]}
    new = {entry["name"]: entry for entry in after["fields"]}
    for name, entry in old.items():
        if name not in new:
            yield f"- {path}{name}: {_type(entry['type'])}"
    for name, entry in new.items():
        former = old.get(name)
        if former is None:
            yield f"+ {path}{name}: {_field(entry)}"
            continue
        inner_before, inner_after = _record(former["type"]), _record(entry["type"])
        if inner_before and inner_after:
            yield from field_changes(inner_before, inner_after, f"{path}{name}.")
        if _field(former) != _field(entry):
            yield f"~ {path}{name}: {_field(former)} -> {_field(entry)}"


def _field(entry: dict[str, Any]) -> str:
    parts = [_type(entry["type"])]
    if "default" in entry:
        parts.append(f"default {json.dumps(entry['default'])}")
    if entry.get("aliases"):
        parts.append(f"also {', '.join(entry['aliases'])}")
    return ", ".join(parts)


def _type(avro: Any) -> str:
    """Return a type as text; the fields of a record are compared separately."""
    if isinstance(avro, list):
        return " | ".join(_type(branch) for branch in avro)
    if not isinstance(avro, dict):
        return str(avro)
    match avro["type"]:
        case "array":
            return f"array of {_type(avro['items'])}"
        case "map":
            return f"map of {_type(avro['values'])}"
        case "enum":
            return f"enum {avro['name']} ({', '.join(avro['symbols'])})"
        case "fixed":
            return f"fixed {avro['name']} ({avro['size']} bytes)"
        case "record":
            return f"record {avro['name']}"
    if "logicalType" in avro:
        return f"{avro['type']} ({avro['logicalType']})"
    return _type(avro["type"])


def _record(avro: Any) -> dict[str, Any] | None:
    """Return the record in a field's type, in a union with null, or in an array."""
    if isinstance(avro, list):
        records = [record for branch in avro if (record := _record(branch))]
        return records[0] if len(records) == 1 else None
    if not isinstance(avro, dict):
        return None
    if avro["type"] == "array":
        return _record(avro["items"])
    return avro if avro["type"] == "record" else None
