"""Wheels for the service's Python and Linux: downloaded once, verified by the lock, unpacked."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from deploy.package.errors import PackageError
from deploy.package.requirements import AWS_SERVICES, Requirement

PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
"""Platforms of the machines that run the job, the oldest first: glibc 2.17, then 2.28."""

PYTHONS = ("3.12", "3.11")
"""The service's version (runtime Flink 2.2), and the other one that PyFlink 2.2 supports."""

_MODELS = "botocore/data/"

Download = Callable[[Sequence[Requirement], str, Path], None]
"""Downloads the wheels of requirements, for a version of Python, into a folder."""


def pip_download(requirements: Sequence[Requirement], python: str, folder: Path) -> None:
    """Download with pip, which uses the configured index and verifies the hashes. Blocks; raises
    PackageError with pip's message."""
    wanted = folder / "requirements.txt"
    wanted.write_text("".join(requirement.line for requirement in requirements), encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"),
            *("--require-hashes", "--only-binary=:all:", "--disable-pip-version-check"),
            *(option for platform in PLATFORMS for option in ("--platform", platform)),
            *("--implementation", "cp", "--python-version", python),
            *("--dest", str(folder), "--requirement", str(wanted)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    wanted.unlink()
    if done.returncode != 0:
        raise PackageError(
            f"pip could not download {len(requirements)} wheels for Python {python}"
            f" ({', '.join(requirement.name for requirement in requirements)}):\n"
            + "\n".join(done.stderr.strip().splitlines()[-8:])
        )


def provide_wheels(
    requirements: Iterable[Requirement],
    python: str,
    cache: Path,
    download: Download = pip_download,
) -> tuple[Path, ...]:
    """Return the wheels of the requirements, in their order, downloading those not in the cache.

    Raises PackageError when a wheel cannot be downloaded, or its hash is not in the lock.
    """
    wanted = tuple(requirements)
    folder = cache / f"cp{python.replace('.', '')}"
    cached = _cached(wanted, folder)
    absent = [requirement for requirement in wanted if requirement.name not in cached]
    if absent:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            download(absent, python, Path(temporary))
            for wheel in sorted(Path(temporary).glob("*.whl")):
                wheel.replace(folder / wheel.name)
        cached = _cached(wanted, folder)
        for requirement in absent:
            if requirement.name not in cached:
                raise PackageError(
                    f"no wheel of {requirement.name} {requirement.version} for Python {python} has"
                    " a hash of requirements.lock. Run: make lock"
                )
    return tuple(cached[requirement.name] for requirement in wanted)


def _cached(requirements: Iterable[Requirement], folder: Path) -> dict[str, Path]:
    """Return the wheels in the cache whose hash is in the lock, by requirement."""
    candidates: dict[str, list[Path]] = {}
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        candidates.setdefault(f"{_canonical(name)} {version}", []).append(wheel)
    cached = {}
    for requirement in requirements:
        for wheel in candidates.get(f"{requirement.name} {requirement.version}", []):
            if sha256_of(wheel) in requirement.hashes:
                cached[requirement.name] = wheel
    return cached


def sha256_of(wheel: Path) -> str:
    """Return the sha256 of a file."""
    with wheel.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_members(wheels: Iterable[Path]) -> dict[str, bytes]:
    """Return the files that wheels install on the Python path, by path.

    Scripts, headers and botocore's models of unused services are excluded. Raises PackageError for
    a file that two wheels have.
    """
    members: dict[str, bytes] = {}
    origin: dict[str, str] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                path = _installed_path(info.filename)
                if path is None or info.is_dir():
                    continue
                if path in members:
                    raise PackageError(f"both {origin[path]} and {wheel.name} have {path}.")
                members[path] = archive.read(info)
                origin[path] = wheel.name
    return members


def _installed_path(name: str) -> str | None:
    """Return where a file of a wheel is installed on the Python path; None: it is not.

    A wheel's folder ``<name>.data`` has a folder per kind (wheel format, "The .data directory").
    """
    first, _, rest = name.partition("/")
    if name.startswith(_MODELS):
        service, slash, _ = name.removeprefix(_MODELS).partition("/")
        return name if service in AWS_SERVICES or not slash else None
    if not first.endswith(".data"):
        return name
    kind, _, path = rest.partition("/")
    return path if kind in ("purelib", "platlib") and path else None
