"""The TaskManagers of a version: started before those of the former version end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping

from deploy.local import flink_cluster, flink_workers, process
from deploy.local.flink import FlinkError, FlinkRest
from deploy.local.flink_workers import TASKMANAGER, Workers
from deploy.local.settings import LocalSettings
from deploy.upgrades.target import TargetError

POLL_SECONDS = 0.05
STOP_SECONDS = 3.0
"""For a TaskManager to stop; then it is killed, which loses nothing: its job has ended."""


class LocalWorkers:
    """One replacement of the cluster's TaskManagers."""

    def __init__(self, settings: LocalSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = {**os.environ, **environ}
        self._rest = FlinkRest.of(settings)
        self._fresh: tuple[str, ...] = ()
        self._ending: list[threading.Thread] = []

    def start(self, python_path: tuple[str, ...], parallelism: int) -> tuple[str, ...]:
        """Start as many as the parallelism needs, under unused names; returns when all have
        registered. Raises TargetError when one does not."""
        count = -(-parallelism // self._settings.task_slots)
        taken = set(process.list_running(self._settings, TASKMANAGER))
        names = tuple(
            name
            for number in range(1, len(taken) + count + 1)
            if (name := f"{TASKMANAGER}{number}") not in taken
        )[:count]
        workers = Workers(names, python_path)
        servers = flink_cluster.taskmanagers(self._settings, self._environ, workers)
        self._fresh = names
        for server in servers:
            # Children of a crashed TaskManager of that name may still run.
            process.stop(self._settings, server.name, self._settings.stop_seconds)
            process.start(self._settings, server, server.prepare(), self._environ)
        deadline = time.monotonic() + self._settings.start_seconds
        for server in servers:
            while not server.is_healthy():
                dead = not process.is_running(self._settings, server.name)
                if dead or time.monotonic() > deadline:
                    what = "died while starting" if dead else "did not register in time"
                    raise TargetError(f"{server.name} {what}. Its log: tunemesh logs {server.name}")
                time.sleep(POLL_SECONDS)
        self._python_path = python_path
        return names

    def end_all_but(self, kept: tuple[str, ...]) -> None:
        """End the other TaskManagers; returns when the JobManager offers none of their slots.

        Before that a new job could get slots of the former release. The processes may take longer
        to end (:meth:`reap`).
        """
        others = [
            name for name in process.list_running(self._settings, TASKMANAGER) if name not in kept
        ]
        flink_workers.write_workers(self._settings, Workers(kept, self._python_path))
        for name in others:
            thread = threading.Thread(
                target=process.stop, args=(self._settings, name, STOP_SECONDS), daemon=True
            )
            thread.start()
            self._ending.append(thread)
        wanted = {flink_cluster.read_resource_id(self._settings, name) for name in kept}
        deadline = time.monotonic() + self._settings.stop_seconds
        while any(entry.id not in wanted for entry in self._rest.taskmanagers()):
            if time.monotonic() > deadline:
                raise FlinkError("the former version's TaskManagers are still registered")
            time.sleep(POLL_SECONDS)

    def end_fresh(self) -> None:
        """End those that were started here."""
        for name in self._fresh:
            process.stop(self._settings, name, STOP_SECONDS)

    def reap(self) -> None:
        """Wait until the processes of the former version have ended."""
        for thread in self._ending:
            thread.join()
