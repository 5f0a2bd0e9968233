"""Compares the compiled plans of two versions: does the state of one fit the other? Pure.

State belongs to operators by their uids, and a uid is derived from a node's number and type in the
compiled plan. Every package has the fingerprints of its plans in release.json
(:mod:`deploy.package.release`): for each operator with state, a hash over everything that the state
depends on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from deploy.package.release import PlanDescription


class Fit(StrEnum):
    """How the state of one plan fits another."""

    SAME = "same"
    """The plans are identical."""
    COMPATIBLE = "compatible"
    """Every operator with state exists in the new plan; new operators start without state."""
    REBUILD = "rebuild"
    """Some state has no operator in the new plan, or would be decoded with another layout."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison; ``reasons`` name operators by their uids."""

    fit: Fit
    reasons: tuple[str, ...] = ()


def compare_plans(running: PlanDescription, new: PlanDescription) -> Comparison:
    """Return how the state of ``running`` fits ``new``."""
    if running.sha256 == new.sha256:
        return Comparison(Fit.SAME)
    reasons = (
        *(f"{uid} is not in the new plan" for uid in running.operators if uid not in new.operators),
        *(
            f"{uid} has other state in the new plan"
            for uid, fingerprint in running.operators.items()
            if new.operators.get(uid, fingerprint) != fingerprint
        ),
    )
    if reasons:
        return Comparison(Fit.REBUILD, reasons)
    added = tuple(
        f"{uid} is new and starts without state"
        for uid in new.operators
        if uid not in running.operators
    )
    return Comparison(Fit.COMPATIBLE, added)
