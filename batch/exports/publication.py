"""The end of every export: too many rejected rows, or published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from connectors.products.columns import Column
from connectors.products.location import Location
from connectors.products.manifest import Manifest, ProductError
from connectors.products.writer import ProductWriter
from schemas.model import Contract

MAX_REJECTED_SHARE: Final = 0.01
"""The default share of a store's records that may be rejected."""


class TooManyRejected(ProductError):
    """More rows than allowed do not fit the contract; nothing was published."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an export. ``max_rejected_share``: of the records read, 0 to 1."""

    max_rejected_share: float = MAX_REJECTED_SHARE


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The result of an export.

    read         records of the store (interactions: lines of the archive)
    duplicates   repeated records of interactions
    later        interactions that were published at ``until`` or after it
    erased       interactions of deleted users
    """

    manifest: Manifest
    location: Location
    read: int
    duplicates: int = 0
    later: int = 0
    erased: int = 0


def open_writer(
    s3: Any, contract: Contract, columns: tuple[Column, ...], until: int | None = None
) -> ProductWriter:
    """A new version of the contract's product."""
    return ProductWriter(
        s3,
        Location.of(contract),
        product=contract.name,
        schema_version=contract.newest.number,
        columns=columns,
        until=until,
    )


def finish(
    writer: ProductWriter,
    contract: Contract,
    *,
    read: int,
    limits: Limits,
    deleted: int = 0,
    duplicates: int = 0,
    later: int = 0,
    erased: int = 0,
) -> ExportReport:
    """Publish the version, or raise TooManyRejected and keep the list of rejected rows."""
    check_rejected(writer, contract, read, limits)
    manifest = writer.publish(deleted + erased)
    return ExportReport(manifest, writer.location, read, duplicates, later, erased)


def check_rejected(writer: ProductWriter, contract: Contract, read: int, limits: Limits) -> None:
    """Raise TooManyRejected, and abandon the version, when more rows than allowed were rejected."""
    rejected = writer.rejected.total()
    if rejected <= limits.max_rejected_share * read:
        return
    writer.abandon(keep_rejected=True)
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in writer.rejected.most_common())
    raise TooManyRejected(
        f"{rejected:,} of {read:,} records do not fit the contract {contract.name} v"
        f"{contract.newest.number} ({reasons}); {limits.max_rejected_share:.2%} may be rejected."
        f" Nothing was published. They are listed in {writer.rejected_url}; repair them in the"
        " store, or allow more with --most-rejected."
    )
