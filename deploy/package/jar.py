"""Merges several jars into one: the service accepts a single jar.

Service files are merged; signatures, which would be invalid, and classes of the runtime are
excluded. Two jars with different versions of a class or a resource are an error.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path

from deploy.local import flink_cluster
from deploy.package.archive import make_zip
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
"""Flink loads these from its own class path (`classloader.parent-first-patterns.default`)."""

FLINK = "org/apache/flink/"
"""Also loaded from there; excluded where Flink's own jars have the class."""

UNUSED = ("org/apache/hadoop/hdfs/", "org/apache/hadoop/yarn/")
"""Unused parts of Hadoop's client, which Parquet's reader needs for its configuration and codecs:
the file system and the scheduler of a Hadoop cluster."""

_SIGNATURES = (".SF", ".RSA", ".DSA", ".EC")
_LEGAL = ("LICENSE", "NOTICE", "DEPENDENCIES", "COPYRIGHT", "AL2.0", "LGPL2.1")


def merge_jars(jars: Iterable[Path], provided: Collection[str] = ()) -> bytes:
    """Merge the jars into one; ``provided`` are the entries of the runtime's jars.

    Entries are stored, not compressed: the enclosing zip compresses them better, and the bytes do
    not depend on a compression library. Raises PackageError when two jars have an entry with
    different bytes.
    """
    entries: dict[str, bytes] = {}
    origin: dict[str, str] = {}
    releases = False
    for jar in jars:
        with zipfile.ZipFile(jar) as archive:
            for info in archive.infolist():
                name, content = info.filename, b""
                if info.is_dir() or _is_excluded(name, provided):
                    continue
                content = archive.read(info)
                if name == MANIFEST:
                    releases = releases or _is_multi_release(content)
                    continue
                before = entries.get(name)
                if before is None or before == content:
                    entries[name] = content
                elif name.startswith(SERVICES):
                    entries[name] = _merge_services(before, content)
                elif _is_legal(name):
                    entries[name] = before.rstrip(b"\n") + b"\n\n" + content
                else:
                    raise PackageError(
                        f"{origin[name]} and {jar.name} have different versions of {name}."
                        " Choose compatible jars in pom-deps.txt."
                    )
                origin.setdefault(name, jar.name)
    manifest = "Manifest-Version: 1.0\nCreated-By: tunemesh\n"
    if releases:
        manifest += "Multi-Release: true\n"
    entries[MANIFEST] = (manifest + "\n").encode()
    return make_zip(entries, first=(MANIFEST,), compress=False)


def provided_entries() -> frozenset[str]:
    """Return the entries of Flink's own jars, as the runtime has them."""
    return list_entries(sorted((flink_cluster.flink_home() / "lib").glob("*.jar")))


def list_entries(jars: Iterable[Path]) -> frozenset[str]:
    """Return the names of all entries of the jars."""
    names: set[str] = set()
    for jar in jars:
        with zipfile.ZipFile(jar) as archive:
            names.update(archive.namelist())
    return frozenset(names)


def _is_excluded(name: str, provided: Collection[str]) -> bool:
    folder, _, file = name.rpartition("/")
    if folder == "META-INF" and (
        file.upper().endswith(_SIGNATURES) or file.upper().startswith("SIG-")
    ):
        return True
    if name.startswith("META-INF/maven/"):  # the build of each jar
        return True
    if name == "META-INF/INDEX.LIST" or file == "module-info.class":
        return True
    # Without the folder of a Java release.
    path = name.split("/", 3)[3] if name.startswith("META-INF/versions/") else name
    return path.startswith((*LOGGING, *UNUSED)) or (path.startswith(FLINK) and path in provided)


def _merge_services(before: bytes, more: bytes) -> bytes:
    """Merge the lines of two service files."""
    lines = [*before.decode().splitlines(), *more.decode().splitlines()]
    names = (line.partition("#")[0].strip() for line in lines)
    return "".join(f"{name}\n" for name in dict.fromkeys(names) if name).encode()


def _is_multi_release(manifest: bytes) -> bool:
    return any(
        line.replace(" ", "").lower() == "multi-release:true"
        for line in manifest.decode().splitlines()
    )


def _is_legal(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return folder in ("", "META-INF") and file.upper().startswith(_LEGAL)
