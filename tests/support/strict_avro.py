"""Reads Avro as the specification says, by Apache's library and not by the product's codec.

``avro`` refuses negative indices, numbers beyond 64 bits and text that is not UTF-8. What it passes
over is checked here: booleans other than 0 and 1, an int beyond 32 bits, a number in more bytes
than it needs, bytes behind the record, and a block of another size than it says (a reader that
skips a field, as Java's does, must arrive where one that reads it does).
"""

from __future__ import annotations

import io
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
        self.has_sized_blocks = False

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

    def skip_long(self) -> None:
        # The size of a block is all that a reader of a whole record skips.
        self.has_sized_blocks = True
        self.read_long()

    def read_timestamp_millis_from_long(self) -> int:
        # Any long is a timestamp; Python's datetime has fewer years.
        return self.read_long()


@cache
def _parse(definition: str) -> Any:
    return avro.schema.parse(definition)


def read_strictly(definition: str, body: bytes) -> dict[str, Any]:
    """The record in a body; timestamps as numbers. Raises an exception for a malformed one."""
    schema = _parse(definition)
    reader = avro.io.DatumReader(schema)
    decoder = _StrictDecoder(body)
    record, ends = {}, []
    for field in schema.fields:
        record[field.name] = reader.read_data(field.type, field.type, decoder)
        ends.append(decoder.position)
    if decoder.position != len(body):
        raise InvalidAvroBinaryEncoding(f"it ends after {decoder.position} of {len(body)} bytes")
    if decoder.has_sized_blocks:
        skipping = _StrictDecoder(body)
        for field, end in zip(schema.fields, ends, strict=True):
            reader.skip_data(field.type, skipping)
            if skipping.position != end:
                raise InvalidAvroBinaryEncoding(f"{field.name} has another size than it says")
    return record
