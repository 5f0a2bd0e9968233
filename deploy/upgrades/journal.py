"""The journal of an upgrade: what was decided and which step comes next, on disk before each step.

When a client is interrupted, the next one reads the journal and the target's state, and continues.
There is one file per application: ``upgrades/<target>-<application>.json`` below the platform's
home.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from connectors.files import write_whole
from deploy.upgrades.target import Configuration, FlowHealth, Health, Restore
from schemas.errors import TunemeshError


class Step(StrEnum):
    """The steps of an upgrade; those up to PRUNE in this order."""

    SNAPSHOT = "snapshot"
    UPDATE = "update"
    REPLACE = "replace"
    """Instead of the two steps before: stop by force, update, start."""
    WAIT = "wait"
    VERIFY = "verify"
    PRUNE = "prune"
    ROLL_BACK = "roll back"
    DONE = "done"
    ROLLED_BACK = "rolled back"
    ABANDONED = "abandoned"
    """Ended: the application was not changed, or another client has changed it meanwhile."""


FINAL_STEPS = frozenset({Step.DONE, Step.ROLLED_BACK, Step.ABANDONED})


@dataclass(frozen=True, slots=True)
class Journal:
    """One upgrade."""

    target: str
    application: str
    began: float
    """Seconds since the epoch."""
    step: Step
    base: int
    """The version that the upgrade starts from."""
    former: Configuration
    wanted: Configuration
    release: str | None
    """The zip or folder of the new code; None: code that the target has."""
    restore: Restore
    snapshot: str
    """The name of the snapshot that is created first; empty: none is."""
    before: Health | None
    keep: int
    why: str = ""
    """Why the upgrade was rolled back or abandoned."""
    by_service: bool = False
    """Whether the target rolled back by its own rules."""
    forced: bool = False
    """The former version was stopped by force, without a snapshot."""
    stopped: bool = False
    """The application did not run when the upgrade started."""
    since: float = 0.0
    """When the present step started, seconds since the epoch."""
    reverts: bool = False
    """Whether it returns from the upgrade before it and keeps the present state."""

    @property
    def is_ended(self) -> bool:
        """Whether no step remains."""
        return self.step in FINAL_STEPS

    @property
    def upgrade_to(self) -> str:
        """The release of the last upgrade, which this one may revert."""
        return (self.former if self.reverts else self.wanted).release

    @property
    def upgrade_step(self) -> Step:
        """The step that the last upgrade has reached, which this one may revert."""
        if not self.reverts:
            return self.step
        if not self.is_ended:
            return Step.ROLL_BACK
        # A reversion that did not succeed leaves the upgrade as it was.
        return Step.ROLLED_BACK if self.step is Step.DONE else Step.DONE


def read(file: Path) -> Journal | None:
    """Return the journal of a file, None without one; raises TunemeshError for an invalid one."""
    try:
        return _decode(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise TunemeshError(
            f"the journal {file} cannot be read ({type(error).__name__}: {error}). Check the"
            " application (tunemesh deploy status); if it works as expected, remove the file"
        ) from error


def write(file: Path, journal: Journal) -> None:
    """Write a journal atomically."""
    write_whole(file, json.dumps(_encode(journal), indent=1))


def _encode(journal: Journal) -> dict[str, Any]:
    fields = asdict(journal)
    if journal.before is not None:
        flows = fields["before"]["flows"]
        fields["before"]["flows"] = {name: list(flow.values()) for name, flow in flows.items()}
    return fields


def _decode(fields: dict[str, Any]) -> Journal:
    if fields["before"] is not None:
        flows = fields["before"]["flows"]
        fields["before"]["flows"] = {name: FlowHealth(*values) for name, values in flows.items()}
    return TypeAdapter(Journal).validate_python(fields)
