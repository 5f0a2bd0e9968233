"""PutUsers and PutItems through the sink engine, with a service that fails on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, ClassVar

import pytest

from connectors.aws import Answer, NoAnswer
from connectors.delivery import (
    Delivered,
    DeliveryEngine,
    DeliverySettings,
    FatalDeliveryError,
    Rejected,
    Superseded,
)
from connectors.personalize.dataset_destination import (
    PutDatasetSettings,
    PutRecordsDestination,
    put_items_destination,
    put_users_destination,
)
from connectors.personalize.datasets import ITEMS, USERS, Dataset, DatasetRecord, dataset_fields
from schemas.errors import SettingError
from schemas.model import load_contracts
from tests.support.delivery_contract import ReplacingDestinationContract
from tests.support.delivery_fakes import VIRTUAL_CLOCK, run
from tests.support.delivery_service import FakeService, ServiceHarness

CONTRACTS = load_contracts()
ARN = "arn:aws:personalize:us-east-1:111122223333:dataset/tunemesh"


class PutRecords(FakeService):
    """A dataset whose records are replaced by id."""

    troubles: ClassVar = {
        "throttled": Answer(400, "ThrottlingException", "Rate exceeded"),
        "server error": Answer(409, "ResourceInUseException", "The dataset is in use"),
        "connection lost": NoAnswer("ServerDisconnectedError"),
        "fatal": Answer(404, "ResourceNotFoundException", "The dataset does not exist"),
    }

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self.dataset = dataset
        self.accepted: list[tuple[str, dict[str, Any]]] = []

    def read(self, path: str, body: bytes) -> list[tuple[str, dict[str, Any]]]:
        assert path == self.dataset.path
        request = json.loads(body)
        assert request["datasetArn"] == ARN + self.dataset.arn_ending
        entries = request[self.dataset.member]
        assert 1 <= len(entries) <= 10
        return [(e[self.dataset.id_member], json.loads(e["properties"])) for e in entries]

    def answer(self, request: list[tuple[str, dict[str, Any]]], call: int) -> Answer:
        if any("refused" in properties.values() for _, properties in request):
            return Answer(400, "InvalidInputException", "a value is not in the schema")
        self.accepted += request
        return Answer(200)


def user(key: int, number: int, country: str = "IS") -> DatasetRecord:
    record = {"country": country, "age_band": "25-34", "created_at": number * 1000, "origin": "o"}
    return DatasetRecord(f"u-{key}", (number, 7), record)


def item(key: int, number: int, title: str = "Jóga") -> DatasetRecord:
    record = {"title": title, "genres": ["pop"], "created_at": number * 1000, "origin": "o"}
    return DatasetRecord(f"s-{key}", (number, 7), record)


class DatasetHarness(ServiceHarness):
    """The service would say 10 calls a second; here it is more, as the contract is not about it."""

    def __init__(self, dataset: Dataset, calls_per_second: float = 1_000.0) -> None:
        self.service = PutRecords(dataset)
        self._make: Callable[..., DatasetRecord] = user if dataset is USERS else item
        settings = PutDatasetSettings(
            ARN + dataset.arn_ending,
            "us-east-1",
            calls_per_second=calls_per_second,
            max_in_flight=8,
        )
        fields = dataset_fields(CONTRACTS, dataset)
        super().__init__(
            self.service, PutRecordsDestination(self.service, dataset, settings, fields)
        )

    def record(self, key: int, number: int) -> DatasetRecord:
        return self._make(key, number)

    def refused_record(self, key: int, number: int) -> DatasetRecord:
        return self._make(key, number, "refused")

    def oversize_record(self, key: int, number: int) -> DatasetRecord:
        return self._make(key, number, "x" * 1001)

    def accepted(self) -> list[tuple[int, int]]:
        return [
            (int(id.partition("-")[2]), properties["creationTimestamp"])
            for id, properties in self.service.accepted
        ]


class TestUsersContract(ReplacingDestinationContract):
    make_harness = partial(DatasetHarness, USERS)


class TestItemsContract(ReplacingDestinationContract):
    make_harness = partial(DatasetHarness, ITEMS)


def deliver(harness: DatasetHarness, *batches: list[DatasetRecord]) -> tuple[list[Any], float]:
    """Delivers the batches side by side; outcomes in order, and the seconds that it took."""

    async def main() -> tuple[list[Any], float]:
        engine: DeliveryEngine[Any, Any] = DeliveryEngine(
            harness.destination, random=Random(1), clock=VIRTUAL_CLOCK, settings=DeliverySettings()
        )
        async with engine:
            outcomes = await asyncio.gather(*(engine.deliver(batch) for batch in batches))
            return [one for batch in outcomes for one in batch], VIRTUAL_CLOCK.monotonic()

    return run(main())


def test_a_backlog_of_updates_takes_the_time_of_its_songs() -> None:
    """2,000 updates of 400 songs at 10 calls a second: four seconds and hardly more."""
    harness = DatasetHarness(ITEMS, calls_per_second=10.0)
    records = [item(n % 400, n) for n in range(2_000)]
    Random(3).shuffle(records)
    outcomes, seconds = deliver(harness, *(records[at : at + 200] for at in range(0, 2_000, 200)))
    assert seconds < 1.1 * 400 / 100
    assert set(outcomes) == {Delivered(), Superseded()}
    newest = {f"s-{n % 400}": n for n in range(1_600, 2_000)}
    assert {
        id: one["creationTimestamp"] for id, one in dict(harness.service.accepted).items()
    } == newest


@pytest.mark.parametrize("dataset", [USERS, ITEMS])
def test_a_missing_dataset_is_fatal_and_says_what_to_check(dataset: Dataset) -> None:
    """Not the event tracker, which these calls have nothing to do with."""
    harness = DatasetHarness(dataset)
    harness.fail_next(1, "fatal")
    with pytest.raises(FatalDeliveryError, match=r"dataset ARN.*list-datasets") as caught:
        deliver(harness, [harness.record(0, 0)])
    assert dataset.operation in str(caught.value)
    assert "track" not in str(caught.value)


def test_a_dataset_in_use_is_waited_for() -> None:
    """ResourceInUseException: another operation holds it, and lets go of it again."""
    harness = DatasetHarness(ITEMS)
    harness.service.trouble = ["server error"] * 20
    assert deliver(harness, [item(0, 0)])[0] == [Delivered()]


def test_what_does_not_fit_costs_no_call() -> None:
    """It is rejected with the field's name, and the others go."""
    harness = DatasetHarness(USERS)
    outcomes, _ = deliver(harness, [user(1, 0), user(2, 0, "x" * 1001)])
    assert outcomes == [
        Delivered(),
        Rejected("InvalidRecord", "country has 1001 characters, at most 1000"),
    ]
    assert harness.calls == 1


SETTINGS = {"dataset_arn": ARN + "/ITEMS", "region": "us-east-1", "endpoint_url": "http://x:1"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("dataset_arn", ""),
        ("dataset_arn", "arn:aws:s3:::bucket"),
        ("dataset_arn", f"{ARN}/{'x' * 256}"),
        ("request_timeout", 0),
    ],
)
def test_a_bad_setting_is_named(setting: str, value: Any) -> None:
    """The start of the job stops with the name of the setting and what was expected."""
    with pytest.raises(SettingError, match=rf"{setting} .*expected"):
        PutDatasetSettings(**(SETTINGS | {setting: value}))


def test_the_arn_of_another_dataset_is_refused() -> None:
    """The service would refuse every record for it, and each would be a dead letter."""
    with pytest.raises(SettingError, match=r"PutUsers is .*; expected one that ends in /USERS"):
        put_users_destination(PutDatasetSettings(**SETTINGS))  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"PutItems is .*; expected one that ends in /ITEMS"):
        put_items_destination(PutDatasetSettings(ARN + "/USERS", "us-east-1", "http://x:1"))


def test_destinations_from_settings() -> None:
    """The quota is the service's unless the settings have another; nothing is opened yet."""
    items = put_items_destination(PutDatasetSettings(**SETTINGS))  # type: ignore[arg-type]
    assert items.name == "Amazon Personalize (PutItems)"
    assert (items.limits.calls_per_second, items.limits.max_records) == (10, 10)
    users = put_users_destination(
        PutDatasetSettings(ARN + "/USERS", "us-east-1", "http://x:1", 3, max_in_flight=2)
    )
    assert users.name == "Amazon Personalize (PutUsers)"
    assert (users.limits.calls_per_second, users.limits.max_in_flight) == (3, 2)
