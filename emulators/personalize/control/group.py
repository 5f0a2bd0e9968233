"""The data of one dataset group: what was put, what was imported, and the models that know it."""

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
from emulators.personalize.store import Call, Store, StoreReader, Written

LIVE = "live"
"""The solution version whose model is made of all that was ever put, and of nothing else."""

_Result = TypeVar("_Result")
_MOST_UNAPPLIED = 10_000
"""More events than can be on disk and not yet in the models: a commit has 256 calls of 10."""


@dataclass(slots=True)
class Deployed:
    """A model that a campaign answers from; it learns from what is put while it does."""

    model: Recommender
    seen: set[str] = field(default_factory=set)
    """Events that it learned from the disk, and that may still be told to it."""

    def observe(self, event: Event, accepted_at: int) -> None:
        """One event that was put."""
        if event.event_id in self.seen:
            self.seen.discard(event.event_id)
            return
        weight = preference(event.event_type, event.event_value)
        # A time in the future would make the item the most popular one for ever.
        self.model.observe(event.listener, event.item_id, weight, min(event.sent_at, accepted_at))


class Group:
    """Owned by one event loop; `bulk` belongs to the thread that does the work of the control
    plane. Raises sqlite3.Error when the folder cannot be used."""

    def __init__(self, resources: Resources, folder: Path, now: Callable[[], float]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.resources = resources
        self.folder = folder
        self.database = folder / "personalize.db"
        self._store = Store(self.database)
        self._reader = StoreReader(self.database)
        self.bulk = Bulk(folder / "bulk.db")
        self._bulk_reader = BulkReader(folder / "bulk.db")
        self.totals = self._reader.totals()
        self.imported = self.bulk.counts()
        """Rows of each dataset that came in bulk."""
        self.deployed: dict[str, Deployed] = {}
        """By the ARN of the campaign."""
        self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")
        self._commits = GroupCommit(
            lambda calls: self._store.write(calls, int(now() * 1000)), self._applied
        )
        self._late: list[Written] | None = None

    def use_tracking_id(self, tracking_id: str) -> None:
        """Events come with this tracking id from now on; with the empty one none can."""
        self.resources = replace(self.resources, tracking_id=tracking_id)

    async def write(self, call: Call) -> None:
        """Returns once `call` is durable and the models know of it."""
        await self._commits.submit(call)

    async def read(self, read: Callable[[StoreReader, BulkReader], _Result]) -> _Result:
        """The result of `read`, which runs in the reader's thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, read, self._reader, self._bulk_reader)

    def begin_deployment(self) -> None:
        """From now on what is put is remembered for the model that is being loaded."""
        self._late = []

    def load(self, version: str, every: Callable[[int], None] = lambda done: None) -> Deployed:
        """The model of a solution version, up to date with what is on disk; calls `every` after
        each 100,000 events. Runs in any thread."""
        if version.endswith(f"/{LIVE}"):
            trained = Trained(Recommender(), 0)
        else:
            with self._model_file(version).open("rb") as file:
                trained = pickle.load(file)  # our own file in our own folder
        reader = StoreReader(self.database)
        for item_id in reader.item_ids():
            trained.model.add_item(item_id)
        late: dict[str, None] = {}
        for number, row in enumerate(reader.interactions(trained.last_event), start=1):
            weight = preference(row.event_type, row.event_value)
            at_ms = min(row.sent_at, row.accepted_at)
            trained.model.observe(row.listener, row.item_id, weight, at_ms)
            if number % 100_000 == 0:
                every(number)
            late[row.event_id] = None
            if len(late) > _MOST_UNAPPLIED:
                del late[next(iter(late))]
        reader.close()
        return Deployed(trained.model, set(late))

    def end_deployment(self, campaign: str, deployed: Deployed) -> None:
        """Lets a campaign answer from a model that was loaded since `begin_deployment`."""
        late, self._late = self._late or [], None
        for written in late:
            _apply(written, (deployed,))
        self.deployed[campaign] = deployed

    def keep_model(self, version: str, trained: Trained) -> None:
        """Stores a trained model; durable on return. Runs in any thread."""
        file = self._model_file(version)
        file.parent.mkdir(exist_ok=True)
        new = file.with_suffix(".new")
        with new.open("wb") as stream:
            pickle.dump(trained, stream, protocol=pickle.HIGHEST_PROTOCOL)
        new.replace(file)

    def drop_model(self, version: str) -> None:
        """Removes a stored model; one that is not there is no error."""
        self._model_file(version).unlink(missing_ok=True)

    def stats(self) -> dict[str, Any]:
        """Counts of everything stored."""
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

    def _applied(self, written: Written) -> None:
        self.totals.add(written)
        if self._late is not None:
            self._late.append(written)
        _apply(written, self.deployed.values())

    def _model_file(self, version: str) -> Path:
        return self.folder / "models" / f"{version.rsplit('/', 1)[-1]}.pickle"


def _apply(written: Written, deployed: Iterable[Deployed]) -> None:
    for one in deployed:
        for item_id in written.items:
            one.model.add_item(item_id)
        for event in written.events:
            one.observe(event, written.accepted_at)
