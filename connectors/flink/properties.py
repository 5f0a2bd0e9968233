"""Property groups, as Managed Flink gives them to its applications: files and their format.

Managed Flink writes them to ``/etc/flink/application_properties.json``; locally a file of the same
shape is used: a list of ``{"PropertyGroupId": ..., "PropertyMap": {...}}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from schemas.errors import TunemeshError
from schemas.settings import ENVIRONMENT, Kind, group, separated, setting, whole

MANAGED_PROPERTIES = Path("/etc/flink/application_properties.json")
LOCAL_PROPERTIES = Path("application_properties.json")

RUN_OPTIONS = "kinesis.analytics.flink.run.options"
"""The service's own group: what it starts, with which jars."""

Groups = Mapping[str, Mapping[str, str]]
"""Properties by name, by the name of their group."""


@group(RUN_OPTIONS)
class RunOptions:
    """What the client of an application needs of the service's own group."""

    jars: tuple[str, ...] = setting(
        "jarfile", separated(";", "files, separated by ;"), "jars to add", default=""
    )


@group(ENVIRONMENT)
class ProcessSettings:
    """How an application runs in this process, without a cluster."""

    in_process: bool = setting(
        "IS_LOCAL",
        Kind("any value", bool),
        "if set, a job runs in its client's process, with `application_properties.json` in the"
        " current directory unless `--properties` names another file",
        default="",
    )
    parallelism: int = setting(
        "TUNEMESH_PARALLELISM", whole(1, 32_768), "its parallelism there", default="2"
    )


def properties_file(argument: str | None, *, in_process: bool) -> Path:
    """Which property file applies: the one named, the local one in process, the service's."""
    if argument is not None:
        return Path(argument)
    return LOCAL_PROPERTIES if in_process else MANAGED_PROPERTIES


def read_groups(path: Path) -> Groups:
    """The property groups of a file; raises TunemeshError when it is missing or malformed."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        groups = groups_of(entries)
        for group, values in groups.items():
            if not isinstance(group, str):
                raise TypeError(f"the name of the group {group!r} is not a text")
            for name, value in values.items():
                # Without the value, which may be a secret.
                if not isinstance(value, str):
                    raise TypeError(f"{name!r} in the group {group!r} is not a text")
        return groups
    except FileNotFoundError:
        raise TunemeshError(
            f"the property file {path} does not exist; Managed Flink provides it, locally"
            " name one with --properties or put application_properties.json into this directory"
        ) from None
    except OSError as error:
        raise TunemeshError(f"the property file {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TunemeshError(
            f"{path} is not a list of property groups: {type(error).__name__}: {error}"
        ) from error


def write_groups(path: Path, groups: Groups) -> None:
    """Write a file that :func:`read_groups` reads."""
    path.write_text(json.dumps(entries_of(groups), indent=2), encoding="utf-8")


def groups_of(entries: Iterable[Mapping[str, Any]]) -> Groups:
    """Property groups from the service's shape."""
    return {entry["PropertyGroupId"]: dict(entry["PropertyMap"]) for entry in entries}


def entries_of(groups: Groups) -> list[dict[str, Any]]:
    """Property groups in the service's shape."""
    return [
        {"PropertyGroupId": group, "PropertyMap": dict(values)} for group, values in groups.items()
    ]
