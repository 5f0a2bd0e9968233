"""Generates schemas/records.py: a TypedDict for each record whose fields the code names.

These are the records of all contracts but users and items, which are read through their mapping.
`python -m schemas.record_types` writes the file; a test compares it with the contracts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from schemas.model import BUILT_IN_FOLDER, Contract, Role, load_contracts

FILE = Path(__file__).parent / "records.py"
_HEAD = '''"""Records as the codec reads them. Generated: `python -m schemas.record_types`."""

from __future__ import annotations

from typing import TypedDict
'''
_PLAIN = {
    **dict.fromkeys(("int", "long"), "int"),
    **dict.fromkeys(("float", "double"), "float"),
    **dict.fromkeys(("bytes", "fixed"), "bytes"),
    **dict.fromkeys(("string", "enum"), "str"),
    "boolean": "bool",
    "null": "None",
}


def source(contracts: Iterable[Contract]) -> str:
    """The text of schemas/records.py for contracts."""
    text = _HEAD
    for contract in contracts:
        if contract.role not in (Role.USER, Role.ITEM):
            doc = f"A record of the contract {contract.name}."
            text += "".join(_classes({"doc": doc, **contract.newest.avro}))
    return text


def _classes(avro: Any) -> Iterator[str]:
    """The classes of the records in an Avro type, each after those that it refers to."""
    if isinstance(avro, list):
        for branch in avro:
            yield from _classes(branch)
    elif isinstance(avro, dict):
        fields = avro.get("fields", [])
        for inner in (*(field["type"] for field in fields), avro.get("items"), avro.get("values")):
            yield from _classes(inner)
        if fields:
            lines = "".join(f"    {field['name']}: {_type(field['type'])}\n" for field in fields)
            yield f'\n\nclass {avro["name"]}(TypedDict):\n    """{avro["doc"]}"""\n\n{lines}'


def _type(avro: Any) -> str:
    if isinstance(avro, list):
        return " | ".join(_type(branch) for branch in sorted(avro, key=lambda one: one == "null"))
    kind = avro["type"] if isinstance(avro, dict) else avro
    match kind:
        case "array":
            return f"list[{_type(avro['items'])}]"
        case "map":
            return f"dict[str, {_type(avro['values'])}]"
        case "record":
            return str(avro["name"])
        case _:
            return _PLAIN.get(kind, str(kind))


if __name__ == "__main__":
    FILE.write_text(source(load_contracts((BUILT_IN_FOLDER,))))
