"""The Delete operations: their conditions, and the resources that are deleted along."""

from __future__ import annotations

from typing import Final

from emulators import errors
from emulators.personalize.control.lifecycle import ACTIVE, FAILED, Resource
from emulators.personalize.control.schemas import KINDS as DATASETS
from emulators.personalize.control.state import State
from emulators.personalize.control.work import Work

_CHILDREN: Final = {
    "DatasetGroup": ("EventTracker", "Solution", "Dataset"),
    "Solution": ("Campaign",),
}
"""The kinds that must be deleted first, by kind."""


class Deletions:
    """Owned by one event loop."""

    kinds: Final = frozenset(
        ("Schema", "DatasetGroup", "Dataset", "EventTracker", "Solution", "Campaign", "Filter")
    )

    def __init__(self, state: State, work: Work) -> None:
        self._state = state
        self._work = work

    async def delete(self, resource: Resource) -> None:
        """Begins the deletion; raises ResourceInUseException for a resource that is in use."""
        state = self._state
        if resource.seeded:
            raise errors.in_use(
                f"{resource.arn} exists from the start and cannot be deleted; stop the server and "
                "remove its data instead."
            )
        if state.status(resource) not in (ACTIVE, FAILED):
            raise errors.in_use(f"{resource.arn} is {state.status(resource)}.")
        self._check_unused(resource)
        if resource.kind == "Schema":
            state.registry.remove(resource.arn)  # a schema has no status
            return
        if resource.kind == "Dataset":
            await self._clear(resource)
        elif resource.kind == "Campaign":
            state.group_of(resource).deployed.pop(resource.arn, None)
        elif resource.kind == "Solution":
            for version in tuple(state.registry.of_kind("SolutionVersion", resource.arn)):
                state.group_of(version).drop_model(version.arn)
                state.registry.remove(version.arn)
        elif resource.kind == "EventTracker":
            state.groups[resource.parent].set_tracking_id("")
        elif resource.kind == "DatasetGroup":
            for kind in ("Filter", "DataDeletionJob"):
                for child in tuple(state.registry.of_kind(kind, resource.arn)):
                    state.registry.remove(child.arn)
        resource.deleted_at = state.now()
        state.registry.put(resource)

    def _check_unused(self, resource: Resource) -> None:
        state = self._state
        for kind in _CHILDREN.get(resource.kind, ()):
            for child in state.list_existing(kind, resource.arn):
                raise errors.in_use(f"{child.arn} must be deleted before {resource.arn}.")
        if resource.kind == "Schema":
            for dataset in state.list_existing("Dataset"):
                if dataset.document["schemaArn"] == resource.arn:
                    raise errors.in_use(f"The dataset {dataset.arn} has the schema {resource.arn}.")
        if resource.kind == "Solution" and state.list_unfinished("SolutionVersion", resource.arn):
            raise errors.in_use(f"A version of {resource.arn} is being trained.")
        if resource.kind == "Dataset":
            training = any(
                version.document["datasetGroupArn"] == resource.parent
                for version in state.list_unfinished("SolutionVersion")
            )
            erasing = state.list_unfinished("DataDeletionJob", resource.parent)
            if training or erasing or state.list_unfinished("DatasetImportJob", resource.arn):
                raise errors.in_use(
                    f"An import into {resource.arn}, a training or a data deletion is in progress."
                )

    async def _clear(self, dataset: Resource) -> None:
        kind = next(k for k in DATASETS.values() if k == dataset.document["datasetType"])
        await self._work.clear(self._state.group_of(dataset), kind)
        for job in tuple(self._state.registry.of_kind("DatasetImportJob", dataset.arn)):
            self._state.registry.remove(job.arn)
