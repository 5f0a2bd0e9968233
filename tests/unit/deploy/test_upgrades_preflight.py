"""The checks before an upgrade changes anything: plans, settings, start positions."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cli.demos.variants import next_version
from connectors.flink.properties import Groups
from deploy.local.settings import PROJECT
from deploy.package.errors import ContentError
from deploy.package.release import (
    RUNTIME,
    PackageDescription,
    PlanDescription,
    describe_plan,
    layout_hash,
)
from deploy.upgrades.local_deployment import LocalDeployment, LocalSnapshot
from deploy.upgrades.plans import Fit, compare_plans
from deploy.upgrades.preflight import (
    PreflightError,
    check_settings,
    compare_releases,
    configure_state,
    pipelines_of,
)
from deploy.upgrades.releases import check_release, prune_releases, unpack_release
from deploy.upgrades.target import LATEST, NOTHING, Configuration, SnapshotStatus
from jobs.settings import DEFAULT_PIPELINES, PIPELINES
from jobs.submission.plan import plan_file
from jobs.trends import MAX_DELAY_MS, STATE_TTL_MS
from schemas.model import Role, SchemaVersion, load_contracts
from tests.support.releases import FOLDER, description, package_folder

PLAN = PlanDescription("a", {"1_source": "s", "11_over": "o"})


@pytest.mark.parametrize(
    ("plan", "fit", "reasons"),
    [
        ({}, Fit.SAME, ()),
        (
            {**PLAN.operators, "12_dedup": "d"},
            Fit.COMPATIBLE,
            ("12_dedup is new and starts without state",),
        ),
        ({"1_source": "s"}, Fit.REBUILD, ("11_over is not in the new plan",)),
        (
            {"1_source": "s", "11_over": "other"},
            Fit.REBUILD,
            ("11_over has other state in the new plan",),
        ),
        ({"1_source": "s", "12_over": "o"}, Fit.REBUILD, ("11_over is not in the new plan",)),
    ],
    ids=["same", "added", "gone", "changed", "moved"],
)
def test_plans_are_compared_by_the_operators_with_state(
    plan: dict[str, str], fit: Fit, reasons: tuple[str, ...]
) -> None:
    """Each operator is named with what is wrong."""
    found = compare_plans(PLAN, PlanDescription("b", plan) if plan else PLAN)
    assert (found.fit, found.reasons) == (fit, reasons)


def test_a_real_plan_with_another_column_before_a_state_needs_a_rebuild() -> None:
    """An operator's fingerprint includes what its state depends on: the type of its rows."""
    text = plan_file("enrichment").read_text(encoding="ascii")
    plan = json.loads(text)
    described = describe_plan(text)
    assert compare_plans(described, describe_plan(text)).fit is Fit.SAME
    over = next(node for node in plan["nodes"] if "over-aggregate" in node["type"])
    sources = [edge["source"] for edge in plan["edges"] if edge["target"] == over["id"]]
    for node in plan["nodes"]:
        if node["id"] in sources:
            node["outputType"]["fields"].append({"name": "more", "fieldType": "INT"})
    found = compare_plans(described, describe_plan(json.dumps(plan)))
    assert found.fit is Fit.REBUILD
    assert any("over-aggregate" in reason for reason in found.reasons)


def running(*pipelines: str) -> Groups:
    return {"tunemesh.application": {"pipelines": ",".join(pipelines)}}


def test_a_removed_pipeline_or_missing_files_need_a_rebuild(tmp_path: Path) -> None:
    """Before any file is read."""
    one, both = running("enrichment"), running("recommendations", "enrichment")
    comparison = compare_releases(tmp_path, tmp_path, both, one)
    assert comparison.fit is Fit.REBUILD
    assert "the state of recommendations has no operator" in comparison.reasons[0]
    assert compare_releases(None, tmp_path, one, one).fit is Fit.REBUILD


@pytest.mark.parametrize("version", ["0.2.0.dev", "today"])
def test_an_added_pipeline_fits_and_starts_without_state(tmp_path: Path, version: str) -> None:
    """To an application with today's plans, or those of a version before it."""
    (tmp_path / "release.json").write_bytes(description("today").json())
    former = tmp_path if version == "today" else FOLDER / version
    comparison = compare_releases(
        former, tmp_path, running(*DEFAULT_PIPELINES), running(*PIPELINES)
    )
    assert comparison.fit is Fit.COMPATIBLE
    added = description("today").plans["analytics"].operators
    assert comparison.reasons == tuple(f"{uid} is new and starts without state" for uid in added)
    same = compare_releases(former, tmp_path, running(*PIPELINES), running(*reversed(PIPELINES)))
    assert (same.fit, same.reasons) == (Fit.SAME, ())


def test_a_release_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    """By the pipeline's name."""
    package = description("today")
    plans = {name: plan for name, plan in package.plans.items() if name != "analytics"}
    (tmp_path / "release.json").write_bytes(replace(package, plans=plans).json())
    with pytest.raises(PreflightError, match="no plan of the pipeline 'analytics'"):
        compare_releases(
            tmp_path, tmp_path, running("enrichment"), running("enrichment", "analytics")
        )


def test_another_layout_of_enriched_events_needs_a_rebuild(tmp_path: Path) -> None:
    """State would be decoded with another layout. Documentation is no part of the layout."""
    one = {"tunemesh.application": {"pipelines": "enrichment"}}
    contracts = load_contracts((PROJECT / "schemas" / "contracts",))
    enriched = contracts.only(Role.ENRICHED)
    text = enriched.newest.avro
    text["doc"] = "Another text."
    documented = SchemaVersion(2, json.dumps(text))
    (more,) = next_version(enriched, {"name": "mood", "type": "string", "default": ""}).versions[1:]
    fits = {}
    for name, version in {"now": enriched.newest, "documented": documented, "more": more}.items():
        changed = replace(enriched, versions=(*enriched.versions, version))
        mesh = replace(contracts, by_name={**contracts.by_name, enriched.name: changed})
        plans = {"enrichment": PLAN}
        description = PackageDescription(
            "stream", "0.1.0", "0" * 64, "3.12", RUNTIME, plans, {}, layout_hash(mesh)
        )
        (tmp_path / name).mkdir()
        (tmp_path / name / "release.json").write_bytes(description.json())
        fits[name] = compare_releases(tmp_path / "now", tmp_path / name, one, one).fit
    assert fits == {"now": Fit.SAME, "documented": Fit.SAME, "more": Fit.REBUILD}


@pytest.mark.parametrize(
    ("former", "wanted", "fit", "restored"),
    [
        # Otherwise it would hold events back.
        (("enrichment",), ("enrichment",), Fit.SAME, "true"),
        # Otherwise it would release events before it has read their users and items.
        (("analytics",), PIPELINES, Fit.COMPATIBLE, "false"),
    ],
    ids=["an enrichment with state", "one that is added"],
)
def test_a_version_is_configured_as_restored_if_its_enrichment_has_state(
    former: tuple[str, ...], wanted: tuple[str, ...], fit: Fit, restored: str
) -> None:
    """The latest state is restored in both cases."""
    configuration, restore = configure_state(
        running(*former), Configuration("r", running(*wanted), 2), fit, 1_000.0
    )
    assert restore == LATEST
    assert configuration.properties["tunemesh.enrichment"] == {"restored": restored}
    assert "tunemesh.recommendations" not in configuration.properties


def test_a_version_without_state_starts_where_the_former_one_was() -> None:
    """No event is left out: trends, which are state, are counted again."""
    wanted = Configuration("r", running(*PIPELINES), 2)
    configuration, restore = configure_state(wanted.properties, wanted, Fit.REBUILD, 100_000.0)
    assert restore == NOTHING
    groups = configuration.properties
    assert groups["tunemesh.enrichment"] == {"restored": "false", "start": "committed"}
    assert groups["tunemesh.recommendations"] == {"start": "committed"}
    assert groups["tunemesh.analytics"] == {"start": str(100_000_000 - STATE_TTL_MS - MAX_DELAY_MS)}
    # The argument is not changed.
    assert "tunemesh.enrichment" not in wanted.properties


def test_after_a_rebuild_the_next_version_has_state_again() -> None:
    """The settings of the rebuild do not remain."""
    wanted = Configuration("r", {"tunemesh.application": {"pipelines": "enrichment"}}, 2)
    rebuilt, _ = configure_state(wanted.properties, wanted, Fit.REBUILD, 1_000.0)
    following = replace(rebuilt, release="next")
    after, _ = configure_state(rebuilt.properties, following, Fit.SAME, 2_000.0)
    assert after.properties["tunemesh.enrichment"]["restored"] == "true"


def test_settings_are_validated_by_the_releases_own_code() -> None:
    """In a separate process; one line with the name, the value and what was expected."""
    groups = {
        "tunemesh.application": {"pipelines": "enrichment"},
        "tunemesh.kafka": {"bootstrap.servers": "127.0.0.1:1"},
        "tunemesh.registry": {"region": "us-east-1"},
    }
    assert check_settings(PROJECT, groups) == []
    (finding,) = check_settings(PROJECT, {**groups, "tunemesh.enrichment": {"start": "now"}})
    assert "'start' of the group 'tunemesh.enrichment' is 'now'" in finding


def test_the_releases_code_has_nothing_of_the_operators_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could send credentials anywhere."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").touch()
    (tmp_path / "jobs" / "settings.py").write_text(
        "import os, sys\nsys.exit(' '.join(sorted(os.environ.keys() - {'LC_CTYPE'})))"
    )
    (finding,) = check_settings(tmp_path, {})
    assert finding == "PATH PYTHONPATH"


def test_a_release_is_the_named_one_and_unchanged(tmp_path: Path) -> None:
    """Of a folder as of a zip, unpacked now or before: whoever changes it runs code here."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "main.py").write_text("one")
    name = package_folder(source)
    folder = unpack_release(tmp_path / "releases", name, source)
    assert unpack_release(tmp_path / "releases", name, source) == folder
    with pytest.raises(ContentError, match=f"^the release other is another one: .* {name}"):
        unpack_release(tmp_path / "releases", "other", source)
    (source / "main.py").write_text("two")
    with pytest.raises(ContentError, match="were changed after the build"):
        unpack_release(tmp_path / "more", name, source)
    assert list((tmp_path / "more").iterdir()) == []
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "main.pyc").write_bytes(b"")
    assert check_release(folder) == folder
    (folder / "main.py").write_text("two")
    with pytest.raises(ContentError, match="were changed after the build"):
        unpack_release(tmp_path / "releases", name, source)


def test_the_default_pipelines() -> None:
    """As jobs.settings has it."""
    assert pipelines_of({}) == ("enrichment", "recommendations")
    assert pipelines_of({"tunemesh.application": {"pipelines": "analytics"}}) == ("analytics",)


def test_all_findings_are_reported() -> None:
    """And that nothing was changed."""
    text = str(PreflightError(["one", "two"]))
    assert "nothing was changed" in text
    assert "- one" in text
    assert "- two" in text


def test_releases_that_were_not_used_for_long_are_removed(tmp_path: Path) -> None:
    """Those that run or may run again are not, nor is one that was compared a moment ago."""
    releases, package = tmp_path / "releases", tmp_path / "package"
    package.mkdir()
    used = package_folder(package)
    unpack_release(releases, used, package)
    for number in range(10):
        (releases / f"release-{number}").mkdir()
        os.utime(releases / f"release-{number}", (number, number))
    os.utime(releases / used, (0, 0))
    unpack_release(releases, used, package)
    prune_releases(releases, {"release-2"})
    assert {path.name for path in releases.iterdir()} == {
        used, "release-2", "release-6", "release-7", "release-8", "release-9"
    }  # fmt: skip


def test_versions_of_long_ago_are_not_recorded() -> None:
    """But those that a snapshot or a rollback restores."""
    deployment = LocalDeployment("app", {1: Configuration("first", {}, 1)})
    deployment.snapshots.append(LocalSnapshot("kept", SnapshotStatus.READY, 3, 0.0))
    for number in range(2, 300):
        deployment.failures[number] = "it did not start"
        deployment.add_version(Configuration(f"release-{number}", {}, 1))
    assert list(deployment.versions) == [3, *range(200, 300)]
    assert list(deployment.failures) == [3, *range(200, 300)]
