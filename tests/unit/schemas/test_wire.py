"""The registry header: what is written is read, and nothing malformed gets past it."""

from __future__ import annotations

import zlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import wire
from schemas.invalid import InvalidRecord, Reason

ID = UUID("7f1d0c5e-9a3b-4c1d-8e2f-0123456789ab")
LIMIT = 10_000


def refused(value: bytes, limit: int = LIMIT) -> Reason:
    with pytest.raises(InvalidRecord) as caught:
        wire.unframe(value, limit)
    return caught.value.reason


def test_the_header_is_the_one_of_the_java_serializer() -> None:
    """Byte for byte: 0x03, compression, the id big-endian; frozen, other clients read it."""
    assert wire.frame(ID, b"body").hex() == (
        "03007f1d0c5e9a3b4c1d8e2f0123456789ab626f6479"
    )  # fmt: skip
    assert wire.frame(ID, b"body", compress=True)[:2] == b"\x03\x05"
    assert len(wire.header(ID)) == wire.HEADER_SIZE


@given(body=st.binary(max_size=2_000), compress=st.booleans())
def test_what_is_framed_is_unframed(body: bytes, compress: bool) -> None:
    """With and without zlib, empty bodies included."""
    assert wire.unframe(wire.frame(ID, body, compress=compress), LIMIT) == (ID.bytes, body)


def test_each_malformed_header_has_its_reason() -> None:
    """The reasons are in the dead letters, so they are distinguished."""
    good = wire.frame(ID, b"body")
    assert refused(b"") is Reason.EMPTY_VALUE
    assert refused(b"\x00" + good[1:]) is Reason.BAD_MAGIC_BYTE
    assert refused(b"{}") is Reason.BAD_MAGIC_BYTE
    assert refused(good[:1]) is Reason.TRUNCATED_HEADER
    assert refused(good[:17]) is Reason.TRUNCATED_HEADER
    assert refused(b"\x03\x01" + good[2:]) is Reason.UNKNOWN_COMPRESSION


def test_zlib_that_is_cut_padded_or_no_zlib_is_corrupt() -> None:
    """Also when all of the body came out before the cut: the checksum is missing then."""
    good = wire.frame(ID, b"body" * 100, compress=True)
    assert refused(good[:18]) is Reason.CORRUPT_COMPRESSION
    assert refused(good[:-1]) is Reason.CORRUPT_COMPRESSION
    assert refused(good + b"x") is Reason.CORRUPT_COMPRESSION
    assert refused(good[:18] + b"no zlib at all") is Reason.CORRUPT_COMPRESSION
    assert refused(good[:-1] + bytes([good[-1] ^ 1])) is Reason.CORRUPT_COMPRESSION


def test_a_body_may_be_as_large_as_the_limit_and_not_a_byte_larger() -> None:
    """Measured uncompressed."""
    assert wire.unframe(wire.frame(ID, b"x" * LIMIT, compress=True), LIMIT)[1] == b"x" * LIMIT
    assert refused(wire.frame(ID, b"x" * (LIMIT + 1), compress=True)) is Reason.OVERSIZE


def test_a_zip_bomb_is_refused_without_unpacking_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 kB that would be 20 MB: no more than the limit is ever asked of zlib."""
    asked: list[int] = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self) -> None:
            self._stream = real()

        def decompress(self, data: bytes, max_length: int = 0) -> bytes:
            asked.append(max_length)
            return self._stream.decompress(data, max_length)

    bomb = wire.header(ID, wire.ZLIB) + zlib.compress(bytes(20_000_000), 9)
    monkeypatch.setattr(zlib, "decompressobj", Watched)
    assert refused(bomb) is Reason.OVERSIZE
    assert asked == [LIMIT + 1]


@given(value=st.binary(max_size=100))
def test_no_bytes_raise_anything_else(value: bytes) -> None:
    """Whatever is on the topic: unframed, or an InvalidRecord."""
    try:
        version_id, _ = wire.unframe(value, LIMIT)
    except InvalidRecord:
        return
    assert len(version_id) == 16


@given(value=st.binary(max_size=100))
def test_no_zlib_body_raises_anything_else(value: bytes) -> None:
    """The same with a good header before it."""
    try:
        _, body = wire.unframe(wire.header(ID, wire.ZLIB) + value, LIMIT)
    except InvalidRecord:
        return
    assert len(body) <= LIMIT
