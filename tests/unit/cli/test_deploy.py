"""What `tunemesh deploy` prints of settings, and of the last upgrade."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cli.deploy import changed_properties, property_lines, steps_of
from deploy.upgrades.journal import Journal, Step
from deploy.upgrades.machine import Change
from deploy.upgrades.target import LATEST, Application, Configuration, Status

FORMER = {
    "kinesis.analytics.flink.run.options": {"jarfile": "lib/all.jar"},
    "tunemesh.application": {"pipelines": "enrichment", "group.id": "mine"},
    "tunemesh.kafka": {"bootstrap.servers": "here:1", "sasl.jaas.config": "hidden"},
    "tunemesh.analytics": {},
}
WANTED = FORMER | {
    "tunemesh.application": {"pipelines": "enrichment,analytics"},
    "tunemesh.kafka": {"bootstrap.servers": "here:1", "sasl.jaas.config": "hidden, too"},
}
OLD, NEW = Configuration("old", FORMER, 2), Configuration("new", WANTED, 2)


def test_settings_are_a_line_for_each_group() -> None:
    """Without the service's own group, and without what may be a secret."""
    assert list(property_lines(FORMER)) == [
        "tunemesh.application: group.id=mine, pipelines=enrichment",
        "tunemesh.kafka: bootstrap.servers=here:1, sasl.jaas.config=(not shown)",
    ]


def test_the_steps_of_an_upgrade_have_each_setting_that_changes() -> None:
    """Its former and its new value; a secret's change is shown without them."""
    changed = [
        "tunemesh.application:group.id mine -> not set",
        "tunemesh.application:pipelines enrichment -> enrichment,analytics",
        "tunemesh.kafka:sasl.jaas.config (not shown) -> (not shown)",
    ]
    assert list(changed_properties(FORMER, WANTED)) == changed
    application = Application("tunemesh", Status.RUNNING, 1, OLD)
    steps = [line.strip() for line in steps_of(application, Change(NEW, Path("new.zip"), LATEST))]
    assert steps[2:5] == changed


@pytest.mark.parametrize(
    ("reverts", "step", "shown"),
    [
        (False, Step.DONE, Step.DONE),
        (False, Step.ROLLED_BACK, Step.ROLLED_BACK),
        (False, Step.VERIFY, Step.VERIFY),
        (True, Step.DONE, Step.ROLLED_BACK),
        (True, Step.WAIT, Step.ROLL_BACK),
        (True, Step.ROLLED_BACK, Step.DONE),
        (True, Step.ABANDONED, Step.DONE),
    ],
)
def test_an_upgrade_that_was_rolled_back_is_not_done(
    reverts: bool, step: Step, shown: Step
) -> None:
    """A rollback that keeps the present state is an upgrade in reverse."""
    upgrade = Journal("local", "tunemesh", 0, step, 1, OLD, NEW, None, LATEST, "", None, 5)
    if reverts:
        upgrade = replace(upgrade, former=NEW, wanted=OLD, reverts=True)
    assert (upgrade.upgrade_to, upgrade.upgrade_step) == ("new", shown)
