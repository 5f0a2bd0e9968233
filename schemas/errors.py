"""The one base class of errors that are meant for the person at the terminal."""

from __future__ import annotations


class TunemeshError(Exception):
    """Something that the user can act on: what happened, where, and what to do next.

    The `tunemesh` command prints its message as it is, without a traceback, and exits with
    :attr:`exit_code`. Every package derives its own user-facing errors from this class.
    """

    exit_code = 1


def counted(count: int, noun: str) -> str:
    """A number and its noun: 1 record, 2,345 records."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class SettingError(TunemeshError):
    """An invalid setting: its name, its value (None: it is missing), and what was expected.

    ``fault`` stands for the value where that may be a secret: this text is printed and logged.
    """

    exit_code = 2

    def __init__(self, name: str, value: object, expected: str, *, fault: str = "") -> None:
        given = fault or ("is missing" if value is None else f"is {value!r}")
        super().__init__(f"{name} {given}; expected {expected}")
