"""Wheels for the service's Python and Linux: downloaded once, checked by the lock, unpacked."""

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
"""Of the machines that run the job, the most undemanding first: glibc 2.17, then 2.28."""

PYTHONS = ("3.12", "3.11")
"""The service's own (runtime Flink 2.2), and the other one that PyFlink 2.2 has on both sides."""

_MODELS = "botocore/data/"

Download = Callable[[Sequence[Requirement], str, Path], None]
"""Brings the wheels of requirements, for a version of Python, into a folder."""


def pip_download(requirements: Sequence[Requirement], python: str, folder: Path) -> None:
    """By pip, which knows the machine's index and checks the hashes. Blocks; PackageError with what
    pip says."""
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
            f"pip could not bring {len(requirements)} wheels for Python {python}"
            f" ({', '.join(requirement.name for requirement in requirements)}):\n"
            + "\n".join(done.stderr.strip().splitlines()[-8:])
        )


def provide(
    requirements: Iterable[Requirement],
    python: str,
    cache: Path,
    download: Download = pip_download,
) -> tuple[Path, ...]:
    """The wheels of the requirements, in their order; what the cache lacks is downloaded.

    Raises PackageError when a wheel cannot be had or is not one of the lock's.
    """
    wanted = tuple(requirements)
    folder = cache / f"cp{python.replace('.', '')}"
    found = _cached(wanted, folder)
    absent = [requirement for requirement in wanted if requirement.name not in found]
    if absent:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            download(absent, python, Path(temporary))
            for wheel in sorted(Path(temporary).glob("*.whl")):
                wheel.replace(folder / wheel.name)
        found = _cached(wanted, folder)
        for requirement in absent:
            if requirement.name not in found:
                raise PackageError(
                    f"no wheel of {requirement.name} {requirement.version} for Python {python} has"
                    " a hash that requirements.lock knows. Run: make lock"
                )
    return tuple(found[requirement.name] for requirement in wanted)


def _cached(requirements: Iterable[Requirement], folder: Path) -> dict[str, Path]:
    """What is in the cache, whole: a wheel counts when the lock has its hash."""
    there: dict[str, list[Path]] = {}
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        there.setdefault(f"{_canonical(name)} {version}", []).append(wheel)
    found = {}
    for requirement in requirements:
        for wheel in there.get(f"{requirement.name} {requirement.version}", []):
            with wheel.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() in requirement.hashes:
                    found[requirement.name] = wheel
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def unpacked(wheels: Iterable[Path]) -> dict[str, bytes]:
    """What the wheels put on a Python path, by path.

    Scripts and headers stay behind, and so do botocore's models of services that nobody calls.
    Raises PackageError for a file that two wheels have.
    """
    members: dict[str, bytes] = {}
    origin: dict[str, str] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                path = _on_the_path(info.filename)
                if path is None or info.is_dir():
                    continue
                if path in members:
                    raise PackageError(f"both {origin[path]} and {wheel.name} have {path}.")
                members[path] = archive.read(info)
                origin[path] = wheel.name
    return members


def _on_the_path(name: str) -> str | None:
    """Where a file of a wheel goes below the folder on the path; None: nowhere.

    A wheel's folder ``<name>.data`` has a folder a kind (the wheel format, "The .data directory").
    """
    first, _, rest = name.partition("/")
    if name.startswith(_MODELS):
        service, slash, _ = name.removeprefix(_MODELS).partition("/")
        return name if service in AWS_SERVICES or not slash else None
    if not first.endswith(".data"):
        return name
    kind, _, path = rest.partition("/")
    return path if kind in ("purelib", "platlib") and path else None
