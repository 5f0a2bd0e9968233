"""How far the Kafka sources of a task had read in the state that it goes on from.

Flink commits a source's offsets to Kafka after a checkpoint, and the last commit before a stop or a
failure often does not get there: then it looks as if there were something to read where there is
nothing. What the checkpoint itself says is exact. A task can read it when it opens, before its
sources do: every source reader keeps its splits under a name of its own, each as a topic, a
partition and the offset of the next record (as Flink 2.2 and its Kafka connector write them).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from connectors.flink.internals.java_task import current_task, field, java_class
from connectors.kafka.offsets import Offsets, Partition

LOG = logging.getLogger(__name__)

STATE = "SourceReaderState"
SPLIT_VERSION = 0


def restored_positions() -> Offsets | None:
    """The offset of the next record of each partition that the task's sources had read from.

    On the task's own thread. Empty without restored state; None where that is not to be seen: in
    process mode, and where Flink offers no way to it, which is logged.
    """
    try:
        task = current_task()
        return None if task is None else dict(_positions(task))
    except Exception as error:  # noqa: BLE001 - whatever a JVM without the way to it says
        LOG.warning("how far the sources had read is not to be seen: %s", error)
        return None


def _positions(task: Any) -> Iterator[tuple[Partition, int]]:
    restore = field(field(task, "taskStateManager"), "jobManagerTaskRestore")
    if restore is None:
        return
    for operator in _each(restore.getTaskStateSnapshot().getSubtaskStateMappings()):
        for handle in _each(operator.getValue().getManagedOperatorState()):
            kept = handle.getStateNameToPartitionOffsets().get(STATE)
            if kept is not None:
                yield from _splits(handle, kept.getOffsets())


def _splits(handle: Any, begins: Any) -> Iterator[tuple[Partition, int]]:
    stream = handle.openInputStream()
    try:
        data = java_class("java.io.DataInputStream")(stream)
        for begin in begins:
            stream.seek(begin)
            data.readInt()  # how many bytes follow
            version = data.readInt()
            if version != SPLIT_VERSION:
                raise ValueError(f"a split of version {version}")
            data.readInt()  # how many bytes follow
            topic, partition, offset = data.readUTF(), data.readInt(), data.readLong()
            if offset >= 0:  # else one of the words: earliest, latest, committed
                yield (topic, partition), offset
    finally:
        stream.close()


def _each(collection: Any) -> Iterator[Any]:
    iterator = collection.iterator()
    while iterator.hasNext():
        yield iterator.next()
