"""Types of offsets, shared by :mod:`librdkafka` and :mod:`offsets_process`; no client here."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.errors import TunemeshError

Partition = tuple[str, int]
"""Topic and number of a partition."""

Offsets = Mapping[Partition, int]


class OffsetsUnavailable(TunemeshError):
    """Kafka did not answer; a later attempt may succeed."""
