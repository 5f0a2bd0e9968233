"""A release on the local cluster: a folder, and the client that submits its job."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from connectors.flink.properties import RUN_OPTIONS, write_groups
from deploy.local.flink_workers import site_packages
from deploy.local.settings import LocalSettings
from deploy.package.contents import ENTRY, JAR, WHEELS
from deploy.package.release import read_description
from deploy.upgrades.prepared_submission import PreparedSubmission
from deploy.upgrades.target import Configuration, TargetError


@dataclass(frozen=True, slots=True)
class LocalRelease:
    """The release of a configuration, unpacked below the platform's home."""

    application: str
    configuration: Configuration
    settings: LocalSettings
    environ: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """The folder with its files."""
        return self.settings.home / "releases" / self.configuration.release

    def python_path(self) -> tuple[str, ...]:
        """Return the path for its TaskManagers and its client: its code, its wheels, and pyflink,
        which the service provides."""
        folders = [self.folder, self.folder / WHEELS]
        return (*(str(folder) for folder in folders if folder.is_dir()), site_packages())

    def check_python(self) -> None:
        """Raise TargetError when its wheels are for another version of Python than this one."""
        if not (self.folder / WHEELS).is_dir():
            return
        wanted, own = (
            read_description(self.folder).python,
            f"{sys.version_info[0]}.{sys.version_info[1]}",
        )
        if wanted != own:
            raise TargetError(
                f"{self.configuration.release} is for Python {wanted}, but Flink runs with Python"
                f" {own} here. Build one for it: tunemesh package --python {own}"
            )

    def prepare_submission(self, *, restored: bool, warm: bool) -> PreparedSubmission:
        """Start the client that will submit the job.

        ``restored``: the job restores state. ``warm``: its TaskManagers are new, and no others have
        free slots.
        """
        properties = self._write_properties(restored=restored)
        configuration = {"parallelism.default": str(self.configuration.parallelism)}
        return PreparedSubmission(
            self.settings,
            self.folder / ENTRY,
            ("--properties", str(properties), *(["--warm"] if warm else [])),
            configuration,
            self.python_path(),
            {**os.environ, **self.environ},
        )

    def _write_properties(self, *, restored: bool) -> Path:
        """Write the property file: the configuration, the jar, and whether state is restored."""
        groups = {name: dict(values) for name, values in self.configuration.properties.items()}
        groups.setdefault("tunemesh.enrichment", {})["restored"] = str(restored).lower()
        if (self.folder / JAR).is_file():
            groups.setdefault(RUN_OPTIONS, {})["jarfile"] = str(self.folder / JAR)
        # `tunemesh status` reads the prefix of the consumer groups here.
        folder = self.settings.home / "applications"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.application}.json"
        write_groups(file, groups)
        return file
