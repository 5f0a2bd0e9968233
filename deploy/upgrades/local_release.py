"""A release on the laptop: a folder, and how its client is started from it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from connectors.flink.properties import RUN_OPTIONS, write_groups
from deploy.local import application
from deploy.local.flink_workers import site_packages
from deploy.local.settings import LocalSettings
from deploy.package import read
from deploy.package.contents import ENTRY, JAR, WHEELS
from deploy.upgrades.held_client import HeldClient
from deploy.upgrades.target import Configuration, TargetError


@dataclass(frozen=True, slots=True)
class LocalRelease:
    """The release of a configuration, unpacked below ``releases``."""

    application: str
    configuration: Configuration
    releases: Path
    settings: LocalSettings
    environ: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.releases / self.configuration.release

    def python_path(self) -> tuple[str, ...]:
        """For its TaskManagers and its client: its code, its wheels, and pyflink, which the service
        provides."""
        found = [str(self.folder)]
        if (self.folder / WHEELS).is_dir():
            found.append(str(self.folder / WHEELS))
        return (*found, site_packages())

    def check_python(self) -> None:
        """Raises TargetError when its wheels are for another Python than this one."""
        if not (self.folder / WHEELS).is_dir():
            return
        wanted, own = read(self.folder).python, f"{sys.version_info[0]}.{sys.version_info[1]}"
        if wanted != own:
            raise TargetError(
                f"{self.configuration.release} is for Python {wanted}, and Flink runs with Python"
                f" {own} here: tunemesh package --python {own}"
            )

    def client(self, *, restored: bool, warm: bool) -> HeldClient:
        """Start the client that will submit the job; ``warm``: its TaskManagers are fresh, and no
        others have free slots."""
        properties = self._properties(restored=restored)
        configuration = {
            **application.job_configuration(self.configuration.properties),
            "parallelism.default": str(self.configuration.parallelism),
        }
        return HeldClient(
            self.settings,
            self.folder / ENTRY,
            ("--properties", str(properties), *(["--warm"] if warm else [])),
            configuration,
            self.python_path(),
            {**os.environ, **self.environ},
        )

    def _properties(self, *, restored: bool) -> Path:
        """The property file: as configured, and where it runs from and whether it has state."""
        groups = {name: dict(values) for name, values in self.configuration.properties.items()}
        groups.setdefault("tunemesh.enrichment", {})["restored"] = str(restored).lower()
        if (self.folder / JAR).is_file():
            groups.setdefault(RUN_OPTIONS, {})["jarfile"] = str(self.folder / JAR)
        # Also where `tunemesh status` finds the consumer groups' name.
        folder = self.settings.home / "applications"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.application}.json"
        write_groups(file, groups)
        return file
