"""The calls of the control plane: their rules and their effects.

Calls have passed the checks of the service's model. Operations and members that the emulator does
not offer are refused.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from emulators import errors
from emulators.errors import ServiceError
from emulators.personalize.control import kinds, schemas
from emulators.personalize.control.deletions import Deletions
from emulators.personalize.control.kinds import KINDS
from emulators.personalize.control.lifecycle import (
    ACTIVE,
    FAILED,
    PENDING,
    UNFINISHED,
    Resource,
    transition_times,
)
from emulators.personalize.control.state import State
from emulators.personalize.control.work import Work
from emulators.personalize.rules import refuse_not_offered

MAX_UNFINISHED_IMPORTS: Final = 5
MAX_PENDING_DELETIONS: Final = 5
"""Data deletion jobs of a dataset group."""

MAX_FILTERS: Final = 10
DEFAULT_PAGE_SIZE: Final = 100
_USER, _RANKING = "USER_PERSONALIZATION", "PERSONALIZED_RANKING"
_RELATED, _SEGMENTS = "RELATED_ITEMS", "USER_SEGMENTATION"
RECIPES: Final[Mapping[str, str]] = {
    f"arn:aws:personalize:::recipe/aws-{name}": recipe_type
    for name, recipe_type in (
        ("user-personalization-v2", _USER),
        ("personalized-ranking-v2", _RANKING),
        ("user-personalization", _USER),
        ("personalized-ranking", _RANKING),
        ("popularity-count", _USER),
        ("trending-now", _USER),
        ("similar-items", _RELATED),
        ("sims", _RELATED),
        ("next-best-action", "PERSONALIZED_ACTIONS"),
        ("item-affinity", _SEGMENTS),
        ("item-attribute-affinity", _SEGMENTS),
    )
}
"""The service's recipes and their types; the legacy ones (HRNN) are no longer available there."""

TRAINED: Final = tuple(
    arn for arn in RECIPES if arn.removesuffix("-v2").endswith(("-personalization", "-ranking"))
)
"""The recipes that the emulator has a model for: it recommends and ranks items for users."""
_RECIPES_SINCE: Final = 1_560_000_000.0
"""Seconds since 1970: the service began in June 2019."""

_TYPES: Final = frozenset(schemas.KINDS.values())
_Create = Callable[[dict[str, Any]], Resource]


class ControlPlane:
    """Owned by one event loop."""

    def __init__(self, state: State, work: Work) -> None:
        self.state = state
        self._work = work
        self._deletions = Deletions(state, work)
        self._creates: Mapping[str, _Create] = {
            "Schema": self._schema,
            "DatasetGroup": self._dataset_group,
            "Dataset": self._dataset,
            "DatasetImportJob": self._import_job,
            "DataDeletionJob": self._data_deletion_job,
            "EventTracker": self._event_tracker,
            "Solution": self._solution,
            "SolutionVersion": self._solution_version,
            "Campaign": self._campaign,
            "Filter": self._filter,
        }

    async def close(self) -> None:
        """Interrupt the work; returns when everything accepted is on disk."""
        await self._work.close()
        await self.state.close()

    async def answer(self, operation: str, payload: dict[str, Any]) -> bytes:
        """The body of the response (JSON); raises ServiceError."""
        await self.state.remove_deleted()
        _refuse_not_offered(payload, "tags")
        return json.dumps(await self._answer(operation, payload)).encode()

    async def _answer(self, operation: str, payload: dict[str, Any]) -> dict[str, Any]:
        for noun, kind in KINDS.items():
            if operation == f"Create{noun}":
                return self._create(noun, payload)
            if operation == f"Describe{noun}":
                resource = self.state.find(payload[kind.arn_member], noun)
                return kinds.describe(kind, resource, self.state.now(), self.state.settings.step)
            if operation == f"List{noun}s":
                return self._list(noun, payload)
            if operation == f"Delete{noun}" and noun in self._deletions.kinds:
                await self._deletions.delete(self.state.find(payload[kind.arn_member], noun))
                return {}
        if operation == "ListRecipes":
            return self._list_recipes(payload)
        if operation == "DescribeRecipe":
            return {"recipe": self._recipe(payload["recipeArn"])}
        if operation == "ListTagsForResource":
            return self._list_tags(payload["resourceArn"])
        if operation == "UpdateCampaign":
            return self._update_campaign(payload)
        if operation == "UpdateDataset":
            return self._update_dataset(payload)
        raise errors.invalid_input(f"The emulator does not offer {operation}.")

    def _create(self, noun: str, payload: dict[str, Any]) -> dict[str, Any]:
        resource = self._creates[noun](payload)
        existing = self.state.registry.get(resource.arn)
        if existing is not None:
            raise errors.already_exists(
                f"Another resource with the ARN {existing.arn} exists; it is "
                f"{self.state.status(existing)}."
            )
        if noun == "DatasetGroup":
            self.state.open_group(resource)
        self.state.registry.put(resource)
        if resource.ready_at == math.inf:
            self._work.start(resource)
        if noun == "Solution" and resource.document["performAutoTraining"]:
            # The service begins the first one within an hour, and the next ones every seven days.
            version = self._new_version(resource, {"solutionArn": resource.arn}, "AUTOMATIC")
            self.state.registry.put(version)
            self._work.start(version)
        answer = {KINDS[noun].arn_member: resource.arn}
        if noun == "EventTracker":
            answer["trackingId"] = resource.document["trackingId"]
        return answer

    def _list(self, noun: str, payload: dict[str, Any]) -> dict[str, Any]:
        kind, state = KINDS[noun], self.state
        parent = payload.get(kind.filter) if kind.filter else None
        resources = list(state.list_existing(noun, parent))
        if noun == "DataDeletionJob":
            resources.reverse()  # its documentation: the most recent first
        first = _first_of_page(payload.get("nextToken"), [resource.arn for resource in resources])
        page = resources[first : first + payload.get("maxResults", DEFAULT_PAGE_SIZE)]
        now, step = state.now(), state.settings.step
        answer: dict[str, Any] = {
            kind.listed: [kinds.summarize(kind, resource, now, step) for resource in page]
        }
        if page and page[-1] is not resources[-1]:
            answer["nextToken"] = page[-1].arn
        return answer

    def _list_recipes(self, payload: dict[str, Any]) -> dict[str, Any]:
        _refuse_not_offered(payload, "domain")
        names = ("name", "recipeArn", "status", "creationDateTime", "lastUpdatedDateTime")
        recipes = [self._recipe(arn) for arn in RECIPES]
        first = _first_of_page(payload.get("nextToken"), list(RECIPES))
        page = recipes[first : first + payload.get("maxResults", DEFAULT_PAGE_SIZE)]
        answer: dict[str, Any] = {
            "recipes": [{name: recipe[name] for name in names} for recipe in page]
        }
        if page and page[-1] != recipes[-1]:
            answer["nextToken"] = page[-1]["recipeArn"]
        return answer

    def _recipe(self, arn: str) -> dict[str, Any]:
        if arn not in RECIPES:
            raise errors.not_found(f"The recipe {arn} does not exist.")
        return {
            "name": arn.rpartition("/")[2],
            "recipeArn": arn,
            "status": ACTIVE,
            "recipeType": RECIPES[arn],
            "creationDateTime": _RECIPES_SINCE,
            "lastUpdatedDateTime": _RECIPES_SINCE,
        }

    def _list_tags(self, arn: str) -> dict[str, Any]:
        """The tags of a resource: none, since tags are refused."""
        resource = self.state.registry.get(arn)
        if resource is None or self.state.is_deleted(resource):
            raise errors.not_found(f"The resource {arn} does not exist.")
        return {"tags": []}

    def _new(
        self,
        noun: str,
        payload: dict[str, Any],
        parent: str = "",
        *,
        has_work: bool = False,
        name: str | None = None,
        ending: str | None = None,
        **members: Any,
    ) -> Resource:
        """A resource with the members of the request, and others that replace them.

        Its ARN ends with the kind and the name unless `ending` is given.
        """
        now = self.state.now()
        running, ready = transition_times(now, self.state.settings.step)
        if has_work:
            running = ready = math.inf
        kind = KINDS[noun]
        name = name or payload[kind.name_member]
        arn = self.state.resources.arn(ending or f"{kind.path}/{name}")
        document = {key: value for key, value in (payload | members).items() if value is not None}
        return Resource(arn, noun, name, parent, now, running, ready, document=document)

    def _schema(self, payload: dict[str, Any]) -> Resource:
        _refuse_not_offered(payload, "domain")
        schemas.parse(payload["schema"])
        return self._new("Schema", payload)

    def _dataset_group(self, payload: dict[str, Any]) -> Resource:
        _refuse_not_offered(payload, "domain")
        return self._new("DatasetGroup", payload)

    def _dataset(self, payload: dict[str, Any]) -> Resource:
        group = self.state.find_active(payload["datasetGroupArn"], "DatasetGroup")
        kind = payload["datasetType"].upper()
        if kind not in _TYPES:
            raise errors.invalid_input(
                f"The dataset type {payload['datasetType']} is not one of {', '.join(_TYPES)}."
            )
        schema = self.state.find(payload["schemaArn"], "Schema")
        schema_kind = schemas.parse(schema.document["schema"]).kind
        if schema_kind != kind:
            raise errors.invalid_input(
                f"The schema {schema.arn} is for {schema_kind}, not for {kind}."
            )
        ending = f"dataset/{group.name}/{kind}"
        return self._new("Dataset", payload, group.arn, ending=ending, datasetType=kind)

    def _import_job(self, payload: dict[str, Any]) -> Resource:
        if payload.get("publishAttributionMetricsToS3"):
            _refuse_not_offered(payload, "publishAttributionMetricsToS3")
        dataset = self.state.find_active(payload["datasetArn"], "Dataset")
        if not payload.get("roleArn"):
            raise errors.invalid_input("roleArn is required to read from the data source.")
        if not payload["dataSource"].get("dataLocation"):
            raise errors.invalid_input("dataSource.dataLocation is required.")
        if len(self.state.list_unfinished("DatasetImportJob")) >= MAX_UNFINISHED_IMPORTS:
            raise errors.limit_exceeded(
                f"{MAX_UNFINISHED_IMPORTS} dataset import jobs are pending or in progress already."
            )
        mode = payload.get("importMode", "FULL")
        return self._new("DatasetImportJob", payload, dataset.arn, has_work=True, importMode=mode)

    def _data_deletion_job(self, payload: dict[str, Any]) -> Resource:
        group = self.state.find_active(payload["datasetGroupArn"], "DatasetGroup")
        if not payload["dataSource"].get("dataLocation"):
            raise errors.invalid_input("dataSource.dataLocation is required.")
        jobs = self.state.list_existing("DataDeletionJob", group.arn)
        pending = sum(self.state.status(job) == PENDING for job in jobs)
        if pending >= MAX_PENDING_DELETIONS:
            raise errors.limit_exceeded(
                f"{pending} data deletion jobs of {group.arn} are pending already."
            )
        return self._new("DataDeletionJob", payload, group.arn, has_work=True)

    def _event_tracker(self, payload: dict[str, Any]) -> Resource:
        group = self.state.find_active(payload["datasetGroupArn"], "DatasetGroup")
        for tracker in self.state.list_existing("EventTracker", group.arn):
            message = f"The dataset group {group.arn} has the event tracker {tracker.arn} already."
            if tracker.name == payload["name"]:
                raise errors.already_exists(message)
            raise errors.limit_exceeded(f"{message} It can have one.")
        tracking_id = str(uuid.uuid4())
        data = self.state.groups[group.arn]
        data.set_tracking_id(tracking_id)
        return self._new(
            "EventTracker",
            payload,
            group.arn,
            ending=f"event-tracker/{uuid.uuid4().hex[:8]}",
            accountId=self.state.resources.account,
            trackingId=tracking_id,
        )

    def _solution(self, payload: dict[str, Any]) -> Resource:
        group = self.state.find_active(payload["datasetGroupArn"], "DatasetGroup")
        _refuse_not_offered(
            payload, "performHPO", "performAutoML", "performIncrementalUpdate", "solutionConfig"
        )
        recipe = payload.get("recipeArn")
        if recipe not in TRAINED:
            problem = (
                f"The emulator has no model for the recipe {recipe}"
                if recipe in RECIPES
                else f"There is no recipe {recipe}"
            )
            raise errors.invalid_input(f"{problem}; choose one of: {', '.join(sorted(TRAINED))}.")
        return self._new(
            "Solution",
            payload,
            group.arn,
            performAutoML=False,
            performHPO=False,
            performAutoTraining=payload.get("performAutoTraining", True),
        )

    def _solution_version(self, payload: dict[str, Any]) -> Resource:
        solution = self.state.find_active(payload["solutionArn"], "Solution")
        if payload.get("trainingMode", "FULL") != "FULL":
            raise errors.invalid_input("The emulator offers the training mode FULL only.")
        name = payload.get("name")
        for version in self.state.list_existing("SolutionVersion", solution.arn):
            if name is not None and version.name == name:
                raise errors.already_exists(f"The solution version {name} exists: {version.arn}.")
        return self._new_version(solution, payload, "MANUAL")

    def _new_version(
        self, solution: Resource, payload: dict[str, Any], training_type: str
    ) -> Resource:
        number = uuid.uuid4().hex[:8]
        return self._new(
            "SolutionVersion",
            payload,
            solution.arn,
            has_work=True,
            name=payload.get("name") or number,
            ending=f"solution/{solution.name}/{number}",
            datasetGroupArn=solution.document["datasetGroupArn"],
            recipeArn=solution.document["recipeArn"],
            eventType=solution.document.get("eventType"),
            trainingMode="FULL",
            trainingType=training_type,
            performAutoML=False,
            performHPO=False,
        )

    def _campaign(self, payload: dict[str, Any]) -> Resource:
        _refuse_not_offered(payload, "campaignConfig")
        version = self._version(payload["solutionVersionArn"])
        tps = payload.get("minProvisionedTPS", 1)
        return self._new("Campaign", payload, version.parent, has_work=True, minProvisionedTPS=tps)

    def _filter(self, payload: dict[str, Any]) -> Resource:
        group = self.state.find_active(payload["datasetGroupArn"], "DatasetGroup")
        parsed = self.state.parse_filter(payload["filterExpression"], group.arn)
        if len(list(self.state.list_existing("Filter", group.arn))) >= MAX_FILTERS:
            raise errors.limit_exceeded(f"A dataset group can have {MAX_FILTERS} filters.")
        return self._new("Filter", payload, group.arn, has_work=parsed.uses_interactions)

    def _update_campaign(self, payload: dict[str, Any]) -> dict[str, Any]:
        _refuse_not_offered(payload, "campaignConfig")
        state = self.state
        campaign = state.find(payload["campaignArn"], "Campaign")
        status = state.status(campaign)
        update = campaign.document.get("latestCampaignUpdate", {"status": ACTIVE})
        if status not in (ACTIVE, FAILED) or update["status"] in UNFINISHED:
            raise errors.in_use(f"The campaign {campaign.arn} is being created or updated.")
        before = campaign.document
        version = self._version(payload.get("solutionVersionArn", before["solutionVersionArn"]))
        if version.parent != campaign.parent:
            raise errors.invalid_input(
                f"{version.arn} is a version of another solution, not of the campaign's."
            )
        now = state.now()
        campaign.document["latestCampaignUpdate"] = {
            "solutionVersionArn": version.arn,
            "minProvisionedTPS": payload.get("minProvisionedTPS", before["minProvisionedTPS"]),
            "status": "CREATE PENDING",
            "creationDateTime": now,
            "lastUpdatedDateTime": now,
        }
        state.registry.put(campaign)
        self._work.update(campaign)
        return {"campaignArn": campaign.arn}

    def _update_dataset(self, payload: dict[str, Any]) -> dict[str, Any]:
        state = self.state
        dataset = state.find_active(payload["datasetArn"], "Dataset")
        schema = state.find(payload["schemaArn"], "Schema")
        old, new = state.dataset_schema(dataset), schemas.parse(schema.document["schema"])
        kind = dataset.document["datasetType"]
        imported = state.groups[dataset.parent].imported[kind.lower()]
        is_replaceable = dataset.seeded and not imported and new.kind == kind
        problem = None if is_replaceable else schemas.replacement_problem(old, new)
        if problem is not None and schema.arn != dataset.document["schemaArn"]:
            raise errors.invalid_input(
                f"The schema {schema.arn} cannot replace that of {dataset.arn}: {problem}."
            )
        dataset.document["schemaArn"] = schema.arn
        state.registry.put(dataset)
        return {"datasetArn": dataset.arn}

    def _version(self, arn: str) -> Resource:
        if arn.endswith("/$LATEST"):
            raise errors.invalid_input(
                "The emulator does not offer $LATEST: use the ARN of a solution version."
            )
        return self.state.find_active(arn, "SolutionVersion")


def _first_of_page(token: str | None, arns: list[str]) -> int:
    """The position of a page; a token is the ARN of the last entry of the previous page."""
    if token is None:
        return 0
    if token not in arns:
        raise ServiceError("InvalidNextTokenException", "The next token is not valid.")
    return arns.index(token) + 1


def _refuse_not_offered(payload: Mapping[str, Any], *names: str) -> None:
    refuse_not_offered({name: payload.get(name) or None for name in names}, *names)
