"""Compares contract files with the JSON schema of the Open Data Contract Standard.

Only `tunemesh schemas check` does: what the jobs need of a contract is checked where it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match

from schemas.model import ContractError, read_yaml

_TYPES = {
    "string": "text",
    "array": "a list",
    "object": "an object",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def standard_problems(path: Path) -> list[str]:
    """What the standard does not allow in a contract.yaml: `FILE: PLACE: sentence` for each."""
    try:
        text = read_yaml(path)
    except ContractError:
        return []  # Said by the reader of contracts.
    # 3.0 allows more properties than it names in all objects but the contract itself, and its rules
    # of data quality have other names.
    is_open = str(text.get("apiVersion", "")).startswith(("v3.0.", "v2."))
    errors = list(jsonschema.Draft201909Validator(_standard()).iter_errors(text))
    problems = (
        problem
        for error in errors
        if not (is_open and "quality" in error.absolute_path) and not _follows(error, errors)
        for problem in _sentences(error, is_open)
    )
    return [f"{path}: {problem}" for problem in dict.fromkeys(problems)]


def _standard() -> Any:
    # The package's own modules need pydantic's import; its JSON schema is all that is used.
    return json.loads(files("open_data_contract_standard").joinpath("schema.json").read_text())


def _follows(error: Any, errors: list[Any]) -> bool:
    """Whether properties are unknown only because one of them, or one within, has an error."""
    path = list(error.absolute_path)
    return error.validator == "unevaluatedProperties" and any(
        other.validator != error.validator and list(other.absolute_path)[: len(path)] == path
        for other in errors
    )


def _sentences(error: Any, is_open: bool) -> Iterator[str]:
    """A sentence for an error; for one of alternatives (oneOf), those of the nearest one."""
    if error.context:
        nearest = best_match(iter([error]))
        if nearest is not error:
            yield from _sentences(nearest, is_open)
            return
    place = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path
    ).removeprefix(".")
    here = f"{place}: " if place else ""
    match error.validator:
        case "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            for name in missing:
                yield f"{here}{name!r} is missing; the standard requires it"
        case "additionalProperties" | "unevaluatedProperties":
            if not (is_open and place):
                yield f"{here}has properties that the standard does not have: {_names(error)}"
        case "type":
            kinds = error.validator_value
            kinds = [kinds] if isinstance(kinds, str) else kinds
            expected = " or ".join(_TYPES.get(kind, kind) for kind in kinds)
            hint = "; put it in quotes" if "string" in kinds and _is_scalar(error.instance) else ""
            yield f"{here}is {_shown(error.instance)}, expected {expected}{hint}"
        case "enum":
            allowed = ", ".join(str(value) for value in error.validator_value)
            yield f"{here}is {_shown(error.instance)}, expected one of {allowed}"
        case "pattern":
            yield f"{here}is {_shown(error.instance)}, expected text like {error.validator_value}"
        case _:
            yield f"{here}{error.message:.160}"


def _names(error: Any) -> str:
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        return ", ".join(str(name) for name in error.instance if name not in known)
    return str(error.message.partition("(")[2].partition(" w")[0]) or str(error.message)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (int, float))


def _shown(value: Any) -> str:
    return f"{value!r:.60}"
