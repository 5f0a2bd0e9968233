"""S3 objects that outlast a restart: a file each, below the data folder.

    s3/<bucket>/<key, percent-encoded>

Kept are the name and the bytes: what Firehose delivers and what clients put. Metadata, tags, older
versions, and objects with an encoded name beyond a file system's limit live as long as the process.
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

LONGEST_NAME = 220
"""Bytes of a file's name, with room for the ending of a file that is being written."""

_PART = "%part"
"""In the name of a file that is being written; no encoded key has it."""


def keep(backend: Any, folder: Path) -> None:
    """Fills moto's S3 backend from the folder, and from now on the folder from the backend."""
    _restore(backend, folder)
    create_bucket, put_object = backend.create_bucket, backend.put_object
    delete_bucket, delete_object = backend.delete_bucket, backend.delete_object

    @functools.wraps(create_bucket)
    def create_and_keep(bucket_name: str, *arguments: Any, **named: Any) -> Any:
        created = create_bucket(bucket_name, *arguments, **named)
        (folder / bucket_name).mkdir(parents=True, exist_ok=True)
        return created

    @functools.wraps(put_object)
    def put_and_keep(bucket_name: str, key_name: str, *arguments: Any, **named: Any) -> Any:
        key = put_object(bucket_name, key_name, *arguments, **named)
        _write(folder / bucket_name, key_name, key.value)
        return key

    @functools.wraps(delete_bucket)
    def delete_bucket_and_folder(bucket_name: str, *arguments: Any, **named: Any) -> Any:
        deleted = delete_bucket(bucket_name, *arguments, **named)
        if deleted is not None:  # else there is something in it
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

    backend.create_bucket, backend.put_object = create_and_keep, put_and_keep
    backend.delete_bucket, backend.delete_object = delete_bucket_and_folder, delete_object_and_file


def file_name(key: str) -> str:
    """The name of an object's file; every key has one of its own, without a slash."""
    encoded = quote(key, safe="")
    return encoded.replace(".", "%2E") if encoded.startswith(".") else encoded


def _restore(backend: Any, folder: Path) -> None:
    for bucket in sorted(folder.glob("*")):
        backend.create_bucket(bucket.name, REGION)
        for file in sorted(bucket.iterdir()):
            if _PART in file.name:
                file.unlink()  # broken off: it was never answered
            else:
                backend.put_object(bucket.name, unquote(file.name), file.read_bytes())


def _write(bucket: Path, key: str, content: bytes) -> None:
    """Writes an object whole or not at all; a killed process loses nothing that was answered."""
    name = file_name(key)
    if len(name) > LONGEST_NAME:
        log.warning("%s is kept in memory only: its name is too long for a file", key)
        return
    part = bucket / f"{name}{_PART}{threading.get_ident()}"
    part.write_bytes(content)
    part.replace(bucket / name)
