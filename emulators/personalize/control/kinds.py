"""The kinds of resources: names of their members, and responses by the service's model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import botocore.session

from emulators.personalize.control.lifecycle import Resource
from emulators.validation import Check, compile_check

SERVICE: Final = "personalize"


@dataclass(frozen=True, slots=True)
class Kind:
    """The names of a kind in the service's model.

    `noun` is part of the operations' names; `described` is the member of a Describe response;
    `plural` ends the name of the List operation, and `listed` is the member of its response.
    `filter` is the member that restricts a list to a parent.
    """

    noun: str
    described: str
    plural: str
    listed: str
    filter: str | None = None
    name_member: str = "name"

    @property
    def arn_member(self) -> str:
        """The member with the ARN, in requests and responses."""
        return f"{self.described}Arn"


_GROUP: Final = "datasetGroupArn"

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        kind.noun: kind
        for kind in (
            Kind("Schema", "schema", "Schemas", "schemas"),
            Kind("DatasetGroup", "datasetGroup", "DatasetGroups", "datasetGroups"),
            Kind("Dataset", "dataset", "Datasets", "datasets", _GROUP),
            Kind(
                "DatasetImportJob",
                "datasetImportJob",
                "DatasetImportJobs",
                "datasetImportJobs",
                "datasetArn",
                "jobName",
            ),
            Kind(
                "EventTracker",
                "eventTracker",
                "EventTrackers",
                "eventTrackers",
                _GROUP,
            ),
            Kind("Solution", "solution", "Solutions", "solutions", _GROUP),
            Kind(
                "SolutionVersion",
                "solutionVersion",
                "SolutionVersions",
                "solutionVersions",
                "solutionArn",
            ),
            Kind("Campaign", "campaign", "Campaigns", "campaigns", "solutionArn"),
            Kind("Filter", "filter", "Filters", "Filters", _GROUP),
        )
    }
)


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
    shape = operations()[f"List{kind.plural}"].output.members[kind.listed].member
    return _members(shape, resource, now, step)


def _members(shape: Any, resource: Resource, now: float, step: float) -> dict[str, Any]:
    status = resource.status(now, step)
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
