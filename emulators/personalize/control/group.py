"""The data of a dataset group: put and imported records, and the deployed models."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from emulators.personalize.commits import GroupCommit
from emulators.personalize.control.bulk import Bulk, BulkReader
from emulators.personalize.control.training import Trained
from emulators.personalize.model import Recommender, preference
from emulators.personalize.rules import Event, Resources
from emulators.personalize.store import MAX_EVENTS, Call, Store, StoreReader, Written

LIVE = "live"
"""The solution version whose model consists of everything that was put, and nothing else."""

_Result = TypeVar("_Result")
_MAX_UNAPPLIED = 10_000
"""An upper bound of the events on disk but not yet in the models: a commit has 256 calls of 10."""


@dataclass(slots=True)
class Deployed:
    """The model of a campaign; it learns from the events that are put while it is deployed."""

    model: Recommender
    seen: set[str] = field(default_factory=set)
    """Events learned from disk that :meth:`observe` may receive again."""

    def observe(self, event: Event, accepted_at: int) -> None:
        """Learn from an event that was put."""
        if event.event_id in self.seen:
            self.seen.discard(event.event_id)
            return
        weight = preference(event.event_type, event.event_value)
        # A time in the future would make the item the most popular one permanently.
        self.model.observe(event.listener, event.item_id, weight, min(event.sent_at, accepted_at))


class Group:
    """The data of a dataset group, owned by one event loop.

    `bulk` belongs to the thread of imports and trainings. Raises sqlite3.Error when the folder
    cannot be used.
    """

    def __init__(
        self,
        resources: Resources,
        folder: Path,
        now: Callable[[], float],
        max_events: int = MAX_EVENTS,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.resources = resources
        self.folder = folder
        self.database = folder / "personalize.db"
        self._store = Store(self.database, max_events)
        self._reader = StoreReader(self.database)
        self.bulk = Bulk(folder / "bulk.db")
        self._bulk_reader = BulkReader(folder / "bulk.db")
        self.totals = self._reader.totals()
        self.imported = self.bulk.counts()
        """The number of imported rows of each dataset."""
        self.deployed: dict[str, Deployed] = {}
        """By the ARN of the campaign."""
        self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")
        self._commits = GroupCommit(
            lambda calls: self._store.write(calls, int(now() * 1000)), self._apply
        )
        self._writes_during_load: list[Written] | None = None

    def set_tracking_id(self, tracking_id: str) -> None:
        """Accept events with this tracking id; an empty one accepts none."""
        self.resources = replace(self.resources, tracking_id=tracking_id)

    async def write(self, call: Call) -> None:
        """Returns once `call` is durable and the models have learned from it."""
        await self._commits.submit(call)

    async def read(self, read: Callable[[StoreReader, BulkReader], _Result]) -> _Result:
        """Runs `read` in the reader's thread and returns its result."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, read, self._reader, self._bulk_reader)

    def begin_deployment(self) -> None:
        """Collect what is put until :meth:`end_deployment`, for the model that is being loaded."""
        self._writes_during_load = []

    def load(self, version: str, report: Callable[[int], None] = lambda done: None) -> Deployed:
        """Load the model of a solution version, with the events on disk.

        Calls `report` after each 100,000 events. Runs in any thread.
        """
        if version.endswith(f"/{LIVE}"):
            trained = Trained(Recommender(), 0)
        else:
            with self._model_file(version).open("rb") as file:
                trained = pickle.load(file)  # our own file in our own folder
        reader = StoreReader(self.database)
        for item_id in reader.item_ids():
            trained.model.add_item(item_id)
        latest: dict[str, None] = {}
        for number, row in enumerate(reader.interactions(trained.last_event), start=1):
            weight = preference(row.event_type, row.event_value)
            at_ms = min(row.sent_at, row.accepted_at)
            trained.model.observe(row.listener, row.item_id, weight, at_ms)
            if number % 100_000 == 0:
                report(number)
            latest[row.event_id] = None
            if len(latest) > _MAX_UNAPPLIED:
                del latest[next(iter(latest))]
        reader.close()
        return Deployed(trained.model, set(latest))

    def end_deployment(self, campaign: str, deployed: Deployed) -> None:
        """Deploy a model that was loaded since :meth:`begin_deployment` to a campaign."""
        writes, self._writes_during_load = self._writes_during_load or [], None
        for written in writes:
            _update_models(written, (deployed,))
        self.deployed[campaign] = deployed

    def store_model(self, version: str, trained: Trained) -> None:
        """Stores a trained model; durable on return. Runs in any thread."""
        file = self._model_file(version)
        file.parent.mkdir(exist_ok=True)
        new = file.with_suffix(".new")
        with new.open("wb") as stream:
            pickle.dump(trained, stream, protocol=pickle.HIGHEST_PROTOCOL)
        new.replace(file)

    def drop_model(self, version: str) -> None:
        """Removes a stored model, if it exists."""
        self._model_file(version).unlink(missing_ok=True)

    def stats(self) -> dict[str, Any]:
        """Counts of the stored data."""
        totals = self.totals
        return {
            "accepted_events": totals.events,
            "duplicates_ignored": totals.duplicates,
            "identical_ignored": totals.identical,
            "ignored_null_session": totals.null_session,
            "users": totals.users,
            "items": totals.items,
            "imported": dict(self.imported),
        }

    async def close(self) -> None:
        """Returns when everything accepted is on disk."""
        await self._commits.close()
        self._readers.shutdown()
        self._reader.close()
        self._bulk_reader.close()
        self.bulk.close()
        self._store.close()

    def _apply(self, written: Written) -> None:
        self.totals.add(written)
        if self._writes_during_load is not None:
            self._writes_during_load.append(written)
        _update_models(written, self.deployed.values())

    def _model_file(self, version: str) -> Path:
        return self.folder / "models" / f"{version.rsplit('/', 1)[-1]}.pickle"


def _update_models(written: Written, deployed: Iterable[Deployed]) -> None:
    for entry in deployed:
        for item_id in written.items:
            entry.model.add_item(item_id)
        for event in written.events:
            entry.observe(event, written.accepted_at)
