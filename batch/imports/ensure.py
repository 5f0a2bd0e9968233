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
            "schema", f"the schema {name}", {}, {"name": name, "schema": text}
        )

    def dataset_group(self, name: str) -> str:
        """The dataset group."""
        what = f"the dataset group {name}"
        arn = self._find_or_create("dataset_group", what, {}, {"name": name})
        self._wait_active("dataset_group", arn, what)
        return arn

    def dataset(self, group: str, dataset: DatasetType, name: str, schema: str) -> str:
        """A group's dataset of a type, with this schema, which replaces another one."""
        what, in_group = f"the dataset {name}", {"datasetGroupArn": group}
        arn = self._find_or_create(
            "dataset",
            what,
            in_group,
            {**in_group, "name": name, "datasetType": dataset.value, "schemaArn": schema},
            lambda entry: entry["datasetType"].upper() == dataset.value.upper(),
        )
        before = self._wait_active("dataset", arn, what)["schemaArn"]
        if before != schema:
            self._replace_schema(arn, what, before, schema)
        return arn

    def event_tracker(self, group: str, name: str) -> str:
        """The tracking id of the group's event tracker; a group has at most one, of any name."""
        what, in_group = f"the event tracker of {name}", {"datasetGroupArn": group}
        arn = self._find_or_create(
            "event_tracker", what, in_group, {**in_group, "name": name}, lambda entry: True
        )
        return str(self._wait_active("event_tracker", arn, what)["trackingId"])

    def solution(self, group: str, name: str, recipe: str) -> str:
        """The solution; raises ImportsError for one of that name with another recipe."""
        what, in_group = f"the solution {name}", {"datasetGroupArn": group}
        # Each import starts its training, so that the data of a model are known.
        members = {"name": name, "recipeArn": recipe, "performAutoTraining": False, **in_group}
        arn = self._find_or_create("solution", what, in_group, members)
        before = self._wait_active("solution", arn, what).get("recipeArn")
        if before != recipe:
            raise ImportsError(
                f"{what} has the recipe {before}, not {recipe}; a solution keeps its recipe. "
                "Choose another name, or delete it."
            )
        return arn

    def campaign(self, name: str, solution: str, version: str) -> str:
        """The campaign, with this solution version deployed."""
        what = f"the campaign {name}"
        members = {"name": name, "solutionVersionArn": version, "minProvisionedTPS": 1}
        arn = self._find_or_create("campaign", what, {"solutionArn": solution}, members)
        self._wait_active("campaign", arn, what)
        self._finish_update(arn, what)
        if self._describe("campaign", arn)["solutionVersionArn"] != version:
            self._calls.call(
                "update_campaign", again=_USED, campaignArn=arn, solutionVersionArn=version
            )
            self._finish_update(arn, what)
        after = self._describe("campaign", arn)
        if after["solutionVersionArn"] != version:
            reason = after.get("latestCampaignUpdate", {}).get("failureReason", "no reason given")
            raise ImportsError(
                f"{what} still answers from {after['solutionVersionArn']}: {reason}. Run the same "
                "command again."
            )
        return arn

    def filter(self, group: str, name: str, expression: str) -> str:
        """A filter with this expression; one of that name with another is recreated."""
        what, in_group = f"the filter {name}", {"datasetGroupArn": group}
        present = self._find("filter", in_group, lambda entry: entry["name"] == name)
        if present is not None:
            described = self._describe("filter", present)
            is_leaving = described["status"].startswith("DELETE")
            if is_leaving or described["filterExpression"] != expression:
                if not is_leaving:
                    self._progress(f"{what}: has another expression and is recreated")
                    self._calls.call("delete_filter", again=_USED, filterArn=present)
                self._waiting.until_gone(lambda: self._describe("filter", present), what)
        members = {"name": name, "filterExpression": expression, **in_group}
        arn = self._find_or_create("filter", what, in_group, members)
        self._wait_active("filter", arn, what)
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
        return dict(self._describe("dataset", arn).get("latestDatasetUpdate", {}))

    def _finish_update(self, campaign: str, what: str) -> None:
        """Wait for the end of an update under way."""

        def has_ended() -> bool:
            update = self._describe("campaign", campaign).get("latestCampaignUpdate", {})
            status: str = update.get("status", ACTIVE)
            return status == ACTIVE or status.endswith("FAILED")

        if not has_ended():
            self._progress(f"{what}: deploys another solution version")
            self._calls.wait(has_ended, f"the update of {what}")

    def _find_or_create(
        self,
        kind: str,
        what: str,
        parent: Mapping[str, str],
        members: Mapping[str, Any],
        matches: Callable[[dict[str, Any]], bool] | None = None,
    ) -> str:
        """The ARN of the resource below the parent that matches, by default by its name."""
        matches = matches or (lambda entry: bool(entry["name"] == members["name"]))
        arn = self._find(kind, parent, matches)
        if arn is not None:
            return arn
        try:
            arn = self._calls.call(f"create_{kind}", again=_USED, **members)[f"{_member(kind)}Arn"]
        except ServiceRefused as refused:
            if refused.code not in ((EXISTS, LIMIT) if kind == "event_tracker" else (EXISTS,)):
                raise
            # Created by a call whose answer was lost, or by another process meanwhile.
            arn = self._find(kind, parent, matches)
            if arn is None:
                raise ImportsError(
                    f"{what} exists elsewhere: {refused}. Choose another name."
                ) from refused
            return arn
        self._progress(f"{what}: created")
        return str(arn)

    def _find(
        self, kind: str, parent: Mapping[str, str], matches: Callable[[dict[str, Any]], bool]
    ) -> str | None:
        listed = "Filters" if kind == "filter" else f"{_member(kind)}s"
        entries = self._calls.pages(f"list_{kind}s", listed, **parent)
        return next((str(e[f"{_member(kind)}Arn"]) for e in entries if matches(e)), None)

    def _describe(self, kind: str, arn: str) -> dict[str, Any]:
        members: dict[str, Any] = {f"{_member(kind)}Arn": arn}
        return dict(self._calls.call(f"describe_{kind}", **members)[_member(kind)])

    def _wait_active(self, kind: str, arn: str, what: str) -> dict[str, Any]:
        self._waiting.until_active(lambda: self._describe(kind, arn), what)
        return self._describe(kind, arn)


def _member(kind: str) -> str:
    """The name of a kind (as in boto3) in requests and responses: `datasetGroup`."""
    first, *others = kind.split("_")
    return first + "".join(other.capitalize() for other in others)
