"""The sub-commands `tunemesh schemas`: check the contracts, register them, compare both."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import click

from connectors.glue.registry import GlueRegistry, RegisteredVersion
from deploy.local.settings import REGION, REGISTRY, LocalSettings
from schemas.checks import check as check_contracts
from schemas.compatibility import incompatibilities
from schemas.errors import TunemeshError
from schemas.model import Contract, Contracts, load_contracts

_Command = TypeVar("_Command", bound=Callable[..., Any])


class ContractProblems(TunemeshError):
    """The contracts in the folder are not what they should be."""


@click.group()
def schemas() -> None:
    """The contracts: check them, register their schema versions, compare both."""


def _registry_options(command: _Command) -> _Command:
    for option in (
        click.option("--registry", "name", default=REGISTRY, show_default=True, help="Its name."),
        click.option("--region", metavar="REGION", help="AWS region; without it, the local one."),
        click.option(
            "--endpoint-url", metavar="URL", help="Of the registry, where it is not AWS's own."
        ),
    ):
        command = option(command)
    return command


def connect(endpoint_url: str | None, region: str | None, name: str = REGISTRY) -> GlueRegistry:
    """The registry that the options mean: neither of them, the laptop platform's; a region, AWS."""
    if endpoint_url is None and region is None:
        endpoint_url = LocalSettings.from_environment(os.environ).aws.url
    return GlueRegistry.connect(region or REGION, endpoint_url, name)


@schemas.command("check")
def schemas_check() -> None:
    """Check the contracts in the folder; needs no network.

    Examples are valid or invalid as they say, every schema version can follow the one before it,
    mappings have the right types, topics fit together.
    """
    contracts = load_contracts()
    problems = check_contracts(contracts)
    click.echo(
        _table(
            ("contract", "role", "topic", "versions", "compatibility", "examples", "problems"),
            [
                (
                    contract.name,
                    str(contract.role),
                    contract.topic,
                    str(len(contract.versions)),
                    contract.compatibility,
                    _count_examples(contract),
                    str(sum(problem.contract == contract.name for problem in problems)),
                )
                for contract in contracts
            ],
        )
    )
    for problem in problems:
        click.echo(f"{problem.contract}: {problem.what}", err=True)
    if problems:
        raise ContractProblems(f"{len(problems)} problem(s) in the contracts, see above")
    click.echo("all contracts are in order")


@schemas.command("register")
@_registry_options
def schemas_register(endpoint_url: str | None, region: str | None, name: str) -> None:
    """Register every schema version that the registry lacks.

    A version that is not compatible with the registered ones is refused before anything of its
    contract is written. To do it again changes nothing.
    """
    contracts = load_contracts()
    registry = connect(endpoint_url, region, name)
    rows = [
        (contract.name, f"v{done.number}", str(done.version_id), _state(done.created))
        for contract in contracts
        for done in registry.register(contract)
    ]
    click.echo(_table(("contract", "version", "schema version id", "state"), rows))


@schemas.command("diff")
@click.argument("contract", required=False)
@_registry_options
@click.pass_context
def schemas_diff(
    ctx: click.Context,
    contract: str | None,
    endpoint_url: str | None,
    region: str | None,
    name: str,
) -> None:
    """Compare the registered schema versions with those in the folder, field by field.

    Exits with 1 when the registry would refuse a version, or has one that the folder does not.
    """
    contracts = load_contracts()
    registry = connect(endpoint_url, region, name)
    comparisons = [
        compare(one, registry.registered_versions(one), registry.registered_compatibility(one))
        for one in _chosen(contracts, contract)
    ]
    for comparison in comparisons:
        click.echo(comparison.text())
    if not all(comparison.registrable for comparison in comparisons):
        ctx.exit(1)


class Comparison(NamedTuple):
    """How the folder and the registry differ about one contract."""

    contract: str
    state: str
    changes: tuple[str, ...]
    refusals: tuple[str, ...]

    @property
    def registrable(self) -> bool:
        """Whether `tunemesh schemas register` would make both the same."""
        return not self.refusals

    def text(self) -> str:
        """The comparison for a terminal: a line of state, then a line a change."""
        lines = [f"{self.contract}: {self.state}"]
        lines += (f"  {change}" for change in self.changes)
        lines += (f"  refused: {refusal}" for refusal in self.refusals)
        return "\n".join(lines)


def compare(
    contract: Contract, registered: Sequence[RegisteredVersion], compatibility: str | None
) -> Comparison:
    """Compare a contract with what the registry holds of it (``compatibility`` None: nothing)."""
    if not registered:
        missing = ", ".join(f"v{version.number}" for version in contract.versions)
        return Comparison(contract.name, f"not registered ({missing})", (), ())
    known = [json.loads(version.definition) for version in registered]
    ours = [version.avro for version in contract.versions]
    absent = [version for version in contract.versions if version.avro not in known]
    history = [version.definition for version in registered]
    changes: list[str] = []
    refusals: list[str] = []
    for version in absent:
        base = json.loads(history[-1])
        changes += (f"v{version.number}: {line}" for line in field_changes(base, version.avro))
        refusals += (
            f"v{version.number}: {fault}"
            for fault in incompatibilities(contract.compatibility, version.definition, history)
        )
        history.append(version.definition)
    refusals += (
        f"the registry's version {version.number} ({version.version_id}) is in no file"
        for version, avro in zip(registered, known, strict=True)
        if avro not in ours
    )
    if compatibility != contract.compatibility:
        changes.append(f"compatibility: {compatibility} -> {contract.compatibility}")
    if absent:
        missing = ", ".join(f"v{version.number}" for version in absent)
        verdict = "not compatible" if refusals else f"{contract.compatibility} compatible"
        state = f"{missing} not registered, {verdict}"
    else:
        count = len(contract.versions)
        state = "the same" if not (changes or refusals) else "differs"
        state += f", {count} version{'s' if count > 1 else ''}"
    return Comparison(contract.name, state, tuple(changes), tuple(refusals))


def field_changes(before: dict[str, Any], after: dict[str, Any], path: str = "") -> Iterator[str]:
    """Fields added (+), removed (-) and changed (~) between two schemas, nested ones by path."""
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
    """A type in words; what is inside a record is compared by itself."""
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
    """The record in a field's type, through a union with null or an array; None without one."""
    if isinstance(avro, list):
        found = [record for branch in avro if (record := _record(branch))]
        return found[0] if len(found) == 1 else None
    if not isinstance(avro, dict):
        return None
    if avro["type"] == "array":
        return _record(avro["items"])
    return avro if avro["type"] == "record" else None


def _chosen(contracts: Contracts, name: str | None) -> tuple[Contract, ...]:
    return tuple(contracts) if name is None else (contracts[name],)


def _count_examples(contract: Contract) -> str:
    return f"{len(contract.examples('valid'))} + {len(contract.examples('invalid'))}"


def _state(created: bool) -> str:
    return "registered" if created else "was there"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )
