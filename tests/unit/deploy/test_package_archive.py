"""The zip: reproducible, checked, measured; release.json; a whole package of small parts."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.local import jars
from deploy.package import archive, assembly
from deploy.package.contents import APPLICATIONS, RELEASE
from deploy.package.errors import ContentError, PackageError
from deploy.package.release import PlanDescription, describe_plan, read_description
from deploy.package.requirements import Requirement
from schemas.model import load_contracts

Build = Callable[..., assembly.Package]

MEMBERS = {"main.py": b"print()", "lib/pyflink-dependencies.jar": b"jar", RELEASE: b"{}"}


def test_the_same_members_are_the_same_bytes() -> None:
    """In whichever order, at whatever time."""
    first = archive.make_zip(MEMBERS)
    assert archive.make_zip(dict(reversed(MEMBERS.items()))) == first
    assert time.strftime("%Y").encode() not in first
    assert archive.content_hash(MEMBERS) == archive.content_hash({**MEMBERS, RELEASE: b"other"})
    assert archive.content_hash(MEMBERS) != archive.content_hash({**MEMBERS, "main.py": b""})
    moved = {("start.py" if name == "main.py" else name): MEMBERS[name] for name in MEMBERS}
    assert archive.content_hash(MEMBERS) != archive.content_hash(moved)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "unpacked outside"),
        ("dep/../../x.py", "unpacked outside"),
        ("dep\\x.py", "unpacked outside"),
        ("dep/naïve.py", "is not ASCII"),
        ("__MACOSX/main.py", "created by macOS"),
        ("jobs/.DS_Store", "created by macOS"),
        ("jobs/__pycache__/main.cpython-312.pyc", "is compiled Python"),
        ("jobs/main.pyc", "is compiled Python"),
        ("requirements.txt", "needs pip"),
        ("dep/a-1.0-py3-none-any.whl", "needs pip"),
        ("application_properties.json", "has settings"),
        (".env", "may be a secret"),
        ("jobs/id_rsa", "may be a secret"),
        ("dep/x/private.pem", "may be a secret"),
        ("lib/another.jar", "is a second jar"),
        ("dep/pyflink/version.py", "conflicts with the runtime"),
    ],
)
def test_what_the_service_cannot_use_is_refused(name: str, why: str) -> None:
    """Named, with the reason."""
    with pytest.raises(PackageError) as caught:
        archive.check_names([*MEMBERS, name])
    assert name in str(caught.value) or repr(name) in str(caught.value)
    assert why in str(caught.value)


def test_what_it_can_use_is_not() -> None:
    """Public certificates, types, shared libraries."""
    archive.check_names([*MEMBERS, "dep/botocore/cacert.pem", "dep/a.pyi", "dep/a.libs/b.so.1"])


def test_a_zip_over_the_limit_is_refused_naming_what_is_large() -> None:
    """By part: a file in lib/, a package in dep/, a folder else; the largest first."""
    noise = random.Random(7).randbytes
    members = {**MEMBERS, "dep/big/a.so": noise(3000), "dep/big/b.so": noise(3000)}
    members |= {"jobs/a.py": noise(1000), "dep/small/c.py": noise(100)}
    zipped = archive.make_zip(members)
    assert [part for part, _ in archive.find_largest(zipped, 3)] == ["dep/big", "jobs", "dep/small"]
    archive.check_size(zipped, len(zipped))
    with pytest.raises(PackageError) as caught:
        archive.check_size(zipped, len(zipped) - 1)
    assert f"has {len(zipped):,} bytes, the service accepts {len(zipped) - 1:,}" in str(
        caught.value
    )
    assert "6,010 dep/big" in str(caught.value)


def test_the_limit_is_that_of_the_services_model() -> None:
    """Both of a package inside a call and of one in S3 as the service describes it."""
    import botocore.session

    model = botocore.session.Session().get_service_model("kinesisanalyticsv2")
    for shape in ("ZipFileContent", "CodeSize"):
        assert model.shape_for(shape).metadata["max"] == archive.MAX_BYTES


# A plan's fingerprints.

PLAN = {
    "flinkVersion": "2.2",
    "nodes": [
        {"id": 1, "type": "stream-exec-table-source-scan_1", "outputType": "A", "description": "s"},
        {"id": 2, "type": "stream-exec-calc_1", "outputType": "B", "description": "c"},
        {"id": 3, "type": "stream-exec-over-aggregate_1", "outputType": "C", "description": "o"},
    ],
    "edges": [{"source": 1, "target": 2}, {"source": 2, "target": 3}],
}


def changed(*path: str | int, to: object) -> PlanDescription:
    plan = json.loads(json.dumps(PLAN))
    place = plan
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return describe_plan(json.dumps(plan))


def test_operators_with_state_have_a_fingerprint() -> None:
    """By what their state depends on: their node, the rows that they get; not by its text."""
    plain = describe_plan(json.dumps(PLAN))
    assert set(plain.operators) == {
        "1_stream-exec-table-source-scan_1",
        "3_stream-exec-over-aggregate_1",
    }
    for same in (
        changed("nodes", 2, "description", to="other"),
        changed("nodes", 1, "projection", to=["other"]),
    ):
        assert same.operators == plain.operators
        assert same.sha256 != plain.sha256
    for other in (
        changed("nodes", 1, "outputType", to="other"),
        changed("nodes", 2, "overSpec", to="other"),
        changed("nodes", 2, "type", to="stream-exec-over-aggregate_2"),
    ):
        assert other.operators != plain.operators


# A whole package, of small parts.


def make_project(repository: Path, folder: Path) -> Path:
    """Write the repository's code with a lock and a jar list of its own."""
    folder.mkdir()
    for name in ("schemas", "connectors", "jobs", "pyproject.toml"):
        subprocess.run(["cp", "-r", str(repository / name), str(folder)], check=True)
    (folder / "jobs" / "notes.txt").write_text("not code")
    lock = []
    for name in APPLICATIONS["stream"].imports:
        content = hashlib.sha256(small_wheel(folder, name).read_bytes()).hexdigest()
        lock.append(f"{name}==1.0 \\\n    --hash=sha256:{content}\n    # via -r requirements.in\n")
    (folder / "requirements.lock").write_text("".join(lock))
    (folder / "pom-deps.txt").write_text(f"g:a:1 {small_jar(folder)} flink\n")
    return folder


def small_wheel(folder: Path, name: str) -> Path:
    module = name.replace("-", "_")
    path = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(zipfile.ZipInfo(f"{module}/__init__.py"), b"")
    return path


def small_jar(folder: Path) -> str:
    path = folder / "m2" / "g" / "a" / "1" / "a-1.jar"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("a/A.class", b"a")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def builder(project: Path, folder: Path) -> Build:
    """Return what builds the project's package without a network."""

    def download(wanted: Sequence[Requirement], python: str, cache: Path) -> None:
        for entry in wanted:
            small_wheel(cache, entry.name)

    def run(name: str = "stream", output: str = "packages", **options: Any) -> assembly.Package:
        environ = {
            "TUNEMESH_MAVEN_REPOSITORY": (project / "m2").as_uri(),
            "TUNEMESH_JAR_CACHE": str(folder / "jars"),
            "TUNEMESH_WHEEL_CACHE": str(folder / "wheels"),
        }
        return assembly.build(
            name, folder / output, project=project, environ=environ, download=download, **options
        )

    return run


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Path:
    """A project that a test may change."""
    return make_project(repository, tmp_path / "project")


@pytest.fixture
def build(project: Path, tmp_path: Path) -> Build:
    """Builds that project's package."""
    return builder(project, tmp_path)


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> assembly.Package:
    """A package that tests read."""
    folder = tmp_path_factory.mktemp("built")
    return builder(make_project(repository, folder / "project"), folder)()


def test_a_package_is_laid_out_as_the_service_runs_it(
    built: assembly.Package, tmp_path: Path
) -> None:
    """Entry, code, one jar, wheels; the code for the workers is the client's."""
    release = archive.unpack(built.path, tmp_path / "release")
    assert sorted(entry.name for entry in release.iterdir()) == sorted(
        ["connectors", "dep", "jobs", "lib", "main.py", "release.json", "schemas"]
    )
    assert [entry.name for entry in (release / "lib").iterdir()] == ["pyflink-dependencies.jar"]
    modules = {name.replace("-", "_") for name in APPLICATIONS["stream"].imports}
    assert {entry.name for entry in (release / "dep").iterdir()} == {
        *("connectors", "jobs", "schemas"),
        *modules,
    }
    for copied in ("connectors", "jobs", "schemas"):
        done = subprocess.run(
            ["diff", "-r", release / copied, release / "dep" / copied], check=True
        )
        assert done.returncode == 0
    assert not (release / "jobs" / "notes.txt").exists()
    assert (release / "jobs" / "plans" / "enrichment.json").is_file()
    assert (release / "schemas" / "contracts" / "songs" / "contract.yaml").is_file()


def test_two_builds_are_the_same_bytes(build: Build, project: Path) -> None:
    """Also when every file was touched meanwhile; other code has another name."""
    first = build()
    for path in project.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    second = build(output="again")
    assert second.path.read_bytes() == first.path.read_bytes()
    assert second.name == first.name
    assert hashlib.sha256(first.path.read_bytes()).hexdigest() == first.sha256
    (project / "jobs" / "main.py").write_text("# changed\n")
    assert build(output="third").name != first.name


def test_no_path_of_this_machine_is_in_a_package(built: assembly.Package, repository: Path) -> None:
    """Nor a name of the repository's folder."""
    with zipfile.ZipFile(built.path) as zipped:
        for name in zipped.namelist():
            content = zipped.read(name)
            for folder in (built.path.parent.parent, repository, Path.home()):
                assert str(folder).encode() not in content, name


def test_a_package_has_its_description(built: assembly.Package, tmp_path: Path) -> None:
    """In release.json, in the zip as in its folder, and beside it with the figures."""
    description = read_description(built.path)
    assert description == built.description
    assert read_description(archive.unpack(built.path, tmp_path / "release")) == description
    assert (description.application, description.python) == ("stream", "3.12")
    assert description.runtime == "FLINK-2_2"
    assert built.path.name == f"tunemesh-stream-0.1.0-{description.content_hash[:12]}.zip"
    assert set(description.plans) == {"enrichment", "recommendations", "analytics"}
    assert description.schemas.keys() == {contract.name for contract in load_contracts()}
    figures = json.loads(built.path.with_suffix(".json").read_text())
    assert figures["sha256"] == built.sha256
    assert figures["bytes"] == built.path.stat().st_size == built.bytes
    assert figures["kinesis.analytics.flink.run.options"] == {
        "python": "main.py",
        "jarfile": "lib/pyflink-dependencies.jar",
        "pyFiles": "dep/",
    }


@pytest.mark.parametrize(
    "change",
    [{"main.py": b"import os"}, {"more.py": b""}, {RELEASE: b"{}"}],
    ids=["a changed file", "an added file", "no hash"],
)
def test_a_package_whose_files_were_changed_is_not_unpacked(
    built: assembly.Package, tmp_path: Path, change: dict[str, bytes]
) -> None:
    """Nothing of it is left in the folder."""
    assert archive.folder_hash(archive.unpack(built.path, tmp_path / "release")) == (
        built.description.content_hash
    )
    with zipfile.ZipFile(built.path) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    changed = tmp_path / "changed.zip"
    changed.write_bytes(archive.make_zip({**members, **change}))
    with pytest.raises(ContentError, match=r"changed.zip: .*content.hash"):
        archive.unpack(changed, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_package_has_its_sbom_beside_it(built: assembly.Package) -> None:
    """Its wheels and jars only, each with the hash of the file that is in it."""
    document = json.loads(built.path.with_suffix(".cdx.json").read_text())
    assert document["metadata"]["component"]["name"] == "tunemesh-stream"
    hashes = {c["name"]: c["hashes"][0]["content"] for c in document["components"]}
    folder = built.path.parents[1]
    for wheel in (folder / "wheels" / "cp312").glob("*.whl"):
        name = wheel.name.split("-")[0].replace("_", "-")
        assert hashes.pop(name) == hashlib.sha256(wheel.read_bytes()).hexdigest()
    jars_in_it = {file.name: file for file in (folder / "jars").rglob("*.jar")}
    assert len(hashes) == len(jars_in_it)
    assert set(hashes.values()) == {
        hashlib.sha256(file.read_bytes()).hexdigest() for file in jars_in_it.values()
    }


def test_the_entry_script_starts_the_code_beside_it(
    built: assembly.Package, tmp_path: Path
) -> None:
    """Also by a link from another folder, as Flink's client does it; whatever is on the path."""
    release = archive.unpack(built.path, tmp_path / "release")
    told = "def main():\n    print(__file__)\n    return 3\n"
    (release / "jobs" / "main.py").write_text(told)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "jobs").mkdir(parents=True)
    (elsewhere / "jobs" / "__init__.py").write_text("raise ImportError('another one')")
    (elsewhere / "main.py").symlink_to(release / "main.py")
    done = subprocess.run(
        [sys.executable, "-m", "main"],
        cwd=elsewhere,
        env={"PYTHONPATH": str(elsewhere)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, f"{release / 'jobs' / 'main.py'}\n"), done.stderr


def test_what_cannot_be_built_leaves_nothing(build: Build, project: Path, tmp_path: Path) -> None:
    """An unknown application or Python, an absent package, too many bytes, a refused file."""
    for arguments, message in (
        ({"name": "nothing"}, "no application 'nothing'. Applications: stream, bootstrap"),
        ({"name": "bootstrap"}, "needs the package 'batch'"),
        ({"python": "3.10"}, r"for Python '3\.10'"),
        (
            {"limit": 10_000},
            r"accepts 10,000\. Its largest parts:\n +[\d,]+ (dep/)?(jobs|connectors)\n",
        ),
    ):
        with pytest.raises(PackageError, match=message):
            build(**arguments)
    (project / "jobs" / "application_properties.json").write_text("[]")
    with pytest.raises(PackageError, match="has settings"):
        build()
    assert not (tmp_path / "packages").exists()


def test_a_jar_with_another_checksum_is_no_part_of_a_package(build: Build, project: Path) -> None:
    """pom-deps.txt has the checksums."""
    (project / "pom-deps.txt").write_text(f"g:a:1 {'0' * 64} flink\n")
    with pytest.raises(jars.JarError, match="sha256"):
        build()


def test_only_a_package_is_unpacked_or_read(tmp_path: Path) -> None:
    """To a folder of its own."""
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as zipped:
        zipped.writestr("main.py", "")
    text = tmp_path / "text.zip"
    text.write_text("no zip")
    for path in (other, text, tmp_path / "absent.zip", tmp_path):
        with pytest.raises(PackageError):
            read_description(path)
    for path in (other, text, tmp_path / "absent.zip"):
        with pytest.raises(PackageError):
            archive.unpack(path, tmp_path / "release")
    assert not (tmp_path / "release").exists()
    good = tmp_path / "good.zip"
    good.write_bytes(archive.make_zip(MEMBERS))
    with pytest.raises(PackageError, match="is not empty"):
        archive.unpack(good, tmp_path)
    with zipfile.ZipFile(other, "a") as zipped:
        zipped.writestr(RELEASE, "{}")
        zipped.writestr("../escaped.py", "")
    with pytest.raises(PackageError, match="unpacked outside"):
        archive.unpack(other, tmp_path / "release")
    assert not (tmp_path / "escaped.py").exists()


def test_a_package_of_a_later_format_is_refused(tmp_path: Path) -> None:
    """It may mean something else by the same names."""
    (tmp_path / RELEASE).write_text('{"format": 2}')
    with pytest.raises(PackageError, match="format 2, expected 1"):
        read_description(tmp_path)
