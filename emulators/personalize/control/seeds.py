"""The resources that exist from the start: one dataset group for events and recommendations.

Clients can put events and get recommendations without calling the control plane. The schemas are
minimal: UpdateDataset replaces them before the first import, and put records are not checked
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
        [
            {"name": "ITEM_ID", "type": "string"},
            {"name": "GENRES", **_TEXT},
            {"name": "CREATION_TIMESTAMP", "type": ["long", "null"]},
        ],
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


def seed_resources(names: Resources, now: float) -> Iterator[Resource]:
    """The resources, ACTIVE since `now`."""

    def create(kind: str, ending: str, name: str, parent: str, **document: Any) -> Resource:
        return Resource(
            names.arn(ending), kind, name, parent, now, now, now, seeded=True, document=document
        )

    group = names.arn(f"dataset-group/{names.name}")
    yield create("DatasetGroup", f"dataset-group/{names.name}", names.name, "")
    for kind, (type_name, fields) in _FIELDS.items():
        name = f"{names.name}-{kind.lower()}-put"
        schema = json.dumps(
            {
                "type": "record",
                "name": type_name,
                "namespace": NAMESPACE,
                "fields": fields,
                "version": "1.0",
            }
        )
        yield create("Schema", f"schema/{name}", name, "", schema=schema)
        yield create(
            "Dataset",
            f"dataset/{names.name}/{kind}",
            f"{names.name}-{kind.lower()}",
            group,
            datasetGroupArn=group,
            datasetType=kind,
            schemaArn=names.arn(f"schema/{name}"),
        )
    yield create(
        "EventTracker",
        "event-tracker/00000000",
        names.name,
        group,
        accountId=names.account,
        trackingId=names.tracking_id,
        datasetGroupArn=group,
    )
    yield create(
        "Solution",
        f"solution/{names.name}",
        names.name,
        group,
        datasetGroupArn=group,
        recipeArn=RECIPE,
        performAutoTraining=False,
    )
    yield create(
        "SolutionVersion",
        f"solution/{names.name}/{LIVE}",
        f"{names.name}-{LIVE}",
        names.arn(f"solution/{names.name}"),
        solutionArn=names.arn(f"solution/{names.name}"),
        datasetGroupArn=group,
        recipeArn=RECIPE,
        trainingMode="FULL",
        trainingType="MANUAL",
    )
    yield create(
        "Campaign",
        f"campaign/{names.name}",
        names.name,
        names.arn(f"solution/{names.name}"),
        solutionVersionArn=names.arn(f"solution/{names.name}/{LIVE}"),
        minProvisionedTPS=1,
    )
