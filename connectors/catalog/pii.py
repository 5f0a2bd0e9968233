"""The PII classes of a contract's fields, and which columns a grant includes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from connectors.catalog.errors import CatalogError
from schemas.model import IMPERSONAL_CLASSES, Contract


class PiiClass(StrEnum):
    """How close a field is to a person, in ascending order."""

    PUBLIC = "public"
    INTERNAL = "internal"
    PSEUDONYMOUS = "pseudonymous"
    PERSONAL = "personal"

    @property
    def rank(self) -> int:
        """The position in the order."""
        return list(PiiClass).index(self)


FREE: Final = frozenset(map(PiiClass, IMPERSONAL_CLASSES))
"""Classes that every grant includes. The others must be named one by one: personal does not include
pseudonymous."""


def highest_class(contract: Contract) -> PiiClass:
    """The class of a contract's records as a whole: the highest of their fields."""
    where = f"{contract.folder / 'contract.yaml'}: pii"
    fields = contract.newest.field_names
    return max(
        (parse_class(contract.pii_class(name), where) for name in fields),
        key=lambda pii_class: pii_class.rank,
    )


def parse_class(text: str, where: str) -> PiiClass:
    """The class of that name; raises CatalogError."""
    try:
        return PiiClass(text)
    except ValueError:
        raise CatalogError(
            f"{where}: there is no PII class {text!r}; there are: {', '.join(PiiClass)}."
        ) from None


def grant_command(product: str, consumer: str, classes: Iterable[PiiClass]) -> str:
    """The command that grants all columns of these classes."""
    needed = sorted(set(classes) - FREE, key=lambda pii_class: pii_class.rank)
    named = "".join(f" --pii {pii_class}" for pii_class in needed)
    return f"tunemesh catalog grant {product} {consumer}{named}"


def grantable(
    product: str,
    classes: Mapping[str, PiiClass],
    requested: Iterable[str] | None,
    pii: Iterable[str],
) -> tuple[str, ...]:
    """The columns that a grant includes, in the order of the product's columns.

    ``classes`` are those of all columns; ``requested`` None means each column that ``pii`` allows.
    Raises CatalogError for an unknown column or one whose class is not named.
    """
    allowed = FREE | {parse_class(name, "the grant") for name in pii}
    if requested is None:
        return tuple(name for name, pii_class in classes.items() if pii_class in allowed)
    wanted = set(requested)
    for name in sorted(wanted):
        if name not in classes:
            raise CatalogError(
                f"the product {product} has no column {name!r}; there are: {', '.join(classes)}."
            )
        if classes[name] not in allowed:
            raise CatalogError(
                f"the column {name!r} of {product} has the PII class {classes[name]}, which the"
                f" grant does not name. Name it (--pii {classes[name]}) or leave the column out."
            )
    if not wanted:
        raise CatalogError(f"the grant on {product} names no column.")
    return tuple(name for name in classes if name in wanted)
