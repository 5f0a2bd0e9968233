"""The merged jar."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.package.errors import PackageError
from deploy.package.jar import MANIFEST, list_entries, merge_jars

FACTORY = "META-INF/services/org.apache.flink.table.factories.Factory"


def jar(folder: Path, name: str, entries: Mapping[str, bytes]) -> Path:
    path = folder / f"{name}.jar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/", b"")
        archive.writestr(MANIFEST, b"Manifest-Version: 1.0\r\nBuilt-By: somebody\r\n")
        for entry, content in entries.items():
            archive.writestr(entry, content)
    return path


def contents(merged_jar: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(merged_jar)) as archive:
        assert len(archive.namelist()) == len(set(archive.namelist()))
        return {name: archive.read(name) for name in archive.namelist()}


def test_service_files_are_merged_line_by_line(tmp_path: Path) -> None:
    """Each provider once, in the order of the jars, also without a line end before."""
    one = jar(tmp_path, "a", {FACTORY: b"# providers\na.One\na.Two"})
    other = jar(tmp_path, "b", {FACTORY: b"b.Three # new\na.One\n"})
    assert contents(merge_jars([one, other]))[FACTORY] == b"a.One\na.Two\nb.Three\n"


def test_signatures_go(tmp_path: Path) -> None:
    """A class loader refuses a signed jar that is not what was signed."""
    entries = {f"META-INF/{name}": b"x" for name in ("A.SF", "A.RSA", "B.DSA", "c.ec", "SIG-D")}
    entries |= {"META-INF/INDEX.LIST": b"x", "module-info.class": b"x", "a/A.class": b"a"}
    entries |= {"META-INF/versions/9/module-info.class": b"x", "META-INF/SFERE.txt": b"stays"}
    found = contents(merge_jars([jar(tmp_path, "a", entries)]))
    assert set(found) == {MANIFEST, "a/A.class", "META-INF/SFERE.txt"}


def test_entries_of_the_runtime_are_excluded(tmp_path: Path) -> None:
    """Logging always, also for a later Java; Flink's classes when its own jars have them."""
    runtime = jar(tmp_path, "runtime", {"org/apache/flink/Core.class": b"", "a/A.class": b""})
    kept = {
        "org/apache/flink/connector/Kafka.class": b"k",
        "org/apache/flink/kafka/shaded/org/slf4j/Logger.class": b"s",
        "a/A.class": b"a",
    }
    excluded = (
        "org/slf4j/Logger.class",
        "META-INF/versions/9/org/apache/logging/log4j/Log.class",
        "org/apache/flink/Core.class",
    )
    merged = jar(tmp_path, "a", {**dict.fromkeys(excluded, b""), **kept})
    found = contents(merge_jars([merged], list_entries([runtime])))
    assert set(found) - {MANIFEST} == set(kept)


@pytest.mark.parametrize("name", ["a/A.class", "config.properties", "META-INF/plugins.dat"])
def test_jars_with_different_versions_of_an_entry_are_an_error(tmp_path: Path, name: str) -> None:
    """Both are named, and the entry."""
    jars = [jar(tmp_path, "first", {name: b"1"}), jar(tmp_path, "second", {name: b"2"})]
    with pytest.raises(PackageError, match=f"second.jar have different versions of {name}"):
        merge_jars(jars)


def test_jars_that_agree_are_none(tmp_path: Path) -> None:
    """The same bytes, once; licences one after the other."""
    jars = [
        jar(tmp_path, "a", {"a/A.class": b"1", "META-INF/LICENSE": b"of a\n"}),
        jar(tmp_path, "b", {"a/A.class": b"1", "META-INF/LICENSE": b"of b\n"}),
    ]
    found = contents(merge_jars(jars))
    assert found["a/A.class"] == b"1"
    assert found["META-INF/LICENSE"] == b"of a\n\nof b\n"


def test_the_manifest_has_only_the_multi_release_flag_of_the_jars(tmp_path: Path) -> None:
    """First in the jar, as Java wants it."""
    plain = merge_jars([jar(tmp_path, "a", {"a/A.class": b"1"})])
    assert contents(plain)[MANIFEST] == b"Manifest-Version: 1.0\nCreated-By: tunemesh\n\n"
    with zipfile.ZipFile(tmp_path / "b.jar", "w") as archive:
        archive.writestr(MANIFEST, b"Manifest-Version: 1.0\r\nMulti-Release: true\r\n")
    found = contents(merge_jars([tmp_path / "a.jar", tmp_path / "b.jar"]))
    assert next(iter(found)) == MANIFEST
    assert b"\nMulti-Release: true\n" in found[MANIFEST]


def test_the_order_of_entries_is_no_part_of_the_bytes(tmp_path: Path) -> None:
    """Nor is the time at which they were written."""
    entries = {"a/A.class": b"1", "b/B.class": b"2"}
    one = jar(tmp_path, "one", entries)
    other = jar(tmp_path, "other", dict(reversed(entries.items())))
    assert merge_jars([one]) == merge_jars([other])
