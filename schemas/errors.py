"""The one base class of errors that are meant for the person at the terminal."""

from __future__ import annotations


class TunemeshError(Exception):
    """Something that the user can act on: what happened, where, and what to do next.

    The `tunemesh` command prints its message as it is, without a traceback, and exits with
    :attr:`exit_code`. Every package derives its own user-facing errors from this class.
    """

    exit_code = 1
