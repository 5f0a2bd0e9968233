"""What the job reads of a data product: one version, as its manifest lists it.

A version that is being written, or a file of a failed export beside those of the manifest, is not
read; a file of the manifest that is missing is an error before anything starts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from batch.bootstrap.storage import Storage
from connectors.products.location import CURRENT, MANIFEST, VERSIONS
from connectors.products.manifest import Current, Manifest, ProductError
from schemas.model import Contract, Contracts, Role

PUBLISHED_AT = "published_at"
INTERACTION_COLUMNS = (
    *("event_id", "user_id", "item_id", "item_type", "event_type", "played_ms", "device"),
    *("occurred_at", "recommendation_id", "impression", PUBLISHED_AT),
)
"""What is read of an interaction."""


@dataclass(frozen=True, slots=True)
class Product:
    """One version of a product. ``columns`` are those that may be read.

    ``folder`` is the address of the version's folder, ``pattern`` a regular expression (Java's)
    that the paths of exactly the manifest's files match.
    """

    contract: str
    version: str
    folder: str
    pattern: str
    columns: frozenset[str]
    rows: int


def read_products(
    contracts: Contracts,
    locations: Mapping[str, str],
    columns: Mapping[str, Collection[str]],
    storage: Storage,
) -> dict[str, Product]:
    """The product of each domain that has a location, in the contracts' order.

    ``locations`` are a product's location or one version's manifest, by contract; ``columns`` what
    may be read, for contracts where that is not everything. Raises ProductError.
    """
    needed = [
        c for role in (Role.USER, Role.ITEM, Role.INTERACTION) for c in contracts.with_role(role)
    ]
    unknown = sorted(set(locations) - {contract.name for contract in needed})
    if unknown:
        known = ", ".join(contract.name for contract in needed)
        raise ProductError(
            f"{unknown[0]} is no product of users, items or interactions; these are: {known}"
        )
    absent = [contract.name for contract in needed if contract.name not in locations]
    if absent:
        raise ProductError(
            f"there is no location of the product {absent[0]}; the group tunemesh.products needs"
            " one for each domain of users, items and interactions"
        )
    products = {
        c.name: read_product(c.name, locations[c.name], columns.get(c.name), storage)
        for c in needed
    }
    for contract in needed:
        lacking = required_columns(contract) - products[contract.name].columns
        if contract.name in columns and lacking:
            raise ProductError(
                f"the columns {', '.join(sorted(lacking))} of the product {contract.name} are not"
                " granted, and there is no import without them"
            )
    return products


def required_columns(contract: Contract) -> frozenset[str]:
    """The columns of a product without which nothing of it can be imported."""
    if contract.role is Role.INTERACTION:
        return frozenset(INTERACTION_COLUMNS)
    return frozenset((contract.key,))


def read_product(
    contract: str, location: str, granted: Collection[str] | None, storage: Storage
) -> Product:
    """A product's version; raises ProductError when it is incomplete."""
    if location.endswith("/" + MANIFEST):
        url = location
    else:
        pointer = f"{location.rstrip('/')}/{CURRENT}"
        current = Current.from_json(_content(storage, pointer, contract), pointer)
        url = f"{location.rstrip('/')}/{VERSIONS}/{current.version}/{MANIFEST}"
    manifest = Manifest.from_json(_content(storage, url, contract), url)
    if manifest.product != contract:
        raise ProductError(f"{url} is of the product {manifest.product}, not of {contract}")
    folder = url.removesuffix("/" + MANIFEST)
    sizes = {file.name: file.bytes for file in manifest.files}
    _check_files(contract, folder, sizes, storage.sizes(folder))
    columns = frozenset(manifest.column_names)
    return Product(
        contract=contract,
        version=manifest.version,
        folder=folder,
        pattern=_pattern(storage.path(folder), sizes),
        columns=columns if granted is None else columns & frozenset(granted),
        rows=manifest.rows,
    )


def _check_files(
    contract: str, folder: str, listed: Mapping[str, int], present: Mapping[str, int]
) -> None:
    for name, size in listed.items():
        actual = present.get(name)
        if actual != size:
            what = "is missing" if actual is None else f"has {actual} bytes instead of {size}"
            raise ProductError(
                f"the file {name} of the product {contract} {what} in {folder};"
                " export the product again"
            )


def _pattern(path: str, names: Collection[str]) -> str:
    """A Java regular expression for exactly these files below a path; \\Q...\\E quotes."""
    if not names:
        return "(?!)"
    quoted = "|".join(sorted(_java_quoted(name) for name in names))
    return f".*{_java_quoted(path.rstrip('/') + '/')}({quoted})"


def _java_quoted(text: str) -> str:
    return re.sub(r"([^A-Za-z0-9_/])", r"\\\1", text)


def _content(storage: Storage, address: str, contract: str) -> bytes:
    try:
        return storage.read(address)
    except FileNotFoundError:
        raise ProductError(
            f"the product {contract} has no {address}; export it first, or check its location"
        ) from None
