"""What is done once the job has ended: checks, CSV with headers, the report.

The job's files are lines without a header, in its working folder. Each becomes one that can be
imported, part-00000.csv, with the header as its first line; on S3 by an upload of which all but the
first part is copied inside the service. The report is put last: a run that has one is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from batch.bootstrap import report
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


class IncompleteError(TunemeshError):
    """The job's output is not what the manifests promise."""


def finished(settings: BootstrapSettings, products: Mapping[str, Product], storage: Storage) -> Any:
    """The report of this run if it is complete, else None; raises TunemeshError when a run of that
    name was made of something else."""
    try:
        found = json.loads(storage.read(f"{settings.folder}/{REPORT}"))
    except FileNotFoundError:
        return None
    versions = {name: product.version for name, product in products.items()}
    window = Window(found["since"], found["until"])
    if (found["products"], window) != (versions, settings.window):
        raise TunemeshError(
            f"{settings.folder} is complete and of other versions of the products, or of another"
            " moment; give this run another name"
        )
    return found


def finish(
    settings: BootstrapSettings,
    contracts: Contracts,
    products: Mapping[str, Product],
    storage: Storage,
) -> dict[str, Any]:
    """Check what the job has written and put it in its place; returns the report.

    Raises IncompleteError when the job has not read what the manifests list.
    """
    parts = storage.sizes(settings.work)
    counts = _counts(settings, parts, storage)
    _check_read(products, counts)
    datasets = {
        "users": report.tally(counts, [contracts.only(Role.USER).name]),
        "items": report.tally(counts, [c.name for c in contracts.with_role(Role.ITEM)]),
        "interactions": report.tally(counts, [contracts.only(Role.INTERACTION).name]),
    }
    problems = report.training_problems(
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
    made = report.report(
        settings.run,
        settings.window,
        {name: product.version for name, product in products.items()},
        datasets,
        _rejected(settings, contracts, parts, counts, storage),
        problems,
    )
    storage.write(f"{settings.folder}/{REPORT}", json.dumps(made, indent=2).encode())
    storage.remove(settings.work)
    return made


def _parts(parts: Mapping[str, int], folder: str) -> list[str]:
    """The job's files below a folder; what is empty or hidden (a staging folder) is none."""
    return sorted(
        name
        for name, size in parts.items()
        if name.startswith(f"{folder}/") and "/." not in name and size
    )


def _lines(
    settings: BootstrapSettings, parts: Mapping[str, int], folder: str, storage: Storage, most: int
) -> Iterator[dict[str, Any]]:
    """JSON lines at the beginning of each file of a folder."""
    for part in _parts(parts, folder):
        content = storage.head(f"{settings.work}/{part}", most)
        whole, _, _ = content.rpartition(b"\n")
        for line in whole.splitlines():
            yield json.loads(line)


def _counts(
    settings: BootstrapSettings, parts: Mapping[str, int], storage: Storage
) -> dict[tuple[str, str], int]:
    lines = _lines(settings, parts, "counts", storage, _SAMPLE_BYTES)
    return {(line["product"], line["name"]): line["n"] for line in lines}


def _check_read(products: Mapping[str, Product], counts: report.Counts) -> None:
    """Each row of each manifest must have been read once."""
    for name, product in products.items():
        found = report.tally(counts, [name])
        if found.rows != product.rows:
            raise IncompleteError(
                f"the job has read {found.rows} rows of the product {name}; the"
                f" manifest of its version {product.version} says {product.rows}"
            )


def _rejected(
    settings: BootstrapSettings,
    contracts: Contracts,
    parts: Mapping[str, int],
    counts: report.Counts,
    storage: Storage,
) -> list[dict[str, Any]]:
    """Counts by product and reason, with the ids of some."""
    dataset = {
        **{c.name: "users" for c in contracts.with_role(Role.USER)},
        **{c.name: "items" for c in contracts.with_role(Role.ITEM)},
        **{c.name: "interactions" for c in contracts.with_role(Role.INTERACTION)},
    }
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
        if len(ids) < report.SAMPLE:
            ids.append(line.get("id"))
    for entry in entries.values():
        entry["ids"].sort(key=lambda identity: identity or "")
    return list(entries.values())
