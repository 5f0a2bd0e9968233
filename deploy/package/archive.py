"""The zip: the same members are the same bytes; nothing in it that the service cannot use."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from deploy.package.contents import JAR, RELEASE, WHEELS
from deploy.package.errors import PackageError

MAX_BYTES = 52_428_800
"""The service's limit of a zip. Its model (kinesisanalyticsv2) has it twice: `ZipFileContent`, a
package inside the call, and `CodeSize`, how it describes a package wherever that lies. Its guide
speaks of 512 MB in S3; what is below the smaller one is right by both."""

LARGEST = 10
"""How many members a report names."""

_TIME = (1980, 1, 1, 0, 0, 0)
"""Of every member: the earliest that a zip can say."""

_LEVEL = 6

_FORBIDDEN: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern), why)
    for pattern, why in (
        (r"(^|/)(__MACOSX|\.DS_Store)(/|$)", "is a Mac's, and makes the package invalid"),
        (r"(^|/)__pycache__/|\.py[co]$", "is compiled Python, which only its own version reads"),
        (r"^(requirements\.txt|.*\.whl)$", "asks for pip, which does not run there"),
        (r"(^|/)application_properties\.json$", "is settings, which are property groups there"),
        (r"(^|/)(\.env|\.aws/.*|\.git/.*|id_[a-z0-9]+|.*\.(pem|key))$", "may be a secret"),
        (rf"^(?!{re.escape(JAR)}$).*\.jar$", "is a second jar; the service takes one"),
        (rf"^{WHEELS}(pyflink|pemja|apache_beam)/", "is the runtime's, and would be in its way"),
    )
)
_CERTIFICATES = re.compile(r"(^|/)(certifi|botocore)/cacert\.pem$")
"""Public ones, of packages that need them."""


def zipped(
    members: Mapping[str, bytes], *, first: Sequence[str] = (), compress: bool = True
) -> bytes:
    """A zip with these members, sorted but for the ``first``; neither time nor machine is in it."""
    names = [*first, *sorted(members.keys() - set(first))]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo(name, _TIME)
            info.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, members[name], compresslevel=_LEVEL if compress else None)
    return buffer.getvalue()


def content_hash(members: Mapping[str, bytes]) -> str:
    """The hash of what is in a package but for release.json, which has it: sha256, hexadecimal."""
    total = hashlib.sha256()
    for name in sorted(members.keys() - {RELEASE}):
        total.update(f"{hashlib.sha256(members[name]).hexdigest()}  {name}\n".encode())
    return total.hexdigest()


def check_names(names: Iterable[str]) -> None:
    """Raises PackageError for the first file that must not be in a package, and says why."""
    for name in names:
        if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
            raise PackageError(f"{name} would not stay in the folder that it is unpacked to.")
        if not name.isascii():
            raise PackageError(f"{name!r} has a name that not every unpacker reads alike.")
        for pattern, why in _FORBIDDEN:
            if pattern.search(name) and not _CERTIFICATES.search(name):
                raise PackageError(f"{name} must not be in a package: it {why}.")


def largest(content: bytes, count: int = LARGEST) -> tuple[tuple[str, int], ...]:
    """The largest parts of a zip, with the bytes that they take in it.

    A part is a file at the top or in lib/, else a package: ``dep/botocore``, ``jobs``.
    """
    sizes: dict[str, int] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            parts = info.filename.split("/")
            depth = 2 if f"{parts[0]}/" == WHEELS or parts[0] == "lib" else 1
            part = "/".join(parts[:depth])
            sizes[part] = sizes.get(part, 0) + info.compress_size
    return tuple(sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0]))[:count])


def check_size(content: bytes, limit: int = MAX_BYTES) -> None:
    """Raises PackageError, naming what is large, for a zip that the service does not take."""
    if len(content) > limit:
        parts = "\n".join(f"    {size:>12,} {part}" for part, size in largest(content))
        raise PackageError(
            f"the package has {len(content):,} bytes, the service takes {limit:,}."
            f" What is large in it:\n{parts}"
        )


def unpack(path: Path, folder: Path) -> Path:
    """Unpacks a package into a folder, which must be empty or not there; returns the folder.

    Raises PackageError for anything else, and for a file that is no package.
    """
    if folder.exists() and any(folder.iterdir()):
        raise PackageError(f"{folder} is not empty; a package is unpacked to a folder of its own.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if RELEASE not in names:
                raise PackageError(f"{path} is no package of tunemesh: it has no {RELEASE}.")
            check_names(names)
            folder.mkdir(parents=True, exist_ok=True)
            archive.extractall(folder)
    except (OSError, zipfile.BadZipFile) as error:
        raise PackageError(f"{path} could not be unpacked to {folder}: {error}.") from error
    return folder
