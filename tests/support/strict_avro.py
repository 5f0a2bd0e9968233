"""Reads Avro as the specification says, by Apache's library and not by the product's codec.

``avro`` refuses negative indices, numbers beyond 64 bits and text that is not UTF-8. What it passes
over is checked here: booleans other than 0 and 1, an int beyond 32 bits, a number in more bytes
than it needs, bytes behind the record, a block of another size than it says (a reader that skips
it would arrive elsewhere), and a key twice in a map.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from typing import Any

import avro.io
import avro.schema
from avro.errors import InvalidAvroBinaryEncoding


class _StrictDecoder(avro.io.BinaryDecoder):  # type: ignore[misc]
    def read_boolean(self) -> bool:
        byte: bytes = self.read(1)
        if byte not in (b"\x00", b"\x01"):
            raise InvalidAvroBinaryEncoding(f"a boolean is {byte!r}")
        return byte == b"\x01"

    def read_int(self) -> int:
        value = self.read_long()
        if not -(2**31) <= value < 2**31:
            raise InvalidAvroBinaryEncoding(f"an int is {value}")
        return value

    def __init__(self, body: bytes) -> None:
        super().__init__(io.BytesIO(body))
        self._body = body

    @property
    def position(self) -> int:
        position: int = self.reader.tell()
        return position

    def read_long(self) -> int:
        start = self.position
        value: int = super().read_long()
        if self.position > start + 1 and self._body[self.position - 1] == 0:
            raise InvalidAvroBinaryEncoding(f"{value} in more bytes than it needs")
        return value

    def read_timestamp_millis_from_long(self) -> int:
        # Any long is a timestamp; Python's datetime has fewer years.
        return self.read_long()


class _StrictReader(avro.io.DatumReader):  # type: ignore[misc]
    def read_array(self, writers_schema: Any, readers_schema: Any, decoder: _StrictDecoder) -> Any:
        items = writers_schema.items
        return [self.read_data(items, items, decoder) for _ in _entries(decoder)]

    def read_map(self, writers_schema: Any, readers_schema: Any, decoder: _StrictDecoder) -> Any:
        values: dict[str, Any] = {}
        for _ in _entries(decoder):
            key = decoder.read_utf8()
            if key in values:
                raise InvalidAvroBinaryEncoding(f"the key {key!r} is twice in a map")
            values[key] = self.read_data(writers_schema.values, writers_schema.values, decoder)
        return values


def _entries(decoder: _StrictDecoder) -> Iterator[None]:
    """One for each entry, which the caller reads; checks the size of a block that has one."""
    while count := decoder.read_long():
        size = decoder.read_long() if count < 0 else None
        start = decoder.position
        for _ in range(abs(count)):
            yield
        if size is not None and decoder.position != start + size:
            raise InvalidAvroBinaryEncoding(f"a block of {size} bytes has another size")


@cache
def _parse(definition: str) -> Any:
    return avro.schema.parse(definition)


def read_strictly(definition: str, body: bytes) -> dict[str, Any]:
    """The record in a body; timestamps as numbers. Raises an exception for a malformed one."""
    decoder = _StrictDecoder(body)
    record: dict[str, Any] = _StrictReader(_parse(definition)).read(decoder)
    if decoder.position != len(body):
        raise InvalidAvroBinaryEncoding(f"it ends after {decoder.position} of {len(body)} bytes")
    return record
