"""The base of the Python functions of the SQL.

A function is pickled into the job, so it holds settings only; everything else is created in
``open``.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from pyflink.table import StreamTableEnvironment
from pyflink.table.udf import ScalarFunction, udf

from connectors.clock import now_ms
from connectors.flink.code_folder import keep_code_folder
from connectors.glue.registry import GlueRegistry
from jobs.dead_letter_limit import DeadLetterLimit
from jobs.decode import DimensionDecoder
from jobs.settings import LimitSettings, RegistrySettings
from schemas.codec import Decoder, Encoder, RegisteredSchema
from schemas.dead_letter import DeadLetters, Step
from schemas.errors import SettingError
from schemas.model import BUILT_IN_FOLDER, Contracts, Role, load_contracts


@dataclass(frozen=True, slots=True)
class Opened:
    """The contracts and a connection to the registry, as an open function has them."""

    contracts: Contracts
    registry: GlueRegistry

    def version_id(self, role: Role) -> UUID:
        """The registry's id of the newest version of a role's contract; raises RegistryError."""
        return self.registry.version_id(self.contracts.only(role))

    def decoder(self, role: Role) -> Decoder:
        """The decoder of the one topic of a role."""
        return Decoder(self.contracts.only(role), self.registry)

    def encoder(self, role: Role) -> Encoder:
        """The encoder of the one topic of a role."""
        return Encoder(self.contracts.only(role), self.version_id(role))

    def dimension_decoder(self, role: Role) -> DimensionDecoder:
        """The decoder of the topics of users or items."""
        dead_letters = self.dead_letters(Step.DECODE)
        return DimensionDecoder(self.contracts, role, self.registry, dead_letters)

    def dead_letters(self, step: Step) -> DeadLetters:
        """Dead letters of a step."""
        return DeadLetters(self.encoder(Role.DEAD_LETTER), step, now_ms)


class RegistryFunction(ScalarFunction):
    """A function that uses the registry; ``name`` and ``result_type`` are those of the SQL."""

    name: str
    result_type: str

    def __init__(self, registry: RegistrySettings, extra_contracts: tuple[Path, ...]) -> None:
        self._registry = registry
        self._extra_contracts = extra_contracts
        # Pickled into the job: the same after each restart, another one in a new submission.
        self._token = uuid4().hex

    def is_deterministic(self) -> bool:
        """False: a record is decoded by the schemas that the registry has at the time."""
        return False

    def connect(self) -> Opened:
        """Load the contracts and connect to the registry."""
        keep_code_folder()
        contracts = load_contracts((BUILT_IN_FOLDER, *self._extra_contracts))
        return Opened(contracts, connect_registry(self._registry, contracts))

    def dead_letter_limit(self, settings: LimitSettings) -> DeadLetterLimit:
        """The limit on this function's dead letters, also after a restart."""
        kept = Path(tempfile.gettempdir(), f"tunemesh-dead-letters-{self._token}.json")
        return DeadLetterLimit(self.name, settings, kept)


def connect_registry(
    settings: RegistrySettings, contracts: Contracts, *, wait_seconds: int = 0
) -> GlueRegistry:
    """The registry of an application, which knows the versions in the settings."""
    return GlueRegistry.connect(
        settings.region,
        settings.endpoint_url,
        settings.name,
        known=known_versions(settings, contracts),
        wait_seconds=wait_seconds,
    )


def known_versions(
    settings: RegistrySettings, contracts: Contracts
) -> dict[bytes, RegisteredSchema]:
    """The schema versions in the settings; raises SettingError for one that no contract has."""
    known = {}
    for version_id, name, number in settings.versions:
        contract = next((contract for contract in contracts if contract.name == name), None)
        if contract is None or not 1 <= number <= len(contract.versions):
            raise SettingError(
                "the property 'versions' of the group 'tunemesh.registry'",
                f"{version_id}={name}.v{number}",
                "a version of one of the contracts",
            )
        definition = contract.versions[number - 1].definition
        known[version_id.bytes] = RegisteredSchema(contract.subject, definition)
    return known


def register_functions(tables: StreamTableEnvironment, *functions: RegistryFunction) -> None:
    """Create functions under their names."""
    for function in functions:
        wrapped = udf(function, result_type=function.result_type)
        tables.create_temporary_function(function.name, wrapped)
