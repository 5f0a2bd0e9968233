"""The sub-commands of `tunemesh` for the laptop platform."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from deploy.local import jars as jar_list
from deploy.local import parts as part_names
from deploy.local import platform, process
from deploy.local.settings import LocalSettings, jar_cache
from schemas.errors import TunemeshError

JAR_SETS = ("flink", "kafka", "opensearch", "dynamodb")
"""The parts with jars, which have the names of their sets."""


class NoLogError(TunemeshError):
    """A log that is not there."""

    exit_code = 2


@click.command()
@click.argument("parts", nargs=-1, metavar="[PART]...")
@click.option("--fresh", is_flag=True, help="Stop the parts first and remove their data.")
def up(parts: tuple[str, ...], fresh: bool) -> None:
    """Start PARTs and wait for them: kafka, aws, personalize, opensearch and flink for none.

    Beside these there are postgresql, dynamodb and services, the domains' back ends.
    """
    settings = LocalSettings.from_environment(os.environ)
    chosen = part_names.to_start(parts)
    if jar_sets := [name for name in JAR_SETS if name in chosen]:
        fetch_jars(jar_sets)
    started = time.monotonic()
    click.echo(f"up: {', '.join(chosen)} in {settings.home}")
    platform.up(settings, chosen, environ=os.environ, fresh=fresh, report=click.echo)
    click.echo(f"up after {time.monotonic() - started:.1f} s; `tunemesh down` stops it")


@click.command()
@click.argument("parts", nargs=-1, metavar="[PART]...")
def down(parts: tuple[str, ...]) -> None:
    """Stop PARTs (all for none); data stays."""
    settings = LocalSettings.from_environment(os.environ)
    platform.down(settings, parts, report=click.echo)
    click.echo("down: nothing is left running")


@click.command()
@click.argument("name", metavar="PART")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written, until Ctrl-C.")
@click.option("-n", "--lines", default=200, show_default=True, help="How many lines of its end.")
def logs(name: str, follow: bool, lines: int) -> None:
    """The log of PART: kafka, aws, personalize, opensearch, flink-jobmanager, ..."""
    settings = LocalSettings.from_environment(os.environ)
    log = settings.log(name)
    if not log.is_file():
        there = sorted(path.stem for path in log.parent.glob("*.log"))
        raise NoLogError(f"no log of {name!r}; there are: {', '.join(there) or 'none yet'}.")
    for line in process.tail(log, lines):
        click.echo(line)
    if follow:
        for line in following(log):
            click.echo(line, nl=False)


def following(log: Path) -> Iterator[str]:
    """Yields what is appended to a log from now on, for ever, also after it was started anew."""
    file = log.open("r", encoding="utf-8", errors="replace")
    file.seek(0, os.SEEK_END)
    while True:
        if line := file.readline():
            yield line
            continue
        with contextlib.suppress(FileNotFoundError):
            if log.stat().st_ino != os.fstat(file.fileno()).st_ino:
                file.close()
                file = log.open("r", encoding="utf-8", errors="replace")
                continue
        time.sleep(process.POLL_SECONDS)


@click.group()
def jars() -> None:
    """The jars of pom-deps.txt, in a cache of this user (TUNEMESH_JAR_CACHE)."""


@jars.command("fetch")
@click.argument("sets", nargs=-1, metavar="[SET]...")
def jars_fetch(sets: tuple[str, ...]) -> None:
    """Fetch what is not in the cache, and check it against its sha256."""
    fetch_jars(sets)


@jars.command("list")
def jars_list() -> None:
    """Every jar, its set, and whether it is in the cache."""
    cache = jar_cache(os.environ)
    for jar in jar_list.load():
        state = "cached" if (cache / jar.path).is_file() else "absent"
        click.echo(f"{jar.jar_set:<10} {state:<8} {jar.coordinates}")


@jars.command("path")
@click.argument("jar_set", metavar="SET")
def jars_path(jar_set: str) -> None:
    """Print a set as a Java class path."""
    click.echo(jar_list.class_path(jar_set, jar_cache(os.environ)))


def fetch_jars(sets: Sequence[str] = ()) -> None:
    """Fetches the jars of the sets (all for none), with a line of progress a second."""
    cache = jar_cache(os.environ)
    wanted = jar_list.of_sets(jar_list.load(), sets)
    absent = jar_list.missing(wanted, cache)
    if not absent:
        click.echo(f"jars: all {len(wanted)} in {cache}")
        return
    started = time.monotonic()
    shown = started
    total = 0

    def progress(received: int) -> None:
        nonlocal total, shown
        total += received
        now = time.monotonic()
        if now - shown >= 1:
            shown = now
            left = len(jar_list.missing(absent, cache))
            click.echo(
                f"jars: {len(absent) - left} of {len(absent)}, "
                f"{total / 1e6:.1f} MB, {now - started:.0f} s"
            )

    click.echo(f"jars: fetching {len(absent)} of {len(wanted)} to {cache}")
    jar_list.fetch(absent, cache, jar_list.repository(os.environ), progress)
    seconds = time.monotonic() - started
    click.echo(f"jars: {len(absent)} fetched and checked, {total / 1e6:.1f} MB in {seconds:.1f} s")
