"""The state machine of upgrades: its final steps, and the state of the application then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.upgrades import journal as journals
from deploy.upgrades.journal import Journal, Step
from deploy.upgrades.machine import Change, Limits, UpgradeError, UpgradeMachine
from deploy.upgrades.orders import StuckError
from deploy.upgrades.snapshots import names_for_rollback
from deploy.upgrades.target import (
    LATEST,
    NOTHING,
    Configuration,
    Health,
    Restore,
    RestoreKind,
    Status,
    TargetError,
)
from schemas.errors import TunemeshError
from tests.support.clock import StoppedTime
from tests.support.upgrade_model import (
    DEAD_LETTERS,
    HEALTHY,
    NO_CHECKPOINT,
    QUIET,
    RESTARTING,
    SILENT,
    SLOW,
    Interrupted,
    ModelTarget,
)

OLD = Configuration("old", {"tunemesh.application": {"pipelines": "enrichment"}}, 2)
NEW = replace(OLD, release="new")
CHANGE = Change(NEW, Path("new.zip"), LATEST)


def machine(target: ModelTarget, folder: Path, lines: list[str] | None = None) -> UpgradeMachine:
    return UpgradeMachine(
        target,
        folder / "upgrades" / "app.json",
        limits=Limits(snapshot_seconds=20, change_seconds=30, poll_seconds=1, retry_seconds=10),
        report=(lines if lines is not None else []).append,
        clock=StoppedTime(1_000_000.0).clock,
    )


@pytest.fixture
def target() -> ModelTarget:
    return ModelTarget(OLD)


@pytest.fixture
def upgrades(target: ModelTarget, tmp_path: Path) -> UpgradeMachine:
    return machine(target, tmp_path)


def journal_of(upgrades: UpgradeMachine) -> Journal:
    journal = upgrades.read_journal()
    assert journal is not None
    return journal


def assert_runs(target: ModelTarget, configuration: Configuration) -> None:
    assert (target.status, target.versions[target.number]) == (Status.RUNNING, configuration)


def test_an_upgrade_to_a_healthy_version_is_done(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """Its own snapshot first; the new version is restored from the one created at the stop."""
    end = upgrades.begin(CHANGE)
    assert end.step is Step.DONE
    assert (target.status, target.number, target.versions[2]) == (Status.RUNNING, 2, NEW)
    own, service = target.saved
    assert own.name == end.snapshot
    assert (own.version, service.version) == (1, 1)
    assert target.starts == [("new", service.name)]


@pytest.mark.parametrize(
    ("status", "wanted"),
    [(Status.RUNNING, NEW), (Status.READY, NEW), (Status.READY, OLD)],
    ids=["running", "stopped", "stopped, the same once more"],
)
def test_the_new_version_restores_nothing_if_requested(
    target: ModelTarget, upgrades: UpgradeMachine, status: Status, wanted: Configuration
) -> None:
    """A stopped application, which may never have run, is changed and started with force."""
    target.status = status
    change = replace(CHANGE, wanted=wanted, force=status is Status.READY, restore=NOTHING)
    assert upgrades.begin(change).step is Step.DONE
    assert target.number == 2
    assert_runs(target, wanted)
    assert target.starts == [(wanted.release, None)]


def test_a_version_that_does_not_start_is_rolled_back_by_the_service(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """The upgrade only observes it; the reason is the service's."""
    target.fails.add("new")
    end = upgrades.begin(CHANGE)
    assert end.step is Step.ROLLED_BACK
    assert end.by_service
    assert "version 2: exit code 1" in end.why
    assert_runs(target, OLD)
    assert "roll_back" not in target.calls


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (RESTARTING, "restarted 3 times: ValueError: bad code"),
        (DEAD_LETTERS, "records became dead letters (40.0%; before the upgrade 0.2%)"),
        (SLOW, "90,000 records behind"),
        (SILENT, "nothing has been delivered"),
        (NO_CHECKPOINT, "0 of 1 checkpoints completed"),
        (replace(HEALTHY, running=False), "not all of its tasks run"),
        (None, "did not start"),
    ],
    ids=["restarts", "dead letters", "lag", "silence", "no checkpoint", "not running", "no start"],
)
def test_a_version_that_does_not_work_is_rolled_back(
    target: ModelTarget, tmp_path: Path, health: Health | None, reason: str
) -> None:
    """RUNNING is not enough: five conditions are checked, and the reason is reported.

    Without a start the application is READY with the new code, if the service does not roll back.
    """
    target.health_of["new"] = health or HEALTHY
    if health is None:
        target.fails.add("new")
        target.system_rollback = False
    lines: list[str] = []
    end = machine(target, tmp_path, lines).begin(CHANGE)
    assert end.step is Step.ROLLED_BACK
    assert reason in end.why
    assert_runs(target, OLD)
    # From the newest state that the former version left.
    assert target.starts[-1] == ("old", target.saved[-1].name)
    assert any(reason in line for line in lines)


@pytest.mark.parametrize(
    ("present", "step", "reasons"),
    [
        # The producers have stopped: there is nothing to deliver.
        ({"health_of": {"old": HEALTHY, "new": QUIET}}, Step.DONE, ()),
        # ResourceInUseException is temporary.
        ({"busy": 3}, Step.DONE, ()),
        # The service accepts a rollback in the middle of an update.
        ({"hangs": {"new"}}, Step.ROLLED_BACK, ("still UPDATING after 30 s",)),
        # Nothing is changed; the message names the way without a snapshot.
        ({"no_snapshot": {"old"}}, Step.ABANDONED, ("failed", "--force")),
    ],
    ids=["no input", "busy", "hangs", "no snapshot"],
)
def test_the_end_of_an_upgrade(
    target: ModelTarget,
    upgrades: UpgradeMachine,
    present: dict[str, Any],
    step: Step,
    reasons: tuple[str, ...],
) -> None:
    """Its step and reasons, and the version that runs then."""
    for name, value in present.items():
        setattr(target, name, value)
    end = upgrades.begin(CHANGE)
    assert end.step is step
    assert [reason for reason in reasons if reason not in end.why] == []
    assert_runs(target, NEW if step is Step.DONE else OLD)
    assert (target.number == 1) is (step is Step.ABANDONED)


def test_the_former_version_does_not_restore_a_snapshot_of_the_new_one(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """The service's own rollback would restore the last one, so it is not used."""
    end = upgrades.begin(CHANGE)
    target.create_snapshot("made-by-new")
    target.list_snapshots()
    back = upgrades.roll_back(end, "the users do not like it")
    assert back.step is Step.ROLLED_BACK
    assert "roll_back" not in target.calls
    assert target.starts[-1] in [("old", s.name) for s in target.saved if s.version == 1]


def test_with_force_no_snapshot_is_created_and_the_last_one_is_restored(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """No snapshot can be created of a version that restarts in a loop."""
    target._save("yesterday")
    target.health_of = {"old": RESTARTING, "new": HEALTHY}
    target.no_snapshot.add("old")
    change = replace(CHANGE, force=True, restore=Restore(RestoreKind.CUSTOM, "yesterday"))
    end = upgrades.begin(change)
    assert end.step is Step.DONE
    assert_runs(target, NEW)
    assert target.starts == [("new", "yesterday")]
    assert "create_snapshot" not in target.calls
    assert names_for_rollback(end) == {"yesterday"}


def test_an_application_that_did_not_run_is_rolled_back_to_stopped(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """Its former configuration does not start either; another attempt is possible."""
    target.status = Status.READY
    target.fails = {"new", "old"}
    change = replace(CHANGE, force=True, restore=NOTHING)
    end = upgrades.begin(change)
    assert end.step is Step.ROLLED_BACK
    assert "the new version did not start: version 2: exit code 1" in end.why
    assert (target.status, target.versions[target.number]) == (Status.READY, OLD)
    target.fails = {"old"}
    assert upgrades.begin(change).step is Step.DONE


def test_force_replaces_a_rollback_that_cannot_be_carried_out(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """Neither version starts; a third one does."""
    target.system_rollback = False
    target.fails = {"new", "old"}
    with pytest.raises(StuckError, match="--force"):
        upgrades.begin(CHANGE)
    third = replace(OLD, release="third")
    with pytest.raises(UpgradeError, match="is not finished"):
        upgrades.begin(replace(CHANGE, wanted=third))
    end = upgrades.begin(replace(CHANGE, wanted=third, force=True, restore=NOTHING))
    assert end.step is Step.DONE
    assert_runs(target, third)


def test_a_target_that_keeps_the_new_version_does_not_count_as_a_rollback(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """The former version's client cannot be prepared: the new one runs on, which is reported."""
    target.health_of = {"old": HEALTHY, "new": RESTARTING}
    target.keeps = True
    with pytest.raises(StuckError, match=r"\(new\) and could not be rolled back to old"):
        upgrades.begin(CHANGE)
    assert target.calls.count("roll_back") == upgrades.limits.max_starts
    target.keeps = False
    assert upgrades.roll_back(journal_of(upgrades), "again").step is Step.ROLLED_BACK
    assert target.versions[target.number] == OLD


def test_without_a_snapshot_of_the_former_version_nothing_is_stopped(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """Its snapshots were deleted: it must not silently start without its state."""
    end = upgrades.begin(CHANGE)
    target.create_snapshot("of-new")
    target.list_snapshots()
    target.saved = [s for s in target.saved if s.version != 1]
    with pytest.raises(StuckError, match=r"version 1 \(old\) exists any more.*--rebuild"):
        upgrades.roll_back(end, "requested")
    assert_runs(target, NEW)
    assert "stop" not in target.calls


def test_a_finished_upgrade_is_rolled_back_with_the_present_state(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """By another upgrade, whose snapshot is created before its journal."""
    end = upgrades.roll_back_keeping_state(
        upgrades.begin(CHANGE), replace(CHANGE, wanted=OLD, release=None)
    )
    assert (end.step, end.wanted) == (Step.DONE, OLD)
    assert_runs(target, OLD)
    assert "roll_back" not in target.calls
    assert [s.version for s in target.saved if s.name == end.snapshot] == [2]


def test_an_upgrade_to_a_version_that_restarts_is_rolled_back_without_its_state(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """It started to do so after the upgrade was done: no snapshot can be created."""
    done = upgrades.begin(CHANGE)
    target.health_of = {"new": RESTARTING}
    target.no_snapshot.add("new")
    end = upgrades.roll_back_keeping_state(done, replace(CHANGE, wanted=OLD, release=None))
    assert end.step is Step.ROLLED_BACK
    assert "failed" in end.why
    assert_runs(target, OLD)
    assert target.starts[-1] in [("old", s.name) for s in target.saved if s.version == 1]


class ChangedTarget(ModelTarget):
    """Another client changes it before a call of the first or of the second version."""

    def __init__(self, at: int, change: Configuration) -> None:
        super().__init__(OLD)
        self.at, self.change = at, change

    def _order(self, name: str, effect: Callable[[], None]) -> None:
        self._change(1, name == "update")
        super()._order(name, effect)

    def read_health(self) -> Health:
        self._change(2, True)
        return super().read_health()

    def _change(self, at: int, happens: bool) -> None:
        if self.at == at == self.number and happens:
            self.number, self.versions[at + 1] = at + 1, self.change


@pytest.mark.parametrize("at", [1, 2], ids=["before the order", "during verification"])
def test_another_clients_change_is_not_undone(tmp_path: Path, at: int) -> None:
    """It is neither reported as done nor rolled back."""
    other = replace(NEW, parallelism=8)
    target = ChangedTarget(at, other)
    end = machine(target, tmp_path).begin(CHANGE)
    assert end.step is Step.ABANDONED
    assert "another client has changed app" in end.why
    assert target.versions[target.number] == other
    assert "roll_back" not in target.calls


def test_without_an_answer_of_the_target_verification_is_done_later(tmp_path: Path) -> None:
    """Expired credentials are no statement about the version, and prevent orders too."""
    expired = True

    class SilentTarget(ModelTarget):
        def read_health(self) -> Health:
            if self.number == 2 and expired:
                raise TargetError("ExpiredTokenException")
            return super().read_health()

    target = SilentTarget(OLD)
    with pytest.raises(TargetError, match="ExpiredToken"):
        machine(target, tmp_path).begin(CHANGE)
    expired = False
    journal = journal_of(machine(target, tmp_path))
    assert journal.step is Step.VERIFY
    assert machine(target, tmp_path).resume(journal).step is Step.DONE


@pytest.mark.parametrize(
    ("status", "wanted", "message"),
    [
        (Status.RUNNING, OLD, "runs old with these settings already"),
        (Status.READY, NEW, "only a running application"),
    ],
)
def test_an_upgrade_without_a_change_or_a_running_application_is_refused(
    target: ModelTarget,
    upgrades: UpgradeMachine,
    status: Status,
    wanted: Configuration,
    message: str,
) -> None:
    """Of a stopped application no snapshot can be created."""
    target.status = status
    with pytest.raises(UpgradeError, match=message):
        upgrades.begin(replace(CHANGE, wanted=wanted))


def test_old_snapshots_are_deleted_and_its_own_is_kept(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """The service never deletes one."""
    for _ in range(6):
        target._save("service")
    end = upgrades.begin(replace(CHANGE, keep=1))
    assert end.step is Step.DONE
    # The newest is the one created at the stop.
    assert len(target.saved) == 2
    assert end.snapshot in [s.name for s in target.saved]


def test_a_former_version_that_does_not_start_is_reported_with_the_next_steps(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """And the rollback can be tried again."""
    target.fails = {"new", "old"}
    target.system_rollback = False
    with pytest.raises(StuckError, match="tunemesh deploy rollback"):
        upgrades.begin(CHANGE)
    assert [release for release, _ in target.starts].count("old") == upgrades.limits.max_starts
    journal = journal_of(upgrades)
    assert journal.step is Step.ROLL_BACK
    target.fails = set()
    end = upgrades.roll_back(journal, "again")
    assert end.step is Step.ROLLED_BACK
    assert_runs(target, OLD)


def test_a_second_upgrade_is_refused_until_the_first_has_ended(
    target: ModelTarget, upgrades: UpgradeMachine
) -> None:
    """The message names the unfinished one, and how to continue it or roll it back."""
    target.interrupt_at = 6
    with pytest.raises(Interrupted):
        upgrades.begin(CHANGE)
    target.interrupt_at = None
    with pytest.raises(UpgradeError, match="an upgrade to new is not finished"):
        upgrades.begin(replace(CHANGE, wanted=replace(OLD, release="newer")))


ENDS: dict[str, Callable[[ModelTarget], None]] = {
    "healthy": lambda target: None,
    "unhealthy": lambda target: target.health_of.update(new=RESTARTING),
    "does not start": lambda target: target.fails.add("new"),
    "hangs": lambda target: target.hangs.add("new"),
    "does not start, no rollback": lambda target: (
        target.fails.add("new") or setattr(target, "system_rollback", False)  # type: ignore[func-returns-value]
    ),
}


BY_FORCE = replace(CHANGE, force=True, restore=NOTHING)


@pytest.mark.parametrize("change", [CHANGE, BY_FORCE], ids=["with a snapshot", "by force"])
@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
@pytest.mark.parametrize("prepare", ENDS.values(), ids=ENDS)
def test_a_client_may_be_interrupted_at_any_call(
    tmp_path: Path, prepare: Callable[[ModelTarget], None], after: bool, change: Change
) -> None:
    """The next one continues, and ends like an uninterrupted one, without repeating an order."""
    reference = ModelTarget(OLD)
    prepare(reference)
    expected = machine(reference, tmp_path / "reference").begin(change).step
    for number in range(1, len(reference.calls) + 1):
        target = ModelTarget(OLD, interrupt_at=number, interrupt_after=after)
        prepare(target)
        upgrades = machine(target, tmp_path / f"{number}")
        with pytest.raises(Interrupted):
            upgrades.begin(change)
        target.interrupt_at = None
        journal = upgrades.read_journal()
        if journal is None:  # no upgrade was started
            assert target.number == 1
            continue
        again = machine(target, tmp_path / f"{number}")
        assert again.resume(journal).step is expected, f"interrupted at call {number}"
        assert target.status is Status.RUNNING
        assert target.versions[target.number] == reference.versions[reference.number]
        assert target.number == reference.number
        names = [s.name for s in target.saved]
        assert len(names) == len(set(names))


def test_a_journal_is_read_as_it_was_written(target: ModelTarget, upgrades: UpgradeMachine) -> None:
    """A new client has no other information."""
    end = upgrades.begin(CHANGE)
    assert upgrades.read_journal() == end
    assert isinstance(end, Journal)


def test_a_broken_journal_is_one_message(tmp_path: Path) -> None:
    """It names the file, and what to do next."""
    file = tmp_path / "app.json"
    file.write_text('{"target": "local"}')
    with pytest.raises(TunemeshError, match=r"app\.json cannot be read"):
        journals.read(file)
