"""The kinds of resources: their members' names, and their answers by the service's model."""

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
    """One kind, by the service's own words.

    `noun` stands in the operations' names; `arn_member` holds its ARN; `described` is the member
    of a Describe answer; `plural` ends the List operation, and `listed` is its member. `filter` is
    the member that narrows a list to a parent.
    """

    noun: str
    described: str
    plural: str
    listed: str
    filter: str | None = None
    name_member: str = "name"

    @property
    def arn_member(self) -> str:
        """The member that holds its ARN, in requests and in answers."""
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
    """One operation that is offered: the check of its body, and the names in its answer."""

    name: str
    check: Check
    answered: Any


@cache
def operations() -> Mapping[str, Operation]:
    """All operations of the service's model, by name; those of other kinds are refused later."""
    model = botocore.session.get_session().get_service_model(SERVICE)
    found = {}
    for name in model.operation_names:
        operation = model.operation_model(name)
        shape: Any = operation.input_shape
        found[name] = Operation(name, compile_check(shape), operation.output_shape)
    return found


def target_prefix() -> str:
    """What stands before the operation's name in X-Amz-Target."""
    model = botocore.session.get_session().get_service_model(SERVICE)
    return str(model.metadata["targetPrefix"])


def described(kind: Kind, resource: Resource, now: float, step: float) -> dict[str, Any]:
    """The answer of a Describe operation."""
    shape = operations()[f"Describe{kind.noun}"].answered.members[kind.described]
    return {kind.described: _members(shape, resource, now, step)}


def summary(kind: Kind, resource: Resource, now: float, step: float) -> dict[str, Any]:
    """One entry of the answer of a List operation."""
    shape = operations()[f"List{kind.plural}"].answered.members[kind.listed].member
    return _members(shape, resource, now, step)


def _members(shape: Any, resource: Resource, now: float, step: float) -> dict[str, Any]:
    status = resource.status(now, step)
    everything: dict[str, Any] = {
        **resource.document,
        KINDS[resource.kind].arn_member: resource.arn,
        KINDS[resource.kind].name_member: resource.name,
        "status": status,
        "creationDateTime": resource.created_at,
        "lastUpdatedDateTime": resource.updated_at(now),
    }
    if resource.failure is not None:
        everything["failureReason"] = resource.failure
    return {name: everything[name] for name in shape.members if name in everything}
