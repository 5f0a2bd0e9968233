"""The wire format of the AWS Glue Schema Registry.

A record's value is a header and an Avro body: byte 0x03 (header version), one byte of compression
(0x00 none, 0x05 zlib), 16 bytes schema version id (a UUID, big-endian). Source: the header
constants of ``software.amazon.glue:schema-registry-serde``.
"""

from __future__ import annotations

import zlib
from uuid import UUID

from schemas.invalid import InvalidRecord, Reason

HEADER_VERSION = 0x03
UNCOMPRESSED = 0x00
ZLIB = 0x05
HEADER_SIZE = 18


def header(version_id: UUID, compression: int = UNCOMPRESSED) -> bytes:
    """The 18 bytes before a body written with that schema version."""
    return bytes((HEADER_VERSION, compression)) + version_id.bytes


def frame(version_id: UUID, body: bytes, *, compress: bool = False) -> bytes:
    """A record's value: header and body, compressed if ``compress``."""
    if compress:
        return header(version_id, ZLIB) + zlib.compress(body)
    return header(version_id) + body


def unframe(value: bytes, max_body_bytes: int) -> tuple[bytes, bytes]:
    """Split a value into schema version id (16 bytes) and uncompressed body.

    Raises InvalidRecord: ``empty_value``, ``bad_magic_byte``, ``truncated_header``,
    ``unknown_compression``, ``corrupt_compression``; ``oversize`` when the body would be larger
    than ``max_body_bytes`` once uncompressed.
    """
    if not value:
        raise InvalidRecord(Reason.EMPTY_VALUE, "the value has no bytes")
    if value[0] != HEADER_VERSION:
        raise InvalidRecord(
            Reason.BAD_MAGIC_BYTE,
            f"the value starts with byte 0x{value[0]:02x}, a registry header starts with 0x03",
        )
    if len(value) < HEADER_SIZE:
        raise InvalidRecord(
            Reason.TRUNCATED_HEADER, f"{len(value)} bytes, a registry header has {HEADER_SIZE}"
        )
    compression = value[1]
    if compression == UNCOMPRESSED:
        return value[2:HEADER_SIZE], value[HEADER_SIZE:]
    if compression == ZLIB:
        return value[2:HEADER_SIZE], _decompress(value[HEADER_SIZE:], max_body_bytes)
    raise InvalidRecord(
        Reason.UNKNOWN_COMPRESSION,
        f"compression byte 0x{compression:02x}, expected 0x00 (none) or 0x05 (zlib)",
    )


def _decompress(compressed: bytes, max_body_bytes: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        # One byte more than allowed distinguishes a body that is too large from one that just fits,
        # without unpacking a zip bomb.
        body = stream.decompress(compressed, max_body_bytes + 1)
    except zlib.error as error:
        raise InvalidRecord(Reason.CORRUPT_COMPRESSION, f"zlib: {error}") from error
    if len(body) > max_body_bytes:
        raise InvalidRecord(
            Reason.OVERSIZE, f"the body is larger than {max_body_bytes} bytes once uncompressed"
        )
    if not stream.eof or stream.unused_data:
        raise InvalidRecord(Reason.CORRUPT_COMPRESSION, "zlib: incomplete or trailing data")
    return body
