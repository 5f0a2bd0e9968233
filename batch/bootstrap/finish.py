"""After the end of the job: checks, CSV with headers, the report.

The job's files are lines without a header, in its working folder. Each becomes a CSV file such as
part-00000.csv, with the header as its first line; on S3 by an upload whose parts but the first are
copied inside the service. The report is put last: a run that has one is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from batch.bootstrap import report as reports
from batch.bootstrap.products import Product
from batch.bootstrap.rules import Reason
from batch.bootstrap.settings import BootstrapSettings, Window
from batch.bootstrap.storage import Storage
from batch.personalize_schemas import columns, interactions_schema, items_schema, users_schema
from connectors.personalize.requests import DEFAULT_PROPERTIES
from schemas.errors import TunemeshError
from schemas.model import Contracts, Role

REPORT: Final = "report.json"
_SAMPLE_BYTES: Final = 1024 * 1024
_ROLES: Final = {"users": Role.USER, "items": Role.ITEM, "interactions": Role.INTERACTION}


class IncompleteError(TunemeshError):
    """The job's output differs from the manifests."""


def read_report(
    settings: BootstrapSettings, products: Mapping[str, Product], storage: Storage
) -> Any:
    """The report of this run if it is complete, else None; raises TunemeshError when the run of
    that name has other input."""
    try:
        report = json.loads(storage.read(f"{settings.folder}/{REPORT}"))
    except FileNotFoundError:
        return None
    versions = {name: product.version for name, product in products.items()}
    window = Window(report["since"], report["until"])
    if (report["products"], window) != (versions, settings.window):
        raise TunemeshError(
            f"{settings.folder} is complete with other versions of the products, or another"
            " window. Choose another name for this run."
        )
    return report


def finish(
    settings: BootstrapSettings,
    contracts: Contracts,
    products: Mapping[str, Product],
    storage: Storage,
) -> dict[str, Any]:
    """Check the job's output and put the CSV files and the report; returns the report.

    Raises IncompleteError when the job has not read what the manifests list.
    """
    parts = storage.sizes(settings.work)
    counts = _counts(settings, parts, storage)
    _check_read(products, counts)
    datasets = {
        dataset: reports.tally(counts, [c.name for c in contracts.with_role(role)])
        for dataset, role in _ROLES.items()
    }
    problems = reports.training_problems(
        counts, datasets["interactions"].written, len(DEFAULT_PROPERTIES)
    )
    if not problems:
        headers = {
            "users": users_schema(contracts),
            "items": items_schema(contracts),
            "interactions": interactions_schema(contracts),
        }
        for dataset, schema in headers.items():
            header = (",".join(columns(schema)) + "\n").encode()
            for number, part in enumerate(_parts(parts, dataset)):
                target = f"{settings.folder}/{dataset}/part-{number:05}.csv"
                storage.compose(header, f"{settings.work}/{part}", target)
    for number, part in enumerate(_parts(parts, "rejected")):
        target = f"{settings.folder}/rejected/part-{number:05}.json"
        storage.compose(b"", f"{settings.work}/{part}", target)
    document = reports.report(
        settings.run,
        settings.window,
        {name: product.version for name, product in products.items()},
        datasets,
        _rejected(settings, contracts, parts, counts, storage),
        problems,
    )
    storage.write(f"{settings.folder}/{REPORT}", json.dumps(document, indent=2).encode())
    storage.remove(settings.work)
    return document


def _parts(parts: Mapping[str, int], folder: str) -> list[str]:
    """The job's files below a folder, without empty and hidden ones (of a staging folder)."""
    return sorted(
        name
        for name, size in parts.items()
        if name.startswith(f"{folder}/") and "/." not in name and size
    )


def _lines(
    settings: BootstrapSettings, parts: Mapping[str, int], folder: str, storage: Storage, size: int
) -> Iterator[dict[str, Any]]:
    """JSON lines at the beginning of each file of a folder."""
    for part in _parts(parts, folder):
        content = storage.head(f"{settings.work}/{part}", size)
        lines, _, _ = content.rpartition(b"\n")
        for line in lines.splitlines():
            yield json.loads(line)


def _counts(
    settings: BootstrapSettings, parts: Mapping[str, int], storage: Storage
) -> dict[tuple[str, str], int]:
    lines = _lines(settings, parts, "counts", storage, _SAMPLE_BYTES)
    return {(line["product"], line["name"]): line["n"] for line in lines}


def _check_read(products: Mapping[str, Product], counts: reports.Counts) -> None:
    """Raise IncompleteError unless each row of each manifest was read once."""
    for name, product in products.items():
        tally = reports.tally(counts, [name])
        if tally.rows != product.rows:
            raise IncompleteError(
                f"the job has read {tally.rows} rows of the product {name}; the"
                f" manifest of its version {product.version} says {product.rows}"
            )


def _rejected(
    settings: BootstrapSettings,
    contracts: Contracts,
    parts: Mapping[str, int],
    counts: reports.Counts,
    storage: Storage,
) -> list[dict[str, Any]]:
    """Counts by product and reason, with the ids of some."""
    dataset = {c.name: name for name, role in _ROLES.items() for c in contracts.with_role(role)}
    reasons = {str(reason) for reason in Reason}
    entries: dict[tuple[str, str], dict[str, Any]] = {
        (product, name): {
            "dataset": dataset[product],
            "product": product,
            "reason": name,
            "count": n,
            "ids": [],
        }
        for (product, name), n in sorted(counts.items())
        if name in reasons
    }
    for line in _lines(settings, parts, "rejected", storage, _SAMPLE_BYTES):
        ids = entries[line["product"], line["reason"]]["ids"]
        if len(ids) < reports.SAMPLE:
            ids.append(line.get("id"))
    for entry in entries.values():
        entry["ids"].sort(key=lambda identity: identity or "")
    return list(entries.values())
