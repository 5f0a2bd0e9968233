"""The jars of pom-deps.txt: parsed, fetched into a cache of the user, checked against their sha256.

A download goes to a `.part` file beside its place, goes on where it was broken off, and is renamed
only when its checksum is right: a jar that is there is whole. Several processes may fetch at once.
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
from pathlib import Path

from deploy.local.settings import PROJECT, CacheSettings
from schemas.errors import TunemeshError
from schemas.settings import ENVIRONMENT, read

LIST = PROJECT / "pom-deps.txt"
PARALLEL = 6
ATTEMPTS = 4
TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 16

Progress = Callable[[int], None]
"""Called with the number of bytes that just arrived; from several threads."""


class JarError(TunemeshError):
    """A jar that could not be had: which, from where, why, and what to do."""


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
    """Of the file; a native library that comes by coordinates, as jars do, has another."""

    @property
    def coordinates(self) -> str:
        """`group:artifact:version[:classifier][@extension]`."""
        parts = [self.group, self.artifact, self.version, self.classifier]
        plain = ":".join(part for part in parts if part)
        return plain if self.extension == "jar" else f"{plain}@{self.extension}"

    @property
    def path(self) -> str:
        """The path in a Maven repository, and in the cache."""
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
    """The jars of a list in the format of pom-deps.txt; JarError names the line that is not in
    it."""
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
            raise JarError(f"line {number} of the jar list: {jar.coordinates} is there twice.")
        jars[key] = jar
    return tuple(jars.values())


def load(path: Path = LIST) -> tuple[Jar, ...]:
    """The jars of the repository's pom-deps.txt."""
    return parse(path.read_text(encoding="utf-8"))


def select_sets(jars: Iterable[Jar], names: Iterable[str]) -> tuple[Jar, ...]:
    """The jars of the named sets, all for no name; JarError for a set that does not exist."""
    listed = tuple(jars)
    wanted = set(names)
    known = {jar.jar_set for jar in listed}
    if unknown := sorted(wanted - known):
        raise JarError(f"no jar set {unknown[0]!r}; there are: {', '.join(sorted(known))}.")
    return tuple(jar for jar in listed if not wanted or jar.jar_set in wanted)


def list_missing(jars: Iterable[Jar], cache: Path) -> tuple[Jar, ...]:
    """The jars that are not in the cache."""
    return tuple(jar for jar in jars if not (cache / jar.path).is_file())


def paths(jar_set: str, cache: Path, listed: Iterable[Jar] | None = None) -> tuple[Path, ...]:
    """The files of a set, in the order of the list; JarError when one has not been fetched."""
    wanted = select_sets(load() if listed is None else listed, [jar_set])
    if absent := list_missing(wanted, cache):
        raise JarError(
            f"{len(absent)} jars of the set {jar_set!r} are not in {cache}, the first is "
            f"{absent[0].coordinates}. Run: tunemesh jars fetch"
        )
    return tuple(cache / jar.path for jar in wanted)


def class_path(jar_set: str, cache: Path) -> str:
    """The files of a set as a Java class path."""
    files = paths(jar_set, cache)
    return os.pathsep.join(str(path) for path in files if path.suffix == ".jar")


def repository_url(environ: Mapping[str, str]) -> str:
    """The Maven repository to fetch from: TUNEMESH_MAVEN_REPOSITORY, else Maven Central."""
    chosen = read(CacheSettings, {ENVIRONMENT: environ}).maven_repository
    if chosen:
        return chosen.rstrip("/")
    from jgo.constants import MAVEN_CENTRAL_URL  # the only thing asked of jgo; loads slowly

    return str(MAVEN_CENTRAL_URL)


def fetch(
    jars: Iterable[Jar],
    cache: Path,
    source: str,
    progress: Progress = lambda received: None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Brings the jars into the cache, several at once; returns when all are there.

    Blocks. Raises :class:`JarError` for the first jar that cannot be had; what has arrived of the
    others stays, and the next call goes on from there.
    """
    wanted = {jar.path: jar for jar in list_missing(jars, cache)}
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
    """Brings one jar into the cache, with several tries when the connection breaks."""
    target = cache / jar.path
    url = f"{source}/{jar.path}"
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as file:
        # Another process may be at the same jar: it is waited for, and its result used.
        fcntl.flock(file, fcntl.LOCK_EX)
        if target.is_file():
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
                # What was there of an earlier try may be to blame: then once more from the start.
                size = part.stat().st_size
                os.ftruncate(file.fileno(), 0)
                if not resumed:
                    raise JarError(
                        f"{jar.coordinates}: the sha256 of what {url} sent ({size} bytes) is "
                        f"{actual}, pom-deps.txt says {jar.sha256}. It was thrown away. Either "
                        "something between here and the repository changed it, or the line in "
                        "pom-deps.txt is wrong."
                    )
                file.seek(0)
                continue
            if attempt < ATTEMPTS:
                pause(0.5 * 2**attempt)
            file.seek(0, os.SEEK_END)
    raise JarError(
        f"{jar.coordinates}: could not fetch {url} in {ATTEMPTS} tries: {failure}. "
        "Is there a network? `tunemesh jars fetch` goes on where this stopped; "
        "TUNEMESH_MAVEN_REPOSITORY names a mirror."
    )


def _receive(url: str, descriptor: int, progress: Progress) -> None:
    """Appends to the file what it lacks of the resource; starts over when the server sends all of
    it."""
    have = os.fstat(descriptor).st_size
    request = urllib.request.Request(url, headers={"User-Agent": "tunemesh"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is lacking: the checksum decides
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
