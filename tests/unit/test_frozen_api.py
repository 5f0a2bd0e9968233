"""What a running application and its consumers rely on is as the released versions had it.

`tests/released/<version>/release.json` is the description that the package of a released version
has: the plan files, of each operator with state its uid and a hash over what its state depends on,
the schema versions, the layout of the state's bytes. A change is found here, with what to do.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deploy import package
from deploy.local.settings import PROJECT
from deploy.package.release import PackageDescription
from deploy.upgrades.plans import Fit, compare
from jobs.settings import APPLICATIONS
from schemas.dead_letter import Step
from schemas.invalid import Reason
from tests.support.releases import FOLDER, description, rebuilds

RELEASED = sorted(FOLDER.glob("*/release.json"))

WHAT_TO_DO = """
The state of applications that run {version} does not fit this code: their upgrade would start from
the topics (`tunemesh deploy upgrade --rebuild`). If that was not the intention, undo it: do not
renumber, remove or change an operator that keeps something (jobs/*.sql, jobs/plans), and do not
change the schema of enriched events. If it was: say so in CHANGELOG.md, and put a line
"{version} <why>" into tests/released/rebuilds.txt."""

NEW_VERSION = """
A released schema version never changes: events of that version are in the topics. Undo the change,
and add a version: the next .avsc file of the contract, compatible with the others
(`tunemesh schemas check`)."""


TODAY = description("today")


def released(file: Path) -> PackageDescription:
    return package.read(file.parent)


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.parent.name)
@pytest.mark.parametrize("pipelines", APPLICATIONS, ids="_".join)
def test_uids_and_state_fit_what_released_versions_left(
    file: Path, pipelines: tuple[str, ...]
) -> None:
    """Of each application that can be made; a plan file that is gone is a change, too."""
    version, name = file.parent.name, "_".join(pipelines)
    before = released(file)
    if name not in before.plans:
        pytest.skip(f"{version} could not run {name}")
    found = compare(before.plans[name], TODAY.plans[name])
    fits = found.fit is not Fit.REBUILD and before.layout == TODAY.layout
    assert fits or version in rebuilds(), "\n".join(
        [*found.reasons, WHAT_TO_DO.format(version=version)]
    )


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.parent.name)
def test_plan_files_are_there_under_their_names(file: Path) -> None:
    """An application's properties name pipelines; the plan's file follows from them."""
    missing = released(file).plans.keys() - TODAY.plans.keys()
    assert not missing, (
        f"{file.parent.name} had the plans {sorted(missing)}; applications with those pipelines"
        " could not be upgraded. Compile them (`make plans`), or list the change in CHANGELOG.md"
    )


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
    versions = {file.parent.name for file in RELEASED}
    for version, why in rebuilds().items():
        assert version in versions
        assert why.strip()


def test_the_words_of_dead_letters_stay() -> None:
    """Alarms are set by them, and letters published again: new ones come, and none goes."""
    kept = json.loads((FOLDER / "dead_letters.json").read_text())
    for name, words in (("codes", Reason), ("steps", Step)):
        gone = set(kept[name]) - {str(word) for word in words}
        assert not gone, f"{name} of dead letters that are gone: {sorted(gone)}. Keep them"


def test_every_release_of_the_changelog_is_kept() -> None:
    """A version that has a heading of its own was released."""
    headings = re.findall(
        r"^## \[(\d+\.\d+\.\d+)\]", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    kept = {file.parent.name for file in RELEASED}
    assert set(headings) <= kept, "make what is missing: python -m tests.flink.released VERSION"
