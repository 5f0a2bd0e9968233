"""SQL texts beside their pipelines: ``-- step: name`` starts a step, ``;`` ends a statement.

``-- include: file`` stands for the lines of another file of this folder.
"""

from __future__ import annotations

import re
from pathlib import Path


def read_steps(file: str) -> dict[str, tuple[str, ...]]:
    """The statements of each step of a file in this folder, in order, without comments."""
    steps: dict[str, list[str]] = {}
    current: list[str] = []
    for line in _read(file).splitlines():
        if line.startswith("-- step: "):
            current = steps.setdefault(line.removeprefix("-- step: "), [])
            current.append("")
        elif line.strip() and not line.startswith("--"):
            if not steps:
                raise ValueError(f"{file}: a statement stands before the first step")
            current[-1] += line + "\n"
            if line.rstrip().endswith(";"):
                current[-1] = current[-1].rstrip().removesuffix(";")
                current.append("")
    for name, statements in steps.items():
        if statements.pop().strip():
            raise ValueError(f"{file}: the last statement of the step {name} has no ';'")
    return {name: tuple(statements) for name, statements in steps.items()}


def _read(file: str) -> str:
    text = (Path(__file__).parent / file).read_text()
    return re.sub(r"^-- include: (.+)$", lambda match: _read(match[1]), text, flags=re.MULTILINE)
