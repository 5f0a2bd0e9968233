"""S3 objects that outlast a restart, as files below the data folder.

    s3/<bucket>/<key, percent-encoded>

Name and content of an object are kept. Metadata, tags, older versions, and objects whose encoded
name exceeds a file system's limit are in memory only.
"""

from __future__ import annotations

import functools
import logging
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from emulators.aws import REGION

log = logging.getLogger(__name__)

MAX_NAME_BYTES = 220
"""Of a file's name, with room for the suffix of a file that is being written."""

_PART = "%part"
"""Part of the name of a file that is being written; no encoded key contains it."""


def persist(backend: Any, folder: Path) -> None:
    """Restores moto's S3 backend from the folder, and writes later changes to the folder."""
    _restore(backend, folder)
    create_bucket, put_object = backend.create_bucket, backend.put_object
    delete_bucket, delete_object = backend.delete_bucket, backend.delete_object

    @functools.wraps(create_bucket)
    def create_and_persist(bucket_name: str, *arguments: Any, **named: Any) -> Any:
        created = create_bucket(bucket_name, *arguments, **named)
        (folder / bucket_name).mkdir(parents=True, exist_ok=True)
        return created

    @functools.wraps(put_object)
    def put_and_persist(bucket_name: str, key_name: str, *arguments: Any, **named: Any) -> Any:
        key = put_object(bucket_name, key_name, *arguments, **named)
        _write(folder / bucket_name, key_name, key.value)
        return key

    @functools.wraps(delete_bucket)
    def delete_bucket_and_folder(bucket_name: str, *arguments: Any, **named: Any) -> Any:
        deleted = delete_bucket(bucket_name, *arguments, **named)
        if deleted is not None:  # None: the bucket is not empty
            (folder / bucket_name).rmdir()
        return deleted

    @functools.wraps(delete_object)
    def delete_object_and_file(
        bucket_name: str, key_name: str, *arguments: Any, **named: Any
    ) -> Any:
        result = delete_object(bucket_name, key_name, *arguments, **named)
        if key_name not in backend.get_bucket(bucket_name).keys:
            (folder / bucket_name / file_name(key_name)).unlink(missing_ok=True)
        return result

    backend.create_bucket, backend.put_object = create_and_persist, put_and_persist
    backend.delete_bucket, backend.delete_object = delete_bucket_and_folder, delete_object_and_file


def file_name(key: str) -> str:
    """The name of an object's file, unique for each key and without a slash."""
    encoded = quote(key, safe="")
    return encoded.replace(".", "%2E") if encoded.startswith(".") else encoded


def _restore(backend: Any, folder: Path) -> None:
    for bucket in sorted(folder.glob("*")):
        backend.create_bucket(bucket.name, REGION)
        for file in sorted(bucket.iterdir()):
            if _PART in file.name:
                file.unlink()  # interrupted before the response
            else:
                backend.put_object(bucket.name, unquote(file.name), file.read_bytes())


def _write(bucket: Path, key: str, content: bytes) -> None:
    """Writes an object atomically; a killed process loses nothing that was acknowledged."""
    name = file_name(key)
    if len(name) > MAX_NAME_BYTES:
        log.warning("%s is kept in memory only: its name is too long for a file", key)
        return
    part = bucket / f"{name}{_PART}{threading.get_ident()}"
    part.write_bytes(content)
    part.replace(bucket / name)
