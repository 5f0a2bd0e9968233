"""Types of option values. They are checked before a command connects to a service."""

from __future__ import annotations

import math
from typing import Any

import click

from connectors.clock import now_ms
from connectors.products.location import Location
from schemas.model import Contract, ContractError, Role, load_contracts
from schemas.settings import Kind, matching
from schemas.timestamps import epoch_ms


class _PastTime(click.ParamType[int]):
    """Epoch milliseconds or ISO 8601, as epoch milliseconds; a later time than now is refused.

    What is published until a future T would be neither imported now nor streamed afterwards.
    """

    name = "T"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            timestamp = epoch_ms(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        now = now_ms()
        if timestamp > now:
            self.fail(f"{value} is in the future; it is {now} (epoch ms) now", param, ctx)
        return timestamp


PAST_TIME = _PastTime()


class FiniteRange(click.FloatRange):
    """A range of numbers without nan, which is in every range of click, and without infinity."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class _ContractType(click.ParamType[Contract]):
    """The name of a contract, with one of the roles if these are given."""

    name = "contract"

    def __init__(self, *roles: Role) -> None:
        self._roles = roles

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Contract:
        contracts = load_contracts()
        try:
            contract = contracts[value]
        except ContractError as error:
            self.fail(str(error), param, ctx)
        if self._roles and contract.role not in self._roles:
            expected = ", ".join(self._roles)
            self.fail(f"{value} has the role {contract.role}, expected {expected}", param, ctx)
        return contract


CONTRACT = _ContractType()
PRODUCT = _ContractType(Role.USER, Role.ITEM, Role.INTERACTION)
"""A contract whose domain has a data product."""


class _S3Location(click.ParamType[Location]):
    """``s3://BUCKET/PREFIX/``."""

    name = "S3"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        try:
            return Location.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


S3_LOCATION = _S3Location()


class _KindType(click.ParamType[str]):
    """Texts of a kind of settings."""

    def __init__(self, name: str, kind: Kind[str]) -> None:
        self.name = name
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return self._kind.parse(value)
        except ValueError:
            self.fail(f"{value!r} is no {self.name}; expected {self._kind.expected}", param, ctx)


def _name(what: str, pattern: str, length: int) -> _KindType:
    expected = f"up to {length} letters, digits, '.', '_' and '-'"
    return _KindType(what, matching(pattern, expected))


RUN_NAME = _name("run name", "[A-Za-z0-9][A-Za-z0-9._-]{0,99}", 100)
"""A part of a file name."""

APPLICATION_NAME = _name("application name", "[a-zA-Z0-9_.-]{1,128}", 128)
SNAPSHOT_NAME = _name("snapshot name", "[a-zA-Z0-9_.-]{1,256}", 256)
"""As Managed Flink allows them (API reference: ApplicationName, SnapshotName)."""

RECORD_ID = _KindType(
    "position of a record", matching(r"[^:]+:-?\d+:-?\d+", "TOPIC:PARTITION:OFFSET")
)
