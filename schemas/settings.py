"""Settings, each declared once as the field of a dataclass: name, values, default, description.

Parsing, the rejection of unknown names and the reference page follow from the declaration:

    @group("tunemesh.registry")
    class RegistrySettings:
        region: str = setting("region", TEXT, "AWS region of the Glue Schema Registry")
        name: str = setting("name", TEXT, "name of the registry", default="tunemesh")

    read(RegistrySettings, {"tunemesh.registry": {"region": "eu-west-1"}})

pydantic-settings would add a compiled core to the package for Managed Flink, which must stay small.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, dataclass_transform

from schemas.errors import SettingError
from schemas.timestamps import epoch_ms

T = TypeVar("T")

ENVIRONMENT = "environment variables"
"""The name of the group that they are."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """Which texts are valid: ``expected`` describes them, ``parse`` raises ValueError or
    LookupError for any other."""

    expected: str
    parse: Callable[[str], T]


def matching(pattern: str, expected: str) -> Kind[str]:
    """A text that matches a regular expression as a whole."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII | re.DOTALL):
            raise ValueError(text)
        return text

    return Kind(expected, parse)


def whole(low: int, high: int) -> Kind[int]:
    """A whole number from ``low`` to ``high``, in ASCII digits."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(text)
        return int(text)

    return Kind(f"a whole number from {low} to {high}", parse)


def choice(*names: T) -> Kind[T]:
    """One of several texts."""
    return Kind(" or ".join(map(str, names)), {str(name): name for name in names}.__getitem__)


def separated(separator: str, expected: str) -> Kind[tuple[str, ...]]:
    """Texts with a separator between them; empty ones are dropped."""
    return Kind(
        expected,
        lambda text: tuple(part.strip() for part in text.split(separator) if part.strip()),
    )


TEXT = matching(".+", "a value")
"""Any text but an empty one; its setting's description says what is expected."""
SWITCH = Kind("true or false", {"true": True, "false": False}.__getitem__)
TIMESTAMP = Kind("epoch milliseconds, or a time such as 2026-11-23T14:25:00Z", epoch_ms)
FOLDER = Kind("a folder", lambda text: Path(text).expanduser().absolute())


@dataclass(slots=True)
class Setting:
    """A declared setting.

    default   the text that a user would write; None: there is no value; MISSING: it is required
    rest      it stands for all properties of the group that have no declaration of their own;
              ``name`` describes their names
    secret    its value is neither in error messages nor in the ``repr`` of the settings
    """

    group: str
    name: str
    kind: Kind[Any]
    description: str
    default: Any
    rest: bool = False
    secret: bool = False

    def read(self, values: Mapping[str, str]) -> Any:
        """The value among those of the group, or the default; raises SettingError."""
        text = values.get(self.name, "").strip()
        # An empty variable is like none, and so is an empty property without a default.
        can_be_empty = self.group != ENVIRONMENT and self.default is not None
        if text or (can_be_empty and self.name in values):
            return self.parse(text)
        if self.default is MISSING:
            raise self.error(None)
        return None if self.default is None else self.kind.parse(self.default)

    def parse(self, text: str) -> Any:
        """The value of a text; raises SettingError."""
        try:
            return self.kind.parse(text)
        except (ValueError, LookupError):
            raise self.error(text) from None

    def error(self, text: str | None, expected: str | None = None) -> SettingError:
        """The error that names this setting and an invalid value of it (None: it is missing)."""
        title = f"the property {self.name!r} of the group {self.group!r}"
        if self.group == ENVIRONMENT:
            title = self.name
        needed = self.description if self.kind is TEXT else self.kind.expected
        is_withheld = self.secret and text is not None
        fault = "is invalid (its value is not shown)" if is_withheld else ""
        return SettingError(title, text, expected or needed, fault=fault)


def setting(
    name: str, kind: Kind[T], description: str, *, default: Any = MISSING, secret: bool = False
) -> T:
    """Declare a field of a class with :func:`group`; for the others see :class:`Setting`."""
    metadata = {"setting": Setting("", name, kind, description, default, secret=secret)}
    if default is MISSING or default is None:
        return cast(T, field(default=default, metadata=metadata, repr=not secret))
    return field(default_factory=lambda: kind.parse(default), metadata=metadata, repr=not secret)


def rest(
    name: str,
    kind: Kind[T],
    description: str,
    *,
    default: Mapping[str, T],
    group: str = "",
    secret: bool = False,
) -> Mapping[str, T]:
    """Declare a field for the other properties of a group: the class's, or the one named.

    Their texts are parsed as they are, with spaces around them.
    """
    metadata = {"setting": Setting(group, name, kind, description, None, rest=True, secret=secret)}
    return field(default_factory=lambda: default, metadata=metadata, repr=not secret)


@dataclass_transform(frozen_default=True, field_specifiers=(setting, rest))
def group(name: str) -> Callable[[type[T]], type[T]]:
    """Make a class a frozen dataclass whose settings are properties of a group.

    So are those that it inherits from a dataclass without a group. ``group_name`` is the group's.
    """

    def declare(cls: type[T]) -> type[T]:
        made = dataclass(frozen=True, slots=True)(cls)
        made.group_name = name  # type: ignore[attr-defined]
        return made

    return declare


def declared(*classes: type) -> list[Setting]:
    """The settings of classes, in the order of their declarations."""
    return [each for cls in classes for each in _by_field(cls).values()]


def _by_field(cls: Any) -> dict[str, Setting]:
    settings = {f.name: f.metadata["setting"] for f in fields(cls) if "setting" in f.metadata}
    return {
        name: replace(each, group=each.group or cls.group_name) for name, each in settings.items()
    }


def read(cls: type[T], groups: Mapping[str, Mapping[str, str]], **others: Any) -> T:
    """The settings in property groups; raises SettingError for the first invalid one.

    ``others`` are the fields that are not settings.
    """
    for field_name, each in _by_field(cls).items():
        values = groups.get(each.group, {})
        if each.rest:
            own = {one.name for one in declared(cls) if one.group == each.group}
            others[field_name] = {
                name: replace(each, name=name).parse(text)
                for name, text in values.items()
                if name not in own
            }
        else:
            others[field_name] = each.read(values)
    return cls(**others)


def require(settings: Any, field_name: str) -> Any:
    """The value of a field; raises SettingError when it is None."""
    value = getattr(settings, field_name)
    if value is None:
        raise _by_field(settings)[field_name].error(None)
    return value


def reject_unknown(groups: Mapping[str, Mapping[str, str]], *classes: type) -> None:
    """Raise SettingError for a group or property of ``tunemesh.*`` that no class declares."""
    settings = [each for each in declared(*classes) if each.group.startswith("tunemesh.")]
    known = sorted({each.group for each in settings})
    for group, values in groups.items():
        if group.startswith("tunemesh.") and group not in known:
            raise SettingError("the property group", group, f"one of {', '.join(known)}")
        own = {each.name: each for each in settings if each.group == group}
        if own and not any(each.rest for each in own.values()):
            for name in sorted(values.keys() - own):
                # Without its value: a misplaced or misspelt property may be a secret.
                raise SettingError(
                    f"the property {name!r} of the group {group!r}",
                    values[name],
                    f"one of the properties {', '.join(sorted(own))}",
                    fault="is unknown",
                )


def is_secret(group: str, name: str, *classes: type) -> bool:
    """Whether the value of a property must not be shown."""
    own = [each for each in declared(*classes) if each.group == group]
    named = [each for each in own if each.name == name and not each.rest]
    return any(each.secret for each in named or own)


def check_positive(settings: object, *names: str, high: float = math.inf) -> None:
    """Raise SettingError unless the fields are numbers above 0 and at most ``high``."""
    for name in names:
        value = getattr(settings, name)
        if not 0 < value <= high:
            bound = "" if high == math.inf else f", at most {high}"
            raise SettingError(name, value, f"a number above 0{bound}")
