"""Decides from health readings whether a new version works as well as the former one. Pure.

The status RUNNING is not enough: with state that does not fit, an application can be RUNNING and
restart in a loop (developer guide, "Upgrading to Flink 2.2"). So five conditions are checked:
checkpoints complete, the job does not restart, the lag drains, records are delivered, and the share
of dead letters does not grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.upgrades.target import FlowHealth, Health


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """How long a new version is observed, and what is tolerated.

    ``min_seconds``: it is observed for that long even when it is healthy, since a restart loop
    takes a while to show. ``max_seconds``: when every condition must be met.
    """

    min_seconds: float = 20.0
    max_seconds: float = 180.0
    poll_seconds: float = 2.0
    min_checkpoints: int = 1
    max_lag_records: int = 2_000
    """A lag up to this counts as drained, and so does twice the lag before the upgrade."""
    max_dead_letter_increase: float = 0.01
    """How much the share of dead letters may grow: by chance, or by a burst."""
    min_judged_records: int = 100
    """With fewer records a flow's share of dead letters is not checked."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``failure``: why the version must be rolled back, or empty. ``pending``: the conditions that
    are not met yet."""

    failure: str = ""
    pending: tuple[str, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Whether every condition is met."""
        return not self.failure and not self.pending


def judge(before: Health | None, first: Health, now: Health, settings: VerifySettings) -> Verdict:
    """Compare the health of a version ``now`` with its ``first`` reading.

    ``before``: the health of the former version; None when it did not run.
    """
    if now.restarts > 0:
        times = "once" if now.restarts == 1 else f"{now.restarts} times"
        cause = f": {now.failure}" if now.failure else ""
        return Verdict(failure=f"the job was restarted {times}{cause}")
    if failure := _check_dead_letters(before, now, settings):
        return Verdict(failure=failure)
    pending = []
    if not now.running:
        pending.append("not all of its tasks run")
    if now.checkpoints < settings.min_checkpoints:
        pending.append(f"{now.checkpoints} of {settings.min_checkpoints} checkpoints completed")
    pending += [_check_lag(before, now, settings), _check_deliveries(first, now)]
    return Verdict(pending=tuple(filter(None, pending)))


def _check_dead_letters(before: Health | None, now: Health, settings: VerifySettings) -> str:
    if before is None:
        return ""
    for name, flow in now.flows.items():
        if flow.total < settings.min_judged_records:
            continue
        former = before.flows.get(name, FlowHealth())
        share = flow.dead_letters / flow.total
        former_share = former.dead_letters / former.total if former.total else 0.0
        if share > former_share + settings.max_dead_letter_increase:
            return (
                f"{name}: {flow.dead_letters:,} of {flow.total:,} records became dead letters"
                f" ({share:.1%}; before the upgrade {former_share:.1%}). See: tunemesh dlq list"
            )
    return ""


def _check_lag(before: Health | None, now: Health, settings: VerifySettings) -> str:
    lag = _total_lag(now.flows)
    allowed = settings.max_lag_records
    if before is not None:
        allowed = max(allowed, 2 * _total_lag(before.flows))
    return f"{lag:,} records behind, at most {allowed:,} allowed" if lag > allowed else ""


def _total_lag(flows: Mapping[str, FlowHealth]) -> int:
    return sum(flow.behind or 0 for flow in flows.values())


def _check_deliveries(first: Health, now: Health) -> str:
    """Find flows with a lag that deliver nothing, or records read of which none is delivered.

    Without input no statement is possible.
    """
    stalled = [
        name
        for name, flow in now.flows.items()
        if flow.counted and flow.behind and flow.total <= first.flows.get(name, FlowHealth()).total
    ]
    if stalled:
        return f"nothing is delivered of {', '.join(stalled)}"
    has_input = any((flow.rate or 0) >= 1 for flow in now.flows.values())
    if has_input and not any(flow.delivered for flow in now.flows.values()):
        return "nothing has been delivered"
    return ""
