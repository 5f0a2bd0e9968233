"""Whether a new version does what the former one did. Pure: figures in, a verdict out.

Seen RUNNING is not enough: with state that does not fit an application can be RUNNING and restart
for ever (developer guide, "Upgrading to Flink 2.2"). So five things are looked at: checkpoints
complete, nothing restarts, the lag drains, what is delivered moves, and no more becomes dead
letters than before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.upgrades.target import FlowHealth, Health


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """How long is looked, and what is put up with.

    ``least_seconds``: looked at for that long even when all is well, since a loop of restarts takes
    a while to show. ``most_seconds``: when the last of the conditions must have come true.
    """

    least_seconds: float = 20.0
    most_seconds: float = 180.0
    poll_seconds: float = 2.0
    checkpoints: int = 1
    lag_records: int = 2_000
    """Behind by no more counts as drained, and so does twice what was behind before."""
    dead_letter_share: float = 0.01
    """By so much the share of dead letters may be above what it was: chance, and a burst."""
    judged_records: int = 100
    """A flow with fewer records is not judged by its share of dead letters."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``broken``: why the version must go, empty if nothing says so. ``missing``: what has not been
    seen yet."""

    broken: str = ""
    missing: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        """Whether everything has been seen."""
        return not self.broken and not self.missing


def judge(before: Health | None, first: Health, now: Health, settings: VerifySettings) -> Verdict:
    """The verdict on a version that looked like ``first`` and looks like ``now``.

    ``before``: the former version, None where there was none to compare with.
    """
    if now.restarts > 0:
        times = "once" if now.restarts == 1 else f"{now.restarts} times"
        cause = f": {now.failure}" if now.failure else ""
        return Verdict(broken=f"the job was restarted {times}{cause}")
    if letters := _dead_letters(before, now, settings):
        return Verdict(broken=letters)
    missing = []
    if not now.running:
        missing.append("not all of its tasks run")
    if now.checkpoints < settings.checkpoints:
        missing.append(f"{now.checkpoints} of {settings.checkpoints} checkpoints completed")
    if lag := _lag(before, now, settings):
        missing.append(lag)
    if still := _standing_still(first, now):
        missing.append(still)
    return Verdict(missing=tuple(missing))


def _dead_letters(before: Health | None, now: Health, settings: VerifySettings) -> str:
    former = before.flows if before is not None else {}
    for name, flow in now.flows.items():
        records = flow.delivered + flow.dead_letters
        if before is None or records < settings.judged_records:
            continue
        share, allowed = _share(flow), _share(former.get(name, FlowHealth()))
        if share > allowed + settings.dead_letter_share:
            return (
                f"{name}: {flow.dead_letters:,} of {records:,} records became dead letters"
                f" ({share:.1%}; before the upgrade {allowed:.1%}). See: tunemesh dlq list"
            )
    return ""


def _share(flow: FlowHealth) -> float:
    records = flow.delivered + flow.dead_letters
    return flow.dead_letters / records if records else 0.0


def _lag(before: Health | None, now: Health, settings: VerifySettings) -> str:
    behind = _behind(now.flows)
    allowed = settings.lag_records
    if before is not None:
        allowed = max(allowed, 2 * _behind(before.flows))
    if behind <= allowed:
        return ""
    return f"{behind:,} records behind, which should fall to {allowed:,}"


def _behind(flows: Mapping[str, FlowHealth]) -> int:
    return sum(flow.behind or 0 for flow in flows.values())


def _standing_still(first: Health, now: Health) -> str:
    """Flows with records to read of which nothing comes out; all of them, if records are read and
    nothing has been delivered at all. Where nothing comes in any more nothing can be said."""
    still = [
        name
        for name, flow in now.flows.items()
        if flow.counted and flow.behind and flow.delivered + flow.dead_letters
        <= (first.flows.get(name, FlowHealth()).delivered
            + first.flows.get(name, FlowHealth()).dead_letters)
    ]  # fmt: skip
    if still:
        return f"nothing is delivered of {', '.join(still)}"
    flows = any((flow.rate or 0) >= 1 for flow in now.flows.values())
    if flows and not any(flow.delivered for flow in now.flows.values()):
        return "nothing has been delivered"
    return ""
