"""An S3 object that is written from its beginning to its end, in bounded memory."""

from __future__ import annotations

import hashlib
from typing import Any, Final

PART_BYTES: Final = 8 * 1024 * 1024
"""Of a multipart upload, and what is held in memory; S3 takes parts of 5 MiB and more."""


class Upload:
    """A new object: whole after :meth:`close`, and not there before or after :meth:`abort`.

    File-like as far as pyarrow asks. Errors of boto3 go through. What a killed process has begun is
    an unfinished multipart upload, which the next publication removes.
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
        """Appends bytes (anything with the buffer protocol); returns how many."""
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
        """Does nothing: an object appears as a whole."""

    def close(self) -> None:
        """Puts the object; more than once is the same as once."""
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
        """Leaves nothing behind; after :meth:`close` it does nothing."""
        if self.closed:
            return
        self.closed = True
        self._buffer.clear()
        if self._upload is not None:
            self._s3.abort_multipart_upload(**self._upload)

    def _put_part(self, content: bytes) -> None:
        if self._upload is None:
            begun = self._s3.create_multipart_upload(**self._object)
            self._upload = {**self._object, "UploadId": begun["UploadId"]}
        number = len(self._parts) + 1
        answer = self._s3.upload_part(**self._upload, PartNumber=number, Body=content)
        self._parts.append({"ETag": answer["ETag"], "PartNumber": number})
