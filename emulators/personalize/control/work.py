"""What goes on after a call was answered: imports, trainings, deployments, indexes.

One piece of work at a time, in the order of the calls, in a thread of its own. What was begun when
the server was killed is begun anew when it starts.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from emulators.personalize import store
from emulators.personalize.control import imports, training
from emulators.personalize.control.csv_rules import ImportRefused
from emulators.personalize.control.group import Group
from emulators.personalize.control.imports import ImportJob, Stopped
from emulators.personalize.control.lifecycle import Resource
from emulators.personalize.control.schemas import Kind
from emulators.personalize.control.state import State
from emulators.personalize.control.training import TrainingRefused

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")
INTERNAL: Final = "An internal error occurred; the server's log has the details."
KINDS: Final = ("DatasetImportJob", "SolutionVersion", "Campaign", "Filter")


class Work:
    """Owned by one event loop."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._turn = asyncio.Lock()
        self._stopped = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="work")
        self._tasks: set[asyncio.Task[None]] = set()

    def deploy_all(self, every: Callable[[int], None]) -> None:
        """Lets every campaign answer that did before the server was stopped. Blocks."""
        state = self._state
        for campaign in state.registry.of_kind("Campaign"):
            if state.status(campaign) != "ACTIVE":
                continue
            group = state.group_of(campaign)
            version = campaign.document["solutionVersionArn"]
            group.end_deployment(campaign.arn, group.load(version, every))

    def resume(self) -> None:
        """Begins anew what was not finished."""
        for kind in KINDS:
            for resource in self._state.unfinished(kind):
                if resource.failure is None:
                    self.start(resource)
        for campaign in self._state.alive("Campaign"):
            if _is_updated(campaign):
                self.update(campaign)

    def start(self, resource: Resource) -> None:
        """Begins the work behind a resource, which is stored as unfinished."""
        self._go(self._create(resource))

    def update(self, campaign: Resource) -> None:
        """Begins the deployment behind `latestCampaignUpdate`."""
        self._go(self._update(campaign))

    async def clear(self, group: Group, kind: Kind) -> None:
        """Removes all data of a dataset."""
        async with self._turn:
            await self._in_thread(lambda: group.bulk.clear(kind))
            if kind == "INTERACTIONS":
                await self._in_thread(lambda: store.clear(group.database, "events"))
            else:
                await self._in_thread(lambda: store.clear(group.database, kind.lower()))
            group.imported = await self._in_thread(group.bulk.counts)
            group.totals = await group.read(lambda reader, _: reader.totals())

    async def close(self) -> None:
        """Ends the work where it stands."""
        self._stopped.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)

    def _go(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _create(self, resource: Resource) -> None:
        state, step = self._state, self._state.settings.step
        await asyncio.sleep(step)
        async with self._turn:
            resource.running_at = state.now()
            state.registry.put(resource)
            failure = await self._outcome(resource.arn, lambda: self._do(resource))
        await asyncio.sleep(step)
        if state.registry.get(resource.arn) is resource:
            resource.finish(state.now(), failure)
            state.registry.put(resource)

    async def _update(self, campaign: Resource) -> None:
        state, step = self._state, self._state.settings.step
        update = campaign.document["latestCampaignUpdate"]
        await asyncio.sleep(step)
        async with self._turn:
            update.update(status="CREATE IN_PROGRESS", lastUpdatedDateTime=state.now())
            state.registry.put(campaign)
            version = update["solutionVersionArn"]
            failure = await self._outcome(campaign.arn, lambda: self._deploy(campaign, version))
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

    async def _outcome(self, arn: str, do: Callable[[], Coroutine[None, None, None]]) -> str | None:
        """Why it failed, None when it did not."""
        try:
            await do()
        except (ImportRefused, TrainingRefused) as refusal:
            return str(refusal)
        except Stopped:
            raise asyncio.CancelledError from None
        except Exception:
            log.exception("%s failed", arn)
            return INTERNAL
        return None

    async def _do(self, resource: Resource) -> None:
        if resource.kind == "DatasetImportJob":
            await self._import(resource)
        elif resource.kind == "SolutionVersion":
            await self._train(resource)
        elif resource.kind == "Campaign":
            await self._deploy(resource, resource.document["solutionVersionArn"])
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
            lambda: imports.run(job, group.bulk, state.source, self._stopped.is_set)
        )
        group.imported = await self._in_thread(group.bulk.counts)
        if job.schema.kind == "INTERACTIONS" and any(
            "INTERACTIONS." in one.document["filterExpression"].upper()
            for one in state.alive("Filter", dataset.parent)
        ):
            await self._in_thread(group.bulk.index_users)

    async def _train(self, resource: Resource) -> None:
        group = self._state.group_of(resource)
        event_type = resource.document.get("eventType")
        most = self._state.settings.training_interactions

        def train() -> None:
            trained = training.train(
                group.bulk,
                group.database,
                event_type=event_type,
                most=most,
                stopped=self._stopped.is_set,
            )
            group.keep_model(resource.arn, trained)

        await self._in_thread(train)

    async def _deploy(self, campaign: Resource, version: str) -> None:
        group = self._state.group_of(campaign)
        group.begin_deployment()
        deployed = await self._in_thread(lambda: group.load(version))
        group.end_deployment(campaign.arn, deployed)

    async def _index_users(self, group: Group) -> None:
        await self._in_thread(lambda: store.index_users(group.database))
        await self._in_thread(group.bulk.index_users)

    async def _in_thread(self, do: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, do)


def _is_updated(campaign: Resource) -> bool:
    update = campaign.document.get("latestCampaignUpdate")
    return update is not None and update["status"] not in ("ACTIVE", "CREATE FAILED")
