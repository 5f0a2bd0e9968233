"""The kinds of resources: names of their members, and responses by the service's model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import botocore.session

from emulators.personalize.control.lifecycle import DATA_DELETION_STATUSES, Resource
from emulators.validation import Check, compile_check

SERVICE: Final = "personalize"


@dataclass(frozen=True, slots=True)
class Kind:
    """The names of a kind in the service's model.

    `noun` is part of the operations' names. `filter` is the member that restricts a list to a
    parent.
    """

    noun: str
    filter: str | None = None
    name_member: str = "name"

    @property
    def described(self) -> str:
        """The member of a Describe response."""
        return self.noun[0].lower() + self.noun[1:]

    @property
    def listed(self) -> str:
        """The member of a List response."""
        return "Filters" if self.noun == "Filter" else f"{self.described}s"

    @property
    def arn_member(self) -> str:
        """The member with the ARN, in requests and responses."""
        return f"{self.described}Arn"

    @property
    def path(self) -> str:
        """The path of an ARN, before the name."""
        return re.sub("([A-Z])", r"-\1", self.described).lower()


_GROUP: Final = "datasetGroupArn"

KINDS: Final[Mapping[str, Kind]] = {
    kind.noun: kind
    for kind in (
        Kind("Schema"),
        Kind("DatasetGroup"),
        Kind("Dataset", _GROUP),
        Kind("DatasetImportJob", "datasetArn", "jobName"),
        Kind("DataDeletionJob", _GROUP, "jobName"),
        Kind("EventTracker", _GROUP),
        Kind("Solution", _GROUP),
        Kind("SolutionVersion", "solutionArn"),
        Kind("Campaign", "solutionArn"),
        Kind("Filter", _GROUP),
    )
}


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation: the check of its body, and the shape of its response."""

    name: str
    check: Check
    output: Any


@cache
def operations() -> Mapping[str, Operation]:
    """All operations of the service's model by name, also those that are not offered."""
    model = botocore.session.get_session().get_service_model(SERVICE)
    operations = {}
    for name in model.operation_names:
        operation = model.operation_model(name)
        shape: Any = operation.input_shape
        operations[name] = Operation(name, compile_check(shape), operation.output_shape)
    return operations


def target_prefix() -> str:
    """The prefix of the operation's name in X-Amz-Target."""
    model = botocore.session.get_session().get_service_model(SERVICE)
    return str(model.metadata["targetPrefix"])


def describe(kind: Kind, resource: Resource, now: float, step: float) -> dict[str, Any]:
    """The response of a Describe operation."""
    shape = operations()[f"Describe{kind.noun}"].output.members[kind.described]
    return {kind.described: _members(shape, resource, now, step)}


def summarize(kind: Kind, resource: Resource, now: float, step: float) -> dict[str, Any]:
    """An entry of the response of a List operation."""
    shape = operations()[f"List{kind.noun}s"].output.members[kind.listed].member
    return _members(shape, resource, now, step)


def _members(shape: Any, resource: Resource, now: float, step: float) -> dict[str, Any]:
    status = resource.status(now, step)
    if resource.kind == "DataDeletionJob":
        status = DATA_DELETION_STATUSES[status]
    members: dict[str, Any] = {
        **resource.document,
        KINDS[resource.kind].arn_member: resource.arn,
        KINDS[resource.kind].name_member: resource.name,
        "status": status,
        "creationDateTime": resource.created_at,
        "lastUpdatedDateTime": resource.updated_at(now),
    }
    if resource.failure is not None:
        members["failureReason"] = resource.failure
    return {name: members[name] for name in shape.members if name in members}
