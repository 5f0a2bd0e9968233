"""The compiled plans are what the SQL says, and cost one Python call a record."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import jars
from deploy.local.settings import jar_cache
from jobs.settings import PIPELINES
from jobs.submission.plan import plan_file

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


PYTHON_CALLS = {
    "enrichment": ["decode_interaction", "decode_item", "decode_user"],
    "recommendations": [
        "deliver_events",
        "deliver_items",
        "deliver_users",
        "version_of_item",
        "version_of_user",
    ],
    "analytics": ["archive_events", "encode_trend", "index_events", "index_trends", "trend_facts"],
}


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
    assert "jobs/plans/recommendations.json: not what the SQL compiles to" in output
    assert "make plans" in output
    assert "Traceback" not in output
    assert (tmp_path / "jobs" / "plans" / "recommendations.json").read_bytes() == before


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_record_costs_one_python_call(pipeline: str) -> None:
    """One PythonCalc a topic: the planner makes two of one, given half a chance."""
    text = plan_file(pipeline).read_text()
    calls = [
        match
        for node in json.loads(text)["nodes"]
        if "python" in node["type"]
        for match in re.findall(
            r"\b((?:decode|deliver|version_of|archive|index|encode|trend)_\w+)\(",
            node["description"],
        )
    ]
    assert sorted(calls) == PYTHON_CALLS[pipeline]
    # And none hides in a node of another type.
    for name in calls:
        assert text.count(f"`{name}`") == 1


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_plan_knows_nothing_of_the_machine(pipeline: str) -> None:
    """No address, no path, no time zone but UTC, no Python: it runs on any."""
    text = plan_file(pipeline).read_text()
    found = re.findall(r"\d+\.\d+\.\d+\.\d+|:\d{4,5}\b|/home|/usr|/tmp|python3|\.py\b|\.jar", text)
    assert not found
    assert set(re.findall(r'"table.local-time-zone": "(.*?)"', text)) <= {"UTC"}
