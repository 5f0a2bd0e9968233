"""Generates functions that read some fields of a flat Avro record.

A generated function goes over a value once, decodes the wanted fields and checks the structure of
all others; it makes no dict. It reads records as writers write them. In doubt it returns None: then
the decoder (:mod:`schemas.codec`) reads the record, and its result is final.

Flat: a record of primitive types, enums, fixed, unions of them, and arrays and maps of all these.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from textwrap import indent
from typing import Any

from schemas import wire
from schemas.codec import Decoder, Record

ReadFields = Callable[[bytes | None], tuple[Any, ...] | None]
"""Reads fields of a value with registry header; None: the decoder has to."""

# `v` is the value, `p` the position in it. A slice beyond its end is short instead of an error; but
# then the next access of a byte fails, or the last check, that `p` is the end.
_FUNCTION = """\
def read(v):
    if v is None or v[:{start}] not in headers or len(v) > {max_bytes}:
        return None
    p = {start}
    try:
{fields}
        if p != len(v):
            return None
        return ({results})
    except (IndexError, UnicodeDecodeError, error):
        return None
"""
# Of one or two bytes, not negative: `q` is the end of up to 8,191 bytes.
_LENGTH = """\
n = v[p]
p += 1
if n & 129:
    b = v[p]
    p += 1
    if n & 1 or not 0 < b < 128:
        return None
    n = n & 127 | b << 7
q = p + (n >> 1)
"""
_TEXT = _LENGTH + "{to} = v[p:q].decode()\np = q\n"
_KEY = _TEXT.replace("{to}", "{to}k") + "if {to}k in {to}:\n    return None\n"
_BYTES = _LENGTH + "{to} = v[p:q]\np = q\n"
# Of at most 63 of the 64 bits, in no more bytes than they need.
_LONG = """\
x = k = 0
for b in v[p:p + 9]:
    x |= (b & 127) << k
    k += 7
    if b < 128:
        break
else:
    return None
if not b and k > 7:
    return None
p += k // 7
{to} = x >> 1 ^ -(x & 1)
"""
_SKIPPED_LONG = """\
if v[p] > 127:
    q = p + 8
    p += 1
    while v[p] > 127:
        p += 1
    if p > q or not v[p]:
        return None
p += 1
"""
_INT = _LONG.replace("p + 9", "p + 5") + "if x >> 32:\n    return None\n"
_BOOLEAN = """\
b = v[p]
if b > 1:
    return None
p += 1
{to} = b == 1
"""
_ENUM = """\
n = v[p]
if n & 129:
    return None
p += 1
{to} = {symbols!r}[n >> 1]
"""
_FIXED = "{to} = v[p:p + {size}]\np += {size}\n"
_FLOAT = "{to}, = unpack_from('<f', v, p)\np += 4\n"
_DOUBLE = "{to}, = unpack_from('<d', v, p)\np += 8\n"
_PRIMITIVE = {
    "boolean": _BOOLEAN,
    "int": _INT,
    "long": _LONG,
    "float": _FLOAT,
    "double": _DOUBLE,
    "bytes": _BYTES,
    "string": _TEXT,
}
# Blocks of up to 63 entries, without their size in bytes.
_BLOCKS = """\
{to} = {empty}
n = v[p]
p += 1
while n:
    if n & 129:
        return None
    for _ in range(n >> 1):
{entry}
    n = v[p]
    p += 1
"""


class _NotFlatError(Exception):
    """The schema has a type that no reader is generated for."""


class FieldReader:
    """Reads fields of the values of one topic as its decoder does, or leaves a value to it.

    ``read`` reads the fields ``names`` in that order; None: the decoder has to. It reads values
    whose header is one of a decoded value (:meth:`add_decoded`).
    """

    def __init__(self, decoder: Decoder, names: Sequence[str]) -> None:
        self._decoder = decoder
        self._headers: set[bytes] = set()
        self.read: ReadFields = lambda value: None
        with suppress(_NotFlatError):
            self.read = _generate(
                decoder.schema, names, self._headers, max_bytes=decoder.contract.max_bytes
            )

    def add_decoded(self, value: bytes | None) -> None:
        """Read values with the header of this one, which the decoder has read, from now on."""
        if value is not None and self._decoder.is_newest(value):
            self._headers.add(value[: wire.HEADER_SIZE])


class RecordDecoder:
    """Decodes the values of a topic as its decoder does, flat ones in half the time."""

    def __init__(self, decoder: Decoder) -> None:
        self.contract = decoder.contract
        self._decoder = decoder
        self._names = tuple(field["name"] for field in decoder.schema["fields"])
        self._reader = FieldReader(decoder, self._names)

    def decode(self, value: bytes | None, published_ms: float = math.inf) -> Record:
        """The record in a value; raises what :meth:`Decoder.decode` raises."""
        fields = self._reader.read(value)
        if fields is not None:
            return dict(zip(self._names, fields, strict=True))
        record = self._decoder.decode(value, published_ms)
        self._reader.add_decoded(value)
        return record


def _generate(
    schema: Any, names: Sequence[str], headers: Container[bytes], max_bytes: int
) -> ReadFields:
    variables = {name: f"f{number}" for number, name in enumerate(names)}
    lines = "".join(_read(f["type"], variables.get(f["name"])) for f in schema["fields"])
    source = _FUNCTION.format(
        start=wire.HEADER_SIZE,
        max_bytes=max_bytes,
        fields=indent(lines, " " * 8),
        results="".join(f"{variable}, " for variable in variables.values()),
    )
    scope: dict[str, Any] = {
        "headers": headers,
        "unpack_from": struct.unpack_from,
        "error": struct.error,
    }
    exec(compile(source, "<generated reader>", "exec"), scope)
    read: ReadFields = scope["read"]
    return read


def _read(avro: Any, to: str | None, *, nested: bool = False) -> str:
    """Code that reads a value to a variable, or past it; ``nested``: of an array or a map."""
    if isinstance(avro, list):
        return _union(avro, to, nested=nested)
    kind = avro["type"] if isinstance(avro, Mapping) else avro
    wanted, to = to is not None, to or "s"
    match kind:
        case "null":
            return f"{to} = None\n"
        case "long" if not wanted:
            return _SKIPPED_LONG
        case "enum":
            return _ENUM.format(to=to, symbols=tuple(avro["symbols"]))
        case "fixed":
            return _FIXED.format(to=to, size=avro["size"])
        case "array" if not nested:
            entry = _read(avro["items"], f"{to}_", nested=True) + f"{to}.append({to}_)\n"
            return _BLOCKS.format(to=to, empty="[]", entry=indent(entry, " " * 8))
        case "map" if not nested:
            entry = _KEY.format(to=to) + _read(avro["values"], f"{to}_", nested=True)
            entry += f"{to}[{to}k] = {to}_\n"
            return _BLOCKS.format(to=to, empty="{}", entry=indent(entry, " " * 8))
        case str() if kind in _PRIMITIVE:
            return _PRIMITIVE[kind].format(to=to)
    raise _NotFlatError


def _union(branches: list[Any], to: str | None, *, nested: bool) -> str:
    # An index of one byte. Null is tested last: most values are there.
    code, test = "b = v[p]\np += 1\n", "if"
    for number, branch in sorted(enumerate(branches[:64]), key=lambda entry: entry[1] == "null"):
        code += f"{test} b == {2 * number}:\n" + indent(_read(branch, to, nested=nested), " " * 4)
        test = "elif"
    return code + "else:\n    return None\n"
