"""Whether the state that a version leaves fits the plan of the next one. Pure.

State belongs to operators by their uids, and a uid comes from a node's number and type in the
compiled plan. Every package has the fingerprints of its plans in release.json
(:mod:`deploy.package.release`): of each operator that keeps something, a hash over all that its
state depends on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from deploy.package.release import PlanDescription


class Fit(StrEnum):
    """How the state of one plan fits another."""

    SAME = "same"
    """The same plan."""
    COMPATIBLE = "compatible"
    """Every operator with state is there again; new ones begin without."""
    REBUILD = "rebuild"
    """State would have no operator, or would be read as something else."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict; ``reasons`` name operators by their uids."""

    fit: Fit
    reasons: tuple[str, ...] = ()


def compare(running: PlanDescription, new: PlanDescription) -> Comparison:
    """What becomes of the state of ``running`` under ``new``."""
    if running.sha256 == new.sha256:
        return Comparison(Fit.SAME)
    gone = [uid for uid in running.operators if uid not in new.operators]
    changed = [
        uid
        for uid, fingerprint in running.operators.items()
        if uid in new.operators and new.operators[uid] != fingerprint
    ]
    reasons = (
        *(f"{uid} is not in the new plan" for uid in gone),
        *(f"{uid} keeps something else in the new plan" for uid in changed),
    )
    if reasons:
        return Comparison(Fit.REBUILD, reasons)
    added = tuple(
        f"{uid} is new and begins without state"
        for uid in new.operators
        if uid not in running.operators
    )
    return Comparison(Fit.COMPATIBLE, added)
