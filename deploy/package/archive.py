"""The zip: equal members give equal bytes; files that the service cannot use are rejected."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from deploy.package.contents import JAR, RELEASE, WHEELS
from deploy.package.errors import ContentError, PackageError

MAX_BYTES = 52_428_800
"""The service's limit of a zip. Its model (kinesisanalyticsv2) has it twice: `ZipFileContent`, a
package inside the call, and `CodeSize`, the description of any package. Its guide has 512 MB for a
package in S3; the smaller limit satisfies both."""

LARGEST = 10
"""The number of members in a report."""

_TIME = (1980, 1, 1, 0, 0, 0)
"""The time of every member: the earliest that a zip can represent."""

_LEVEL = 6

_FORBIDDEN: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern), why)
    for pattern, why in (
        (r"(^|/)(__MACOSX|\.DS_Store)(/|$)", "is created by macOS, and makes the package invalid"),
        (r"(^|/)__pycache__/|\.py[co]$", "is compiled Python, which only one version can read"),
        (r"^(requirements\.txt|.*\.whl)$", "needs pip, which the service does not run"),
        (
            r"(^|/)application_properties\.json$",
            "has settings; the service has property groups",
        ),
        (r"(^|/)(\.env|\.aws/.*|\.git/.*|id_[a-z0-9]+|.*\.(pem|key))$", "may be a secret"),
        (rf"^(?!{re.escape(JAR)}$).*\.jar$", "is a second jar; the service accepts one"),
        (
            rf"^{WHEELS}(pyflink|pemja|apache_beam)/",
            "conflicts with the runtime's own",
        ),
    )
)
_CERTIFICATES = re.compile(r"(^|/)(certifi|botocore)/cacert\.pem$")
"""Public certificates that packages need."""


def make_zip(
    members: Mapping[str, bytes], *, first: Sequence[str] = (), compress: bool = True
) -> bytes:
    """Return a zip of the members, ``first`` and then sorted; independent of time and machine."""
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
    """Return the sha256 of a package's members without release.json, which contains it."""
    return _total({name: hashlib.sha256(content) for name, content in members.items()})


def folder_hash(folder: Path) -> str:
    """Return the content hash of an unpacked package; compiled Python does not count."""
    digests = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and "__pycache__/" not in name:
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256")
    return _total(digests)


def _total(digests: Mapping[str, hashlib._Hash]) -> str:
    total = hashlib.sha256()
    for name in sorted(digests.keys() - {RELEASE}):
        total.update(f"{digests[name].hexdigest()}  {name}\n".encode())
    return total.hexdigest()


def check_content(folder: Path) -> None:
    """Raise ContentError unless the files of an unpacked package are those that it was built of."""
    try:
        expected = json.loads((folder / RELEASE).read_text(encoding="utf-8"))["content_hash"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ContentError(f"{folder} has no content hash in {RELEASE}: {error!r}.") from error
    if (actual := folder_hash(folder)) != expected:
        raise ContentError(
            f"the files in {folder} have the content hash {actual}, but {RELEASE} has {expected}:"
            " they were changed after the build. None of them was run."
        )


def check_names(names: Iterable[str]) -> None:
    """Raise PackageError for the first file that must not be in a package, with the reason."""
    for name in names:
        if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
            raise PackageError(f"{name} would be unpacked outside its folder.")
        if not name.isascii():
            raise PackageError(f"{name!r} is not ASCII; unpackers differ in how they decode it.")
        for pattern, why in _FORBIDDEN:
            if pattern.search(name) and not _CERTIFICATES.search(name):
                raise PackageError(f"{name} must not be in a package: it {why}.")


def find_largest(content: bytes, count: int = LARGEST) -> tuple[tuple[str, int], ...]:
    """Return the largest parts of a zip, with their compressed bytes.

    A part is a file at the top level or in lib/, else a package: ``dep/botocore``, ``jobs``.
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
    """Raise PackageError with the largest parts for a zip above the service's limit."""
    if len(content) > limit:
        parts = "\n".join(f"    {size:>12,} {part}" for part, size in find_largest(content))
        raise PackageError(
            f"the package has {len(content):,} bytes, the service accepts {limit:,}."
            f" Its largest parts:\n{parts}"
        )


def unpack(path: Path, folder: Path) -> Path:
    """Unpack a package into a folder, which must be empty or missing; returns the folder.

    Raises PackageError for another folder, and for a file that is no package; ContentError for a
    package whose files were changed, of which nothing is left in the folder.
    """
    if folder.exists() and any(folder.iterdir()):
        raise PackageError(f"{folder} is not empty. Choose an empty folder.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if RELEASE not in names:
                raise PackageError(f"{path} is not a package of tunemesh: it has no {RELEASE}.")
            check_names(names)
            folder.mkdir(parents=True, exist_ok=True)
            archive.extractall(folder)
    except (OSError, zipfile.BadZipFile) as error:
        raise PackageError(f"{path} could not be unpacked to {folder}: {error}.") from error
    try:
        check_content(folder)
    except ContentError as error:
        shutil.rmtree(folder)
        raise ContentError(f"{path}: {error}") from error
    return folder
