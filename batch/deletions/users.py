"""Who is deleted: users that their data product left out, and users of batches.

A user in a product of users that is newer than the deletion is there again: of such a user only
what happened up to the deletion is erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from batch.deletions.batches import Batches, merge, merged
from connectors.products.columns import OCCURRED_AT, PUBLISHED_AT
from connectors.products.location import Location
from connectors.products.manifest import NotPublished, read_manifest
from connectors.products.reader import ProductReader
from schemas.model import Contracts, Role

USER_ID: Final = "user_id"
"""The user of an interaction."""


@dataclass(frozen=True, slots=True)
class DeletedUsers:
    """Deleted users with the times of their deletions (epoch ms); ``restored``: there again.

    ``since_export``: how many were deleted after the product of users was exported. ``known_at``:
    when the last one became known here; older interactions may be those of any of them.
    """

    gone: Mapping[str, int] = field(default_factory=dict)
    restored: Mapping[str, int] = field(default_factory=dict)
    since_export: int = 0
    known_at: int = 0

    def events(self, table: Any) -> Any:
        """Which rows of a table of interactions are theirs, a pyarrow array of booleans.

        Of a user who is there again: those that occurred or were published up to the deletion.
        """
        users = table.column(USER_ID).combine_chunks()
        theirs = pc.is_in(users, value_set=pa.array(list(self.gone), pa.string()))
        if not self.restored:
            return theirs
        former = [
            user in self.restored and min(occurred, published) <= self.restored[user]
            for user, occurred, published in zip(
                users.to_pylist(),
                table.column(OCCURRED_AT).cast(pa.int64()).to_pylist(),
                table.column(PUBLISHED_AT).cast(pa.int64()).to_pylist(),
                strict=True,
            )
        ]
        return pc.or_(theirs, pa.array(former, pa.bool_()))


def read_deleted_users(s3: Any, contracts: Contracts) -> DeletedUsers:
    """The users of all batches, and those that the current product of users left out.

    Raises ServiceUnavailable, ProductError, BatchError.
    """
    batches = list(Batches.of(s3, contracts.only(Role.DELETION)).list())
    known_at = max((batch.created_at for batch in batches), default=0)
    return deleted_users(s3, contracts, merged(batches), known_at)


def deleted_users(
    s3: Any, contracts: Contracts, deletions: Mapping[str, int], known_at: int
) -> DeletedUsers:
    """The users of these deletions, and those that the current product of users left out.

    Raises ServiceUnavailable, ProductError.
    """
    gone = dict(deletions)
    restored: dict[str, int] = {}
    since_export = 0
    for contract in contracts.with_role(Role.USER):
        location = Location.of(contract)
        try:
            manifest = read_manifest(s3, location)
        except NotPublished:
            continue
        reader = ProductReader(s3, location, manifest, [contract.key])
        left_out = {
            user: manifest.created_at if at is None else at for user, at in reader.deleted()
        }
        others = gone.keys() - left_out
        before = {user for user in others if gone[user] < manifest.created_at}
        since_export += len(others) - len(before)
        for user in _present(reader, before):
            restored[user] = gone.pop(user)
        merge(gone, left_out)
        if left_out:
            known_at = max(known_at, manifest.created_at)
    return DeletedUsers(gone, restored, since_export, known_at)


def _present(reader: ProductReader, users: Iterable[str]) -> set[str]:
    """Those of the users that have a row."""
    wanted = pa.array(list(users), pa.string())
    found: set[str] = set()
    for batch in reader.batches() if len(wanted) else ():
        ids = batch.column(0)
        found.update(ids.filter(pc.is_in(ids, value_set=wanted)).to_pylist())
    return found
