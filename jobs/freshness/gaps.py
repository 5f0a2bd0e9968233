"""Offsets that are no records: a position before them has nothing left to read.

A transaction ends with a marker, an aborted one leaves its records, compaction and retention leave
gaps. A reader never sees these offsets, so its position stays before them. Exact: Kafka is asked
for the first record at the position or later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from connectors.kafka.offsets import Offsets, Partition

UNMOVED_SECONDS = 0.3
"""A position before the end that has not moved for so long is looked into. Longer than a record
takes to settle: a plain update costs no question, which would delay the poll and count as
overload."""


class _Gap(NamedTuple):
    """Offsets of a partition without records, from a reader's position on."""

    begin: int
    end: int


class Gaps:
    """The gaps at the present positions."""

    def __init__(self) -> None:
        self._gaps: dict[Partition, _Gap] = {}
        self._records: dict[Partition, int] = {}
        self._moved: dict[Partition, tuple[int, float]] = {}

    def reset(self) -> None:
        """Discard what is known."""
        self._gaps.clear()
        self._records.clear()
        self._moved.clear()

    def skip(self, positions: Offsets) -> dict[Partition, int]:
        """Return the positions, those before a known gap at its end."""
        return {
            partition: gap.end
            if (gap := self._gaps.get(partition)) is not None and gap.begin == position
            else position
            for partition, position in positions.items()
        }

    def unexplained(self, positions: Offsets, ends: Offsets, now: float) -> Mapping[Partition, int]:
        """Return positions before their ends that have not moved and are not known as records.

        ``positions`` are those of :meth:`skip`, ``now`` is monotonic.
        """
        result = {}
        for partition, position in positions.items():
            if position >= ends[partition] or self._records.get(partition) == position:
                continue
            moved = self._moved.get(partition)
            if moved is None or moved[0] != position:
                self._moved[partition] = (position, now)
            elif now - moved[1] >= UNMOVED_SECONDS:
                result[partition] = position
        return result

    def add(self, positions: Offsets, asked: Offsets, first_records: Offsets) -> None:
        """Note the first record at each of the positions that were asked for, or later.

        ``positions`` are the readers' own.
        """
        for partition, position in asked.items():
            record = first_records[partition]
            if record > position:
                self._gaps[partition] = _Gap(positions[partition], record)
            else:
                self._records[partition] = position
