"""A stack trace is reported as one line: its innermost cause."""

from __future__ import annotations

import pytest

from deploy.local.flink import root_cause


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("java.io.IOException: gone\n\tat a.b(C.java:1)\n", "java.io.IOException: gone"),
        (
            "java.lang.Exception: x\n\tat a.b(C.java:1)\nCaused by: a.PythonException: bad\n\tat c",
            "a.PythonException: bad",
        ),
        (
            "main.py failed. The end of client.log:\n    Traceback\n    ValueError: no such start",
            "ValueError: no such start",
        ),
        (
            "main.py failed:\n    tunemesh: the property is wrong\n",
            "tunemesh: the property is wrong",
        ),
        ("", ""),
    ],
)
def test_the_root_cause_is_the_innermost_one(text: str, expected: str) -> None:
    """Python's own error before Java's frames."""
    assert root_cause(text) == expected
