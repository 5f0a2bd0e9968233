"""Dead letters of back ends: changes that do not fit their contract, so they are not published.

A store may be written by other programs than the handlers, or keep a record that a later contract
does not allow. Such a change becomes a dead letter in the order of the changes, and the others are
published. It has no position on a topic: its partition is -1, and its offset numbers the change.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from connectors.clock import now_ms
from schemas.dead_letter import SourceRecord, Step, dead_letter
from schemas.invalid import InvalidRecord
from schemas.model import Contract, Role, load_contracts
from services.publishing import Message
from services.records import InvalidInput

NO_PARTITION = -1


def refused_change(
    contract: Contract,
    key: str,
    content: Mapping[str, Any] | None,
    error: InvalidInput | InvalidRecord,
    *,
    number: int,
    changed_ms: int,
) -> Message:
    """The dead letter of a change, with its content as JSON; ``number`` is its own, below 2^63.

    The message has the field and the reason. It has no value: the content, which has, is classed as
    personal data.
    """
    place = f"the field {error.field!r}" if error.field else "the record"
    record = dead_letter(
        SourceRecord(
            contract.topic,
            NO_PARTITION,
            number,
            changed_ms,
            key.encode(),
            None if content is None else json.dumps(content, default=_base64).encode(),
        ),
        Step.PUBLISH,
        error.reason,
        f"{place} does not fit the contract {contract.name} ({error.reason}). Correct the record"
        " in its store: it is published when it is written",
        now_ms(),
    )
    return Message(load_contracts().only(Role.DEAD_LETTER), key, dict(record))


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
