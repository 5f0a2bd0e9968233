"""Settings of the bootstrap: property groups -> a frozen dataclass, checked at the start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from connectors.properties import RUN_OPTIONS, Group, Groups, SettingError, refuse_unknown

GROUP = "tunemesh.bootstrap"
PRODUCTS = "tunemesh.products"
COLUMNS = "tunemesh.columns"

_KNOWN = {GROUP: {"output", "run", "until", "region", "endpoint.url"}}
_RUN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class BootstrapSettings:
    """Everything that the bootstrap is told.

    ``output``: where runs are, ``s3://bucket/prefix`` or ``file:///folder``; ``run``: the name of
    this one, below it. ``until``: only interactions published before, epoch milliseconds.
    ``products``: location or manifest, by contract; ``columns``: what may be read, for contracts
    where that is not everything.
    """

    output: str
    run: str
    products: Mapping[str, str]
    columns: Mapping[str, tuple[str, ...]]
    region: str
    until: int | None = None
    endpoint_url: str | None = None
    jars: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The address of everything that this run puts."""
        return f"{self.output}/{self.run}"

    @property
    def work(self) -> str:
        """The address of the job's working folder, which is gone when the run has ended."""
        return f"{self.folder}/work"


def bootstrap_settings(groups: Groups) -> BootstrapSettings:
    """Settings from property groups; raises SettingError for the first that cannot be used."""
    refuse_unknown(groups, _KNOWN, (PRODUCTS, COLUMNS))
    group = Group(groups, GROUP)
    run_options = Group(groups, RUN_OPTIONS)
    run = group.text("run")
    if not _RUN.fullmatch(run):
        raise SettingError(GROUP, "run", run, "letters, digits, '.', '_' and '-'")
    output = _address(GROUP, "output", group.text("output"))
    until = group.optional("until")
    return BootstrapSettings(
        output=output.rstrip("/"),
        run=run,
        products={
            name: _address(PRODUCTS, name, value)
            for name, value in groups.get(PRODUCTS, {}).items()
        },
        columns={
            name: tuple(c.strip() for c in value.split(",") if c.strip())
            for name, value in groups.get(COLUMNS, {}).items()
        },
        region=group.text("region"),
        until=None if until is None else moment(until),
        endpoint_url=group.optional("endpoint.url"),
        jars=tuple(j for j in (run_options.optional("jarfile") or "").split(";") if j),
    )


def moment(text: str) -> int:
    """Epoch milliseconds of a text: such a number, or ISO 8601 with an offset."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise SettingError(
            GROUP, "until", text, "epoch milliseconds, or a time such as 2026-11-23T12:00:00Z"
        )
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return int(since.total_seconds() * 1000)


def _address(group: str, name: str, value: str) -> str:
    if not value.startswith(("s3://", "file:///")):
        raise SettingError(group, name, value, "s3://bucket/prefix or file:///folder")
    return value
