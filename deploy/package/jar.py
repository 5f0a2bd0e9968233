"""Several jars as one: the service takes a single one.

Service files are merged, signatures go (a merged jar is signed by nobody), classes that the runtime
has stay out. Two jars that disagree on a class or a resource are an error.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path

from deploy.package.archive import zipped
from deploy.package.errors import PackageError

MANIFEST = "META-INF/MANIFEST.MF"
SERVICES = "META-INF/services/"

LOGGING = (
    "org/slf4j/",
    "org/apache/logging/",
    "org/apache/log4j/",
    "org/apache/commons/logging/",
    "ch/qos/logback/",
)
"""What Flink always takes from its own class path (`classloader.parent-first-patterns.default`)."""

FLINK = "org/apache/flink/"
"""As is this; left out where Flink's own jars have the class."""

_SIGNATURES = (".SF", ".RSA", ".DSA", ".EC")
_LEGAL = ("LICENSE", "NOTICE", "DEPENDENCIES", "COPYRIGHT", "AL2.0", "LGPL2.1")


def merged(jars: Iterable[Path], provided: Collection[str] = ()) -> bytes:
    """The jars as one jar; ``provided`` are the entries of the runtime's own jars.

    Entries are stored, not compressed: the zip around it does that, and better, and the bytes then
    do not depend on a library for compression. Raises PackageError where two jars have the same
    entry with other bytes.
    """
    entries: dict[str, bytes] = {}
    origin: dict[str, str] = {}
    releases = False
    for jar in jars:
        with zipfile.ZipFile(jar) as archive:
            for info in archive.infolist():
                name, content = info.filename, b""
                if info.is_dir() or _left_out(name, provided):
                    continue
                content = archive.read(info)
                if name == MANIFEST:
                    releases = releases or _multi_release(content)
                    continue
                before = entries.get(name)
                if before is None or before == content:
                    entries[name] = content
                elif name.startswith(SERVICES):
                    entries[name] = _services(before, content)
                elif _is_legal(name):
                    entries[name] = before.rstrip(b"\n") + b"\n\n" + content
                else:
                    raise PackageError(
                        f"{origin[name]} and {jar.name} both have {name}, and not the same."
                        " Choose jars that go together in pom-deps.txt."
                    )
                origin.setdefault(name, jar.name)
    manifest = "Manifest-Version: 1.0\nCreated-By: tunemesh\n"
    if releases:
        manifest += "Multi-Release: true\n"
    entries[MANIFEST] = (manifest + "\n").encode()
    return zipped(entries, first=(MANIFEST,), compress=False)


def entries_of(jars: Iterable[Path]) -> frozenset[str]:
    """The names of everything in the jars."""
    names: set[str] = set()
    for jar in jars:
        with zipfile.ZipFile(jar) as archive:
            names.update(archive.namelist())
    return frozenset(names)


def _left_out(name: str, provided: Collection[str]) -> bool:
    folder, _, file = name.rpartition("/")
    if folder == "META-INF" and (
        file.upper().endswith(_SIGNATURES) or file.upper().startswith("SIG-")
    ):
        return True
    if name == "META-INF/INDEX.LIST" or file == "module-info.class":
        return True
    # The name of a class without the folder of a release of Java.
    path = name.split("/", 3)[3] if name.startswith("META-INF/versions/") else name
    return path.startswith(LOGGING) or (path.startswith(FLINK) and path in provided)


def _services(before: bytes, more: bytes) -> bytes:
    """The lines of both, each once, in their order."""
    lines = [*before.decode().splitlines(), *more.decode().splitlines()]
    names = (line.partition("#")[0].strip() for line in lines)
    return "".join(f"{name}\n" for name in dict.fromkeys(names) if name).encode()


def _multi_release(manifest: bytes) -> bool:
    return any(
        line.replace(" ", "").lower() == "multi-release:true"
        for line in manifest.decode().splitlines()
    )


def _is_legal(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return folder in ("", "META-INF") and file.upper().startswith(_LEGAL)
