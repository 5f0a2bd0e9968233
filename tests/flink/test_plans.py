"""The compiled plans are what the SQL says, and cost one Python call a record."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.local import jars
from deploy.local.settings import jar_cache
from jobs.submission.compile import APPLICATIONS
from jobs.submission.plan import numbered_from_one, plan_file

pytestmark = pytest.mark.timeout(900)

COMPILE_SECONDS = 300


def compile_plans(repository: Path, java_home: Path, *options: str) -> tuple[int, str]:
    """Run the compilation with the fetched connector; exit code and output."""
    found = os.pathsep.join(str(jar) for jar in jars.paths("flink", jar_cache(os.environ)))
    done = subprocess.run(
        [sys.executable, "-m", "jobs.submission.compile", "--jars", found, *options],
        cwd=repository,
        # Neither a time zone nor other contracts make another plan.
        env={**os.environ, "JAVA_HOME": str(java_home), "TZ": "Asia/Tokyo"},
        capture_output=True,
        text=True,
        timeout=COMPILE_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def plan(pipelines: tuple[str, ...]) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(plan_file(pipelines).read_text())
    return loaded


def test_the_plans_are_what_the_sql_compiles_to(repository: Path, java_home: Path) -> None:
    """If the change of the SQL is meant: `make plans`, and a line in the changelog."""
    code, output = compile_plans(repository, java_home, "--check")
    assert code == 0, output


def test_a_plan_that_differs_is_named_with_what_to_do(
    repository: Path, java_home: Path, tmp_path: Path
) -> None:
    """In a copy of the jobs with another SQL; the files there stay as they are."""
    for package in ("jobs", "connectors", "schemas"):
        subprocess.run(["cp", "-r", str(repository / package), str(tmp_path)], check=True)
    sql = tmp_path / "jobs" / "recommendations.sql"
    sql.write_text(sql.read_text().replace("INTERVAL '0.1' SECOND", "INTERVAL '0.2' SECOND"))
    before = (tmp_path / "jobs" / "plans" / "recommendations.json").read_bytes()
    code, output = compile_plans(tmp_path, java_home, "--check")
    assert code == 1
    assert "recommendations.json, enrichment_recommendations.json," in output
    assert "make plans" in output
    assert "Traceback" not in output
    assert (tmp_path / "jobs" / "plans" / "recommendations.json").read_bytes() == before


@pytest.mark.parametrize("pipelines", APPLICATIONS, ids="+".join)
def test_a_record_costs_one_python_call(pipelines: tuple[str, ...]) -> None:
    """One PythonCalc a topic: the planner makes two of one, given half a chance."""
    expected = []
    if "enrichment" in pipelines:
        expected += ["decode_interaction", "decode_item", "decode_user"]
    if "recommendations" in pipelines:
        expected += ["deliver_events", "deliver_items", "deliver_users"]
        expected += ["version_of_item", "version_of_user"]
    if "analytics" in pipelines:
        expected += ["archive_events", "encode_trend", "index_events", "index_trends"]
        expected += ["trend_facts"]
    calls = [
        match
        for node in plan(pipelines)["nodes"]
        if "python" in node["type"]
        for match in re.findall(
            r"\b((?:decode|deliver|version_of|archive|index|encode|trend)_\w+)\(",
            node["description"],
        )
    ]
    assert sorted(calls) == sorted(expected)
    # And none hides in a node of another type.
    text = json.dumps(plan(pipelines))
    for name in expected:
        assert text.count(f"`{name}`") == 1


@pytest.mark.parametrize("pipelines", APPLICATIONS, ids="+".join)
def test_a_plan_knows_nothing_of_the_machine(pipelines: tuple[str, ...]) -> None:
    """No address, no path, no time zone but UTC, no Python: it runs on any."""
    text = plan_file(pipelines).read_text()
    found = re.findall(r"\d+\.\d+\.\d+\.\d+|:\d{4,5}\b|/home|/usr|/tmp|python3|\.py\b|\.jar", text)
    assert not found
    assert set(re.findall(r'"table.local-time-zone": "(.*?)"', text)) <= {"UTC"}


@pytest.mark.parametrize("pipelines", APPLICATIONS, ids="+".join)
def test_operators_are_numbered_from_one(pipelines: tuple[str, ...]) -> None:
    """A number is part of an operator's id: it must not depend on what was compiled before."""
    found = plan(pipelines)
    assert [node["id"] for node in found["nodes"]] == list(range(1, len(found["nodes"]) + 1))


def test_numbering_keeps_the_edges() -> None:
    """Each still joins the nodes that it joined."""
    given = {
        "flinkVersion": "2.2",
        "nodes": [{"id": 7, "type": "a"}, {"id": 9, "type": "b"}, {"id": 8, "type": "c"}],
        "edges": [{"source": 7, "target": 8, "shuffle": "x"}, {"source": 8, "target": 9}],
    }
    assert numbered_from_one(given) == {
        "flinkVersion": "2.2",
        "nodes": [{"id": 1, "type": "a"}, {"id": 2, "type": "b"}, {"id": 3, "type": "c"}],
        "edges": [{"source": 1, "target": 3, "shuffle": "x"}, {"source": 3, "target": 2}],
    }
