"""What a running application and its consumers rely on is as the released versions had it.

`tests/released/<version>/release.json` is the description that the package of a released version
has: the plans, of each operator with state its uid and a hash over what its state depends on,
the schema versions, the layout of the state's bytes. A change is found here, with what to do.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.flink.properties import entries_of
from deploy.local.settings import PROJECT
from deploy.package.release import PackageDescription, read_description
from deploy.upgrades.plans import Fit, compare_plans
from schemas.dead_letter import Step
from schemas.invalid import Reason
from tests.support.releases import APPLICATIONS, FOLDER, description, rebuilds

RELEASED = sorted(FOLDER.glob("*/release.json"))

WHAT_TO_DO = """
The state of applications that run {application} of {version} does not fit this code: their upgrade
would start from the topics (`tunemesh deploy upgrade --rebuild`). If that was not the intention,
undo it: do not renumber, remove or change an operator that keeps something (jobs/*.sql,
jobs/plans), and do not change the schema of enriched events. If it was: say so in CHANGELOG.md, and
put a line
"{version} {application} <why>" into tests/released/rebuilds.txt."""

NEW_VERSION = """
A released schema version never changes: events of that version are in the topics. Undo the change,
and add a version: the next .avsc file of the contract, compatible with the others
(`tunemesh schemas check`)."""


TODAY = description("today")


def released(file: Path) -> PackageDescription:
    return read_description(file.parent)


PACKAGES = {file.parent.name: released(file) for file in RELEASED} | {"today": TODAY}


def could_run(before: PackageDescription, pipelines: tuple[str, ...]) -> bool:
    """Whether a version accepted these pipelines: 0.1.0 did if it had a plan file of them."""
    return "_".join(pipelines) in before.plans or not any("_" in name for name in before.plans)


@pytest.mark.parametrize(
    ("version", "was", "will"),
    [
        (version, was, will)
        for version, before in PACKAGES.items()
        for was in APPLICATIONS
        if could_run(before, was)
        for will in APPLICATIONS
        if set(was) <= set(will)
    ],
    ids=lambda value: value if isinstance(value, str) else "_".join(value),
)
def test_uids_and_state_fit_what_released_versions_left(
    version: str, was: tuple[str, ...], will: tuple[str, ...]
) -> None:
    """Of each application that could be run, also under today's code with pipelines added."""
    before = PACKAGES[version]
    comparison = compare_plans(before.application_plan(was), TODAY.application_plan(will))
    fits = comparison.fit is not Fit.REBUILD and before.layout == TODAY.layout
    if (version, was) in rebuilds():
        assert not fits, f"{version} {','.join(was)} needs no line in tests/released/rebuilds.txt"
    else:
        advice = WHAT_TO_DO.format(version=version, application=",".join(was))
        assert fits, "\n".join([*comparison.reasons, advice])


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.parent.name)
def test_released_schema_versions_are_what_they_were(file: Path) -> None:
    """Those of dead letters among them: who reads dead letters reads all of them."""
    now = TODAY.schemas
    for contract, versions in released(file).schemas.items():
        assert contract in now, f"the contract {contract} is gone{NEW_VERSION}"
        for number, sha256 in versions.items():
            assert now[contract].get(number) == sha256, (
                f"{contract}.v{number} is not what {file.parent.name} had{NEW_VERSION}"
            )


def test_there_is_a_released_version_and_each_reason_is_told() -> None:
    """Else the tests above could not fail; reasons are of versions that are kept, and say why."""
    assert RELEASED
    for (version, pipelines), why in rebuilds().items():
        assert could_run(PACKAGES[version], pipelines)
        assert why.strip()


def test_the_words_of_dead_letters_stay() -> None:
    """Alarms are set by them, and letters published again: new ones come, and none goes."""
    kept = json.loads((FOLDER / "dead_letters.json").read_text())
    for name, words in (("codes", Reason), ("steps", Step)):
        gone = set(kept[name]) - {str(word) for word in words}
        assert not gone, f"{name} of dead letters that are gone: {sorted(gone)}. Keep them"


def test_a_release_checks_the_settings_that_a_later_preflight_gives_it() -> None:
    """`python -m jobs.settings --check FILE`: the exit code, and one line for the first invalid."""
    groups = {
        "tunemesh.application": {"pipelines": "enrichment"},
        "tunemesh.kafka": {"bootstrap.servers": "b:9092"},
        "tunemesh.registry": {"region": "eu-west-1"},
    }
    for start, code in (("latest", 0), ("now", 2)):
        file = json.dumps(entries_of({**groups, "tunemesh.enrichment": {"start": start}}))
        command = [sys.executable, "-m", "jobs.settings", "--check", "/dev/stdin"]
        done = subprocess.run(
            command, input=file, capture_output=True, text=True, cwd=PROJECT, check=False
        )
        assert done.returncode == code, done.stderr
    assert done.stderr == (
        "settings: the property 'start' of the group 'tunemesh.enrichment' is 'now';"
        " expected earliest, latest, committed or epoch milliseconds\n"
    )


def test_every_release_of_the_changelog_is_kept() -> None:
    """A version with a heading was released; a rebuild of it is a change of the frozen API.

    A .dev version is the next one as it is so far, whose savepoint is restored until then.
    """
    changelog = (PROJECT / "CHANGELOG.md").read_text()
    sections = re.split(r"^## \[(.+?)\].*$", changelog, flags=re.MULTILINE)
    versions, texts = sections[1::2], sections[2::2]
    assert versions[0] == "Unreleased"
    kept = {version for version in PACKAGES if not version.endswith(".dev")}
    assert {*versions[1:], "today"} == kept, "python -m tests.flink.released VERSION"
    for version, _ in rebuilds():
        assert any("### Changed: frozen API" in t for t in texts[: versions.index(version)])
