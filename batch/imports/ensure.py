"""Steps that end with one resource of a fixed name, whether it was there before or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from batch.imports.calls import EXISTS, IN_USE, LIMIT, Calls
from batch.imports.errors import ImportsError, ServiceRefused
from batch.imports.plan import DatasetType
from batch.imports.states import ACTIVE, Waiting

_USED: Final = frozenset((IN_USE,))


class Ensure:
    """Each method returns the ARN of a resource that is ACTIVE (the tracker's: its tracking id)."""

    def __init__(self, calls: Calls, progress: Callable[[str], None]) -> None:
        self._calls = calls
        self._progress = progress
        self._waiting = Waiting(calls, progress)

    def schema(self, name: str, text: str) -> str:
        """A schema; its name says what is in it, so one of that name is the same."""
        return self._found_or_made(
            f"the schema {name}",
            lambda: self._listed("list_schemas", "schemas", "schemaArn", name),
            lambda: self._calls.call("create_schema", name=name, schema=text)["schemaArn"],
        )

    def dataset_group(self, name: str) -> str:
        """The dataset group."""
        what = f"the dataset group {name}"
        arn = self._found_or_made(
            what,
            lambda: self._listed("list_dataset_groups", "datasetGroups", "datasetGroupArn", name),
            lambda: self._calls.call("create_dataset_group", name=name)["datasetGroupArn"],
        )
        self._waiting.until_active(
            lambda: self._described("dataset_group", "datasetGroup", arn), what
        )
        return arn

    def dataset(self, group: str, dataset: DatasetType, name: str, schema: str) -> str:
        """A group's dataset of a type, with this schema: one with another gets it instead."""
        what = f"the dataset {name}"

        def find() -> str | None:
            for entry in self._calls.pages("list_datasets", "datasets", datasetGroupArn=group):
                if entry["datasetType"].upper() == dataset.value.upper():
                    return str(entry["datasetArn"])
            return None

        arn = self._found_or_made(
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
        self._waiting.until_active(lambda: self._described("dataset", "dataset", arn), what)
        before = self._described("dataset", "dataset", arn)["schemaArn"]
        if before != schema:
            self._replace_schema(arn, what, before, schema)
        return arn

    def event_tracker(self, group: str, name: str) -> str:
        """The group's event tracker, whatever its name: there can be one. Its tracking id."""
        what = f"the event tracker of {name}"

        def find() -> str | None:
            entries = self._calls.pages(
                "list_event_trackers", "eventTrackers", datasetGroupArn=group
            )
            return next((str(entry["eventTrackerArn"]) for entry in entries), None)

        arn = self._found_or_made(
            what,
            find,
            lambda: self._calls.call(
                "create_event_tracker", again=_USED, name=name, datasetGroupArn=group
            )["eventTrackerArn"],
            exists=frozenset((EXISTS, LIMIT)),
        )

        def describe() -> Mapping[str, Any]:
            return self._described("event_tracker", "eventTracker", arn)

        self._waiting.until_active(describe, what)
        return str(describe()["trackingId"])

    def solution(self, group: str, name: str, recipe: str) -> str:
        """The solution; one of that name with another recipe is refused."""
        what = f"the solution {name}"
        arn = self._found_or_made(
            what,
            lambda: self._listed(
                "list_solutions", "solutions", "solutionArn", name, datasetGroupArn=group
            ),
            lambda: self._calls.call(
                "create_solution",
                again=_USED,
                name=name,
                datasetGroupArn=group,
                recipeArn=recipe,
                # Each import asks for its training, so that it is known what a model was made of.
                performAutoTraining=False,
            )["solutionArn"],
        )
        self._waiting.until_active(lambda: self._described("solution", "solution", arn), what)
        before = self._described("solution", "solution", arn).get("recipeArn")
        if before != recipe:
            raise ImportsError(
                f"{what} has the recipe {before}, not {recipe}; a solution keeps its recipe. "
                "Choose another name, or delete it."
            )
        return arn

    def campaign(self, name: str, solution: str, version: str) -> str:
        """The campaign, with this solution version deployed."""
        what = f"the campaign {name}"
        arn = self._found_or_made(
            what,
            lambda: self._listed(
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
            return self._described("campaign", "campaign", arn)

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
        """A filter with this expression: one of that name with another is made anew."""
        what = f"the filter {name}"

        def find() -> str | None:
            return self._listed("list_filters", "Filters", "filterArn", name, datasetGroupArn=group)

        def make() -> str:
            return str(
                self._calls.call(
                    "create_filter",
                    again=_USED,
                    name=name,
                    datasetGroupArn=group,
                    filterExpression=expression,
                )["filterArn"]
            )

        there = find()
        if there is not None:
            described = self._described("filter", "filter", there)
            is_leaving = described["status"].startswith("DELETE")
            if is_leaving or described["filterExpression"] != expression:
                if not is_leaving:
                    self._progress(f"{what}: has another expression and is made anew")
                    self._calls.call("delete_filter", again=_USED, filterArn=there)
                self._waiting.until_gone(lambda: self._described("filter", "filter", there), what)
        arn = self._found_or_made(what, find, make)
        self._waiting.until_active(lambda: self._described("filter", "filter", arn), what)
        return arn

    def _replace_schema(self, arn: str, what: str, before: str, schema: str) -> None:
        self._progress(f"{what}: gets the schema {schema}")
        try:
            self._calls.call("update_dataset", again=_USED, datasetArn=arn, schemaArn=schema)
        except ServiceRefused as refused:
            raise ImportsError(
                f"{what} has the schema {before}, which cannot become {schema}: {refused}. "
                "Choose another name: it makes a new dataset group."
            ) from refused
        self._waiting.until_active(
            lambda: {"status": ACTIVE, **self._update_of_dataset(arn)}, f"the schema of {what}"
        )

    def _update_of_dataset(self, arn: str) -> dict[str, Any]:
        update: dict[str, Any] = self._described("dataset", "dataset", arn).get(
            "latestDatasetUpdate", {}
        )
        return update

    def _finish_update(self, describe: Callable[[], dict[str, Any]], what: str) -> None:
        """Waits for an update under way, however it ends."""

        def look() -> bool:
            status: str = describe().get("latestCampaignUpdate", {}).get("status", ACTIVE)
            return status == ACTIVE or status.endswith("FAILED")

        if not look():
            self._progress(f"{what}: deploys another solution version")
            self._calls.wait(look, f"the update of {what}")

    def _found_or_made(
        self,
        what: str,
        find: Callable[[], str | None],
        make: Callable[[], Any],
        exists: frozenset[str] = frozenset((EXISTS,)),
    ) -> str:
        found = find()
        if found is not None:
            return found
        try:
            made = str(make())
        except ServiceRefused as refused:
            if refused.code not in exists:
                raise
            # Made by a call whose answer was lost, or by somebody else in between.
            found = find()
            if found is None:
                raise ImportsError(
                    f"{what} exists, but not where it is looked for: {refused}. Choose another "
                    "name."
                ) from refused
            return found
        self._progress(f"{what}: created")
        return made

    def _listed(
        self, operation: str, listed: str, arn_member: str, name: str, **members: Any
    ) -> str | None:
        for entry in self._calls.pages(operation, listed, **members):
            if entry["name"] == name:
                return str(entry[arn_member])
        return None

    def _described(self, operation: str, member: str, arn: str) -> dict[str, Any]:
        members: dict[str, Any] = {f"{member}Arn": arn}
        found: dict[str, Any] = self._calls.call(f"describe_{operation}", **members)[member]
        return found
