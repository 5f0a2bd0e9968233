"""The resources that exist from the start: one dataset group with all that the stream needs.

Nobody has to call the control plane to put events or to ask for recommendations. Their schemas say
little: they are replaced before the first import (UpdateDataset), and what is put is not checked
against them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from emulators.personalize.control.group import LIVE
from emulators.personalize.control.lifecycle import Resource
from emulators.personalize.control.schemas import NAMESPACE, Kind
from emulators.personalize.rules import Resources

RECIPE: Final = "arn:aws:personalize:::recipe/aws-user-personalization-v2"
_TEXT: Final = {"type": ["null", "string"], "categorical": True}
_FIELDS: Final[dict[Kind, tuple[str, list[dict[str, Any]]]]] = {
    "USERS": (
        "Users",
        [{"name": "USER_ID", "type": "string"}, {"name": "COUNTRY", **_TEXT}],
    ),
    "ITEMS": (
        "Items",
        [{"name": "ITEM_ID", "type": "string"}, {"name": "GENRES", **_TEXT}],
    ),
    "INTERACTIONS": (
        "Interactions",
        [
            {"name": "USER_ID", "type": "string"},
            {"name": "ITEM_ID", "type": "string"},
            {"name": "EVENT_TYPE", "type": "string"},
            {"name": "TIMESTAMP", "type": "long"},
        ],
    ),
}


def resources(of: Resources, now: float) -> Iterator[Resource]:
    """All of them, ACTIVE since `now`."""

    def made(kind: str, ending: str, name: str, parent: str, **document: Any) -> Resource:
        return Resource(
            of.arn(ending), kind, name, parent, now, now, now, seeded=True, document=document
        )

    group = of.arn(f"dataset-group/{of.name}")
    yield made("DatasetGroup", f"dataset-group/{of.name}", of.name, "")
    for kind, (type_name, fields) in _FIELDS.items():
        name = f"{of.name}-{kind.lower()}-put"
        schema = json.dumps(
            {
                "type": "record",
                "name": type_name,
                "namespace": NAMESPACE,
                "fields": fields,
                "version": "1.0",
            }
        )
        yield made("Schema", f"schema/{name}", name, "", schema=schema)
        yield made(
            "Dataset",
            f"dataset/{of.name}/{kind}",
            f"{of.name}-{kind.lower()}",
            group,
            datasetGroupArn=group,
            datasetType=kind,
            schemaArn=of.arn(f"schema/{name}"),
        )
    yield made(
        "EventTracker",
        "event-tracker/00000000",
        of.name,
        group,
        accountId=of.account,
        trackingId=of.tracking_id,
        datasetGroupArn=group,
    )
    yield made(
        "Solution",
        f"solution/{of.name}",
        of.name,
        group,
        datasetGroupArn=group,
        recipeArn=RECIPE,
        performAutoTraining=False,
    )
    yield made(
        "SolutionVersion",
        f"solution/{of.name}/{LIVE}",
        f"{of.name}-{LIVE}",
        of.arn(f"solution/{of.name}"),
        solutionArn=of.arn(f"solution/{of.name}"),
        datasetGroupArn=group,
        recipeArn=RECIPE,
        trainingMode="FULL",
        trainingType="MANUAL",
    )
    yield made(
        "Campaign",
        f"campaign/{of.name}",
        of.name,
        of.arn(f"solution/{of.name}"),
        solutionVersionArn=of.arn(f"solution/{of.name}/{LIVE}"),
        minProvisionedTPS=1,
    )
