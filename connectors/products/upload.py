"""An S3 object that is written from its beginning to its end, in bounded memory."""

from __future__ import annotations

import hashlib
from typing import Any, Final

PART_BYTES: Final = 8 * 1024 * 1024
"""Bytes of a part of a multipart upload, and in memory; S3 requires 5 MiB or more."""


class Upload:
    """A new object: complete after :meth:`close`, absent before and after :meth:`abort`.

    File-like as far as pyarrow needs it. Errors of boto3 go through. A killed process leaves an
    unfinished multipart upload, which the next publication removes.
    """

    def __init__(self, s3: Any, bucket: str, key: str) -> None:
        self.size = 0
        self.closed = False
        self._s3 = s3
        self._object = {"Bucket": bucket, "Key": key}
        self._sha256 = hashlib.sha256()
        self._buffer = bytearray()
        self._upload: dict[str, Any] | None = None
        self._parts: list[dict[str, Any]] = []

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hex."""
        return self._sha256.hexdigest()

    def write(self, data: Any) -> int:
        """Append bytes (anything with the buffer protocol); returns their number."""
        view = memoryview(data).cast("B")
        self._sha256.update(view)
        self.size += len(view)
        self._buffer += view
        while len(self._buffer) > PART_BYTES:
            self._put_part(bytes(self._buffer[:PART_BYTES]))
            del self._buffer[:PART_BYTES]
        return len(view)

    def tell(self) -> int:
        """The position, which is the size so far."""
        return self.size

    def flush(self) -> None:
        """Do nothing: an object appears when it is complete."""

    def close(self) -> None:
        """Put the object. Idempotent."""
        if self.closed:
            return
        if self._upload is None:
            self._s3.put_object(**self._object, Body=bytes(self._buffer))
        else:
            self._put_part(bytes(self._buffer))
            self._s3.complete_multipart_upload(
                **self._upload, MultipartUpload={"Parts": self._parts}
            )
        self.closed = True
        self._buffer.clear()

    def abort(self) -> None:
        """Remove what was uploaded; after :meth:`close` it does nothing."""
        if self.closed:
            return
        self.closed = True
        self._buffer.clear()
        if self._upload is not None:
            self._s3.abort_multipart_upload(**self._upload)

    def _put_part(self, content: bytes) -> None:
        if self._upload is None:
            created = self._s3.create_multipart_upload(**self._object)
            self._upload = {**self._object, "UploadId": created["UploadId"]}
        number = len(self._parts) + 1
        answer = self._s3.upload_part(**self._upload, PartNumber=number, Body=content)
        self._parts.append({"ETag": answer["ETag"], "PartNumber": number})
