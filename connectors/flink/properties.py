"""Property groups, as Managed Flink gives them to its applications: read from a file, and checked.

Managed Flink writes them to ``/etc/flink/application_properties.json``; locally a file of the same
shape is used: a list of ``{"PropertyGroupId": ..., "PropertyMap": {...}}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from schemas.errors import TunemeshError
from schemas.moments import epoch_ms

MANAGED_PROPERTIES = Path("/etc/flink/application_properties.json")
LOCAL_PROPERTIES = Path("application_properties.json")

RUN_OPTIONS = "kinesis.analytics.flink.run.options"
"""The service's own group: what it starts, with which jars."""

Groups = Mapping[str, Mapping[str, str]]
"""Properties by name, by the name of their group."""


class SettingError(TunemeshError):
    """A setting that cannot be used: its group and name, the value, and what was expected."""

    exit_code = 2

    def __init__(self, group: str, name: str, value: str | None, expected: str) -> None:
        given = "is missing" if value is None else f"is {value!r}"
        super().__init__(
            f"the property {name!r} of the group {group!r} {given}; expected {expected}"
        )


def properties_file(argument: str | None, environ: Mapping[str, str]) -> Path:
    """Which property file applies: the one named, the local one under IS_LOCAL, the service's."""
    if argument is not None:
        return Path(argument)
    return LOCAL_PROPERTIES if environ.get("IS_LOCAL") else MANAGED_PROPERTIES


def read_groups(path: Path) -> Groups:
    """The property groups of a file; raises TunemeshError when it is missing or malformed."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        groups = groups_of(entries)
        for group, values in groups.items():
            for text in (group, *values, *values.values()):
                if not isinstance(text, str):
                    raise TypeError(f"{text!r} in the group {group!r} is not a text")
        return groups
    except FileNotFoundError:
        raise TunemeshError(
            f"there is no property file {path}; on Managed Flink it is there by itself, locally"
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


def refuse_unknown(groups: Groups, known: Mapping[str, Set[str]], free: Sequence[str]) -> None:
    """Raise for a group or property of ``tunemesh.*`` that nobody knows.

    ``known``: the names of a group's properties, by group; ``free``: groups with any properties.
    """
    for group, values in groups.items():
        if group.startswith("tunemesh.") and group not in (*known, *free):
            names = ", ".join(sorted((*known, *free)))
            raise TunemeshError(f"there is no property group {group!r}; groups: {names}")
        for name in sorted(set(values) - known.get(group, set(values))):
            names = ", ".join(sorted(known[group]))
            raise SettingError(group, name, values[name], f"one of the properties {names}")


class Group:
    """A property group with what reads and checks its values."""

    def __init__(self, groups: Groups, name: str) -> None:
        self.name = name
        self.values = groups.get(name, {})

    def text(self, name: str, default: str | None = None) -> str:
        value = self.values.get(name, default)
        if value is None or not value.strip():
            raise SettingError(self.name, name, value, "a value")
        return value.strip()

    def optional(self, name: str) -> str | None:
        return self.values.get(name) or None

    def one_of(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.text(name, default)
        if value not in choices:
            raise SettingError(self.name, name, value, " or ".join(choices))
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        value = self.text(name, str(default))
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise SettingError(self.name, name, value, f"a whole number from {low} to {high}")
        return int(value)

    def dataset_arn(self, name: str, ending: str) -> str:
        value = self.text(name)
        if not (value.startswith("arn:") and value.endswith(ending)):
            raise SettingError(self.name, name, value, f"the ARN of a dataset, ending in {ending}")
        return value

    def moment(self, name: str) -> int | None:
        """Epoch milliseconds; None without the property."""
        text = self.optional(name)
        if text is None:
            return None
        try:
            return epoch_ms(text)
        except ValueError:
            expected = "epoch milliseconds, or a time such as 2026-11-23T14:25:00Z"
            raise SettingError(self.name, name, text, expected) from None

    def start(self, name: str, default: str) -> str:
        value = self.text(name, default)
        whole = value.isascii() and value.isdigit()
        if value not in ("earliest", "latest", "committed") and not whole:
            raise SettingError(
                self.name, name, value, "earliest, latest, committed or epoch milliseconds"
            )
        return value
