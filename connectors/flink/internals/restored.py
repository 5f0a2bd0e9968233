"""The positions of the Kafka sources of a task in the state that it was restored from.

Flink commits a source's offsets to Kafka after a checkpoint, and the last commit before a stop or a
failure often does not reach Kafka: then there seem to be unread records where there are none. The
checkpoint itself is exact. A task can read it when it opens, before its sources do: each source
reader keeps its splits under a state name of its own, each as a topic, a partition and the offset
of the next record (as Flink 2.2 and its Kafka connector write them).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from connectors.flink.internals.java_task import accessing, current_task, field, java_class
from connectors.flink.internals.version import InternalsError, check_version
from connectors.kafka.offsets import Offsets, Partition

LOG = logging.getLogger(__name__)

STATE = "SourceReaderState"
SPLIT_VERSION = 0


def restored_positions() -> Offsets | None:
    """Return the offset of the next record of each partition that the task's sources had read from.

    On the task's own thread. Empty without restored state. None where the state is not accessible:
    in process mode, and, with a line in the log, where Flink is not as expected.
    """
    try:
        task = current_task()
        if task is None:
            return None
        check_version()
        with accessing("the restored state of a task"):
            return dict(_positions(task))
    except InternalsError as error:
        LOG.warning("freshness is not exact: restored positions are not accessible: %s", error)
        return None


def _positions(task: Any) -> Iterator[tuple[Partition, int]]:
    restore = field(field(task, "taskStateManager"), "jobManagerTaskRestore")
    if restore is None:
        return
    for operator in _iterate(restore.getTaskStateSnapshot().getSubtaskStateMappings()):
        for handle in _iterate(operator.getValue().getManagedOperatorState()):
            state = handle.getStateNameToPartitionOffsets().get(STATE)
            if state is not None:
                yield from _splits(handle, state.getOffsets())


def _splits(handle: Any, starts: Any) -> Iterator[tuple[Partition, int]]:
    stream = handle.openInputStream()
    try:
        data = java_class("java.io.DataInputStream")(stream)
        for start in starts:
            stream.seek(start)
            data.readInt()  # how many bytes follow
            version = data.readInt()
            if version != SPLIT_VERSION:
                raise InternalsError(f"a split of version {version}; expected {SPLIT_VERSION}")
            data.readInt()  # how many bytes follow
            topic, partition, offset = data.readUTF(), data.readInt(), data.readLong()
            if offset >= 0:  # else a marker: earliest, latest or committed
                yield (topic, partition), offset
    finally:
        stream.close()


def _iterate(collection: Any) -> Iterator[Any]:
    iterator = collection.iterator()
    while iterator.hasNext():
        yield iterator.next()
