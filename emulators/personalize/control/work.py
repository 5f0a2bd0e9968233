"""The work behind calls: imports, trainings, deployments, indexes, data deletions.

It runs in a thread of its own, one task after the other, in the order of the calls. Unfinished work
of a killed server starts again at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from emulators.personalize import store
from emulators.personalize.control import erasure, imports, training
from emulators.personalize.control.csv_rules import ImportRefused
from emulators.personalize.control.group import Group
from emulators.personalize.control.imports import ImportJob, ServerStopping
from emulators.personalize.control.lifecycle import ACTIVE, Resource
from emulators.personalize.control.schemas import Kind
from emulators.personalize.control.state import State
from emulators.personalize.control.training import TrainingRefused

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")
INTERNAL: Final = "An internal error occurred; the server's log has the details."
KINDS: Final = ("DatasetImportJob", "SolutionVersion", "Campaign", "Filter", "DataDeletionJob")


class Work:
    """Runs the work. Owned by one event loop."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = asyncio.Lock()
        self._stopped = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="work")
        self._tasks: set[asyncio.Task[None]] = set()

    def deploy_all(self, report: Callable[[int], None]) -> None:
        """Deploy every campaign that was deployed when the server stopped. Blocks."""
        state = self._state
        for campaign in state.registry.of_kind("Campaign"):
            if state.status(campaign) != "ACTIVE":
                continue
            group = state.group_of(campaign)
            version = campaign.document["solutionVersionArn"]
            group.end_deployment(campaign.arn, group.load(version, report))

    def resume(self) -> None:
        """Start unfinished work again."""
        for kind in KINDS:
            for resource in self._state.list_unfinished(kind):
                if resource.failure is None:
                    self.start(resource)
        for campaign in self._state.list_existing("Campaign"):
            if _is_updated(campaign):
                self.update(campaign)

    def start(self, resource: Resource) -> None:
        """Start the work of a resource, which is stored as unfinished."""
        self._start_task(self._run_creation(resource))

    def update(self, campaign: Resource) -> None:
        """Start the deployment of `latestCampaignUpdate`."""
        self._start_task(self._run_update(campaign))

    async def clear(self, group: Group, kind: Kind) -> None:
        """Removes all data of a dataset."""
        async with self._lock:
            await self._in_thread(lambda: group.bulk.clear(kind))
            if kind == "INTERACTIONS":
                await self._in_thread(lambda: store.clear(group.database, "events"))
            else:
                await self._in_thread(lambda: store.clear(group.database, kind.lower()))
            group.imported = await self._in_thread(group.bulk.counts)
            group.totals = await group.read(lambda reader, _: reader.totals())

    async def close(self) -> None:
        """Interrupt the work."""
        self._stopped.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)

    def _start_task(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_creation(self, resource: Resource) -> None:
        state, step = self._state, self._state.settings.step
        await asyncio.sleep(step)
        async with self._lock:
            resource.running_at = state.now()
            state.registry.put(resource)
            failure = await self._run_step(resource.arn, lambda: self._perform(resource))
        await asyncio.sleep(step)
        if state.registry.get(resource.arn) is resource:
            resource.finish(state.now(), failure)
            state.registry.put(resource)

    async def _run_update(self, campaign: Resource) -> None:
        state, step = self._state, self._state.settings.step
        update = campaign.document["latestCampaignUpdate"]
        await asyncio.sleep(step)
        async with self._lock:
            update.update(status="CREATE IN_PROGRESS", lastUpdatedDateTime=state.now())
            state.registry.put(campaign)
            version = update["solutionVersionArn"]
            failure = await self._run_step(campaign.arn, lambda: self._deploy(campaign, version))
        await asyncio.sleep(step)
        update["lastUpdatedDateTime"] = state.now()
        if failure is None:
            update["status"] = "ACTIVE"
            campaign.document.update(
                solutionVersionArn=version, minProvisionedTPS=update["minProvisionedTPS"]
            )
        else:
            update.update(status="CREATE FAILED", failureReason=failure)
        state.registry.put(campaign)

    async def _run_step(
        self, arn: str, step: Callable[[], Coroutine[None, None, None]]
    ) -> str | None:
        """Run a step; returns the reason of its failure, None for success."""
        try:
            await step()
        except (ImportRefused, TrainingRefused) as refusal:
            return str(refusal)
        except ServerStopping:
            raise asyncio.CancelledError from None
        except Exception:
            log.exception("%s failed", arn)
            return INTERNAL
        return None

    async def _perform(self, resource: Resource) -> None:
        if resource.kind == "DatasetImportJob":
            await self._import(resource)
        elif resource.kind == "SolutionVersion":
            await self._train(resource)
        elif resource.kind == "Campaign":
            await self._deploy(resource, resource.document["solutionVersionArn"])
        elif resource.kind == "DataDeletionJob":
            await self._erase_users(resource)
        else:
            await self._index_users(self._state.group_of(resource))

    async def _import(self, resource: Resource) -> None:
        state = self._state
        group = state.group_of(resource)
        dataset = state.find(resource.parent, "Dataset")
        job = ImportJob(
            arn=resource.arn,
            location=resource.document["dataSource"]["dataLocation"],
            schema=state.dataset_schema(dataset),
            mode=resource.document["importMode"],
        )
        await self._in_thread(
            lambda: imports.run_import(job, group.bulk, state.source, self._stopped.is_set)
        )
        group.imported = await self._in_thread(group.bulk.counts)
        if job.schema.kind == "INTERACTIONS" and any(
            "INTERACTIONS." in item_filter.document["filterExpression"].upper()
            for item_filter in state.list_existing("Filter", dataset.parent)
        ):
            await self._in_thread(group.bulk.index_users)

    async def _erase_users(self, resource: Resource) -> None:
        """Remove the users' rows, then train and deploy every model of the group without them."""
        state = self._state
        group = state.group_of(resource)
        location = resource.document["dataSource"]["dataLocation"]
        users = await self._in_thread(lambda: erasure.read_users(location, state.source))
        put, imported = await self._in_thread(
            lambda: erasure.erase(users, group.database, group.bulk)
        )
        group.totals.subtract(put)
        group.imported = await self._in_thread(group.bulk.counts)
        for version in state.registry.of_kind("SolutionVersion"):
            is_trained = state.status(version) == ACTIVE and not version.seeded
            if is_trained and state.group_of(version) is group:
                await self._train(version, needs_minimum=False)
        for campaign in state.registry.of_kind("Campaign"):
            if campaign.arn in group.deployed:
                await self._deploy(campaign, campaign.document["solutionVersionArn"])
        resource.document["numDeleted"] = put.users + put.events + imported

    async def _train(self, resource: Resource, *, needs_minimum: bool = True) -> None:
        group = self._state.group_of(resource)
        event_type = resource.document.get("eventType")

        def train() -> None:
            trained = training.train(
                group.bulk,
                group.database,
                event_type=event_type,
                max_interactions=self._state.settings.training_interactions,
                needs_minimum=needs_minimum,
                is_stopping=self._stopped.is_set,
            )
            group.store_model(resource.arn, trained)

        await self._in_thread(train)

    async def _deploy(self, campaign: Resource, version: str) -> None:
        group = self._state.group_of(campaign)
        group.begin_deployment()
        deployed = await self._in_thread(lambda: group.load(version))
        group.end_deployment(campaign.arn, deployed)

    async def _index_users(self, group: Group) -> None:
        await self._in_thread(lambda: store.index_users(group.database))
        await self._in_thread(group.bulk.index_users)

    async def _in_thread(self, function: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


def _is_updated(campaign: Resource) -> bool:
    update = campaign.document.get("latestCampaignUpdate")
    return update is not None and update["status"] not in ("ACTIVE", "CREATE FAILED")
