"""Offsets of topics and groups: the words that those who ask and those who answer share."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.errors import TunemeshError

Partition = tuple[str, int]
"""Topic and number of a partition."""

Offsets = Mapping[Partition, int]


class OffsetsUnavailable(TunemeshError):
    """Kafka did not answer; the next attempt may succeed."""
