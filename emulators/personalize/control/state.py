"""The state of the control plane: the resources, and the data of the dataset groups."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from emulators import errors
from emulators.personalize.control import filters, schemas, seeds
from emulators.personalize.control.filters import Filter
from emulators.personalize.control.group import Group
from emulators.personalize.control.kinds import KINDS
from emulators.personalize.control.lifecycle import ACTIVE, UNFINISHED, Resource
from emulators.personalize.control.registry import Registry
from emulators.personalize.control.schemas import DatasetSchema, Kind
from emulators.personalize.control.source import Source
from emulators.personalize.control.training import MAX_INTERACTIONS
from emulators.personalize.rules import Resources
from emulators.personalize.store import MAX_EVENTS

STEP_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """The duration of a timed state in seconds, the number of interactions of a training, and the
    number of events of a dataset group."""

    step: float = STEP_SECONDS
    training_interactions: int = MAX_INTERACTIONS
    max_events: int = MAX_EVENTS


@dataclass(slots=True)
class State:
    """Opens the data of every dataset group. Owned by one event loop.

    Raises sqlite3.Error when the folder cannot be used.
    """

    folder: Path
    resources: Resources
    source: Source
    settings: ControlSettings = field(default_factory=ControlSettings)
    now: Callable[[], float] = time.time
    registry: Registry = field(init=False)
    groups: dict[str, Group] = field(init=False, default_factory=dict)
    """By the ARN of the dataset group."""

    def __post_init__(self) -> None:
        self.registry = Registry(self.folder / "control.db")
        if not len(self.registry):
            self.registry.put(*seeds.seed_resources(self.resources, self.now()))
        for group in self.registry.of_kind("DatasetGroup"):
            self.open_group(group)

    @property
    def default_group(self) -> Group:
        """The dataset group that exists from the start."""
        return self.groups[self.resources.arn(f"dataset-group/{self.resources.name}")]

    def status(self, resource: Resource) -> str:
        """The current status."""
        return resource.status(self.now(), self.settings.step)

    def find(self, arn: str, kind: str) -> Resource:
        """The resource; raises ResourceNotFoundException."""
        resource = self.registry.get(arn)
        if resource is None or resource.kind != kind or self.is_deleted(resource):
            raise errors.not_found(f"{KINDS[kind].described} {arn} does not exist.")
        return resource

    def find_active(self, arn: str, kind: str) -> Resource:
        """The resource, which must be ACTIVE.

        Raises ResourceInUseException while it is being created, InvalidInputException if it failed.
        """
        resource = self.find(arn, kind)
        status = self.status(resource)
        if kind == "Schema" or status == ACTIVE:
            return resource
        message = f"{KINDS[kind].described} {arn} is {status}; it must be ACTIVE."
        if status in UNFINISHED:
            raise errors.in_use(message)
        raise errors.invalid_input(message)

    def list_existing(self, kind: str, parent: str | None = None) -> Iterator[Resource]:
        """The resources of a kind that are not deleted, oldest first."""
        return (r for r in self.registry.of_kind(kind, parent) if not self.is_deleted(r))

    def list_unfinished(self, kind: str, parent: str | None = None) -> list[Resource]:
        """The resources of a kind that are being created."""
        return [r for r in self.list_existing(kind, parent) if self.status(r) in UNFINISHED]

    def is_deleted(self, resource: Resource) -> bool:
        """Whether the deletion of the resource is complete."""
        return resource.is_deleted(self.now(), self.settings.step)

    def group_of(self, resource: Resource) -> Group:
        """The data of the dataset group that a resource belongs to."""
        if resource.kind == "DatasetImportJob":
            return self.group_of(self.find(resource.parent, "Dataset"))
        if resource.kind == "Campaign":
            return self.group_of(self.find(resource.parent, "Solution"))
        return self.groups[resource.document["datasetGroupArn"]]

    def dataset_schema(self, dataset: Resource) -> DatasetSchema:
        """The current schema of a dataset."""
        schema = self.find(dataset.document["schemaArn"], "Schema")
        return schemas.parse(schema.document["schema"])

    def find_dataset(self, group_arn: str, kind: Kind) -> Resource | None:
        """The dataset of a type in a group, or None."""
        return next(
            (
                dataset
                for dataset in self.list_existing("Dataset", group_arn)
                if dataset.document["datasetType"] == kind
            ),
            None,
        )

    def parse_filter(self, expression: str, group_arn: str) -> Filter:
        """The filter of an expression for a dataset group; raises InvalidInputException."""
        items, users = (
            None if dataset is None else self.dataset_schema(dataset)
            for dataset in (
                self.find_dataset(group_arn, "ITEMS"),
                self.find_dataset(group_arn, "USERS"),
            )
        )
        return filters.parse(expression, items, users)

    def find_group_by_tracker(self, tracking_id: str) -> Group:
        """The group of the event tracker with this id.

        For an unknown id the default group, whose rules refuse the id. Raises InvalidInputException
        while the tracker is not ACTIVE.
        """
        for tracker in self.list_existing("EventTracker"):
            if tracker.document["trackingId"] == tracking_id:
                status = self.status(tracker)
                if status != ACTIVE:
                    raise errors.invalid_input(f"The event tracker {tracker.arn} is {status}.")
                return self.groups[tracker.parent]
        return self.default_group

    def find_group_by_dataset(self, arn: str) -> Group:
        """The group of a dataset.

        For an unknown ARN the default group, whose rules refuse the ARN. Raises
        ResourceInUseException while the dataset is not ACTIVE.
        """
        dataset = self.registry.get(arn)
        if dataset is None or dataset.kind != "Dataset" or self.is_deleted(dataset):
            return self.default_group
        return self.groups[self.find_active(arn, "Dataset").parent]

    def campaigns(self) -> dict[str, Group]:
        """The groups of the deployed campaigns, by the campaigns' ARNs."""
        return {arn: group for group in self.groups.values() for arn in group.deployed}

    def open_group(self, resource: Resource) -> Group:
        """Opens the data of a dataset group, which is created if it does not exist."""
        names = replace(self.resources, name=resource.name)
        folder = self.folder
        if not resource.seeded:
            folder, names = self.folder / "groups" / resource.name, replace(names, tracking_id="")
            for tracker in self.registry.of_kind("EventTracker", resource.arn):
                names = replace(names, tracking_id=tracker.document["trackingId"])
        group = self.groups[resource.arn] = Group(names, folder, self.now, self.settings.max_events)
        return group

    async def remove_deleted(self) -> None:
        """Removes deleted resources, and the data of deleted dataset groups."""
        for kind in KINDS:
            for resource in tuple(self.registry.of_kind(kind)):
                if not self.is_deleted(resource):
                    continue
                self.registry.remove(resource.arn)
                if kind == "DatasetGroup":
                    group = self.groups.pop(resource.arn)
                    await group.close()
                    shutil.rmtree(group.folder, ignore_errors=True)

    async def close(self) -> None:
        """Returns when everything accepted is on disk."""
        for group in self.groups.values():
            await group.close()
        self.registry.close()
