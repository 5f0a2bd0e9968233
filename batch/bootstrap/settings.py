"""Settings of the bootstrap: property groups -> a frozen dataclass, checked at the start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from connectors.flink.properties import RUN_OPTIONS, Group, Groups, SettingError, refuse_unknown

GROUP = "tunemesh.bootstrap"
PRODUCTS = "tunemesh.products"
COLUMNS = "tunemesh.columns"

_KNOWN = {GROUP: {"output", "run", "since", "until", "region", "endpoint.url"}}
_RUN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Window:
    """Which interactions: published at ``since`` or later and before ``until`` (epoch
    milliseconds; None: no bound)."""

    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class BootstrapSettings:
    """Everything that the bootstrap is told.

    ``output``: where runs are, ``s3://bucket/prefix`` or ``file:///folder``; ``run``: the name of
    this one, below it. ``window``: which interactions.
    ``products``: location or manifest, by contract; ``columns``: what may be read, for contracts
    where that is not everything.
    """

    output: str
    run: str
    products: Mapping[str, str]
    columns: Mapping[str, tuple[str, ...]]
    region: str
    window: Window = Window()
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
        window=Window(group.moment("since"), group.moment("until")),
        endpoint_url=group.optional("endpoint.url"),
        jars=tuple(j for j in (run_options.optional("jarfile") or "").split(";") if j),
    )


def _address(group: str, name: str, value: str) -> str:
    if not value.startswith(("s3://", "file:///")):
        raise SettingError(group, name, value, "s3://bucket/prefix or file:///folder")
    return value
