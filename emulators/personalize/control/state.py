"""What the calls and the work behind them share: the resources, and the data of their groups."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from emulators import errors
from emulators.personalize.control import schemas, seeds
from emulators.personalize.control.group import Group
from emulators.personalize.control.kinds import KINDS
from emulators.personalize.control.lifecycle import ACTIVE, UNFINISHED, Resource
from emulators.personalize.control.registry import Registry
from emulators.personalize.control.schemas import DatasetSchema, Kind
from emulators.personalize.control.source import Source
from emulators.personalize.control.training import MOST_INTERACTIONS
from emulators.personalize.rules import Resources

STEP_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """How long a state lasts that the clock ends (seconds), and how much a model is made of."""

    step: float = STEP_SECONDS
    training_interactions: int = MOST_INTERACTIONS


@dataclass(slots=True)
class State:
    """Owned by one event loop. Opens the data of every dataset group; raises sqlite3.Error when
    the folder cannot be used."""

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
            self.registry.put(*seeds.resources(self.resources, self.now()))
        for group in self.registry.of_kind("DatasetGroup"):
            self.open_group(group)

    @property
    def default(self) -> Group:
        """The group that exists from the start."""
        return self.groups[self.resources.arn(f"dataset-group/{self.resources.name}")]

    def status(self, resource: Resource) -> str:
        """The status now."""
        return resource.status(self.now(), self.settings.step)

    def find(self, arn: str, kind: str) -> Resource:
        """The resource; raises ResourceNotFoundException."""
        found = self.registry.get(arn)
        if found is None or found.kind != kind or self.is_gone(found):
            raise errors.not_found(f"{KINDS[kind].described} {arn} does not exist.")
        return found

    def active(self, arn: str, kind: str) -> Resource:
        """The resource, which must be ACTIVE: ResourceInUseException while it is not yet,
        InvalidInputException when it never will be."""
        found = self.find(arn, kind)
        status = self.status(found)
        if kind == "Schema" or status == ACTIVE:
            return found
        message = f"{KINDS[kind].described} {arn} is {status}; it must be ACTIVE."
        if status in UNFINISHED:
            raise errors.in_use(message)
        raise errors.invalid_input(message)

    def alive(self, kind: str, parent: str | None = None) -> Iterator[Resource]:
        """The resources of a kind that are not gone, the oldest first."""
        return (one for one in self.registry.of_kind(kind, parent) if not self.is_gone(one))

    def unfinished(self, kind: str, parent: str | None = None) -> list[Resource]:
        """Those whose creation goes on."""
        return [one for one in self.alive(kind, parent) if self.status(one) in UNFINISHED]

    def is_gone(self, resource: Resource) -> bool:
        """Whether its deletion is over."""
        return resource.is_gone(self.now(), self.settings.step)

    def group_of(self, resource: Resource) -> Group:
        """The data of the dataset group that a resource belongs to."""
        if resource.kind == "DatasetImportJob":
            return self.group_of(self.find(resource.parent, "Dataset"))
        if resource.kind == "Campaign":
            return self.group_of(self.find(resource.parent, "Solution"))
        return self.groups[resource.document["datasetGroupArn"]]

    def dataset_schema(self, dataset: Resource) -> DatasetSchema:
        """The schema that a dataset has now."""
        schema = self.find(dataset.document["schemaArn"], "Schema")
        return schemas.parse(schema.document["schema"])

    def dataset(self, group_arn: str, kind: Kind) -> Resource | None:
        """A group's dataset of a type."""
        return next(
            (
                one
                for one in self.alive("Dataset", group_arn)
                if one.document["datasetType"] == kind
            ),
            None,
        )

    def group_with_tracker(self, tracking_id: str) -> Group:
        """The group that events with this tracking id belong to; the default one for an unknown
        id, which its rules then refuse. Raises InvalidInputException while it is not ACTIVE."""
        for tracker in self.alive("EventTracker"):
            if tracker.document["trackingId"] == tracking_id:
                status = self.status(tracker)
                if status != ACTIVE:
                    raise errors.invalid_input(f"The event tracker {tracker.arn} is {status}.")
                return self.groups[tracker.parent]
        return self.default

    def group_with_dataset(self, arn: str) -> Group:
        """The group of a dataset; the default one for an unknown ARN, which its rules then refuse.
        Raises ResourceInUseException while it is not ACTIVE."""
        found = self.registry.get(arn)
        if found is None or found.kind != "Dataset" or self.is_gone(found):
            return self.default
        return self.groups[self.active(arn, "Dataset").parent]

    def campaigns(self) -> dict[str, Group]:
        """The campaigns that answer, and the groups whose models they answer from."""
        return {arn: group for group in self.groups.values() for arn in group.deployed}

    def open_group(self, resource: Resource) -> Group:
        """Opens (and at first makes) the data of a dataset group."""
        of = replace(self.resources, name=resource.name)
        folder = self.folder
        if not resource.seeded:
            folder, of = self.folder / "groups" / resource.name, replace(of, tracking_id="")
            for tracker in self.registry.of_kind("EventTracker", resource.arn):
                of = replace(of, tracking_id=tracker.document["trackingId"])
        group = self.groups[resource.arn] = Group(of, folder, self.now)
        return group

    async def sweep(self) -> None:
        """Forgets what is gone, and removes the data of the dataset groups among it."""
        for kind in KINDS:
            for resource in tuple(self.registry.of_kind(kind)):
                if not self.is_gone(resource):
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
