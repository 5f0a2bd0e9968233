"""Lake Formation's permissions on tables: who may select which columns."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connectors.catalog.tables import TableName

SELECT: Final = "SELECT"
_ACCOUNT: Final = re.compile(r"\d{12}")
_ROLE: Final = re.compile(r"arn:aws:iam::(?P<account>\d{12}):role/(?P<name>.+)")


@dataclass(frozen=True, slots=True)
class Permission:
    """SELECT of a principal on columns of a table, as Lake Formation lists it.

    ``excluded`` holds when ``columns`` are those left out of all.
    """

    principal: str
    resource: Mapping[str, Any]
    columns: tuple[str, ...]
    excluded: bool

    def covered(self, columns: Collection[str]) -> set[str]:
        """Those of a table's columns that the permission covers."""
        listed = set(self.columns)
        return {name for name in columns if (name in listed) is not self.excluded}


class Permissions:
    """The permissions in one account's Lake Formation. Errors of boto3 go through.

    moto lists each grant as an entry and revokes one only as it was granted; the service merges the
    column lists of a principal. This works with both.
    """

    def __init__(self, lakeformation: Any, account: str) -> None:
        self._client = lakeformation
        self._account = account

    def on(self, table: TableName) -> list[Permission]:
        """Every SELECT on a table or on columns of it."""
        return [permission for permission in self._all() if _is_on(permission.resource, table)]

    def of(self, principal: str, table: TableName) -> list[Permission]:
        """Those of a principal on a table."""
        return [permission for permission in self.on(table) if permission.principal == principal]

    def grant(self, principal: str, table: TableName, columns: Sequence[str]) -> None:
        """Make these the columns that the principal may select; no column revokes all.

        Other permissions are revoked first: a process that dies in between leaves a consumer with
        less than it was promised, never with more.
        """
        wanted = tuple(columns)
        for permission in self.of(principal, table):
            if permission.excluded or permission.columns != wanted:
                self.revoke(permission)
        # moto cannot revoke what was granted twice.
        if wanted and not self.of(principal, table):
            self._client.grant_permissions(
                Principal=_principal(principal),
                Resource={"TableWithColumns": {**table.document(), "ColumnNames": list(wanted)}},
                Permissions=[SELECT],
            )

    def revoke(self, permission: Permission) -> None:
        """Revoke a listed permission."""
        self._client.revoke_permissions(
            Principal=_principal(permission.principal),
            Resource=dict(permission.resource),
            Permissions=[SELECT],
        )

    def share(self, account: str, table: TableName) -> None:
        """Let another account, such as the central one, see a table and grant its columns."""
        resource = {"Table": table.document()}
        if any(
            entry["Principal"] == _principal(account) and entry["Resource"] == resource
            for entry in self._entries()
        ):
            return
        rights = [SELECT, "DESCRIBE"]
        self._client.grant_permissions(
            Principal=_principal(account),
            Resource=resource,
            Permissions=rights,
            PermissionsWithGrantOption=rights,
        )

    def _all(self) -> Iterator[Permission]:
        for entry in self._entries():
            if SELECT not in entry["Permissions"]:
                continue
            principal = entry["Principal"]["DataLakePrincipalIdentifier"]
            resource = entry["Resource"]
            with_columns = resource.get("TableWithColumns")
            if with_columns is None:
                yield Permission(principal, resource, (), excluded=True)
            elif "ColumnNames" in with_columns:
                columns = tuple(with_columns["ColumnNames"])
                yield Permission(principal, resource, columns, excluded=False)
            else:
                wildcard = with_columns.get("ColumnWildcard") or {}
                left_out = tuple(wildcard.get("ExcludedColumnNames", ()))
                yield Permission(principal, resource, left_out, excluded=True)

    def _entries(self) -> Iterator[dict[str, Any]]:
        arguments = {"ResourceType": "TABLE"}
        while True:
            page = self._client.list_permissions(**arguments)
            yield from page["PrincipalResourcePermissions"]
            if not page.get("NextToken"):
                return
            arguments["NextToken"] = page["NextToken"]


def principal_of(consumer: str, account: str) -> str:
    """A consumer as Lake Formation names it: an ARN or account as it is, else a role's ARN."""
    if consumer.startswith("arn:") or _ACCOUNT.fullmatch(consumer):
        return consumer
    return f"arn:aws:iam::{account}:role/{consumer}"


def consumer_of(principal: str, account: str) -> str:
    """A principal's short name: a role of this account by its name, others as they are."""
    role = _ROLE.fullmatch(principal)
    return role["name"] if role and role["account"] == account else principal


def _principal(identifier: str) -> dict[str, str]:
    return {"DataLakePrincipalIdentifier": identifier}


def _is_on(resource: Mapping[str, Any], table: TableName) -> bool:
    named = resource.get("TableWithColumns") or resource.get("Table") or {}
    return (
        named.get("DatabaseName") == table.database
        and (named.get("Name") == table.table or "TableWildcard" in named)
        and named.get("CatalogId", table.catalog) == table.catalog
    )
