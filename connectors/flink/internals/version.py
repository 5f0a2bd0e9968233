"""The versions of Flink whose internals are known."""

from __future__ import annotations

from pyflink.version import __version__

from schemas.errors import TunemeshError

SUPPORTED = ("2.2", "2.3")
"""Those that tests/flink/test_internals.py passed with."""


class InternalsError(TunemeshError):
    """An internal of Flink is not as this version of tunemesh knows it."""


def check_version(version: str = __version__) -> None:
    """Raise InternalsError for a version of Flink whose internals are not known."""
    if ".".join(version.split(".")[:2]) not in SUPPORTED:
        raise InternalsError(
            f"Flink {version} is not supported; expected {' or '.join(SUPPORTED)}. Run"
            " tests/flink/test_internals.py with it and add it to"
            " connectors/flink/internals/version.py."
        )
