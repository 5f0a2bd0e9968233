"""The catalog of data products: domains register them, consumers find and read them.

A domain's table is in its own Glue database; the central database has a resource link to it, by the
product's name. Grants are permissions of Lake Formation, by column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import botocore.exceptions

from connectors.aws.sdk import error_code, sdk_client, service_errors
from connectors.catalog.errors import CatalogError, NotGranted
from connectors.catalog.permissions import Permissions, consumer_of, principal_of
from connectors.catalog.pii import PiiClass, grant_command, grantable
from connectors.catalog.tables import Product, TableName, link_name, product_of, table_input
from connectors.products.location import Location
from connectors.products.manifest import Manifest, read_manifest
from connectors.products.reader import ProductReader
from schemas.model import Contract

CENTRAL_DATABASE: Final = "tunemesh_central"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a consumer may read of a product: columns, and the PII classes that they have."""

    product: str
    consumer: str
    columns: tuple[str, ...]
    pii: tuple[PiiClass, ...]


@dataclass(frozen=True, slots=True)
class OpenedProduct:
    """A product that a consumer may read: the version to read, and the columns."""

    location: Location
    manifest: Manifest
    columns: tuple[str, ...]

    def reader(self, s3: Any) -> ProductReader:
        """Reads the opened version and no other column than the opened ones."""
        return ProductReader(s3, self.location, self.manifest, self.columns)


@dataclass(frozen=True, slots=True)
class Registration:
    """The result of a registration; ``revoked``: grants that lost a column, see `register`."""

    product: Product
    created: bool
    revoked: tuple[Grant, ...]


class Catalog:
    """The catalog as one account sees it. Raises ServiceUnavailable for a service without answer.

    glue, lakeformation   clients of the domain's account, ``account``
    central_glue          of the central account; the same client where both are one account
    """

    def __init__(
        self,
        s3: Any,
        glue: Any,
        lakeformation: Any,
        account: str,
        *,
        central_glue: Any | None = None,
        central_account: str | None = None,
        central_database: str = CENTRAL_DATABASE,
    ) -> None:
        self._s3 = s3
        self._glue = glue
        self._account = account
        self._lakeformation = lakeformation
        self._central_glue = central_glue or glue
        self._central_account = central_account or account
        self._central_database = central_database
        self._permissions = Permissions(lakeformation, account)

    @classmethod
    def connect(cls, region: str, endpoint_url: str | None = None) -> Catalog:
        """The catalog of the credentials' account, which is the central account, too."""

        def client(service: str) -> Any:
            return sdk_client(service, region, endpoint_url)

        with service_errors("look up the account", "Is the service aws up? tunemesh status"):
            account = str(client("sts").get_caller_identity()["Account"])
        return cls(client("s3"), client("glue"), client("lakeformation"), account)

    # Domains

    def register(self, contract: Contract, manifest: Manifest) -> Registration:
        """Register a version of a product, or update its entry. Idempotent.

        A column whose PII class has risen since the last registration is removed from every grant,
        which was made for another class. Raises CatalogError.
        """
        table = TableName.of(contract, self._account)
        document = table_input(contract, manifest, table)
        with service_errors(f"register the product {contract.name}"):
            self._create_database(self._glue, table.database)
            before = self._table(table)
            registered = None if before is None else product_of(before, table)
            product = product_of({**document}, table)
            assert product is not None
            # Before the entry is updated, so that a killed process repeats it.
            revoked = () if registered is None else self._revoke_risen(registered, product)
            if before is None:
                self._glue.create_table(DatabaseName=table.database, TableInput=document)
            elif registered != product:
                self._glue.update_table(DatabaseName=table.database, TableInput=document)
            self._register_location(product.location)
            self._link(product)
        return Registration(product, created=before is None, revoked=revoked)

    def grant(
        self,
        product: str,
        consumer: str,
        columns: Sequence[str] | None = None,
        pii: Iterable[str] = (),
    ) -> Grant:
        """Let a consumer read these columns of a product; replaces its former grant.

        consumer  a role's name, its ARN, or an account
        columns   None: all columns of the classes that the grant includes, as they are now
        pii       classes beyond public and internal that the grant includes, each by its name

        Raises CatalogError for an unknown column, or one of a class that ``pii`` lacks.
        """
        found = self.describe(product)
        chosen = grantable(product, found.classes, columns, tuple(pii))
        principal = principal_of(consumer, self._central_account)
        with service_errors(f"grant {product} to {consumer}"):
            self._permissions.grant(principal, found.table, chosen)
        return self._grant(found, principal, set(chosen))

    def revoke(self, product: str, consumer: str) -> Grant:
        """Revoke the whole grant of a consumer; returns it. Raises NotGranted."""
        found = self.describe(product)
        principal = principal_of(consumer, self._central_account)
        with service_errors(f"revoke {product} from {consumer}"):
            permissions = self._permissions.of(principal, found.table)
            if not permissions:
                raise NotGranted(f"{consumer} has no grant on the product {product}.")
            for permission in permissions:
                self._permissions.revoke(permission)
        columns = set().union(*(each.covered(found.classes) for each in permissions))
        return self._grant(found, principal, columns)

    # Consumers

    def find(
        self,
        domain: str | None = None,
        role: str | None = None,
        field: str | None = None,
        tag: str | None = None,
    ) -> tuple[Product, ...]:
        """The registered products that match every given criterion, by name."""
        with service_errors("search the catalog"):
            products = [product for link in self._links() if (product := self._target(link))]
        return tuple(
            product
            for product in sorted(products, key=attrgetter("name"))
            if (domain is None or product.domain == domain)
            and (role is None or product.role == role)
            and (field is None or field in product.classes)
            and (tag is None or tag in product.tags)
        )

    def describe(self, product: str) -> Product:
        """The registered product of that name; raises CatalogError when there is none."""
        with service_errors(f"look up the product {product}"):
            link = self._get(self._central_glue, self._central_database, link_name(product))
            found = None if link is None else self._target(link)
        if found is None:
            known = ", ".join(entry.name for entry in self.find()) or "none"
            raise CatalogError(
                f"the catalog has no product {product!r}; it has: {known}. Register it: tunemesh"
                f" catalog register {product}"
            )
        return found

    def list_grants(
        self, product: str | None = None, consumer: str | None = None
    ) -> tuple[Grant, ...]:
        """The grants on a product, of a consumer, or all."""
        products = self.find() if product is None else (self.describe(product),)
        wanted = None if consumer is None else principal_of(consumer, self._central_account)
        return tuple(
            grant
            for entry in products
            for grant in self._grants(entry)
            if wanted is None or principal_of(grant.consumer, self._central_account) == wanted
        )

    def open_product(
        self, product: str, consumer: str, columns: Sequence[str] | None = None
    ) -> OpenedProduct:
        """The current version of a product, for a consumer that may read it.

        Athena and Glue enforce Lake Formation's permissions themselves; this checks the listed
        permissions at each call. ``columns`` None: all that the consumer was granted. Raises
        NotGranted for a consumer without a grant and for a column outside the grant, CatalogError
        for an unknown product or column, NotPublished.
        """
        found = self.describe(product)
        principal = principal_of(consumer, self._central_account)
        with service_errors(f"look up the grants on {product}"):
            permissions = self._permissions.of(principal, found.table)
        granted = set().union(*(each.covered(found.classes) for each in permissions))
        if not granted:
            raise NotGranted(
                f"{consumer} may not read the product {product}: it has no grant, or it was"
                f" revoked. Ask its owner, {found.owner}, for:"
                f" {grant_command(product, consumer, found.classes.values())}"
            )
        for name in columns or ():
            if name not in found.classes:
                known = ", ".join(found.classes)
                raise CatalogError(
                    f"the product {product} has no column {name!r}; there are: {known}."
                )
            if name not in granted:
                raise NotGranted(
                    f"{consumer} may not read the column {name!r} of {product} (PII class"
                    f" {found.classes[name]}): its grant has {', '.join(_ordered(found, granted))}."
                    f" Ask its owner, {found.owner}, for a grant that has it."
                )
        manifest = read_manifest(self._s3, found.location)
        chosen = granted if columns is None else set(columns)
        return OpenedProduct(
            found.location,
            manifest,
            tuple(name for name in manifest.column_names if name in chosen),
        )

    # Glue

    def _create_database(self, glue: Any, name: str) -> None:
        # No default permissions: Lake Formation's own are the only ones.
        database = {"Name": name, "CreateTableDefaultPermissions": []}
        _unless_present(lambda: glue.create_database(DatabaseInput=database))

    def _register_location(self, location: Location) -> None:
        """Put the product's location under Lake Formation's control."""
        arn = f"arn:aws:s3:::{location.bucket}/{location.prefix}".rstrip("/")
        _unless_present(
            lambda: self._lakeformation.register_resource(
                ResourceArn=arn, UseServiceLinkedRole=True
            )
        )

    def _link(self, product: Product) -> None:
        if self._central_account != self._account:
            self._permissions.share(self._central_account, product.table)
        self._create_database(self._central_glue, self._central_database)
        link = {"Name": link_name(product.name), "TargetTable": product.table.document()}
        name = link_name(product.name)
        present = self._get(self._central_glue, self._central_database, name)
        if present is None:
            self._central_glue.create_table(DatabaseName=self._central_database, TableInput=link)
        elif present.get("TargetTable") != link["TargetTable"]:
            raise CatalogError(
                f"the central catalog has another product {product.name!r}, of the table"
                f" {present.get('TargetTable')}."
            )

    def _links(self) -> Iterable[dict[str, Any]]:
        try:
            pages = self._central_glue.get_paginator("get_tables").paginate(
                DatabaseName=self._central_database
            )
            return [table for page in pages for table in page["TableList"]]
        except botocore.exceptions.ClientError as error:
            if error_code(error) != "EntityNotFoundException":
                raise
            return []

    def _target(self, link: dict[str, Any]) -> Product | None:
        target = link.get("TargetTable")
        if not target:
            return None
        name = TableName(target["CatalogId"], target["DatabaseName"], target["Name"])
        table = self._table(name)
        return None if table is None else product_of(table, name)

    def _table(self, name: TableName) -> dict[str, Any] | None:
        catalog = {} if name.catalog == self._account else {"CatalogId": name.catalog}
        return self._get(self._glue, name.database, name.table, **catalog)

    def _get(self, glue: Any, database: str, table: str, **more: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = glue.get_table(DatabaseName=database, Name=table, **more)
        except botocore.exceptions.ClientError as error:
            if error_code(error) != "EntityNotFoundException":
                raise
            return None
        return dict(answer["Table"])

    # Grants

    def _grants(self, product: Product) -> tuple[Grant, ...]:
        with service_errors(f"list the grants on {product.name}"):
            columns: dict[str, set[str]] = {}
            for permission in self._permissions.on(product.table):
                covered = permission.covered(product.classes)
                columns.setdefault(permission.principal, set()).update(covered)
        return tuple(self._grant(product, who, columns[who]) for who in sorted(columns))

    def _grant(self, product: Product, principal: str, columns: set[str]) -> Grant:
        classes = {product.classes[name] for name in columns}
        return Grant(
            product.name,
            consumer_of(principal, self._central_account),
            _ordered(product, columns),
            tuple(pii for pii in PiiClass if pii in classes),
        )

    def _revoke_risen(self, before: Product, after: Product) -> tuple[Grant, ...]:
        former = before.classes
        risen = {
            name
            for name, pii in after.classes.items()
            if name in former and pii.rank > former[name].rank
        }
        revoked = []
        for grant in self._grants(before) if risen else ():
            if lost := set(grant.columns) & risen:
                principal = principal_of(grant.consumer, self._central_account)
                rest = _ordered(before, set(grant.columns) - risen)
                self._permissions.grant(principal, before.table, rest)
                revoked.append(self._grant(before, principal, lost))
        return tuple(revoked)


def _ordered(product: Product, columns: Iterable[str]) -> tuple[str, ...]:
    wanted = set(columns)
    return tuple(column.name for column in product.columns if column.name in wanted)


def _unless_present(create: Callable[[], Any]) -> None:
    try:
        create()
    except botocore.exceptions.ClientError as error:
        if error_code(error) != "AlreadyExistsException":
            raise
