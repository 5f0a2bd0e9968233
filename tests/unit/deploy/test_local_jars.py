"""The jar list, and fetching from a small server on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.local import jars
from deploy.local.jars import Jar, JarError
from schemas.errors import SettingError
from tests.support.waiting import LIMIT_SECONDS

CONTENT = bytes(range(256)) * 1024


class Repository(ThreadingHTTPServer):
    """A Maven repository that can break off, ignore Range, or answer with errors."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.break_after: list[int] = []
        self.errors: list[int] = []
        self.ranges = True
        self.meet: threading.Barrier | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/m2"

    def offer(self, name: str, content: bytes = CONTENT, sha256: str | None = None) -> Jar:
        jar = Jar("org.x", name, "1.0", "", sha256 or hashlib.sha256(content).hexdigest(), "test")
        self.files[f"/m2/{jar.path}"] = content
        return jar


class Handler(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        if self.server.meet is not None:
            self.server.meet.wait(LIMIT_SECONDS)
        if self.server.errors:
            self.send_error(self.server.errors.pop(0))
            return
        if self.path not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[self.path]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + self.server.break_after.pop(0) if self.server.break_after else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, format: str, *args: object) -> None:
        """Do not log requests in the test's output."""


@pytest.fixture
def repository() -> Iterator[Repository]:
    server = Repository()
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(repository: Repository, cache: Path, *wanted: Jar) -> int:
    """Fetches without pauses; how many bytes arrived."""
    received: list[int] = []
    jars.fetch(wanted, cache, repository.url, received.append, pause=lambda seconds: None)
    return sum(received)


def test_a_jar_is_fetched_completely_and_only_once(repository: Repository, tmp_path: Path) -> None:
    """It lies where a Maven repository has it, nothing partial beside it."""
    jar = repository.offer("a")

    assert fetch(repository, tmp_path, jar) == len(CONTENT)
    assert fetch(repository, tmp_path, jar) == 0

    assert (tmp_path / "org/x/a/1.0/a-1.0.jar").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a-1.0.jar"]
    assert len(repository.requests) == 1


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        # Received bytes are not requested again.
        ({"break_after": [100_000, 50_000]}, [None, "bytes=100000-", "bytes=150000-"]),
        # A 200 to a Range request replaces what was received.
        ({"break_after": [1000], "ranges": False}, [None, "bytes=1000-"]),
        ({"errors": [503, 429]}, [None, None, None]),
    ],
    ids=["broken", "without ranges", "temporary errors"],
)
def test_a_failed_download_is_resumed(
    repository: Repository, tmp_path: Path, faults: dict[str, Any], ranges: list[str | None]
) -> None:
    """After the bytes that were received."""
    jar = repository.offer("a")
    vars(repository).update(faults)
    again = 0 if repository.ranges else 1000
    assert fetch(repository, tmp_path, jar) == len(CONTENT) + again
    assert [asked for _, asked in repository.requests] == ranges
    assert (tmp_path / jar.path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("left", "missing"),
    [
        (CONTENT[:1000], len(CONTENT) - 1000),
        # All had arrived before the rename: the server's 416 is no failure.
        (CONTENT, 0),
        # A wrong checksum after a resumed download is tried once more from the start.
        (b"x" * 1000, 2 * len(CONTENT) - 1000),
    ],
    ids=["a part", "all of it", "other bytes"],
)
def test_a_download_of_an_earlier_run_goes_on(
    repository: Repository, tmp_path: Path, left: bytes, missing: int
) -> None:
    """A `.part` file that was left behind is used; a corrupt one is deleted and fetched again."""
    jar = repository.offer("a")
    part = tmp_path / f"{jar.path}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)

    assert fetch(repository, tmp_path, jar) == missing
    assert (tmp_path / jar.path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_an_error_and_leaves_no_jar(
    repository: Repository, tmp_path: Path
) -> None:
    """The message has both sums; the next run does not resume from bad bytes."""
    jar = repository.offer("a", sha256="0" * 64)

    with pytest.raises(JarError, match=r"org\.x:a:1\.0: .* but pom-deps.txt has 0{64}"):
        fetch(repository, tmp_path, jar)

    assert not (tmp_path / jar.path).exists()
    assert (tmp_path / f"{jar.path}.part").stat().st_size == 0


def test_a_jar_that_is_not_there_is_named_at_once(repository: Repository, tmp_path: Path) -> None:
    """404 is not retried; the message has the next step."""
    jar = repository.offer("a")
    repository.files.clear()

    with pytest.raises(JarError, match=r"org\.x:a:1\.0: .* answered 404 .*pom-deps\.txt"):
        fetch(repository, tmp_path, jar)
    assert len(repository.requests) == 1


def test_an_error_of_the_network_is_reported(repository: Repository, tmp_path: Path) -> None:
    """A refused connection ends in one message with what to do."""
    jar = repository.offer("a")
    closed = repository.url
    repository.shutdown()
    repository.server_close()

    with pytest.raises(JarError, match=r"Check the network.*tunemesh jars fetch"):
        jars.fetch([jar], tmp_path, closed, pause=lambda seconds: None)


def test_jars_are_fetched_at_the_same_time(repository: Repository, tmp_path: Path) -> None:
    """No request is answered before all of them have come."""
    wanted = [repository.offer(name) for name in "abcd"]
    repository.meet = threading.Barrier(4)

    fetch(repository, tmp_path, *wanted)
    assert all((tmp_path / jar.path).read_bytes() == CONTENT for jar in wanted)


def test_two_fetches_of_one_jar_do_not_disturb_each_other(
    repository: Repository, tmp_path: Path
) -> None:
    """Two concurrent `make` with one cache both succeed, and the jar is correct."""
    jar = repository.offer("a")
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(fetch, repository, tmp_path, jar) for _ in range(4)]
        received = sum(run.result(30) for run in runs)

    assert received == len(CONTENT)
    assert (tmp_path / jar.path).read_bytes() == CONTENT
    assert not list(tmp_path.rglob("*.part"))


def test_a_list_is_read_with_comments_and_classifiers() -> None:
    """Every field of a line, and nothing of a comment."""
    text = f"# why\n\norg.x:a:1.0:linux {'a' * 64} kafka # because\norg.y:b:2 {'b' * 64} flink\n"

    first, second = jars.parse(text)

    assert first.coordinates == "org.x:a:1.0:linux"
    assert first.path == "org/x/a/1.0/a-1.0-linux.jar"
    assert (second.path, second.jar_set) == ("org/y/b/2/b-2.jar", "flink")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("# first\norg.x:a:1.0", "line 2 of the jar list"),
        (f"# first\norg.x:a {'a' * 64} kafka", "line 2 of the jar list"),
        ("# first\norg.x:a:1.0 abc kafka", "line 2 of the jar list"),
        (f"# first\norg.x:a:1.0 {'a' * 64}", "line 2 of the jar list"),
        (f"org.x:a:1.0 {'a' * 64} kafka\n" * 2, "twice"),
    ],
)
def test_an_invalid_list_is_refused(lines: str, message: str) -> None:
    """A jar has a version, a set and exactly one checksum."""
    with pytest.raises(JarError, match=message):
        jars.parse(f"{lines}\n")


def test_a_native_library_is_fetched_as_a_jar_is_and_not_on_the_class_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`@so` after the coordinates is the ending of the file."""
    empty = hashlib.sha256(b"").hexdigest()
    lines = f"org.x:code:1.0 {empty} test\norg.x:lib:1.0:linux@so {empty} test\n"
    code, library = jars.parse(lines)
    assert library.coordinates == "org.x:lib:1.0:linux@so"
    assert library.path == "org/x/lib/1.0/lib-1.0-linux.so"
    for jar in (code, library):
        (tmp_path / jar.path).parent.mkdir(parents=True)
        (tmp_path / jar.path).touch()
    monkeypatch.setattr(jars, "load", lambda: (code, library))
    assert jars.class_path("test", tmp_path) == str(tmp_path / code.path)


@pytest.mark.parametrize(
    ("jar_set", "message"),
    [
        ("kafka", "Run: tunemesh jars fetch"),
        ("kafak", r"no jar set 'kafak'. Sets: .*, kafka, "),
    ],
)
def test_a_set_that_is_absent_or_unknown_is_refused(
    tmp_path: Path, jar_set: str, message: str
) -> None:
    """With the command that fetches it, or the known sets."""
    with pytest.raises(JarError, match=message):
        jars.paths(jar_set, tmp_path)


def test_a_jar_that_was_changed_in_the_cache_is_not_used_but_fetched_again(
    repository: Repository, tmp_path: Path
) -> None:
    """Whoever may write to the cache could run code; a file may also be damaged."""
    jar = repository.offer("a")
    jars.fetch([jar], tmp_path, repository.url)
    file = tmp_path / jar.path
    assert jars.paths("test", tmp_path, [jar]) == (file,)
    file.write_bytes(b"X" + CONTENT[1:])
    with pytest.raises(JarError, match=r"a-1\.0\.jar is not org\.x:a:1\.0 .* tunemesh jars fetch"):
        jars.paths("test", tmp_path, [jar])
    jars.fetch([jar], tmp_path, repository.url)
    assert jars.paths("test", tmp_path, [jar]) == (file,)
    assert len(repository.requests) == 2


def test_another_repository_can_be_named() -> None:
    """A mirror is one variable away; what is no address is refused by name."""
    assert (
        jars.repository_url({"TUNEMESH_MAVEN_REPOSITORY": "https://mirror/m2/"})
        == "https://mirror/m2"
    )
    assert jars.repository_url({}).startswith("https://")
    with pytest.raises(
        SettingError, match="TUNEMESH_MAVEN_REPOSITORY is 'mirror'; expected an http"
    ):
        jars.repository_url({"TUNEMESH_MAVEN_REPOSITORY": "mirror"})
