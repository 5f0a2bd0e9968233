"""The state machine of upgrades: where it ends, whatever happens, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

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
    Restore,
    RestoreKind,
    Status,
    TargetError,
)
from schemas.errors import TunemeshError
from tests.support.clock import StoppedTime
from tests.support.upgrade_model import (
    LETTERS,
    LOOPS,
    NO_CHECKPOINT,
    QUIET,
    SILENT,
    SLOW,
    WELL,
    Interrupted,
    ModelTarget,
)

OLD = Configuration("old", {"tunemesh.application": {"pipelines": "enrichment"}}, 2)
NEW = replace(OLD, release="new")
CHANGE = Change(NEW, Path("new.zip"), LATEST)


def machine(target: ModelTarget, folder: Path, lines: list[str] | None = None) -> UpgradeMachine:
    time = StoppedTime(1_000_000.0)
    return UpgradeMachine(
        target,
        folder / "upgrades" / "app.json",
        limits=Limits(snapshot_seconds=60, change_seconds=120, poll_seconds=1, retry_seconds=10),
        report=(lines if lines is not None else []).append,
        clock=time.clock,
    )


@pytest.fixture
def target() -> ModelTarget:
    return ModelTarget(OLD)


def test_an_upgrade_that_goes_well_is_done(target: ModelTarget, tmp_path: Path) -> None:
    """Its own snapshot first; the new version goes on from the one made at the stop."""
    end = machine(target, tmp_path).begin(CHANGE)
    assert end.step is Step.DONE
    assert (target.status, target.number, target.versions[2]) == (Status.RUNNING, 2, NEW)
    own, service = target.taken
    assert own.name == end.snapshot
    assert (own.version, service.version) == (1, 1)
    assert target.starts == [("new", service.name)]


def test_the_new_version_takes_no_state_when_told_so(target: ModelTarget, tmp_path: Path) -> None:
    """A plan that does not fit the state."""
    end = machine(target, tmp_path).begin(replace(CHANGE, restore=NOTHING))
    assert end.step is Step.DONE
    assert target.starts == [("new", None)]


def test_a_version_that_does_not_start_is_rolled_back_by_the_service(
    target: ModelTarget, tmp_path: Path
) -> None:
    """Only looked at; the reason is the service's."""
    target.fails.add("new")
    end = machine(target, tmp_path).begin(CHANGE)
    assert end.step is Step.ROLLED_BACK
    assert end.by_service
    assert "version 2: exit code 1" in end.why
    assert (target.status, target.versions[target.number]) == (Status.RUNNING, OLD)
    assert "roll_back" not in target.calls


def test_a_version_that_does_not_start_is_rolled_back_by_us_where_the_service_does_not(
    target: ModelTarget, tmp_path: Path
) -> None:
    """READY with the new code: the former code again, from the newest state that it left."""
    target.fails.add("new")
    target.system_rollback = False
    end = machine(target, tmp_path).begin(CHANGE)
    assert end.step is Step.ROLLED_BACK
    assert "did not start" in end.why
    assert (target.status, target.versions[target.number]) == (Status.RUNNING, OLD)
    assert target.starts[-1] == ("old", target.taken[-1].name)


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (LOOPS, "restarted 3 times: ValueError: bad code"),
        (LETTERS, "records became dead letters (40.0%; before the upgrade 0.2%)"),
        (SLOW, "90,000 records behind"),
        (SILENT, "nothing has been delivered"),
        (NO_CHECKPOINT, "0 of 1 checkpoints completed"),
        (replace(WELL, running=False), "not all of its tasks run"),
    ],
    ids=["restarts", "dead letters", "lag", "silence", "no checkpoint", "not running"],
)
def test_a_version_that_runs_and_does_badly_is_rolled_back(
    target: ModelTarget, tmp_path: Path, health: object, reason: str
) -> None:
    """RUNNING proves nothing: five things are looked at, and the reason is told."""
    target.health_of = {"old": WELL, "new": health}  # type: ignore[dict-item]
    lines: list[str] = []
    end = machine(target, tmp_path, lines).begin(CHANGE)
    assert end.step is Step.ROLLED_BACK
    assert reason in end.why
    assert (target.status, target.versions[target.number]) == (Status.RUNNING, OLD)
    # From the state that the former version left.
    assert target.starts[-1] == ("old", target.taken[-1].name)
    assert any(reason in line for line in lines)


def test_a_version_to_which_nothing_comes_is_not_blamed(
    target: ModelTarget, tmp_path: Path
) -> None:
    """The producers have stopped meanwhile: there is nothing to deliver."""
    target.health_of = {"old": WELL, "new": QUIET}
    assert machine(target, tmp_path).begin(CHANGE).step is Step.DONE


def test_a_change_that_hangs_is_rolled_back(target: ModelTarget, tmp_path: Path) -> None:
    """The service takes a rollback in the middle of an update."""
    target.hangs.add("new")
    end = machine(target, tmp_path).begin(CHANGE)
    assert end.step is Step.ROLLED_BACK
    assert "still UPDATING after 120 s" in end.why
    assert (target.status, target.versions[target.number]) == (Status.RUNNING, OLD)


def test_a_snapshot_of_the_new_version_is_not_what_the_former_one_gets(
    target: ModelTarget, tmp_path: Path
) -> None:
    """The service's own rollback would take the last one: then the way is by hand."""
    its = machine(target, tmp_path)
    end = its.begin(CHANGE)
    target.create_snapshot("made-by-new")
    target.list_snapshots()
    back = its.roll_back(end, "the users do not like it")
    assert back.step is Step.ROLLED_BACK
    assert "roll_back" not in target.calls
    release, snapshot = target.starts[-1]
    assert release == "old"
    assert snapshot in [one.name for one in target.taken if one.version == 1]


def test_a_snapshot_that_fails_ends_it_before_anything_is_touched(
    target: ModelTarget, tmp_path: Path
) -> None:
    """No snapshot, no upgrade; and how it goes without."""
    target.no_snapshot.add("old")
    end = machine(target, tmp_path).begin(CHANGE)
    assert end.step is Step.ABANDONED
    assert "failed" in end.why
    assert "--force" in end.why
    assert (target.status, target.number) == (Status.RUNNING, 1)


def test_by_force_no_snapshot_is_made_and_the_last_one_is_gone_on_from(
    target: ModelTarget, tmp_path: Path
) -> None:
    """A version that restarts for ever can make none: its cure must not need one."""
    target._take("yesterday")
    target.health_of = {"old": LOOPS, "new": WELL}
    target.no_snapshot.add("old")
    change = replace(CHANGE, force=True, restore=Restore(RestoreKind.CUSTOM, "yesterday"))
    end = machine(target, tmp_path).begin(change)
    assert end.step is Step.DONE
    assert (target.status, target.versions[target.number]) == (Status.RUNNING, NEW)
    assert target.starts == [("new", "yesterday")]
    assert "create_snapshot" not in target.calls
    assert names_for_rollback(end) == {"yesterday"}


@pytest.mark.parametrize("wanted", [NEW, OLD], ids=["another release", "the same once more"])
def test_by_force_a_stopped_application_is_changed_and_started(
    target: ModelTarget, tmp_path: Path, wanted: Configuration
) -> None:
    """One that was submitted with a wrong setting runs for the first time."""
    target.status = Status.READY
    end = machine(target, tmp_path).begin(
        replace(CHANGE, wanted=wanted, force=True, restore=NOTHING)
    )
    assert end.step is Step.DONE
    assert (target.status, target.number) == (Status.RUNNING, 2)
    assert target.starts == [(wanted.release, None)]


def test_what_did_not_run_is_rolled_back_to_not_running(
    target: ModelTarget, tmp_path: Path
) -> None:
    """Its former configuration does not start either; the next attempt is possible."""
    target.status = Status.READY
    target.fails = {"new", "old"}
    its = machine(target, tmp_path)
    change = replace(CHANGE, force=True, restore=NOTHING)
    end = its.begin(change)
    assert end.step is Step.ROLLED_BACK
    assert "the new version did not start: version 2: exit code 1" in end.why
    assert (target.status, target.versions[target.number]) == (Status.READY, OLD)
    target.fails = {"old"}
    assert its.begin(change).step is Step.DONE


def test_a_rollback_that_cannot_be_carried_out_is_given_up_by_force(
    target: ModelTarget, tmp_path: Path
) -> None:
    """Neither version starts; a third one does."""
    target.system_rollback = False
    target.fails = {"new", "old"}
    its = machine(target, tmp_path)
    with pytest.raises(StuckError, match="--force"):
        its.begin(CHANGE)
    third = replace(OLD, release="third")
    with pytest.raises(UpgradeError, match="is not finished"):
        its.begin(replace(CHANGE, wanted=third))
    end = its.begin(replace(CHANGE, wanted=third, force=True, restore=NOTHING))
    assert end.step is Step.DONE
    assert (target.status, target.versions[target.number]) == (Status.RUNNING, third)


def test_a_target_that_keeps_the_new_version_is_not_taken_for_a_rollback(
    target: ModelTarget, tmp_path: Path
) -> None:
    """The former version's client cannot be prepared: the new one runs on, and that is said."""
    target.health_of = {"old": WELL, "new": LOOPS}
    target.keeps = True
    its = machine(target, tmp_path)
    with pytest.raises(StuckError, match=r"\(new\) and could not be rolled back to old"):
        its.begin(CHANGE)
    assert target.calls.count("roll_back") == its.limits.max_starts
    target.keeps = False
    present = its.read_journal()
    assert present is not None
    assert its.roll_back(present, "again").step is Step.ROLLED_BACK
    assert target.versions[target.number] == OLD


def test_without_a_snapshot_of_the_former_version_nothing_is_stopped(
    target: ModelTarget, tmp_path: Path
) -> None:
    """Somebody has deleted them: it must not come back without its state, in silence."""
    its = machine(target, tmp_path)
    end = its.begin(CHANGE)
    target.create_snapshot("of-new")
    target.list_snapshots()
    target.taken = [one for one in target.taken if one.version != 1]
    with pytest.raises(StuckError, match=r"version 1 \(old\) exists any more.*--rebuild"):
        its.roll_back(end, "as told")
    assert (target.status, target.versions[target.number]) == (Status.RUNNING, NEW)
    assert "stop" not in target.calls


def test_a_finished_upgrade_is_taken_back_with_the_present_state(
    target: ModelTarget, tmp_path: Path
) -> None:
    """By another upgrade, whose snapshot is made before its journal."""
    its = machine(target, tmp_path)
    end = its.roll_back_keeping_state(its.begin(CHANGE), replace(CHANGE, wanted=OLD, release=None))
    assert (end.step, end.wanted) == (Step.DONE, OLD)
    assert (target.status, target.versions[target.number]) == (Status.RUNNING, OLD)
    assert "roll_back" not in target.calls
    assert [one.version for one in target.taken if one.name == end.snapshot] == [2]


def test_of_a_version_that_restarts_it_is_taken_back_without(
    target: ModelTarget, tmp_path: Path
) -> None:
    """It began to do so after its upgrade was done: no snapshot, and still a way back."""
    its = machine(target, tmp_path)
    done = its.begin(CHANGE)
    target.health_of = {"new": LOOPS}
    target.no_snapshot.add("new")
    end = its.roll_back_keeping_state(done, replace(CHANGE, wanted=OLD, release=None))
    assert end.step is Step.ROLLED_BACK
    assert "failed" in end.why
    assert (target.status, target.versions[target.number]) == (Status.RUNNING, OLD)
    release, snapshot = target.starts[-1]
    assert release == "old"
    assert snapshot in [one.name for one in target.taken if one.version == 1]


def test_somebody_elses_change_during_verification_is_not_undone(
    target: ModelTarget, tmp_path: Path
) -> None:
    """Neither is it called done, nor is it rolled back."""
    other = replace(NEW, parallelism=8)
    its = machine(target, tmp_path)

    def meanwhile() -> object:
        target.number, target.versions[3] = 3, other
        return target.read_health()

    journal = its._start_upgrade(CHANGE)
    object.__setattr__(its, "target", _With(target, read_health=meanwhile))
    end = its.resume(journal)
    assert end.step is Step.ABANDONED
    assert "another client has changed app" in end.why
    assert target.versions[target.number] == other
    assert "roll_back" not in target.calls


def test_a_target_that_does_not_answer_for_long_is_verified_later(
    target: ModelTarget, tmp_path: Path
) -> None:
    """Credentials have expired: that says nothing of the version, and nothing could be ordered."""
    its = machine(target, tmp_path)

    def silent() -> object:
        raise TargetError("ExpiredTokenException")

    journal = its._start_upgrade(CHANGE)
    object.__setattr__(its, "target", _With(target, read_health=silent))
    with pytest.raises(TargetError, match="ExpiredToken"):
        its.resume(journal)
    waiting = machine(target, tmp_path).read_journal()
    assert waiting is not None
    assert waiting.step is Step.VERIFY
    assert machine(target, tmp_path).resume(waiting).step is Step.DONE


class _With:
    """A target of which a method is another one."""

    def __init__(self, target: ModelTarget, **methods: Callable[..., object]) -> None:
        self._target = target
        self._methods = methods

    def __getattr__(self, name: str) -> object:
        return self._methods.get(name) or getattr(self._target, name)


def test_a_busy_target_is_asked_again(target: ModelTarget, tmp_path: Path) -> None:
    """ResourceInUse says not yet."""
    target.busy = 3
    end = machine(target, tmp_path).begin(CHANGE)
    assert end.step is Step.DONE


def test_somebody_elses_change_ends_it(target: ModelTarget, tmp_path: Path) -> None:
    """Between our look and our order: nothing of theirs is undone."""
    its = machine(target, tmp_path)
    other = replace(OLD, parallelism=8)

    def meanwhile(*arguments: object) -> None:
        if target.number == 1:
            target.number = 2
            target.versions[2] = other
        target.update(*arguments)  # type: ignore[arg-type]

    object.__setattr__(its, "target", _With(target, update=meanwhile))
    end = its.begin(CHANGE)
    assert end.step is Step.ABANDONED
    assert "another client has changed app" in end.why
    assert target.versions[target.number] == other


def test_nothing_to_upgrade_is_said(target: ModelTarget, tmp_path: Path) -> None:
    """The same code, settings and parallelism."""
    with pytest.raises(UpgradeError, match="runs old with these settings already"):
        machine(target, tmp_path).begin(replace(CHANGE, wanted=OLD))


def test_an_application_that_does_not_run_is_not_upgraded(
    target: ModelTarget, tmp_path: Path
) -> None:
    """There is nothing to make a snapshot of."""
    target.status = Status.READY
    with pytest.raises(UpgradeError, match="only a running application"):
        machine(target, tmp_path).begin(CHANGE)


def test_old_snapshots_go_and_its_own_stays(target: ModelTarget, tmp_path: Path) -> None:
    """The service never removes one."""
    for _ in range(6):
        target._take("service")
    end = machine(target, tmp_path).begin(replace(CHANGE, keep=1))
    assert end.step is Step.DONE
    # The newest is the one made at the stop.
    assert len(target.taken) == 2
    assert end.snapshot in [one.name for one in target.taken]


def test_a_former_version_that_does_not_come_back_is_said_with_what_to_do(
    target: ModelTarget, tmp_path: Path
) -> None:
    """And can be tried again."""
    its = machine(target, tmp_path)
    target.fails = {"new", "old"}
    target.system_rollback = False
    with pytest.raises(StuckError, match="tunemesh deploy rollback"):
        its.begin(CHANGE)
    assert [release for release, _ in target.starts].count("old") == its.limits.max_starts
    present = its.read_journal()
    assert present is not None
    assert present.step is Step.ROLL_BACK
    target.fails = set()
    end = its.roll_back(present, "again")
    assert end.step is Step.ROLLED_BACK
    assert (target.status, target.versions[target.number]) == (Status.RUNNING, OLD)


def test_a_second_upgrade_waits_for_the_first(target: ModelTarget, tmp_path: Path) -> None:
    """An unfinished one is named, with both ways on."""
    target.interrupt_at = 6
    its = machine(target, tmp_path)
    with pytest.raises(Interrupted):
        its.begin(CHANGE)
    target.interrupt_at = None
    with pytest.raises(UpgradeError, match="an upgrade to new is not finished"):
        its.begin(replace(CHANGE, wanted=replace(OLD, release="newer")))


ENDS: dict[str, Callable[[ModelTarget], None]] = {
    "well": lambda target: None,
    "does badly": lambda target: target.health_of.update(new=LOOPS),
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
    """The next one goes on and ends where an uninterrupted one ends, with no order given twice."""
    whole = ModelTarget(OLD)
    prepare(whole)
    expected = machine(whole, tmp_path / "whole").begin(change).step
    for number in range(1, len(whole.calls) + 1):
        target = ModelTarget(OLD, interrupt_at=number, interrupt_after=after)
        prepare(target)
        its = machine(target, tmp_path / f"{number}")
        with pytest.raises(Interrupted):
            its.begin(change)
        target.interrupt_at = None
        present = its.read_journal()
        if present is None:  # nothing was begun
            assert target.number == 1
            continue
        again = machine(target, tmp_path / f"{number}")
        assert again.resume(present).step is expected, f"interrupted at call {number}"
        assert target.status is Status.RUNNING
        assert target.versions[target.number] == whole.versions[whole.number]
        assert target.number == whole.number
        names = [one.name for one in target.taken]
        assert len(names) == len(set(names))


def test_a_journal_is_read_as_it_was_written(target: ModelTarget, tmp_path: Path) -> None:
    """All of it: a new client knows no more."""
    its = machine(target, tmp_path)
    end = its.begin(CHANGE)
    assert its.read_journal() == end
    assert isinstance(end, Journal)


def test_a_broken_journal_is_one_message(tmp_path: Path) -> None:
    """It names the file and what to do."""
    file = tmp_path / "app.json"
    file.write_text('{"target": "local"}')
    with pytest.raises(TunemeshError, match=r"app\.json cannot be read"):
        journals.read(file)
