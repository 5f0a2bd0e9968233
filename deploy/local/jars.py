"""The jars of pom-deps.txt: parsed, fetched into a cache of the user, verified by their sha256.

A download is written to a `.part` file, resumed after an interruption, and renamed only when its
checksum matches: a jar in the cache is complete. It is verified again whenever it is used, once a
process: other programs may write to the cache. Several processes may fetch concurrently.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deploy.local.settings import PROJECT, CacheSettings
from schemas.errors import TunemeshError
from schemas.settings import ENVIRONMENT, read

LIST = PROJECT / "pom-deps.txt"
TEST_SETS = frozenset({"glue-client"})
"""Sets that only tests need, and fetch."""

PARALLEL = 6
ATTEMPTS = 4
TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 16

Progress = Callable[[int], None]
"""Called with the number of bytes received, from several threads."""


class JarError(TunemeshError):
    """A jar is missing or could not be fetched; the message has the reason and the next step."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of pom-deps.txt."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str
    jar_set: str
    extension: str = "jar"
    """The suffix of the file; a native library in a Maven repository has another one."""

    @property
    def coordinates(self) -> str:
        """`group:artifact:version[:classifier][@extension]`."""
        parts = [self.group, self.artifact, self.version, self.classifier]
        plain = ":".join(part for part in parts if part)
        return plain if self.extension == "jar" else f"{plain}@{self.extension}"

    @property
    def path(self) -> str:
        """The path in a Maven repository and in the cache."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        folder = self.group.replace(".", "/")
        name = f"{self.artifact}-{self.version}{suffix}.{self.extension}"
        return f"{folder}/{self.artifact}/{self.version}/{name}"


_LINE = re.compile(
    r"(?P<group>[\w.-]+):(?P<artifact>[\w.-]+):(?P<version>[\w.-]+)(?::(?P<classifier>[\w.-]+))?"
    r"(?:@(?P<extension>[a-z]+))?"
    r"\s+(?P<sha256>[0-9a-f]{64})\s+(?P<set>[a-z][a-z0-9-]*)"
)


def parse(text: str) -> tuple[Jar, ...]:
    """Return the jars of a list in the format of pom-deps.txt; raises JarError for an invalid
    line."""
    jars: dict[tuple[str, str], Jar] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.partition("#")[0].strip()
        if not stripped:
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            raise JarError(
                f"line {number} of the jar list: expected "
                f"'group:artifact:version[:classifier][@extension] sha256 set', got {stripped!r}."
            )
        jar = Jar(
            group=match["group"],
            artifact=match["artifact"],
            version=match["version"],
            classifier=match["classifier"] or "",
            sha256=match["sha256"],
            jar_set=match["set"],
            extension=match["extension"] or "jar",
        )
        key = (jar.coordinates, jar.jar_set)
        if key in jars:
            raise JarError(f"line {number} of the jar list: {jar.coordinates} is listed twice.")
        jars[key] = jar
    return tuple(jars.values())


def load(path: Path = LIST) -> tuple[Jar, ...]:
    """Return the jars of the repository's pom-deps.txt."""
    return parse(path.read_text(encoding="utf-8"))


def select_sets(jars: Iterable[Jar], names: Iterable[str]) -> tuple[Jar, ...]:
    """Return the jars of the named sets, by default all but TEST_SETS.

    Raises JarError for an unknown set.
    """
    listed = tuple(jars)
    known = {jar.jar_set for jar in listed}
    wanted = set(names) or known - TEST_SETS
    if unknown := sorted(wanted - known):
        raise JarError(f"no jar set {unknown[0]!r}. Sets: {', '.join(sorted(known))}.")
    return tuple(jar for jar in listed if jar.jar_set in wanted)


def list_missing(jars: Iterable[Jar], cache: Path) -> tuple[Jar, ...]:
    """Return the jars that are not in the cache."""
    return tuple(jar for jar in jars if not (cache / jar.path).is_file())


def list_changed(jars: Iterable[Jar], cache: Path) -> tuple[Jar, ...]:
    """Return the jars in the cache whose file is not the one that pom-deps.txt describes."""
    present = [jar for jar in jars if (cache / jar.path).is_file()]
    with ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="jar") as pool:
        actual = pool.map(lambda jar: _verified_sha256(cache / jar.path), present)
    return tuple(jar for jar, sha256 in zip(present, actual, strict=True) if sha256 != jar.sha256)


def list_absent(jars: Iterable[Jar], cache: Path) -> tuple[Jar, ...]:
    """Return the jars that have to be fetched: missing and changed ones."""
    listed = tuple(jars)
    return (*list_missing(listed, cache), *list_changed(listed, cache))


def paths(jar_set: str, cache: Path, listed: Iterable[Jar] | None = None) -> tuple[Path, ...]:
    """Return the files of a set, in the order of the list.

    Raises JarError if one is missing, or is not the one that the list describes.
    """
    wanted = select_sets(load() if listed is None else listed, [jar_set])
    if absent := list_missing(wanted, cache):
        raise JarError(
            f"{len(absent)} jars of the set {jar_set!r} are not in {cache}, for instance "
            f"{absent[0].coordinates}. Run: tunemesh jars fetch"
        )
    if changed := list_changed(wanted, cache):
        raise JarError(
            f"{cache / changed[0].path} is not {changed[0].coordinates} of pom-deps.txt: its sha256"
            " is another one. It was changed after it was fetched. Run: tunemesh jars fetch"
        )
    return tuple(cache / jar.path for jar in wanted)


def class_path(jar_set: str, cache: Path) -> str:
    """Return the jars of a set as a Java class path."""
    files = paths(jar_set, cache)
    return os.pathsep.join(str(path) for path in files if path.suffix == ".jar")


def repository_url(environ: Mapping[str, str]) -> str:
    """Return the Maven repository: TUNEMESH_MAVEN_REPOSITORY, else Maven Central."""
    chosen = read(CacheSettings, {ENVIRONMENT: environ}).maven_repository
    if chosen:
        return chosen.rstrip("/")
    from jgo.constants import MAVEN_CENTRAL_URL  # slow to import

    return str(MAVEN_CENTRAL_URL)


def fetch(
    jars: Iterable[Jar],
    cache: Path,
    source: str,
    progress: Progress = lambda received: None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch missing jars into the cache, and changed ones again, several in parallel. Blocks.

    Raises :class:`JarError` for the first jar that cannot be fetched; the next call resumes the
    others.
    """
    wanted = {jar.path: jar for jar in list_absent(jars, cache)}
    with ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="jar") as pool:
        futures = [
            pool.submit(fetch_one, jar, cache, source, progress, pause) for jar in wanted.values()
        ]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            pool.shutdown(cancel_futures=True)
        for future in done:
            future.result()


def fetch_one(
    jar: Jar, cache: Path, source: str, progress: Progress, pause: Callable[[float], None]
) -> Path:
    """Fetch one jar into the cache; broken connections are retried."""
    target = cache / jar.path
    url = f"{source}/{jar.path}"
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as file:
        # If another process fetches the same jar, wait for it and use its result.
        fcntl.flock(file, fcntl.LOCK_EX)
        if not list_absent([jar], cache):
            part.unlink(missing_ok=True)
            return target
        for attempt in range(1, ATTEMPTS + 1):
            resumed = file.tell() > 0
            try:
                _receive(url, file.fileno(), progress)
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code != 429:
                    raise JarError(
                        f"{jar.coordinates}: {url} answered {error.code} {error.reason}. Check the "
                        "line in pom-deps.txt, or TUNEMESH_MAVEN_REPOSITORY if you set it."
                    ) from error
                failure: Exception = error
            except (OSError, http.client.HTTPException) as error:
                failure = error
            else:
                actual = _sha256(part)
                if actual == jar.sha256:
                    part.rename(target)
                    return target
                # The partial file of an earlier attempt may be corrupt: then start over once.
                size = part.stat().st_size
                os.ftruncate(file.fileno(), 0)
                if not resumed:
                    raise JarError(
                        f"{jar.coordinates}: {url} ({size} bytes) has the sha256 {actual}, but "
                        f"pom-deps.txt has {jar.sha256}. The file was deleted. Either it was "
                        "changed on the way, or the line in pom-deps.txt is wrong."
                    )
                file.seek(0)
                continue
            if attempt < ATTEMPTS:
                pause(0.5 * 2**attempt)
            file.seek(0, os.SEEK_END)
    raise JarError(
        f"{jar.coordinates}: could not fetch {url} in {ATTEMPTS} attempts: {failure}. "
        "Check the network, or set TUNEMESH_MAVEN_REPOSITORY to a mirror; then resume with "
        "`tunemesh jars fetch`."
    )


def _receive(url: str, descriptor: int, progress: Progress) -> None:
    """Append the missing bytes to the file; starts over when the server sends all of it."""
    have = os.fstat(descriptor).st_size
    request = urllib.request.Request(url, headers={"User-Agent": "tunemesh"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # complete: the checksum decides
        raise
    with response:
        if have and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            os.ftruncate(descriptor, 0)
        expected = response.headers.get("Content-Length")
        received = 0
        while chunk := response.read(CHUNK_BYTES):
            os.write(descriptor, chunk)
            received += len(chunk)
            progress(len(chunk))
        if expected is not None and received < int(expected):
            raise http.client.IncompleteRead(b"", int(expected) - received)


def _verified_sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of(path, status.st_ino, status.st_size, status.st_mtime_ns)


@cache
def _sha256_of(path: Path, inode: int, size: int, modified_ns: int) -> str:
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
