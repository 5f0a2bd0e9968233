"""What an application knows of the registry from its start on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import botocore.exceptions
import pytest

from connectors.glue.registry import GlueRegistry, RegistryError
from jobs.functions import known_versions
from jobs.main import registered_versions
from jobs.settings import RegistrySettings
from schemas.codec import RegisteredSchema
from schemas.errors import SettingError
from schemas.model import Contract, load_contracts
from schemas.settings import read
from tests.support.clock import StoppedTime

CONTRACTS = load_contracts()
DEFINITIONS = [(c, v) for c in CONTRACTS for v in c.versions]
LOST = UUID(int=999)


class Glue:
    """Has the versions of contracts, numbered from 1; refuses the first calls."""

    def __init__(self, *, lacks: tuple[str, ...] = (), refuses: int = 0) -> None:
        self.refuses = refuses
        self.lacks = lacks
        self.meta = SimpleNamespace(endpoint_url="http://registry")

    def get_schema_by_definition(self, **request: Any) -> dict[str, Any]:
        if self.refuses:
            self.refuses -= 1
            raise botocore.exceptions.EndpointConnectionError(endpoint_url="http://registry")
        if request["SchemaId"]["SchemaName"] in self.lacks:
            raise self.not_found()
        (number,) = (
            number
            for number, (_, version) in enumerate(DEFINITIONS, 1)
            if version.definition == request["SchemaDefinition"]
        )
        return {"SchemaVersionId": str(UUID(int=number)), "Status": "AVAILABLE"}

    def get_schema(self, **_: Any) -> dict[str, Any]:
        raise self.not_found()

    def not_found(self) -> botocore.exceptions.ClientError:
        return botocore.exceptions.ClientError(
            {"Error": {"Code": "EntityNotFoundException", "Message": "no such schema"}},
            "GetSchema",
        )


def start(glue: Glue, **settings: Any) -> RegistrySettings:
    registry = GlueRegistry(glue, clock=StoppedTime().clock, wait_seconds=300)
    return registered_versions(CONTRACTS, RegistrySettings("eu-west-1", **settings), registry)


def test_a_running_application_needs_no_version_that_was_registered_at_its_start() -> None:
    """One that is deleted later is known to each function, also after a restart."""
    settings = start(Glue(refuses=20), versions=((LOST, "users", 1),))
    registered = {
        UUID(int=number).bytes: RegisteredSchema(contract.subject, version.definition)
        for number, (contract, version) in enumerate(DEFINITIONS, 1)
    }
    users = CONTRACTS["users"]
    lost = {LOST.bytes: RegisteredSchema(users.subject, users.versions[0].definition)}
    assert known_versions(settings, CONTRACTS) == registered | lost


@pytest.mark.parametrize("contract", list(CONTRACTS), ids=lambda contract: contract.name)
def test_what_the_application_writes_must_be_registered(contract: Contract) -> None:
    """A domain that publishes nothing yet need not be."""
    glue = Glue(lacks=(contract.subject,))
    if contract in CONTRACTS.sources:
        assert contract.name not in {name for _, name, _ in start(glue).versions}
    else:
        with pytest.raises(RegistryError, match=rf"{contract.name}.v\d+ is not registered"):
            start(glue)


@pytest.mark.parametrize("text", [f"{LOST}", f"{LOST}=users", f"{LOST}=users.vx", "x=users.v1"])
def test_an_unreadable_version_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match=r"'versions'.*ID=CONTRACT.vN"):
        read(RegistrySettings, {"tunemesh.registry": {"region": "r", "versions": text}})


@pytest.mark.parametrize("version", ["users.v9", "users.v0", "nobody.v1"])
def test_a_version_that_no_contract_has_is_refused(version: str) -> None:
    groups = {"tunemesh.registry": {"region": "r", "versions": f"{LOST}={version}"}}
    with pytest.raises(SettingError, match=rf"{LOST}={version}"):
        known_versions(read(RegistrySettings, groups), CONTRACTS)
