"""Steps that find or create a resource of a fixed name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from batch.imports.calls import EXISTS, IN_USE, LIMIT, Calls
from batch.imports.errors import ImportsError, ServiceRefused
from batch.imports.plan import DatasetType
from batch.imports.states import ACTIVE, Waiting

_USED: Final = frozenset((IN_USE,))


class Ensure:
    """Each method returns the ARN of an ACTIVE resource (of the tracker: its tracking id)."""

    def __init__(self, calls: Calls, progress: Callable[[str], None]) -> None:
        self._calls = calls
        self._progress = progress
        self._waiting = Waiting(calls, progress)

    def schema(self, name: str, text: str) -> str:
        """A schema; its name has a hash of it, so one of that name is the same."""
        return self._find_or_create(
            f"the schema {name}",
            lambda: self._find_listed("list_schemas", "schemas", "schemaArn", name),
            lambda: self._calls.call("create_schema", name=name, schema=text)["schemaArn"],
        )

    def dataset_group(self, name: str) -> str:
        """The dataset group."""
        what = f"the dataset group {name}"
        arn = self._find_or_create(
            what,
            lambda: self._find_listed(
                "list_dataset_groups", "datasetGroups", "datasetGroupArn", name
            ),
            lambda: self._calls.call("create_dataset_group", name=name)["datasetGroupArn"],
        )
        self._waiting.until_active(
            lambda: self._describe("dataset_group", "datasetGroup", arn), what
        )
        return arn

    def dataset(self, group: str, dataset: DatasetType, name: str, schema: str) -> str:
        """A group's dataset of a type, with this schema, which replaces another one."""
        what = f"the dataset {name}"

        def find() -> str | None:
            for entry in self._calls.pages("list_datasets", "datasets", datasetGroupArn=group):
                if entry["datasetType"].upper() == dataset.value.upper():
                    return str(entry["datasetArn"])
            return None

        arn = self._find_or_create(
            what,
            find,
            lambda: self._calls.call(
                "create_dataset",
                again=_USED,
                name=name,
                datasetGroupArn=group,
                datasetType=dataset.value,
                schemaArn=schema,
            )["datasetArn"],
        )
        self._waiting.until_active(lambda: self._describe("dataset", "dataset", arn), what)
        before = self._describe("dataset", "dataset", arn)["schemaArn"]
        if before != schema:
            self._replace_schema(arn, what, before, schema)
        return arn

    def event_tracker(self, group: str, name: str) -> str:
        """The tracking id of the group's event tracker; a group has at most one, of any name."""
        what = f"the event tracker of {name}"

        def find() -> str | None:
            entries = self._calls.pages(
                "list_event_trackers", "eventTrackers", datasetGroupArn=group
            )
            return next((str(entry["eventTrackerArn"]) for entry in entries), None)

        arn = self._find_or_create(
            what,
            find,
            lambda: self._calls.call(
                "create_event_tracker", again=_USED, name=name, datasetGroupArn=group
            )["eventTrackerArn"],
            exists=frozenset((EXISTS, LIMIT)),
        )

        def describe() -> Mapping[str, Any]:
            return self._describe("event_tracker", "eventTracker", arn)

        self._waiting.until_active(describe, what)
        return str(describe()["trackingId"])

    def solution(self, group: str, name: str, recipe: str) -> str:
        """The solution; raises ImportsError for one of that name with another recipe."""
        what = f"the solution {name}"
        arn = self._find_or_create(
            what,
            lambda: self._find_listed(
                "list_solutions", "solutions", "solutionArn", name, datasetGroupArn=group
            ),
            lambda: self._calls.call(
                "create_solution",
                again=_USED,
                name=name,
                datasetGroupArn=group,
                recipeArn=recipe,
                # Each import starts its training, so that the data of a model are known.
                performAutoTraining=False,
            )["solutionArn"],
        )
        self._waiting.until_active(lambda: self._describe("solution", "solution", arn), what)
        before = self._describe("solution", "solution", arn).get("recipeArn")
        if before != recipe:
            raise ImportsError(
                f"{what} has the recipe {before}, not {recipe}; a solution keeps its recipe. "
                "Choose another name, or delete it."
            )
        return arn

    def campaign(self, name: str, solution: str, version: str) -> str:
        """The campaign, with this solution version deployed."""
        what = f"the campaign {name}"
        arn = self._find_or_create(
            what,
            lambda: self._find_listed(
                "list_campaigns", "campaigns", "campaignArn", name, solutionArn=solution
            ),
            lambda: self._calls.call(
                "create_campaign",
                again=_USED,
                name=name,
                solutionVersionArn=version,
                minProvisionedTPS=1,
            )["campaignArn"],
        )

        def describe() -> dict[str, Any]:
            return self._describe("campaign", "campaign", arn)

        self._waiting.until_active(describe, what)
        self._finish_update(describe, what)
        if describe()["solutionVersionArn"] != version:
            self._calls.call(
                "update_campaign", again=_USED, campaignArn=arn, solutionVersionArn=version
            )
            self._finish_update(describe, what)
        after = describe()
        if after["solutionVersionArn"] != version:
            reason = after.get("latestCampaignUpdate", {}).get("failureReason", "no reason given")
            raise ImportsError(
                f"{what} still answers from {after['solutionVersionArn']}: {reason}. Run the same "
                "command again."
            )
        return arn

    def filter(self, group: str, name: str, expression: str) -> str:
        """A filter with this expression; one of that name with another is recreated."""
        what = f"the filter {name}"

        def find() -> str | None:
            return self._find_listed(
                "list_filters", "Filters", "filterArn", name, datasetGroupArn=group
            )

        def create() -> str:
            return str(
                self._calls.call(
                    "create_filter",
                    again=_USED,
                    name=name,
                    datasetGroupArn=group,
                    filterExpression=expression,
                )["filterArn"]
            )

        present = find()
        if present is not None:
            described = self._describe("filter", "filter", present)
            is_leaving = described["status"].startswith("DELETE")
            if is_leaving or described["filterExpression"] != expression:
                if not is_leaving:
                    self._progress(f"{what}: has another expression and is recreated")
                    self._calls.call("delete_filter", again=_USED, filterArn=present)
                self._waiting.until_gone(lambda: self._describe("filter", "filter", present), what)
        arn = self._find_or_create(what, find, create)
        self._waiting.until_active(lambda: self._describe("filter", "filter", arn), what)
        return arn

    def _replace_schema(self, arn: str, what: str, before: str, schema: str) -> None:
        self._progress(f"{what}: gets the schema {schema}")
        try:
            self._calls.call("update_dataset", again=_USED, datasetArn=arn, schemaArn=schema)
        except ServiceRefused as refused:
            raise ImportsError(
                f"{what} has the schema {before}, which cannot become {schema}: {refused}. "
                "Choose another name: that creates a new dataset group."
            ) from refused
        self._waiting.until_active(
            lambda: {"status": ACTIVE, **self._update_of_dataset(arn)}, f"the schema of {what}"
        )

    def _update_of_dataset(self, arn: str) -> dict[str, Any]:
        update: dict[str, Any] = self._describe("dataset", "dataset", arn).get(
            "latestDatasetUpdate", {}
        )
        return update

    def _finish_update(self, describe: Callable[[], dict[str, Any]], what: str) -> None:
        """Wait for the end of an update under way."""

        def has_ended() -> bool:
            status: str = describe().get("latestCampaignUpdate", {}).get("status", ACTIVE)
            return status == ACTIVE or status.endswith("FAILED")

        if not has_ended():
            self._progress(f"{what}: deploys another solution version")
            self._calls.wait(has_ended, f"the update of {what}")

    def _find_or_create(
        self,
        what: str,
        find: Callable[[], str | None],
        create: Callable[[], Any],
        exists: frozenset[str] = frozenset((EXISTS,)),
    ) -> str:
        arn = find()
        if arn is not None:
            return arn
        try:
            arn = str(create())
        except ServiceRefused as refused:
            if refused.code not in exists:
                raise
            # Created by a call whose answer was lost, or by another process meanwhile.
            arn = find()
            if arn is None:
                raise ImportsError(
                    f"{what} exists elsewhere: {refused}. Choose another name."
                ) from refused
            return arn
        self._progress(f"{what}: created")
        return arn

    def _find_listed(
        self, operation: str, listed: str, arn_member: str, name: str, **members: Any
    ) -> str | None:
        for entry in self._calls.pages(operation, listed, **members):
            if entry["name"] == name:
                return str(entry[arn_member])
        return None

    def _describe(self, operation: str, member: str, arn: str) -> dict[str, Any]:
        members: dict[str, Any] = {f"{member}Arn": arn}
        return dict(self._calls.call(f"describe_{operation}", **members)[member])
