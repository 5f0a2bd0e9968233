"""Settings of the bootstrap: property groups -> a frozen dataclass, checked at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from connectors.flink.properties import Groups, RunOptions
from schemas.settings import (
    TEXT,
    TIMESTAMP,
    Kind,
    group,
    matching,
    read,
    reject_unknown,
    rest,
    separated,
    setting,
)

GROUP = "tunemesh.bootstrap"
PRODUCTS = "tunemesh.products"
COLUMNS = "tunemesh.columns"

_ADDRESS = matching("(s3://|file:///).*", "s3://bucket/prefix or file:///folder")


@dataclass(frozen=True, slots=True)
class Window:
    """Which interactions: published at ``since`` or later and before ``until`` (epoch
    milliseconds; None: no bound)."""

    since: int | None = None
    until: int | None = None


@group(GROUP)
class BootstrapSettings:
    """All settings of the bootstrap."""

    output: str = setting(
        "output",
        Kind(_ADDRESS.expected, lambda text: _ADDRESS.parse(text).rstrip("/")),
        "location of the runs",
    )
    run: str = setting(
        "run",
        matching(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}", "letters, digits, '.', '_' and '-'"),
        "name of this run: its directory below `output`",
    )
    region: str = setting("region", TEXT, "AWS region of S3")
    endpoint_url: str | None = setting(
        "endpoint.url", TEXT, "endpoint of S3, if it is not the region's own", default=None
    )
    since: int | None = setting(
        "since",
        TIMESTAMP,
        "interactions published at this time or later; without it, from the first one",
        default=None,
    )
    until: int | None = setting(
        "until",
        TIMESTAMP,
        "interactions published before this time; without it, up to the last one",
        default=None,
    )
    products: Mapping[str, str] = rest(
        "a contract's name",
        _ADDRESS,
        "location of its data product (the current version), or of one version's `manifest.json`",
        group=PRODUCTS,
        default={},
    )
    columns: Mapping[str, tuple[str, ...]] = rest(
        "a contract's name",
        separated(",", "columns, separated by commas"),
        "the columns of its data product that may be read; default: all",
        group=COLUMNS,
        default={},
    )
    jars: tuple[str, ...] = ()

    @property
    def window(self) -> Window:
        """Which interactions."""
        return Window(self.since, self.until)

    @property
    def folder(self) -> str:
        """The address of everything that this run puts."""
        return f"{self.output}/{self.run}"

    @property
    def work(self) -> str:
        """The address of the job's working folder, which is removed when the run has ended."""
        return f"{self.folder}/work"


def bootstrap_settings(groups: Groups) -> BootstrapSettings:
    """Settings from property groups; raises SettingError for the first invalid one."""
    reject_unknown(groups, BootstrapSettings)
    return read(BootstrapSettings, groups, jars=read(RunOptions, groups).jars)
