"""What an upgrade has decided and how far it has come, on disk before each step.

A client that is interrupted leaves it behind; the next one reads it, looks at the target and goes
on. One file an application: ``upgrades/<target>-<application>.json`` below the platform's home.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from connectors.files import write_whole
from deploy.upgrades.target import Configuration, FlowHealth, Health, Restore, RestoreKind
from schemas.errors import TunemeshError


class Step(StrEnum):
    """The steps of an upgrade; those up to PRUNE in this order."""

    SNAPSHOT = "snapshot"
    UPDATE = "update"
    REPLACE = "replace"
    """Instead of the two before it: stopped by force, changed, started."""
    WAIT = "wait"
    VERIFY = "verify"
    PRUNE = "prune"
    ROLL_BACK = "roll back"
    DONE = "done"
    ROLLED_BACK = "rolled back"
    ABANDONED = "abandoned"
    """Ended: the application was not touched, or somebody else has changed it meanwhile."""


ENDED = frozenset({Step.DONE, Step.ROLLED_BACK, Step.ABANDONED})


@dataclass(frozen=True, slots=True)
class Journal:
    """One upgrade."""

    target: str
    application: str
    began: float
    """Seconds since the epoch."""
    step: Step
    base: int
    """The version that it begins with."""
    former: Configuration
    wanted: Configuration
    release: str | None
    """The zip or folder of the new code; None: code that the target has."""
    restore: Restore
    snapshot: str
    """The name of the snapshot that is made first; empty: none is."""
    before: Health | None
    keep: int
    why: str = ""
    """Why it was rolled back or abandoned."""
    by_service: bool = False
    """It was the target that rolled back."""
    forced: bool = False
    """It began without a snapshot of the former version, which was stopped by force."""
    stopped: bool = False
    """The application did not run when it began."""
    since: float = 0.0
    """When the present step began, seconds since the epoch."""

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.step in ENDED

    def at(self, step: Step, now: float, why: str | None = None) -> Journal:
        """The same at another step."""
        return replace(self, step=step, since=now, why=self.why if why is None else why)


def read(file: Path) -> Journal | None:
    """The journal of a file; None where there is none. Raises TunemeshError for a broken one."""
    try:
        return _decoded(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise TunemeshError(
            f"the journal {file} cannot be read ({type(error).__name__}: {error}). Look at the"
            " application (tunemesh deploy status); when it does what it should, remove the file"
        ) from error


def write(file: Path, journal: Journal) -> None:
    """Write a journal, whole or not at all."""
    write_whole(file, json.dumps(_encoded(journal), indent=1))


def _encoded(journal: Journal) -> dict[str, Any]:
    return {
        "target": journal.target,
        "application": journal.application,
        "began": journal.began,
        "step": journal.step.value,
        "since": journal.since,
        "base": journal.base,
        "former": journal.former.as_json(),
        "wanted": journal.wanted.as_json(),
        "release": journal.release,
        "restore": {"kind": journal.restore.kind.value, "snapshot": journal.restore.snapshot},
        "snapshot": journal.snapshot,
        "before": None if journal.before is None else _health(journal.before),
        "keep": journal.keep,
        "why": journal.why,
        "by_service": journal.by_service,
        "forced": journal.forced,
        "stopped": journal.stopped,
    }


def _decoded(value: Mapping[str, Any]) -> Journal:
    before = value["before"]
    return Journal(
        target=value["target"],
        application=value["application"],
        began=value["began"],
        step=Step(value["step"]),
        since=value["since"],
        base=value["base"],
        former=Configuration.from_json(value["former"]),
        wanted=Configuration.from_json(value["wanted"]),
        release=value["release"],
        restore=Restore(RestoreKind(value["restore"]["kind"]), value["restore"]["snapshot"]),
        snapshot=value["snapshot"],
        before=None if before is None else _health_of(before),
        keep=value["keep"],
        why=value["why"],
        by_service=value["by_service"],
        forced=value.get("forced", False),
        stopped=value.get("stopped", False),
    )


def _health(health: Health) -> dict[str, Any]:
    return {
        "running": health.running,
        "restarts": health.restarts,
        "checkpoints": health.checkpoints,
        "failure": health.failure,
        "flows": {
            name: [flow.delivered, flow.dead_letters, flow.behind, flow.rate, flow.counted]
            for name, flow in health.flows.items()
        },
    }


def _health_of(value: Mapping[str, Any]) -> Health:
    return Health(
        running=value["running"],
        restarts=value["restarts"],
        checkpoints=value["checkpoints"],
        failure=value["failure"],
        flows={name: FlowHealth(*figures) for name, figures in value["flows"].items()},
    )
