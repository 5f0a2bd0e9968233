"""The plans as they are kept: what an application with several pipelines must not share."""

from __future__ import annotations

import json

import pytest

from deploy.local.settings import PROJECT
from jobs.settings import APPLICATIONS

PLANS = PROJECT / "jobs" / "plans"


def components(plan: dict[str, list[dict[str, int]]]) -> int:
    """Into how many parts a plan falls that no edge connects."""
    parts = {node["id"]: {node["id"]} for node in plan["nodes"]}
    for edge in plan["edges"]:
        source, target = parts[edge["source"]], parts[edge["target"]]
        if source is not target:
            source |= target
            parts.update(dict.fromkeys(target, source))
    return len({id(part) for part in parts.values()})


@pytest.mark.parametrize("pipelines", APPLICATIONS, ids="_".join)
def test_pipelines_of_one_application_share_no_operator(pipelines: tuple[str, ...]) -> None:
    """So that one that fails restarts alone, and none waits for another's checkpoint barrier."""
    plan = json.loads((PLANS / f"{'_'.join(pipelines)}.json").read_text())
    assert components(plan) == len(pipelines)
